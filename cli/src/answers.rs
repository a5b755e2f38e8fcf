//! Answers of a model to many questions, a line each, for `judge` and for people: what was answered stays when
//! the work is stopped, and the same command goes on.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use paddock_datasets::encode::prompt_tokens;
use paddock_datasets::record::{Record, scalar_text};
use paddock_datasets::template::{Body, Compiled, Rendered, Template};
use serde_json::{Map, Value, json};

use crate::error::bad_input;
use crate::eval::progress::{Interrupted, Progress};
use crate::generate::{Generation, Stop, Voice};
use crate::judge::rows::{ANSWER, question};
use crate::open::Opened;
use crate::run::folder::is_same;
use crate::run::signals::Signals;

/// The column that says whose answer it is.
pub const BY: &str = "answered_by";

/// A question as it is put to the model.
pub struct Question {
    /// The row's columns, without an answer that the data gave: that is called `reference` here.
    columns: Map<String, Value>,
    /// What the model is given.
    pub tokens: Vec<u32>,
}

/// Renders the questions of rows: columns of the usual names, or conversations in `messages`.
///
/// # Errors
/// Names the row that has neither, or a conversation where the template knows no turns.
pub fn questions(
    records: Vec<Record>,
    template: &Template,
    opened: &Opened,
) -> anyhow::Result<Vec<Question>> {
    let compiled = template.compile()?;
    let turns = matches!(template.body, Body::Chat(_));
    let most = opened.folder.config.max_seq_len as usize;
    let one = |record: Record| {
        let row = record.row;
        let (columns, rendered) = if record.get("messages").is_some() {
            if !turns {
                return Err(bad_input(format!(
                    "row {row} is a conversation, and the template {} knows single questions only; \
                     give --template chat (the model's own) or --template conversation",
                    template.name
                )));
            }
            conversation(record, &compiled)?
        } else {
            single(record, &compiled)?
        };
        let tokens = prompt_tokens(&opened.tokenizer, &rendered)?;
        if tokens.len() >= most {
            return Err(bad_input(format!(
                "row {row} has {} tokens; this model takes up to {most} with the answer",
                tokens.len()
            )));
        }
        Ok(Question { columns, tokens })
    };
    records.into_iter().map(one).collect()
}

fn conversation(
    mut record: Record,
    compiled: &Compiled,
) -> anyhow::Result<(Map<String, Value>, Rendered)> {
    let rendered = compiled.render_prompt(&record)?;
    let turns = record.columns.get_mut("messages").and_then(Value::as_array_mut);
    let answered = turns.and_then(|turns| match turns.last() {
        Some(last) if last["role"] == "assistant" => turns.pop(),
        _ => None,
    });
    if let Some(answered) = answered {
        record.columns.insert("reference".to_string(), answered["content"].clone());
    }
    Ok((record.columns, rendered))
}

fn single(record: Record, compiled: &Compiled) -> anyhow::Result<(Map<String, Value>, Rendered)> {
    let asked = question(&record).ok_or_else(|| {
        bad_input(format!(
            "row {} has no question (a column instruction, question, prompt or text) and no messages",
            record.row
        ))
    })?;
    let input = record.get("input").and_then(scalar_text).unwrap_or_default();
    let rendered = compiled.render_question(&asked, &input)?;
    let mut columns = record.columns;
    let given = ANSWER.iter().find_map(|name| columns.shift_remove(*name));
    if let Some(given) = given {
        columns.insert("reference".to_string(), given);
    }
    Ok((columns, rendered))
}

/// The row with its answer.
fn answered(question: &Question, text: &str, stop: &str, by: &Value) -> Value {
    let mut columns = question.columns.clone();
    match columns.get_mut("messages").and_then(Value::as_array_mut) {
        Some(turns) => turns.push(json!({"role": "assistant", "content": text})),
        None => {
            columns.insert("answer".to_string(), text.into());
        }
    }
    columns.insert("stop".to_string(), stop.into());
    columns.insert(BY.to_string(), by.clone());
    Value::Object(columns)
}

/// How the line of a question begins, up to where its answer is.
fn beginning(question: &Question, by: &Value) -> Vec<u8> {
    let [line, other] = ["a", "b"].map(|text| answered(question, text, "", by).to_string());
    let same = line.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).map(|(a, _)| a);
    same.collect()
}

/// Refuses a file to write that is one of those that are read.
///
/// # Errors
/// Names it.
pub fn not_an_input<P: AsRef<Path>>(out: &Path, inputs: &[P]) -> anyhow::Result<()> {
    let Ok(own) = dunce::canonicalize(out) else { return Ok(()) };
    let same = |input: &P| dunce::canonicalize(input).is_ok_and(|input| is_same(&input, &own));
    if inputs.iter().any(same) {
        return Err(bad_input(format!(
            "{} is one of the files that are read; name another file with --out",
            out.display()
        )));
    }
    Ok(())
}

