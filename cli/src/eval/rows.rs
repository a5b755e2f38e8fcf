//! Rows to be asked: read, rendered with one template, with their answers to choose from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use paddock_datasets::readers::{self, Detected, ReadOptions};
use paddock_datasets::record::{BadRows, Record, scalar_text};
use paddock_datasets::stories::Wish;
use paddock_datasets::template::{Compiled, Rendered, Template};
use serde_json::Value;

use crate::error::bad_input;

/// Answers found in the data are taken for labels if there are at most so many different ones.
const MOST_LABELS: usize = 20;

/// Which rows of the files count.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Numbers of the rows that count; none: all.
    pub rows: Option<BTreeSet<u64>>,
    /// Column and value: rows that have another value there are passed over.
    pub only: Vec<(String, String)>,
    /// At most so many rows, evenly spread over those that are left.
    pub limit: Option<usize>,
    /// Leave unreadable rows out instead of stopping.
    pub skip_bad: bool,
}

/// Rows of all files with what the first file turned out to be.
pub struct Data {
    /// The rows; numbers count over all files.
    pub records: Vec<Record>,
    /// What the first file is.
    pub detected: Detected,
}

/// Reads the rows. Says on stderr what was recognised.
pub fn read(paths: &[PathBuf], selection: &Selection) -> anyhow::Result<Data> {
    let options = ReadOptions { skip_bad: selection.skip_bad, ..ReadOptions::default() };
    let (mut records, mut first, mut before) = (Vec::new(), None, 0);
    for path in paths {
        if !path.is_file() {
            return Err(bad_input(format!("{}: there is no such file", path.display())));
        }
        let mut rows = readers::open(path, &options)?;
        eprintln!("{}: {}", path.display(), rows.detected().why);
        let mut bad = BadRows::default();
        let mut count = 0;
        for item in rows.by_ref() {
            count += 1;
            match item {
                Ok(record) => records.push(Record { row: before + record.row, ..record }),
                Err(error) => bad.push(error),
            }
        }
        before += count;
        if bad.total > 0 && !selection.skip_bad {
            return Err(paddock_datasets::Error::BadRows(bad).into());
        }
        if bad.total > 0 {
            eprintln!("left out: {} unreadable rows", bad.total);
        }
        first.get_or_insert_with(|| rows.detected().clone());
    }
    let detected = first.ok_or_else(|| bad_input("no data is named; give a file with --data"))?;
    let records = select(records, selection, &paths[0])?;
    Ok(Data { records, detected })
}

fn select(
    mut records: Vec<Record>,
    selection: &Selection,
    path: &Path,
) -> anyhow::Result<Vec<Record>> {
    if let Some(rows) = &selection.rows {
        records.retain(|record| rows.contains(&record.row));
    }
    for (column, value) in &selection.only {
        let text = |r: &Record| r.get(column).and_then(scalar_text);
        let found: BTreeSet<String> = records.iter().filter_map(text).take(10_000).collect();
        records.retain(|r| text(r).as_deref() == Some(value));
        if records.is_empty() {
            let found: Vec<String> = found.into_iter().take(8).collect();
            return Err(bad_input(format!(
                "{}: no row has {column} = {value}; found there: {}",
                path.display(),
                if found.is_empty() { "nothing".to_string() } else { found.join(", ") }
            )));
        }
    }
    if records.is_empty() {
        return Err(bad_input(format!("{}: there are no rows", path.display())));
    }
    let (n, wanted) = (records.len(), selection.limit.unwrap_or(usize::MAX).max(1));
    if wanted < n {
        let mut i = 0;
        records.retain(|_| {
            let keep = i * wanted / n != (i + 1) * wanted / n;
            i += 1;
            keep
        });
    }
    Ok(records)
}

/// A row as it is asked.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its number in the data.
    pub row: u64,
    /// What the model is given.
    pub prompt: Rendered,
    /// The answers that count as right; the first is the one that is taught.
    pub references: Vec<String>,
    /// The answers to choose from; empty where the task is open.
    pub choices: Vec<String>,
    /// Which of them is right.
    pub gold: Option<usize>,
    /// What an answer is checked for.
    pub wishes: Vec<Wish>,
    /// The kind of task, where the data say.
    pub kind: Option<String>,
}

impl Item {
    /// The taught answer.
    pub fn wanted(&self) -> &str {
        self.references.first().map_or("", String::as_str)
    }
}

