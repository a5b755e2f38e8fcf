//! What a run says while it goes on: `core-cli train --events jsonl` prints one such object a line
//! on stdout, and the desktop app reads them. Each line carries `"v":1`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::metrics::{Eval, Rewind, Step};
use super::number;

/// The version of the stream. It grows when a field changes its meaning or goes away; fields and
/// kinds that are merely added do not change it.
pub const EVENTS_VERSION: u64 = 1;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The run has its folder and its lock.
    Start(Start),
    /// What is going to happen, before anything is allocated.
    Plan(Plan),
    /// An optimizer step, with the fields of `metrics.jsonl`.
    Step(Step),
    /// An evaluation, with the fields of `metrics.jsonl`.
    Eval(Eval),
    /// The run went back to a checkpoint because its loss jumped, with the fields of `metrics.jsonl`.
    Rewind(Rewind),
    /// An answer of the model to a validation prompt.
    Sample(Sample),
    /// An answer on the way: the model as it is after some steps.
    Answer(Answer),
    /// The model before and after, on the test rows.
    Judged(Judged),
    /// A checkpoint is durable and verified.
    Checkpoint(SavedCheckpoint),
    /// Something that a person should know; the run goes on.
    Warning(Warning),
    /// The run waits (a full disk) or goes on again.
    Pause(Pause),
    /// What came out of the run, in words.
    Verdict(Verdict),
    /// The run has failed; nothing follows.
    Error(Failure),
    /// The last event.
    Done(Done),
}

/// The run has started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The run's folder.
    pub out: String,
    /// Version of the program.
    pub version: String,
    /// Process id, for signals.
    pub pid: u32,
    /// The step that the run goes on from; missing for a new run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_from: Option<u64>,
}

/// What is going to happen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The model, as the user named it.
    pub model: String,
    /// `lora` or `full`.
    pub method: String,
    /// The back-end that was chosen.
    pub backend: String,
    /// Parameters of the model.
    pub parameters: u64,
    /// Parameters that are trained.
    pub trained_parameters: u64,
    /// Rows that are trained on.
    pub train_rows: u64,
    /// Rows held out for validation.
    pub validation_rows: u64,
    /// Rows left out, by reason.
    #[serde(default)]
    pub dropped_rows: Vec<Count>,
    /// The sets of a mixture.
    #[serde(default)]
    pub sets: Vec<PlannedSet>,
    /// Tokens of one pass over the training rows.
    pub tokens: u64,
    /// Those of them that the loss counts.
    pub trained_tokens: u64,
    /// Optimizer steps of the whole run.
    pub steps: u64,
    /// Passes over the data.
    #[serde(with = "number")]
    pub epochs: f64,
    /// Memory by purpose, in bytes.
    pub memory: Vec<Count>,
    /// Their sum.
    pub memory_bytes: u64,
    /// Bytes of one checkpoint.
    pub checkpoint_bytes: u64,
    /// How long the run will take, if that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Seconds>,
}

/// A time that is known within limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// At least.
    #[serde(with = "number")]
    pub low: f64,
    /// At most, if nothing else disturbs the machine.
    #[serde(with = "number")]
    pub high: f64,
}

/// A set of a mixture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlannedSet {
    /// What it is called.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its templates.
    pub templates: u64,
    /// Share of the rows that are drawn from it.
    #[serde(with = "number")]
    pub share: f64,
}

/// A number with a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// What is counted.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// A prompt and what is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Optimizer steps done.
    pub step: u64,
    /// The prompt, as rendered by the template.
    pub prompt: String,
    /// The answer in the data, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The answer of the model before training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The answer of the model now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<String>,
}

/// An answer of the model while it learns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Optimizer steps done.
    pub step: u64,
    /// The prompt, as rendered by the template: one of those of the samples.
    pub prompt: String,
    /// What the model says now.
    pub answer: String,
}

/// A share with its 95% interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The share, from 0 to 1.
    #[serde(with = "number")]
    pub value: f64,
    /// Lower end of the interval.
    #[serde(with = "number")]
    pub low: f64,
    /// Upper end of the interval.
    #[serde(with = "number")]
    pub high: f64,
}

/// The test rows, answered before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Rows.
    pub rows: u64,
    /// What the shares count: `wishes fulfilled` or `exact answers`.
    pub measure: String,
    /// Loss before.
    #[serde(with = "number")]
    pub base_loss: f64,
    /// Loss after.
    #[serde(with = "number")]
    pub tuned_loss: f64,
    /// Share before.
    pub base: Share,
    /// Share after.
    pub tuned: Share,
}

/// A checkpoint that is safe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCheckpoint {
    /// Its step.
    pub step: u64,
    /// Its folder.
    pub path: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Whether it is the best one so far.
    pub best: bool,
    /// Folders of older ones that were removed.
    #[serde(default)]
    pub removed: Vec<String>,
}

/// Something that a person should know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// In plain words.
    pub message: String,
}

/// The run waits or goes on again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Whether it waits now.
    pub waiting: bool,
    /// What for, and what a person can do.
    pub message: String,
    /// Whether somebody asked for it, by the control file; otherwise it waits for room on the disk.
    #[serde(default)]
    pub asked: bool,
}