/// How many of the questions `out` answers already. A last line that breaks off is taken away.
///
/// # Errors
/// If the file answers other questions, or somebody else answered, or it is none of this command's: it stays as it
/// is.
fn done(out: &Path, questions: &[Question], by: &Value) -> anyhow::Result<usize> {
    if !out.exists() {
        return Ok(0);
    }
    // A full disk may have cut the last line anywhere, even inside a letter.
    let bytes = std::fs::read(out)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let other = |line: usize, what: &str| {
        bad_input(format!(
            "{} exists, and its line {line} {what}; name another file with --out, or take that one away",
            out.display()
        ))
    };
    let mut n = 0;
    for (i, line) in bytes[..whole].split_inclusive(|b| *b == b'\n').enumerate() {
        let row: Value = serde_json::from_slice(line)
            .map_err(|_| other(i + 1, "is no answer of this command"))?;
        let Some(question) = questions.get(i) else {
            return Err(other(i + 1, "answers a question that is not among these"));
        };
        if row[BY] != *by {
            return Err(other(i + 1, "was answered by another model or with other settings"));
        }
        let said = match row["messages"].as_array().and_then(|turns| turns.last()) {
            Some(turn) => turn["content"].as_str(),
            None => row["answer"].as_str(),
        };
        let stop = row["stop"].as_str().unwrap_or_default();
        if answered(question, said.unwrap_or_default(), stop, by) != row {
            return Err(other(i + 1, "answers another question"));
        }
        n += 1;
    }
    let tail = &bytes[whole..];
    if !tail.is_empty() {
        // Only what was begun here may be taken away: a file of one line may be anything.
        let begun = |question| {
            let line = beginning(question, by);
            line.starts_with(tail) || tail.starts_with(&line)
        };
        if n == 0 && !questions.first().is_some_and(begun) {
            return Err(other(1, "is no answer of this command"));
        }
        OpenOptions::new().write(true).open(out)?.set_len(whole as u64)?;
    }
    Ok(n)
}

/// Answers what `out` does not answer yet. Returns how many it had answered before.
pub fn run(
    questions: &[Question],
    voice: &mut Voice,
    settings: &Generation,
    by: &Value,
    out: &Path,
    progress: &mut Progress,
    signals: &Signals,
) -> anyhow::Result<usize> {
    let before = done(out, questions, by)?;
    let mut file = OpenOptions::new().create(true).append(true).open(out)?;
    progress.step(before)?;
    for question in &questions[before..] {
        let mut go_on = |_: &str| !signals.stop_requested();
        let answer = voice.answer(&question.tokens, settings, &mut go_on)?;
        if answer.stop == Stop::Interrupted {
            return Err(Interrupted.into());
        }
        let line = answered(question, answer.text.trim(), answer.stop.word(), by);
        file.write_all(format!("{line}\n").as_bytes())?;
        progress.step(1)?;
    }
    file.sync_data()?;
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_breaks_off_inside_a_letter_is_taken_away() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("said.jsonl");
        let mut columns = Map::new();
        columns.insert("question".to_string(), "why ?".into());
        let questions = [Question { columns, tokens: vec![1] }];
        let by = json!({"model": "m"});
        let mut bytes =
            format!("{}\n", answered(&questions[0], "so", "end_token", &by)).into_bytes();
        let whole = bytes.len();
        bytes.extend(&"{\"question\": \"é".as_bytes()[..15]);
        std::fs::write(&out, &bytes).expect("a file");
        assert!(std::str::from_utf8(&bytes).is_err());
        assert_eq!(done(&out, &questions, &by).expect("it goes on"), 1);
        assert_eq!(std::fs::read(&out).expect("a file").len(), whole);
        // The very first line may break off, too, before its answer or in it.
        for cut in [1, 20, whole - 1] {
            std::fs::write(&out, &bytes[..cut]).expect("a file");
            assert_eq!(done(&out, &questions, &by).expect("it goes on"), 0, "{cut}");
            assert_eq!(std::fs::read(&out).expect("a file"), b"");
        }
    }

    #[test]
    fn f15_a_file_without_a_line_break_that_is_not_of_this_command_is_left_as_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("rows.json");
        let mut columns = Map::new();
        columns.insert("question".to_string(), "why ?".into());
        let questions = [Question { columns, tokens: vec![1] }];
        for text in ["[{\"question\":\"why ?\"}]", "{\"question\":\"why ?\"}", "\0\0", "words"] {
            std::fs::write(&out, text).expect("a file");
            let error = done(&out, &questions, &json!({})).expect_err(text);
            assert_eq!(crate::error::exit_code(&error), 2);
            let error = error.to_string();
            for words in ["its line 1 is no answer of this command", "name another file with --out"]
            {
                assert!(error.contains(words), "{error}");
            }
            assert_eq!(std::fs::read(&out).expect("a file"), text.as_bytes());
        }
    }
}
