//! Labelled rows: read, checked, divided into sides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use paddock_datasets::record::{Record, scalar_text};
use paddock_datasets::split::{SplitOptions, group_keys, split_stratified};
use serde_json::{Value, json};

use super::spec::{Split, Study, Task};
use crate::bundled;
use crate::error::bad_input;
use crate::eval::rows::{Selection, read};

/// More labels than this are no labels.
const MOST_LABELS: usize = 100;

/// A labelled row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// All its columns, and those that templates for instructions read.
    pub record: Record,
    /// What is to be judged, whole.
    pub text: String,
    /// Place of the answer among the labels.
    pub label: usize,
}

/// The rows of a study.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sides {
    /// To learn from.
    pub train: Vec<Row>,
    /// To choose by; may be empty.
    pub validation: Vec<Row>,
    /// To judge by, once.
    pub test: Vec<Row>,
    /// The answers, sorted.
    pub labels: Vec<String>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

impl Sides {
    /// Name and rows of each.
    pub fn each(&self) -> [(&'static str, &[Row]); 3] {
        [("train", &self.train), ("validation", &self.validation), ("test", &self.test)]
    }
}

/// Files behind names of data.
pub fn paths(names: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    names.iter().map(|name| bundled::data_path(name)).collect()
}

/// Reads and divides the rows.
///
/// # Errors
/// Where there are no labels, one label only, or a label is missing on a side.
pub fn divided(study: &Study) -> anyhow::Result<Sides> {
    let task = &study.task;
    let mut notes = Vec::new();
    let mut from = |names: &[String]| labelled(names, task, &mut notes);
    let sides = match &study.split {
        None => [from(&study.data)?, from(&study.validation_data)?, from(&study.test_data)?],
        Some(split) => by_split(from(&study.data)?, split)?,
    };
    let answers = sides.iter().flatten().map(|(_, _, answer)| answer.clone());
    let labels: Vec<String> = answers.collect::<BTreeSet<String>>().into_iter().collect();
    if labels.len() > MOST_LABELS {
        return Err(bad_input(format!(
            "column {} holds {} different values, more than labels usually are; is it the right column?",
            task.label,
            labels.len()
        )));
    }
    let long = |text: &str| text.split_whitespace().count() > task.most_words.unwrap_or(usize::MAX);
    let cut = sides.iter().flatten().filter(|(_, text, _)| long(text)).count();
    if let (Some(most), true) = (task.most_words, cut > 0) {
        notes.push(format!(
            "{cut} texts of more than {most} words are cut there for the model; the SVM reads them whole"
        ));
    }
    let mut sides = sides.map(|side| finished(side, task, &labels)).into_iter();
    let mut next = |most: Option<usize>| spread(sides.next().unwrap_or_default(), most);
    let most = study.most_rows;
    let (train, validation, test) = (next(most.train), next(most.validation), next(most.test));
    let mut sides = Sides { train, validation, test, labels, notes };
    check(&mut sides, task)?;
    Ok(sides)
}

/// A row with its text and its answer.
type Found = (Record, String, String);

fn labelled(names: &[String], task: &Task, notes: &mut Vec<String>) -> anyhow::Result<Vec<Found>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let data = read(&paths(names)?, &Selection::default())?;
    let column = |name: &str| {
        if data.records.iter().any(|r| r.get(name).is_some()) {
            return Ok(());
        }
        let there = data.records[0].names().collect::<Vec<_>>().join(", ");
        Err(bad_input(format!("{}: there is no column `{name}` (there are {there})", names[0])))
    };
    column(&task.input)?;
    column(&task.label)?;
    let (mut found, mut without) = (Vec::new(), Vec::new());
    for record in data.records {
        let get = |name: &str| record.get(name).and_then(scalar_text).map(|t| t.trim().to_string());
        let text = get(&task.input).filter(|text| !text.is_empty());
        let label = get(&task.label).filter(|label| !label.is_empty());
        match (text, label) {
            (Some(text), Some(label)) => {
                let answer = task.answers.get(&label).cloned().unwrap_or(label);
                found.push((record, text, answer));
            }
            _ => without.push(record.row),
        }
    }
    if found.is_empty() {
        return Err(bad_input(format!(
            "{}: no row has both a text in `{}` and a label in `{}`",
            names[0], task.input, task.label
        )));
    }
    if let Some(first) = without.first() {
        notes.push(format!(
            "{} rows of {} without a text or a label are left out (the first is row {first})",
            without.len(),
            names[0]
        ));
    }
    Ok(found)
}

