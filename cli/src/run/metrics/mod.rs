//! `metrics.jsonl`: one JSON object a line, appended while a run goes on.

mod lines;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::number;
use crate::storage::Storage;
use crate::storage::words::explain;
use lines::for_each_line;
pub use writer::{MetricsWriter, Resumed};

/// One optimizer step. The field names are a promise to whoever reads the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Optimizer steps done, this one included.
    pub step: u64,
    /// Passes over the data so far; 1.5 is the middle of the second.
    #[serde(with = "number")]
    pub epoch: f64,
    /// Sum of the token losses of the step divided by its trained tokens, in nats.
    #[serde(with = "number")]
    pub loss: f64,
    /// Learning rate of the step.
    #[serde(with = "number")]
    pub lr: f64,
    /// Norm of the gradient before clipping.
    #[serde(with = "number")]
    pub grad_norm: f64,
    /// Rows of the step.
    pub rows: u64,
    /// Their tokens, without padding.
    pub tokens: u64,
    /// Tokens that the loss counts.
    pub trained_tokens: u64,
    /// Speed of the step.
    #[serde(with = "number")]
    pub tokens_per_s: f64,
    /// Seconds of training since the run's first start, pauses between resumes left out.
    #[serde(with = "number")]
    pub elapsed_s: f64,
    /// Every hundred steps: share of the trained numbers that the update left as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchanged: Option<f64>,
}

/// One evaluation on the validation rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Eval {
    /// Optimizer steps done before it.
    pub step: u64,
    /// Mean loss of a trained token, in nats.
    #[serde(with = "number")]
    pub eval_loss: f64,
    /// Share of trained tokens that are the most likely next token, 0 to 1.
    #[serde(with = "number")]
    pub token_accuracy: f64,
    /// Share of answers reproduced exactly, where answers are short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<f64>,
    /// Validation rows.
    pub rows: u64,
    /// Their trained tokens.
    pub trained_tokens: u64,
    /// Whether it is the best one so far.
    pub best: bool,
    /// Seconds of training since the run's first start.
    #[serde(with = "number")]
    pub elapsed_s: f64,
}

/// A loss spike after which the run went back to a checkpoint and left out the rows since then. The lines of the
/// steps in between are gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewind {
    /// How many times the run has gone back, this one included.
    pub number: u64,
    /// The step that it went back to.
    pub step: u64,
    /// The step whose loss jumped.
    pub from: u64,
    /// That loss.
    #[serde(with = "number")]
    pub loss: f64,
    /// Losses above this one count as a spike.
    #[serde(with = "number")]
    pub limit: f64,
    /// Rows that are left out: those of that step and of the steps in between.
    pub rows: u64,
    /// The first few rows of that step.
    pub first_rows: Vec<u64>,
}

impl fmt::Display for Rewind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "step {}: the loss jumped to {:.3}, far above the steps before it (usual: below {:.3}); its first rows \
             are {:?}. The run went back to step {} and goes on without the {} rows since then (time {} of the run)",
            self.from, self.loss, self.limit, self.first_rows, self.step, self.rows, self.number
        )
    }
}

/// One line of the file. Fields that a later version adds are ignored by an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// An optimizer step.
    Step(Step),
    /// An evaluation.
    Eval(Eval),
    /// The run went back.
    Rewind(Rewind),
}

impl Line {
    /// The step it belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(step) => step.step,
            Self::Eval(eval) => eval.step,
            Self::Rewind(rewind) => rewind.step,
        }
    }
}

/// What can go wrong with the file.
#[derive(Debug, thiserror::Error)]
#[error("{} {}: {}", action, path.display(), explain(source))]
pub struct MetricsError {
    action: &'static str,
    path: PathBuf,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

impl MetricsError {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self { action, path, source }
    }
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} (byte {byte}): {what}")]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
    /// Where it starts in the file.
    pub byte: u64,
    /// What is wrong with it.
    pub what: String,
}

/// The contents of a metrics file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Every line that could be read, in order.
    pub lines: Vec<Line>,
    /// Lines that could not, the torn tail left out.
    pub bad: Vec<BadLine>,
    /// Lines at the end that were cut off while being written; they are ignored.
    pub torn: Vec<BadLine>,
}

/// Reads a metrics file. A missing file is an empty one. A torn tail is no error.
pub fn read(storage: &dyn Storage, path: &Path) -> Result<Metrics, MetricsError> {
    let mut metrics = Metrics::default();
    for_each_line(storage, path, &mut |place, text| match parse(text) {
        Ok(line) => {
            // A bad line before a good one is no torn tail.
            metrics.bad.append(&mut metrics.torn);
            metrics.lines.push(line);
        }
        Err(what) => metrics.torn.push(BadLine { line: place.line, byte: place.byte, what }),
    })
    .map_err(MetricsError::at("reading", path))?;
    Ok(metrics)
}

fn parse(text: lines::Text) -> Result<Line, String> {
    match text {
        lines::Text::Whole(bytes) => serde_json::from_slice(bytes).map_err(|e| e.to_string()),
        lines::Text::Unfinished => Err("it has no end".to_string()),
        lines::Text::TooLong => Err("it is too long to be a line of metrics".to_string()),
    }
}
