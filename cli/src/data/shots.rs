//! Worked examples before rows, for commands that show or write rendered rows.

use std::path::PathBuf;

use paddock_datasets::fewshot::Choice;
use paddock_datasets::readers::{self, ReadOptions};
use paddock_datasets::record::Record;
use paddock_datasets::shots::{Gather, Prompter, Shots};
use paddock_datasets::template::{Compiled, Rendered};
use paddock_datasets::tokenizer::Tokenizer;

use crate::error::bad_input;
use crate::run::config::ShotsBy;

/// How worked examples are put before rows.
#[derive(Clone, Debug, clap::Args)]
pub struct ShotArgs {
    /// Put so many worked examples before rows.
    #[arg(long, default_value_t = 0)]
    shots: usize,
    /// How they are chosen: random, balanced over the answers, or nearest to the question.
    #[arg(long, default_value = "balanced", value_parser = parse_by)]
    shots_by: ShotsBy,
    /// Share of the rows that get them.
    #[arg(long, default_value_t = 1.0)]
    shots_rate: f64,
    /// State a label with its meaning before them. May come often.
    #[arg(long, value_name = "LABEL=MEANING")]
    define: Vec<String>,
    /// Seed of the choice.
    #[arg(long, default_value_t = 1)]
    shots_seed: u64,
}

fn parse_by(text: &str) -> Result<ShotsBy, String> {
    serde_json::from_value(serde_json::Value::String(text.into()))
        .map_err(|_| "expected random, balanced or nearest".to_string())
}

/// The choice in the words of the data sets.
pub fn choice(by: ShotsBy) -> Choice {
    match by {
        ShotsBy::Random => Choice::Random,
        ShotsBy::Balanced => Choice::Balanced,
        ShotsBy::Nearest => Choice::Nearest,
    }
}

impl ShotArgs {
    /// For the manifest.
    pub fn settings(&self) -> serde_json::Value {
        serde_json::json!({
            "shots": self.shots, "by": self.shots_by, "rate": self.shots_rate, "define": self.define,
            "seed": self.shots_seed,
        })
    }

    /// The pool of worked examples for one template (and its name), if any are asked for. Rows are changed by
    /// `shape` first, as those are that they will stand before.
    ///
    /// # Errors
    /// Wrong settings; what `shape` reports; if no row can be a worked example.
    pub fn prompter(
        &self,
        paths: &[PathBuf],
        options: &ReadOptions,
        (name, template): (&str, &Compiled),
        shape: &dyn Fn(Record) -> anyhow::Result<Record>,
    ) -> anyhow::Result<Option<Prompter>> {
        if self.shots == 0 {
            return Ok(None);
        }
        let mut labels = std::collections::BTreeMap::new();
        for pair in &self.define {
            let (label, meaning) = pair
                .split_once('=')
                .ok_or_else(|| bad_input(format!("--define {pair}: expected LABEL=MEANING")))?;
            labels.insert(label.to_string(), meaning.to_string());
        }
        let (k, rate, seed) = (self.shots, self.shots_rate, self.shots_seed);
        let shots = Shots { k, choice: choice(self.shots_by), rate, seed, labels };
        shots.check()?;
        let mut gather = Gather::new(&shots);
        let (mut row, mut failed) = (0, None);
        for path in paths {
            for record in readers::open(path, options)?.flatten() {
                if gather.wants(row) {
                    let record = shape(record)?;
                    match template.render(&record) {
                        Ok(rendered) => gather.push(row, &rendered),
                        Err(error) => failed = failed.or(Some(error)),
                    }
                }
                row += 1;
            }
        }
        let prompter = gather.finish();
        if prompter.rows().is_empty() {
            let why = failed.map_or_else(
                || "give more rows; each must have one answer, which is not empty".to_string(),
                |error| format!("the first of them cannot be rendered: {error}"),
            );
            return Err(bad_input(format!(
                "--shots {k}: of {row} rows about a quarter may be worked examples, and none of these can be \
                 one with template {name}; {why}"
            )));
        }
        Ok(Some(prompter))
    }
}

/// The row with worked examples before it, if it gets any; fitted into the limit, if there is one.
pub fn with_shots(
    prompter: Option<&Prompter>,
    rendered: Rendered,
    row: u64,
    limit: Option<(&Tokenizer, usize)>,
) -> anyhow::Result<Rendered> {
    match prompter {
        None => Ok(rendered),
        Some(prompter) => {
            Ok(prompter.put_before(&rendered, row, limit)?.map_or(rendered, |(with, _)| with))
        }
    }
}
