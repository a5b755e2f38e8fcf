//! Rows of files as examples, with the settings of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paddock_datasets::encode::{EncodeOptions, OverLength};
use paddock_datasets::prepare::{PrepareOptions, Prepared, Progress, load_examples};
use paddock_datasets::readers::{self, Detected, Layout, ReadOptions};
use paddock_datasets::sample::Sample;
use paddock_datasets::shots::Shots;
use paddock_datasets::template::{Template, library};
use paddock_datasets::tokenizer::Tokenizer;

use super::cache::{Tokens, cached, in_memory};
use crate::data::day::today;
use crate::data::shots::choice;
use crate::error::bad_input;
use crate::run::config::{self, RunConfig};

/// The name of the model's own chat template.
pub const CHAT: &str = "chat";

/// The template of that name: a built-in one, one of a cluster, or a file.
pub fn named_template(name: &str) -> anyhow::Result<Template> {
    Ok(library::find_one(name)?)
}

/// The model's own chat template.
pub fn chat_template(tokenizer: &Tokenizer, day: Option<&str>) -> anyhow::Result<Template> {
    let day = day.map_or_else(today, str::to_string);
    Template::chat(tokenizer, &day).ok_or_else(|| {
        bad_input(
            "this model has no chat template of its own (tokenizer_config.json has no \
             chat_template); --template conversation is a plain one",
        )
    })
}

/// Reads data files with the settings of a run.
pub struct Reader<'a> {
    /// The settings.
    pub config: &'a RunConfig,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Longest row.
    pub max_seq_len: u64,
}

/// Which rows are read, and how they are rendered.
pub struct Wanted<'a> {
    /// The files.
    pub paths: &'a [PathBuf],
    /// The template; without it the first file's layout decides.
    pub template: Option<Template>,
    /// Which column fills which field.
    pub columns: &'a BTreeMap<String, String>,
    /// Labels with their meaning, where worked examples are put before rows.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// Most rows.
    pub most: Option<u64>,
}

impl Reader<'_> {
    /// The template that a setting names; `chat` is the model's own.
    pub fn template(&self, name: &str) -> anyhow::Result<Template> {
        if name == CHAT {
            return chat_template(self.tokenizer, self.config.today.as_deref());
        }
        named_template(name)
    }

    /// All templates that a setting names, one or more.
    pub fn templates(&self, name: &str) -> anyhow::Result<Vec<Template>> {
        if name == CHAT { Ok(vec![self.template(name)?]) } else { Ok(library::find(name)?) }
    }

    /// The examples of all files in memory, with the template that was used.
    pub fn read(
        &self,
        paths: &[PathBuf],
        template: Option<Template>,
        progress: &mut dyn Progress,
    ) -> anyhow::Result<(Template, Prepared)> {
        let columns = &self.config.columns;
        let wanted = Wanted { paths, template, columns, labels: None, most: None };
        let options = self.options(&wanted)?;
        let prepared = load_examples(paths, &options, self.tokenizer, progress)?;
        Ok((options.template, prepared))
    }

    /// The examples of all files, from the token cache where they are kept, with the template that was
    /// used.
    pub fn tokens(
        &self,
        wanted: &Wanted<'_>,
        progress: &mut dyn Progress,
    ) -> anyhow::Result<(Template, Tokens)> {
        let options = self.options(wanted)?;
        let read = if self.config.token_cache { cached } else { in_memory };
        let tokens = read(wanted.paths, &options, self.tokenizer, progress)?;
        Ok((options.template, tokens))
    }

    fn options(&self, wanted: &Wanted<'_>) -> anyhow::Result<PrepareOptions> {
        for path in wanted.paths {
            if !path.is_file() {
                return Err(bad_input(format!("{}: there is no such file", path.display())));
            }
        }
        let first = wanted
            .paths
            .first()
            .ok_or_else(|| bad_input(
                "no data file is named; give one with --data (built in: bundled:stories, bundled:reviews, \
                 bundled:seeds)",
            ))?;
        let read = ReadOptions { skip_bad: self.config.skip_bad, ..ReadOptions::default() };
        let detected = readers::open(first, &read)?.detected().clone();
        let template = self.with_columns(first, wanted, &detected)?;
        let over_length = match self.config.over_length {
            config::OverLength::Drop => OverLength::Drop,
            config::OverLength::CutPrompt => OverLength::CutPrompt,
            config::OverLength::Refuse => OverLength::Refuse,
            config::OverLength::Pieces => OverLength::Pieces,
        };
        let choice = choice(self.config.shots_by);
        let (k, seed) = (self.config.shots as usize, self.config.seed);
        let shots = wanted.labels.filter(|_| k > 0).map(|labels| Shots {
            k,
            choice,
            rate: self.config.shots_rate,
            seed,
            labels: labels.clone(),
        });
        Ok(PrepareOptions {
            read,
            template,
            encode: EncodeOptions { max_tokens: self.max_seq_len as usize, over_length },
            keep_empty_answers: false,
            limit_rows: None,
            shots,
            sample: wanted.most.map(|rows| Sample { rows, seed }),
        })
    }

    /// [`template_for`] with the model's own chat template for conversations.
    fn with_columns(
        &self,
        file: &Path,
        wanted: &Wanted<'_>,
        detected: &Detected,
    ) -> anyhow::Result<Template> {
        let talks = [Layout::ShareGpt, Layout::Messages, Layout::Preference];
        // Conversations are best told as the model has learned to hold them.
        let own = (wanted.template.is_none()
            && talks.contains(&detected.layout)
            && self.tokenizer.chat_template().is_some())
        .then(|| self.template(CHAT))
        .transpose()?;
        template_for(wanted.columns, file, wanted.template.clone().or(own), detected)
    }
}

