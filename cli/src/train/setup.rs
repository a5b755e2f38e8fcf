//! Before a run: the model opened, the rows read, rendered, encoded and split.

use std::path::{Path, PathBuf};

use paddock_core::model::{LoraConfig, Method, Module};
use paddock_datasets::encode::{EncodeOptions, Example, OverLength};
use paddock_datasets::prepare::{PrepareOptions, Prepared, Progress, ReadFile, load_examples};
use paddock_datasets::readers::{Detected, ReadOptions};
use paddock_datasets::report::EncodeReport;
use paddock_datasets::split::{SplitOptions, split};
use paddock_datasets::template::{Template, library};
use paddock_datasets::tokenizer::Tokenizer;

use super::test_rows::TestRow;
use crate::bundled;
use crate::error::bad_input;
use crate::open::Opened;
use crate::run::config::{self, RunConfig, Validation};

/// Fewest validation rows of an automatic split, where that is no more than a fifth of the rows.
const LEAST_VALIDATION: usize = 32;

/// Everything that a run is made of, before any memory is planned.
pub struct Setup {
    /// The settings.
    pub config: RunConfig,
    /// The model.
    pub opened: Opened,
    /// What is trained.
    pub method: Method,
    /// The template.
    pub template: Template,
    /// Rows to learn from.
    pub train: Vec<Example>,
    /// Rows to judge by.
    pub validation: Vec<Example>,
    /// Rows that the model answers before and after training, to be judged.
    pub test: Vec<TestRow>,
    /// What became of the rows.
    pub report: EncodeReport,
    /// The files read.
    pub files: Vec<ReadFile>,
    /// Longest row in tokens that the run takes.
    pub max_seq_len: u64,
}

impl Setup {
    /// Opens and reads everything that the settings name. `progress` hears of files and rows.
    pub fn prepare(config: RunConfig, progress: &mut dyn Progress) -> anyhow::Result<Setup> {
        let model = config
            .model
            .clone()
            .ok_or_else(|| bad_input("no model is named; give a model folder with --model"))?;
        let adapter = config.init_adapter.as_deref().map(Path::new);
        let opened = Opened::open(&model, adapter)?;
        let method = method(&config, &opened)?;
        let allowed = u64::from(opened.folder.config.max_seq_len);
        if let Some(asked) = config.max_seq_len.filter(|&n| n > allowed) {
            return Err(bad_input(format!(
                "max_seq_len is {asked}; this model was made for at most {allowed} tokens"
            )));
        }
        let max_seq_len = config.max_seq_len.unwrap_or(allowed).min(config.micro_batch_tokens);
        let template = template(&config)?;
        let names = resolve(&config)?;
        let paths = names.train;
        let reader = Reader { config: &config, tokenizer: &opened.tokenizer, max_seq_len };
        let (template, prepared) = reader.read(&paths, template, progress)?;
        let report = prepared.report.clone();
        let mut files = prepared.files.clone();
        let (train, validation) = match &names.validation {
            Validation::File(path) => {
                let own = [PathBuf::from(path)];
                let (_, held_out) = reader.read(&own, Some(template.clone()), progress)?;
                files.extend(held_out.files);
                (prepared.examples, held_out.examples)
            }
            chosen => divide(prepared, chosen, config.seed)?,
        };
        if train.is_empty() {
            return Err(bad_input("no row is left to train on"));
        }
        let test = match names.test.filter(|_| config.test_rows > 0) {
            Some(path) => {
                let (rows, file) = reader.test_rows(&path, &template)?;
                files.push(file);
                rows
            }
            None => Vec::new(),
        };
        Ok(Setup {
            config,
            opened,
            method,
            template,
            train,
            validation,
            test,
            report,
            files,
            max_seq_len,
        })
    }

    /// Optimizer steps of one pass over the training rows.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.train.len() as u64).div_ceil(self.config.batch_size)
    }

    /// Optimizer steps of the whole run: what `epochs` asks for, or `max_steps`.
    pub fn total_steps(&self) -> u64 {
        let by_epochs = (self.config.epochs * self.steps_per_epoch() as f64).ceil() as u64;
        self.config.max_steps.unwrap_or(by_epochs).max(1)
    }
}

/// Files behind the names of data.
struct Resolved {
    train: Vec<PathBuf>,
    validation: Validation,
    test: Option<PathBuf>,
}

/// Of built-in data, the validation and test rows come along unless others are named.
fn resolve(config: &RunConfig) -> anyhow::Result<Resolved> {
    let test = config.test.as_deref().map(bundled::data_path).transpose()?;
    let mut all = Resolved { train: Vec::new(), validation: config.validation.clone(), test };
    for name in &config.data {
        let Some(built_in) = name.strip_prefix(bundled::PREFIX) else {
            all.train.push(PathBuf::from(name));
            continue;
        };
        let data = bundled::data(built_in)?;
        all.train.push(data.train);
        let is_default = config.validation == RunConfig::default().validation;
        if let (true, 1, Some(file)) = (is_default, config.data.len(), data.validation) {
            all.validation = Validation::File(file.display().to_string());
        }
        all.test = all.test.or(data.test);
    }
    Ok(all)
}

