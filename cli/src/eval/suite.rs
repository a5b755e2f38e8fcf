//! Suites: sets of questions that show what a model can do, to be asked before and after tuning.

use std::path::{Path, PathBuf};

use paddock_datasets::readers::Detected;
use paddock_datasets::record::{Record, scalar_text};
use paddock_datasets::template::{Rendered, Template};

use super::rows::{Data, Item, Items, Selection, read};
use super::run::{Metric, Run};
use crate::bundled;
use crate::error::bad_input;

/// The suite that is built in.
pub const PROBES: &str = "probes";

/// A suite, read.
pub struct Suite {
    /// As named.
    pub name: String,
    data: Data,
}

/// A row's score.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The suite, as named.
    pub suite: String,
    /// The kind of task: the row's own, or the suite's name.
    pub kind: String,
    /// Its row.
    pub row: u64,
    /// What it was asked.
    pub prompt: String,
    /// The right answer.
    pub wanted: String,
    /// What was chosen or said.
    pub said: String,
    /// The score: 0 to 1, or minus the mean token loss.
    pub score: f64,
}

/// Reads the suites: `probes`, or data files.
pub fn load(names: &[String], selection: &Selection) -> anyhow::Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for name in names {
        let path = match name.as_str() {
            PROBES => bundled::data(PROBES)?.train,
            _ => judged_by(name)?,
        };
        suites.push(Suite { name: name.clone(), data: read(&[path], selection)? });
    }
    Ok(suites)
}

/// Of built-in data with test rows these, otherwise all rows.
pub fn judged_by(name: &str) -> anyhow::Result<PathBuf> {
    match name.strip_prefix(bundled::PREFIX) {
        Some(built_in) => {
            let data = bundled::data(built_in)?;
            Ok(data.test.unwrap_or(data.train))
        }
        None => Ok(PathBuf::from(name)),
    }
}

impl Suite {
    fn probes(&self) -> Option<Vec<Probe>> {
        self.data.records.iter().map(probe).collect()
    }

    /// Whether the scores of the rows are shares from 0 to 1, or minus the mean token loss.
    ///
    /// # Errors
    /// If the metrics give single rows no score.
    pub fn share(&self, metrics: &[Metric]) -> anyhow::Result<bool> {
        // Ranked rows are right or wrong, whatever the metrics; and without metrics the rows call for such.
        let no_share = |m: &Metric| matches!(m, Metric::Perplexity | Metric::Bleu);
        if metrics.is_empty() || !metrics.iter().all(no_share) || self.probes().is_some() {
            return Ok(true);
        }
        if metrics.contains(&Metric::Perplexity) {
            return Ok(false);
        }
        Err(bad_input(format!(
            "{}: BLEU is a measure of all rows together, and before and after are compared row by row; take \
             --metric rouge",
            self.name
        )))
    }

    /// Asks a model. Rows with `prompt`, `choices` and the right one's place in `answer` are ranked by
    /// likelihood, as they are or through `template`; other rows need a template.
    pub fn ask(&self, run: &Run, template: Option<&Template>) -> anyhow::Result<Vec<Scored>> {
        let outcome = match self.probes() {
            Some(probes) => {
                let items = items(probes, template)?;
                run.one(Items { items, unlabelled: Vec::new() }, &[Metric::Accuracy], &self.name)?
            }
            None => {
                let template = self.template(template, &self.data.detected)?;
                let found = run.all(&self.data, &[template], None)?;
                found.templates.into_iter().next().unwrap_or_default()
            }
        };
        let stem = Path::new(&self.name).file_stem().map(|s| s.to_string_lossy().to_string());
        let name = stem.unwrap_or_else(|| self.name.clone());
        let scored = |row: super::outcome::RowOutcome| Scored {
            suite: self.name.clone(),
            kind: row.kind.unwrap_or_else(|| name.clone()),
            row: row.row,
            prompt: row.prompt,
            wanted: row.wanted,
            said: row.said,
            score: row.score,
        };
        Ok(outcome.rows.into_iter().map(scored).collect())
    }

    fn template(&self, given: Option<&Template>, detected: &Detected) -> anyhow::Result<Template> {
        given.cloned().or_else(|| Template::for_layout(detected)).ok_or_else(|| {
            bad_input(format!(
                "{}: {}, and its rows are no choices (prompt, choices, answer); say with --template how \
                 they become questions",
                self.name, detected.why
            ))
        })
    }
}

/// A question with answers to choose from.
struct Probe {
    row: u64,
    prompt: String,
    choices: Vec<String>,
    answer: usize,
    kind: Option<String>,
}

fn probe(record: &Record) -> Option<Probe> {
    let list = record.get("choices")?.as_array()?;
    let choices: Vec<String> = list.iter().map(scalar_text).collect::<Option<_>>()?;
    let answer = usize::try_from(record.get("answer")?.as_u64()?).ok()?;
    let prompt = record.get("prompt")?.as_str()?.to_string();
    let kind = record.get("kind").and_then(scalar_text);
    (answer < choices.len()).then_some(Probe { row: record.row, prompt, choices, answer, kind })
}

/// As they are, a blank stands between prompt and answer; through a template the template decides.
fn items(probes: Vec<Probe>, template: Option<&Template>) -> anyhow::Result<Vec<Item>> {
    let compiled = template.map(Template::compile).transpose()?;
    let mut items = Vec::with_capacity(probes.len());
    for probe in probes {
        let (prompt, choices) = match &compiled {
            Some(compiled) => (compiled.render_question(&probe.prompt, "")?, probe.choices),
            None => {
                let mut prompt = Rendered::default();
                prompt.data(&probe.prompt);
                (prompt, probe.choices.iter().map(|choice| format!(" {choice}")).collect())
            }
        };
        items.push(Item {
            row: probe.row,
            prompt,
            references: vec![choices[probe.answer].clone()],
            choices,
            gold: Some(probe.answer),
            wishes: Vec::new(),
            kind: probe.kind,
        });
    }
    Ok(items)
}
