//! Judgements read back: Paddock's own, AlpacaEval's annotations, and the reviews of the Vicuna team.

use std::path::{Path, PathBuf};

use paddock_datasets::record::{Record, scalar_text};

use super::agreement::Choice;
use super::course::Judgement;
use crate::error::bad_input;
use crate::eval::rows::{Selection, read};

/// Judgements of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// What each is about, and points of the second answer (0, ½, 1; or between), or a grade.
    pub values: Vec<(String, f64)>,
    /// Two answers were compared.
    pub pairs: bool,
    /// Names of the two, where they are known.
    pub names: Option<(String, String)>,
    /// Sums of the scores of the two, where scores were given.
    pub scores: Option<(f64, f64)>,
    /// Rows without a judgement.
    pub missing: usize,
}

impl Judged {
    /// The choices, for pairs.
    pub fn choices(&self) -> impl Iterator<Item = (&str, Choice)> {
        self.values.iter().map(|(id, points)| {
            let choice = match *points {
                p if p > 0.5 => Choice::Second,
                p if p < 0.5 => Choice::First,
                _ => Choice::Tie,
            };
            (id.as_str(), choice)
        })
    }
}

/// Reads a file of any of the three kinds.
pub fn load(path: &Path) -> anyhow::Result<Judged> {
    let records = read(&[PathBuf::from(path)], &Selection::default())?.records;
    let first = &records[0];
    let has = |name: &str| first.get(name).is_some();
    if has("preference") && has("instruction") {
        return Ok(alpaca_eval(&records));
    }
    if has("score") && has("question_id") {
        return Ok(vicuna(&records));
    }
    if has("value") && has("rubric") {
        return Ok(own(&records));
    }
    Err(bad_input(format!(
        "{}: no judgements are recognised there: expected core-cli judge's own lines, AlpacaEval's \
         annotations (instruction, preference) or Vicuna's reviews (question_id, score)",
        path.display()
    )))
}

fn number(record: &Record, name: &str) -> Option<f64> {
    record.get(name).and_then(scalar_text)?.trim().parse().ok().filter(|x: &f64| x.is_finite())
}

fn text(record: &Record, name: &str) -> Option<String> {
    record.get(name).and_then(scalar_text)
}

/// 1 and 2 name the better answer, 0 and 1.5 are ties, numbers between 1 and 2 are probabilities.
fn alpaca_eval(records: &[Record]) -> Judged {
    let mut judged = Judged { pairs: true, ..Judged::default() };
    judged.names = text(&records[0], "generator_1").zip(text(&records[0], "generator_2"));
    for record in records {
        let points = match number(record, "preference") {
            Some(0.0) => Some(0.5),
            Some(p) if (1.0..=2.0).contains(&p) => Some(p - 1.0),
            _ => None,
        };
        match (points, text(record, "instruction")) {
            (Some(points), Some(id)) => judged.values.push((id, points)),
            _ => judged.missing += 1,
        }
    }
    judged
}

/// Two scores a question; negative ones stand for replies that could not be read.
fn vicuna(records: &[Record]) -> Judged {
    let mut judged = Judged { pairs: true, ..Judged::default() };
    let (mut first, mut second) = (0.0, 0.0);
    for record in records {
        let scores = record.get("score").and_then(|s| s.as_array());
        let scores: Vec<f64> = scores.into_iter().flatten().filter_map(|s| s.as_f64()).collect();
        match (&scores[..], text(record, "question_id")) {
            (&[a, b], Some(id)) if a >= 0.0 && b >= 0.0 => {
                first += a;
                second += b;
                let points = if a == b { 0.5 } else { f64::from(u8::from(b > a)) };
                judged.values.push((id, points));
            }
            _ => judged.missing += 1,
        }
    }
    judged.scores = Some((first, second));
    judged
}

/// Judgements of `judge rate`, as [`load`] gives them.
pub fn of(judgements: &[Judgement]) -> Judged {
    let pairs = judgements.iter().all(|j| j.pairs);
    let value = |j: &Judgement| if pairs { 1.0 - j.value } else { j.value };
    let values = judgements.iter().map(|j| (j.row.to_string(), value(j))).collect();
    Judged { values, pairs, ..Judged::default() }
}

fn own(records: &[Record]) -> Judged {
    let is_pair = |r: &Record| r.get("pairs").and_then(|p| p.as_bool()) == Some(true);
    let mut judged = Judged { pairs: records.iter().all(is_pair), ..Judged::default() };
    for record in records {
        match (number(record, "value"), text(record, "row")) {
            (Some(value), Some(id)) => {
                let value = if judged.pairs { 1.0 - value } else { value };
                judged.values.push((id, value));
            }
            _ => judged.missing += 1,
        }
    }
    judged
}