/// Training and validation rows of one data set.
fn divide(
    prepared: Prepared,
    chosen: &Validation,
    seed: u64,
) -> anyhow::Result<(Vec<Example>, Vec<Example>)> {
    let rows = prepared.examples.len();
    let share = match chosen {
        Validation::None | Validation::File(_) => return Ok((prepared.examples, Vec::new())),
        Validation::Share(share) => *share,
        Validation::Rows(wanted) => {
            if *wanted as usize * 2 > rows {
                return Err(bad_input(format!(
                    "validation asks for {wanted} rows, but there are only {rows} usable ones; at \
                     most half of them can be held out"
                )));
            }
            *wanted as f64 / rows as f64
        }
    };
    let min_rows =
        if matches!(chosen, Validation::Rows(_)) { 0 } else { LEAST_VALIDATION.min(rows / 5) };
    let sides = split(&prepared.keys(), &SplitOptions { share, min_rows, seed });
    let mut is_validation = vec![false; rows];
    sides.validation.iter().for_each(|&i| is_validation[i] = true);
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (example, held_out) in prepared.examples.into_iter().zip(is_validation) {
        if held_out { validation.push(example) } else { train.push(example) }
    }
    Ok((train, validation))
}

/// What the settings want trained.
fn method(config: &RunConfig, opened: &Opened) -> anyhow::Result<Method> {
    if config.method == config::Method::Full {
        if opened.adapter.is_some() {
            return Err(bad_input(
                "init_adapter continues a LoRA; with --method full merge it first (core-cli export \
                 --merge) and train the merged model",
            ));
        }
        return Ok(Method::Full);
    }
    if let Some(adapter) = &opened.adapter {
        // Shape and scale are the adapter's; dropout is the run's.
        return Ok(Method::Lora(LoraConfig {
            dropout: config.lora_dropout as f32,
            ..adapter.lora
        }));
    }
    let rank = u32::try_from(config.lora_rank)
        .map_err(|_| bad_input(format!("lora_rank is {}", config.lora_rank)))?;
    let lora = LoraConfig {
        rank,
        alpha: config.effective_lora_alpha(),
        rank_stabilised: config.rslora,
        dropout: config.lora_dropout as f32,
        targets: targets(&config.lora_targets)?,
    };
    lora.validate(&opened.folder.config).map_err(|e| bad_input(e.to_string()))?;
    Ok(Method::Lora(lora))
}

/// Modules by name; `all-linear` is all seven.
fn targets(names: &[String]) -> anyhow::Result<[bool; 7]> {
    let mut targets = [false; 7];
    for name in names.iter().flat_map(|n| n.split(',')).map(str::trim) {
        if name == "all-linear" {
            return Ok([true; 7]);
        }
        let known = Module::ALL.map(Module::name);
        let module = Module::from_name(name).ok_or_else(|| {
            let nearest = known.iter().max_by(|a, b| {
                strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name))
            });
            let hint = nearest.map_or(String::new(), |n| format!(" Did you mean {n}?"));
            let all = known.join(", ");
            bad_input(format!("lora_targets: there is no `{name}`.{hint} Known: all-linear, {all}"))
        })?;
        targets[module as usize] = true;
    }
    Ok(targets)
}

/// The template of that name: a built-in one, one of a cluster, or a file.
pub fn named_template(name: &str) -> anyhow::Result<Template> {
    Ok(library::find_one(name)?)
}

fn template(config: &RunConfig) -> anyhow::Result<Option<Template>> {
    config.template.as_deref().map(named_template).transpose()
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

impl Reader<'_> {
    /// The examples of all files, with the template that was used.
    pub fn read(
        &self,
        paths: &[PathBuf],
        template: Option<Template>,
        progress: &mut dyn Progress,
    ) -> anyhow::Result<(Template, Prepared)> {
        for path in paths {
            if !path.is_file() {
                return Err(bad_input(format!("{}: there is no such file", path.display())));
            }
        }
        let first = paths
            .first()
            .ok_or_else(|| bad_input("no data file is named; give one with --data"))?;
        let read = ReadOptions { skip_bad: self.config.skip_bad, ..ReadOptions::default() };
        let detected = paddock_datasets::readers::open(first, &read)?.detected().clone();
        let template = template_for(self.config, first, template, &detected)?;
        let over_length = match self.config.over_length {
            config::OverLength::Drop => OverLength::Drop,
            config::OverLength::CutPrompt => OverLength::CutPrompt,
            config::OverLength::Refuse => OverLength::Refuse,
            config::OverLength::Pieces => OverLength::Pieces,
        };
        let options = PrepareOptions {
            read,
            template: template.clone(),
            encode: EncodeOptions { max_tokens: self.max_seq_len as usize, over_length },
            keep_empty_answers: false,
            limit_rows: None,
        };
        let prepared = load_examples(paths, &options, self.tokenizer, progress)?;
        Ok((template, prepared))
    }
}

/// The named template, or the one that the data's layout calls for, with the mapped columns.
pub fn template_for(
    config: &RunConfig,
    file: &Path,
    template: Option<Template>,
    detected: &Detected,
) -> anyhow::Result<Template> {
    let columns = &config.columns;
    for (field, column) in columns {
        if !["prompt", "input", "answer"].contains(&field.as_str()) {
            return Err(bad_input(format!(
                "columns.{field}: there is no such field; a template reads prompt, input and answer"
            )));
        }
        if !detected.columns.is_empty() && !detected.columns.contains(column) {
            return Err(bad_input(format!(
                "columns.{field}: {} has no column `{column}`; it has {}",
                file.display(),
                detected.columns.join(", ")
            )));
        }
    }
    let get = |field: &str| columns.get(field).map(String::as_str);
    let mapped = columns.contains_key("prompt") && columns.contains_key("answer");
    let template = template
        .or_else(|| Template::for_layout(detected))
        .or_else(|| mapped.then(Template::prompt))
        .ok_or_else(|| {
            bad_input(format!(
                "{}: {}. Say which columns are prompt and answer: --columns prompt=NAME \
                 --columns answer=NAME (columns here: {})",
                file.display(),
                detected.why,
                detected.columns.join(", ")
            ))
        })?;
    Ok(template.with_columns(get("prompt"), get("input"), get("answer")))
}