/// What came out of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// One or two plain sentences.
    pub message: String,
    /// Numbers behind them, for the report.
    #[serde(default)]
    pub details: serde_json::Map<String, Value>,
}

/// Why the run failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What happened, where, what was expected, what to do.
    pub message: String,
    /// The exit code that follows: 1 failure, 2 bad usage or bad input.
    pub exit_code: i32,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// All steps are done.
    #[default]
    Finished,
    /// Patience ran out.
    EarlyStop,
    /// Stopped by a signal after saving.
    Interrupted,
    /// An `error` came before.
    Failed,
}

/// The end of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Why.
    pub reason: Reason,
    /// Optimizer steps done.
    pub step: u64,
    /// The step of the best checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_step: Option<u64>,
    /// The run's folder.
    pub out: String,
    /// Seconds of training since the run's first start.
    #[serde(with = "number")]
    pub elapsed_s: f64,
    /// The process's exit code.
    pub exit_code: i32,
}

#[derive(Serialize)]
struct Line<'a> {
    v: u64,
    #[serde(flatten)]
    event: &'a Event,
}

/// What one line of the stream is.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// An event.
    Event(Box<Event>),
    /// An event of a kind that a later program added; it may be passed over.
    UnknownKind(String),
}

/// Why a line could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not an event at all.
    #[error("this is no event: {0}")]
    Malformed(String),
    /// A later version of the stream.
    #[error(
        "event version {0}, but this program reads version {EVENTS_VERSION}: use one release for \
         both"
    )]
    Future(u64),
}

impl Event {
    /// The line of the stream, without the newline.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Line { v: EVENTS_VERSION, event: self })
    }

    /// Reads a line of the stream.
    pub fn parse(line: &str) -> Result<Parsed, EventError> {
        let malformed = |error: serde_json::Error| EventError::Malformed(error.to_string());
        let value: Value = serde_json::from_str(line).map_err(malformed)?;
        match value.get("v").and_then(Value::as_u64) {
            Some(EVENTS_VERSION) => {}
            Some(other) if other > EVENTS_VERSION => return Err(EventError::Future(other)),
            _ => return Err(EventError::Malformed("it has no version \"v\"".to_string())),
        }
        let Some(kind) = value.get("kind").and_then(Value::as_str) else {
            return Err(EventError::Malformed("it has no \"kind\"".to_string()));
        };
        if !KINDS.contains(&kind) {
            return Ok(Parsed::UnknownKind(kind.to_string()));
        }
        serde_json::from_value(value).map(|event| Parsed::Event(Box::new(event))).map_err(malformed)
    }
}

/// Every kind, as written.
pub const KINDS: [&str; 14] = [
    "start",
    "plan",
    "step",
    "eval",
    "rewind",
    "sample",
    "answer",
    "judged",
    "checkpoint",
    "warning",
    "pause",
    "verdict",
    "error",
    "done",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Event> {
        vec![
            Event::Start(Start { resumed_from: Some(3), ..Start::default() }),
            Event::Plan(Plan { memory: vec![Count::default()], ..Plan::default() }),
            Event::Step(Step::default()),
            Event::Eval(Eval { exact_match: Some(0.5), ..Eval::default() }),
            Event::Rewind(Rewind::default()),
            Event::Sample(Sample { base: Some("a".into()), ..Sample::default() }),
            Event::Answer(Answer::default()),
            Event::Judged(Judged::default()),
            Event::Checkpoint(SavedCheckpoint::default()),
            Event::Warning(Warning::default()),
            Event::Pause(Pause::default()),
            Event::Verdict(Verdict::default()),
            Event::Error(Failure::default()),
            Event::Done(Done { reason: Reason::EarlyStop, ..Done::default() }),
        ]
    }

    #[test]
    fn every_event_comes_back_as_it_was() -> Result<(), Box<dyn std::error::Error>> {
        for (event, kind) in all().into_iter().zip(KINDS) {
            let line = event.to_line()?;
            assert!(line.starts_with(&format!(r#"{{"v":1,"kind":"{kind}""#)), "{line}");
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(Event::parse(&line)?, Parsed::Event(Box::new(event)));
        }
        Ok(())
    }

    #[test]
    fn later_programs_are_understood_or_refused() {
        let parsed = Event::parse(r#"{"v":1,"kind":"weather","sun":true}"#);
        assert_eq!(parsed, Ok(Parsed::UnknownKind("weather".into())));
        let parsed = Event::parse(r#"{"v":1,"kind":"warning","message":"m","colour":"red"}"#);
        let warning = Event::Warning(Warning { message: "m".into() });
        assert_eq!(parsed, Ok(Parsed::Event(Box::new(warning))));
        assert_eq!(Event::parse(r#"{"v":2,"kind":"step"}"#), Err(EventError::Future(2)));
        for bad in
            ["", "{}", "[1]", r#"{"v":1}"#, r#"{"v":-1,"kind":"step"}"#, r#"{"v":1,"kind":"step"}"#]
        {
            assert!(matches!(Event::parse(bad), Err(EventError::Malformed(_))), "{bad}");
        }
    }
}