fn by_split(rows: Vec<Found>, split: &Split) -> anyhow::Result<[Vec<Found>; 3]> {
    let mut sides = [Vec::new(), Vec::new(), Vec::new()];
    if let Some(column) = &split.column {
        for row in rows {
            let said = row.0.get(column).and_then(scalar_text).unwrap_or_default();
            let side = match said.trim() {
                "train" => 0,
                "validation" | "dev" | "valid" => 1,
                "test" => 2,
                other => {
                    return Err(bad_input(format!(
                        "row {}: column `{column}` says `{other}`; expected train, validation or test",
                        row.0.row
                    )));
                }
            };
            sides[side].push(row);
        }
        return Ok(sides);
    }
    // Equal texts stay on one side: nothing is asked that was shown.
    let plain: Vec<String> = rows.iter().map(|(_, text, _)| letters(text)).collect();
    let keys = group_keys(&plain.iter().map(String::as_str).collect::<Vec<_>>());
    let labels: Vec<&str> = rows.iter().map(|(_, _, answer)| answer.as_str()).collect();
    let part = |share: f64, keys: &[u128], labels: &[&str], seed| {
        split_stratified(keys, labels, &SplitOptions { share, min_rows: 1, seed })
    };
    let test = part(split.test.unwrap_or(0.0), &keys, &labels, split.seed)?;
    let rest = &test.train;
    let share = split.validation.unwrap_or(0.0) / (1.0 - split.test.unwrap_or(0.0));
    let pick = |of: &[usize]| -> (Vec<u128>, Vec<&str>) {
        of.iter().map(|&i| (keys[i], labels[i])).unzip()
    };
    let (rest_keys, rest_labels) = pick(rest);
    let inner = part(share, &rest_keys, &rest_labels, split.seed)?;
    let mut side_of = vec![0; rows.len()];
    inner.validation.iter().for_each(|&i| side_of[rest[i]] = 1);
    test.validation.iter().for_each(|&i| side_of[i] = 2);
    rows.into_iter().zip(side_of).for_each(|(row, side)| sides[side].push(row));
    Ok(sides)
}

/// Letters and digits in lower case: what makes two texts the same.
fn letters(text: &str) -> String {
    text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect()
}

/// Rows with the columns that templates for instructions read.
fn finished(rows: Vec<Found>, task: &Task, labels: &[String]) -> Vec<Row> {
    let finish = |(mut record, text, answer): Found| {
        let label = labels.iter().position(|l| *l == answer).unwrap_or_default();
        let set = [
            ("instruction", json!(task.instruction)),
            ("input", json!(first_words(&text, task.most_words))),
            ("text", json!(text)),
            ("output", json!(answer)),
            ("choices", json!(labels)),
        ];
        set.into_iter().for_each(|(name, value)| {
            record.columns.insert(name.to_string(), value);
        });
        Row { record, text, label }
    };
    rows.into_iter().map(finish).collect()
}

/// The beginning of a text, cut after so many words.
fn first_words(text: &str, most: Option<usize>) -> &str {
    let Some(most) = most else { return text };
    let mut left = most;
    for (at, _) in text.match_indices(char::is_whitespace) {
        let begins_here = text[..at].ends_with(|c: char| !c.is_whitespace());
        left -= usize::from(begins_here && left > 0);
        if left == 0 {
            return &text[..at];
        }
    }
    text
}

/// At most so many rows, evenly spread.
pub fn spread<T>(rows: Vec<T>, most: Option<usize>) -> Vec<T> {
    let (n, most) = (rows.len(), most.unwrap_or(usize::MAX).max(1));
    if most >= n {
        return rows;
    }
    let keep = |i: usize| i * most / n != (i + 1) * most / n;
    rows.into_iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, row)| row).collect()
}

fn check(sides: &mut Sides, task: &Task) -> anyhow::Result<()> {
    if sides.labels.len() < 2 {
        return Err(bad_input(format!(
            "every row has the label `{}`; a comparison needs rows of two labels at least",
            sides.labels.first().map_or("", String::as_str)
        )));
    }
    for (side, rows) in sides.each() {
        if rows.is_empty() && side != "validation" {
            return Err(bad_input(format!("there is no {side} row")));
        }
        let there: BTreeSet<usize> = rows.iter().map(|row| row.label).collect();
        let missing = (0..sides.labels.len()).find(|label| !there.contains(label));
        if let (Some(label), false) = (missing, rows.is_empty()) {
            return Err(bad_input(format!(
                "no {side} row has the label `{}` (column {}); every side needs rows of each label. \
                 Divide the rows another way, or allow more of them",
                sides.labels[label], task.label
            )));
        }
    }
    let train: BTreeSet<String> = sides.train.iter().map(|row| letters(&row.text)).collect();
    let seen = sides.test.iter().filter(|row| train.contains(&letters(&row.text))).count();
    if seen > 0 {
        sides.notes.push(format!(
            "{seen} of {} test rows have a text that is among the training rows, too",
            sides.test.len()
        ));
    }
    Ok(())
}

/// Places of `k` rows, as many of each label as can be; for one seed a smaller choice is the beginning of
/// a larger one.
pub fn balanced(rows: &[Row], labels: usize, k: usize, seed: u64) -> Vec<usize> {
    use paddock_core::philox::{Philox, Stream};
    let random = Philox::new(seed, Stream::SPLIT);
    let mut of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    rows.iter().enumerate().for_each(|(i, row)| of.entry(row.label).or_default().push(i));
    let mut queues: Vec<Vec<usize>> = of.into_values().collect();
    queues.iter_mut().zip(1..).for_each(|(queue, step)| random.shuffle(step, queue));
    random.shuffle(0, &mut queues);
    let mut chosen = Vec::new();
    let most = queues.iter().map(Vec::len).max().unwrap_or(0);
    for round in 0..most {
        chosen.extend(queues.iter().filter_map(|queue| queue.get(round)));
    }
    chosen.truncate(k);
    // Rounds mix the labels; their order within a round changes, so that none is always the last.
    chosen
        .chunks_mut(labels.max(1))
        .zip(0..)
        .for_each(|(round, step)| random.shuffle(1_000_000 + step, round));
    chosen
}

/// The row as a JSON object, for files.
pub fn to_json(row: &Row) -> Value {
    Value::Object(row.record.columns.clone())
}