/// Items of one template.
pub struct Items {
    /// The items.
    pub items: Vec<Item>,
    /// Rows without an answer, left out.
    pub unlabelled: Vec<u64>,
}

/// Renders the rows. `choices`: answers to choose from, if stated; `classify`: there must be some.
pub fn render(
    data: &Data,
    template: &Template,
    choices: &[String],
    classify: bool,
) -> anyhow::Result<Items> {
    render_records(&data.records, template, choices, classify)
}

/// The same for rows from anywhere.
pub fn render_records(
    records: &[Record],
    template: &Template,
    choices: &[String],
    classify: bool,
) -> anyhow::Result<Items> {
    let compiled = template.compile()?;
    let (mut items, mut unlabelled) = (Vec::new(), Vec::new());
    for record in records {
        match item(&compiled, template, record, choices)? {
            Some(item) => items.push(item),
            None => unlabelled.push(record.row),
        }
    }
    if items.is_empty() {
        return Err(bad_input(format!(
            "none of the {} rows has a label or answer to compare with; say which column holds it with \
             --columns answer=NAME, or use a template that writes it",
            records.len()
        )));
    }
    if classify {
        set_labels(&mut items)?;
    }
    Ok(Items { items, unlabelled })
}

fn item(
    compiled: &Compiled,
    template: &Template,
    record: &Record,
    stated: &[String],
) -> anyhow::Result<Option<Item>> {
    let rendered = compiled.render(record)?;
    let taught = rendered.last_answer().trim().to_string();
    let wishes: Vec<Wish> = match record.get("wishes") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|e| bad_input(format!("row {}: column wishes: {e}", record.row)))?,
    };
    if taught.is_empty() && wishes.is_empty() {
        return Ok(None);
    }
    let own = match stated.is_empty() {
        true => compiled.parts(record)?.choices.or_else(|| listed(record.get("choices"))),
        false => Some(stated.to_vec()),
    };
    let mut references = vec![taught];
    let column = template.columns.answer_or("output");
    references.extend(listed(record.get(column)).unwrap_or_default().into_iter().skip(1));
    Ok(Some(Item {
        row: record.row,
        prompt: rendered.prompt_only(),
        references,
        choices: own.unwrap_or_default(),
        gold: None,
        wishes,
        kind: record.get("kind").and_then(scalar_text),
    }))
}

/// A list of texts.
fn listed(value: Option<&Value>) -> Option<Vec<String>> {
    let list = value?.as_array()?;
    list.iter().map(|v| scalar_text(v).map(|t| t.trim().to_string())).collect()
}

/// Gives every item its choices and the right one among them. Where nobody states the choices, they are the
/// different answers of the rows.
fn set_labels(items: &mut [Item]) -> anyhow::Result<()> {
    let found: BTreeSet<String> = items.iter().map(|item| item.wanted().to_string()).collect();
    let stated = items.iter().any(|item| !item.choices.is_empty());
    if !stated && found.len() > MOST_LABELS {
        return Err(bad_input(format!(
            "the rows have {} different answers, more than labels usually are; state the labels with \
             --choices \"A|||B\", or ask for other measures (--metric)",
            found.len()
        )));
    }
    if !stated {
        let list: Vec<&str> = found.iter().map(String::as_str).collect();
        eprintln!("labels found in the rows: {}", list.join(", "));
    }
    for item in items {
        if item.choices.is_empty() {
            item.choices = found.iter().cloned().collect();
        }
        let distinct: BTreeSet<&String> = item.choices.iter().collect();
        if distinct.len() < item.choices.len() {
            return Err(bad_input(format!(
                "row {}: two of the answers to choose from are equal ({})",
                item.row,
                item.choices.join(", ")
            )));
        }
        item.gold = item.choices.iter().position(|c| item.references.contains(c));
        if item.gold.is_none() {
            return Err(bad_input(format!(
                "row {}: its answer is `{}`, which is not among those to choose from ({})",
                item.row,
                item.wanted(),
                item.choices.join(", ")
            )));
        }
    }
    Ok(())
}

/// The labels of a task whose rows all have the same choices; `None` if they differ from row to row.
pub fn common_labels(items: &[Item]) -> Option<Vec<String>> {
    let first = items.first()?;
    items.iter().all(|item| item.choices == first.choices).then(|| first.choices.clone())
}
