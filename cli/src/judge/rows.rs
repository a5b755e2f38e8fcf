//! Questions with answers that are to be judged.

use std::path::PathBuf;

use paddock_datasets::record::{Record, scalar_text};
use serde_json::Value;

use crate::error::bad_input;
use crate::eval::rows::{Selection, read};

/// A question with one answer, or two to be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Its number in the data.
    pub row: u64,
    /// What was asked; of a chat all turns before the last answer.
    pub question: String,
    /// The answers: one, or the two to be compared.
    pub answers: Vec<String>,
}

const QUESTION: [&str; 4] = ["question", "instruction", "prompt", "text"];
/// Columns that hold an answer, the first of them that is there.
pub const ANSWER: [&str; 5] = ["answer", "output", "response", "completion", "tuned"];

/// What a row asks, without its `input`.
pub fn question(record: &Record) -> Option<String> {
    first(record, &QUESTION)
}

fn first(record: &Record, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| record.get(name).and_then(scalar_text))
}

/// Question and answer of a row: columns of the usual names, or a chat in `messages`.
fn pair(record: &Record) -> Option<(String, String)> {
    if let Some(turns) = record.get("messages").and_then(Value::as_array) {
        let part = |turn: &Value, name: &str| turn[name].as_str().map(str::to_string);
        let (last, before) = turns.split_last()?;
        let said: Option<Vec<String>> = before
            .iter()
            .map(|turn| Some(format!("{}: {}", part(turn, "role")?, part(turn, "content")?)))
            .collect();
        return Some((said?.join("\n\n"), part(last, "content")?));
    }
    let mut question = question(record)?;
    let input = record.get("input").and_then(scalar_text).filter(|t| !t.trim().is_empty());
    if let Some(input) = input {
        question.push_str(&format!("\n\n{input}"));
    }
    Some((question, first(record, &ANSWER)?))
}

fn pairs(path: &str, limit: Option<usize>) -> anyhow::Result<Vec<(u64, String, String)>> {
    let selection = Selection { limit, ..Selection::default() };
    let data = read(&[PathBuf::from(path)], &selection)?;
    let found = data.records.iter().map(|record| {
        let (question, answer) = pair(record).ok_or_else(|| {
            bad_input(format!(
                "{path}: row {} has no question ({}) or no answer ({}), and no messages",
                record.row,
                QUESTION.join(", "),
                ANSWER.join(", ")
            ))
        })?;
        Ok((record.row, question, answer))
    });
    found.collect()
}

/// Reads the answers, and those that they are compared with.
pub fn load(
    answers: &str,
    against: Option<&str>,
    limit: Option<usize>,
) -> anyhow::Result<Vec<Asked>> {
    let first = pairs(answers, limit)?;
    let Some(against) = against else {
        let one = |(row, question, answer)| Asked { row, question, answers: vec![answer] };
        return Ok(first.into_iter().map(one).collect());
    };
    let second = pairs(against, limit)?;
    if first.len() != second.len() {
        return Err(bad_input(format!(
            "{answers} has {} rows, {against} has {}; both must answer the same questions in the same order",
            first.len(),
            second.len()
        )));
    }
    let both = first.into_iter().zip(second).map(|((row, question, a), (_, other, b))| {
        if question.trim() != other.trim() {
            return Err(bad_input(format!(
                "row {row}: {answers} and {against} do not answer the same question there"
            )));
        }
        Ok(Asked { row, question, answers: vec![a, b] })
    });
    both.collect()
}