/// The given template, or the one that the data's layout calls for, with the mapped columns.
pub fn template_for(
    columns: &BTreeMap<String, String>,
    file: &Path,
    template: Option<Template>,
    detected: &Detected,
) -> anyhow::Result<Template> {
    for (field, column) in columns {
        if !detected.columns.is_empty() && !detected.columns.contains(column) {
            return Err(bad_input(format!(
                "columns.{field}: {} has no column `{column}`; it has {}",
                file.display(),
                detected.columns.join(", ")
            )));
        }
    }
    let get = |field: &str| columns.get(field).map(String::as_str);
    let parts = ["prompt", "input", "answer"];
    let mapped = columns.contains_key("prompt") && columns.contains_key("answer");
    let template = template
        .or_else(|| Template::for_layout(detected))
        // Where there is no row at all, reading says so.
        .or_else(|| (mapped || detected.columns.is_empty()).then(Template::prompt))
        .ok_or_else(|| {
            bad_input(format!(
                "{}: {}. Say which columns are prompt and answer: --columns prompt=NAME \
                 --columns answer=NAME (columns here: {})",
                file.display(),
                detected.why,
                detected.columns.join(", ")
            ))
        })?;
    let mut template = template.with_columns(get("prompt"), get("input"), get("answer"));
    let others = columns.iter().filter(|(field, _)| !parts.contains(&field.as_str()));
    let fields: BTreeMap<String, String> =
        others.map(|(field, column)| (field.clone(), column.clone())).collect();
    if fields.is_empty() {
        return Ok(template);
    }
    // Other fields are those of Jinja templates, which say themselves what they read.
    let known = template.compile()?.variables();
    if let Some(field) = fields.keys().find(|field| !known.contains(field)) {
        let reads = if known.is_empty() { parts.join(", ") } else { known.join(", ") };
        return Err(bad_input(format!(
            "columns.{field}: there is no such field; the template {} reads {reads}",
            template.name
        )));
    }
    template.columns.fields = fields;
    Ok(template)
}
