//! What is in a file: columns with types and samples, lengths, duplicates, empty answers. Memory
//! does not grow with the file beyond fixed bounds.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::Path;

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use serde::Serialize;
use serde_json::Value;

use crate::encode::encode;
use crate::error::{Error, Result};
use crate::prepare::Progress;
use crate::readers::{self, Detected, ReadOptions};
use crate::record::{BadRows, Record, scalar_text};
use crate::report::Counted;
use crate::template::Compiled;
use crate::tokenizer::Tokenizer;

/// Rows looked at together.
const CHUNK: usize = 2048;
/// Different values of a column that are counted; with more it is no column of labels.
const MOST_VALUES: usize = 64;
/// Longest value that may be a label, in characters.
const LONGEST_LABEL: usize = 40;
/// Rows in which equal ones are looked for (about 80 MB).
pub const DUPLICATE_ROWS: u64 = 4_000_000;
/// Columns that are followed.
const MOST_COLUMNS: usize = 1000;

/// One column.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// How many values are of each type.
    pub types: BTreeMap<&'static str, u64>,
    /// Values that are neither null nor blank.
    pub filled: u64,
    /// Fewest and most characters of a filled value that is no list or object.
    pub shortest: Option<u64>,
    /// See `shortest`.
    pub longest: u64,
    /// The first values.
    pub samples: Vec<String>,
    /// How often each value occurs; absent if there are many different ones.
    pub values: Option<BTreeMap<String, u64>>,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Inspection {
    /// Rows, bad ones not counted.
    pub rows: u64,
    /// Columns in order of first appearance.
    pub columns: Vec<Column>,
    /// Rows equal to an earlier one, looked for in the first [`DUPLICATE_ROWS`].
    pub duplicates: Counted,
    /// Rows whose answer is blank; told only with a template.
    pub empty_answers: Counted,
    /// Rows that the template cannot render.
    pub unrendered: Counted,
    /// Tokens (with a tokenizer) or words: rows by the power of two at or above their length.
    pub lengths: BTreeMap<u64, u64>,
    /// Sum of all lengths.
    pub length_sum: u64,
    /// The longest row.
    pub longest: u64,
    /// Bad rows.
    #[serde(skip)]
    pub bad: BadRows,
}

impl Inspection {
    /// The column that seems to hold labels: few short values, each often. Names that say so go
    /// first.
    pub fn label_column(&self) -> Option<&Column> {
        let fits = |c: &&Column| {
            let values = c.values.as_ref().map_or(0, BTreeMap::len) as u64;
            (2..=32).contains(&values) && c.filled >= 4 * values
        };
        let rank = |c: &&Column| {
            const NAMES: [&str; 6] =
                ["label", "labels", "class", "category", "sentiment", "target"];
            let name = c.name.to_lowercase();
            NAMES.iter().position(|n| *n == name).unwrap_or(NAMES.len())
        };
        self.columns.iter().filter(fits).min_by_key(rank)
    }
}

/// With what rows are rendered and measured.
#[derive(Clone, Copy, Default)]
pub struct Lens<'a> {
    /// The template; without it lengths are those of all text in a row.
    pub template: Option<&'a Compiled>,
    /// The tokenizer; without it lengths are words.
    pub tokenizer: Option<&'a Tokenizer>,
}

/// Reads a whole file.
///
/// # Errors
/// What opening reports; bad rows are no error here but counted. [`Error::Interrupted`] if
/// `progress` says so.
pub fn inspect(
    path: &Path,
    options: &ReadOptions,
    lens: Lens,
    progress: &mut dyn Progress,
) -> Result<(Detected, Inspection)> {
    let mut rows = readers::open(path, options)?;
    progress.opened(path, rows.detected(), rows.notes());
    let detected = rows.detected().clone();
    let mut work = Work::default();
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            match rows.next() {
                None => break,
                Some(Ok(record)) => chunk.push(record),
                Some(Err(bad)) if bad.fatal => return Err(Error::BadRow(Box::new(bad))),
                Some(Err(_)) => {}
            }
        }
        if chunk.is_empty() {
            break;
        }
        work.chunk(&chunk, lens)?;
        if !progress.rows(path, work.found.rows) {
            return Err(Error::Interrupted);
        }
    }
    work.found.bad = rows.bad().clone();
    Ok((detected, work.found))
}

/// Looks at rows in memory: columns, and lengths in words.
pub fn of_rows(rows: &[Record]) -> Result<Inspection> {
    let mut work = Work::default();
    work.chunk(rows, Lens::default())?;
    Ok(work.found)
}

#[derive(Default)]
struct Work {
    found: Inspection,
    seen: FxHashSet<u64>,
    /// Where each column stands among those found.
    places: FxHashMap<String, usize>,
}

/// What is known of a row when it has been looked at by itself.
struct Measured {
    hash: u64,
    length: Option<u64>,
    empty: bool,
}

impl Work {
    fn chunk(&mut self, chunk: &[Record], lens: Lens) -> Result<()> {
        let measured: Vec<Result<Measured>> =
            chunk.par_iter().map(|record| measure(record, lens)).collect();
        for (record, measured) in chunk.iter().zip(measured) {
            let Measured { hash, length, empty } = measured?;
            self.found.rows += 1;
            if self.found.rows <= DUPLICATE_ROWS && !self.seen.insert(hash) {
                self.found.duplicates.push(record.row);
            }
            if empty {
                self.found.empty_answers.push(record.row);
            }
            match length {
                None => self.found.unrendered.push(record.row),
                Some(length) => {
                    *self.found.lengths.entry(length.next_power_of_two()).or_default() += 1;
                    self.found.length_sum += length;
                    self.found.longest = self.found.longest.max(length);
                }
            }
            for (name, value) in &record.columns {
                self.cell(name, value);
            }
        }
        Ok(())
    }

    fn cell(&mut self, name: &str, value: &Value) {
        let place = self.places.get(name).copied();
        let column = match place {
            Some(place) => &mut self.found.columns[place],
            None if self.found.columns.len() >= MOST_COLUMNS => return,
            None => {
                let values = Some(BTreeMap::new());
                let column = Column { name: name.to_string(), values, ..Column::default() };
                self.found.columns.push(column);
                let last = self.found.columns.len() - 1;
                self.places.insert(name.to_string(), last);
                &mut self.found.columns[last]
            }
        };
        *column.types.entry(type_name(value)).or_default() += 1;
        let text = scalar_text(value);
        if value.is_null() || text.as_ref().is_some_and(|t| t.trim().is_empty()) {
            return;
        }
        column.filled += 1;
        let Some(text) = text else {
            column.values = None;
            if column.samples.len() < 3 {
                column.samples.push(value.to_string().chars().take(200).collect());
            }
            return;
        };
        let length = text.chars().count() as u64;
        column.shortest = Some(column.shortest.map_or(length, |least| least.min(length)));
        column.longest = column.longest.max(length);
        if column.samples.len() < 3 && !column.samples.contains(&text) {
            column.samples.push(text.chars().take(200).collect());
        }
        if let Some(values) = &mut column.values {
            let fits = length as usize <= LONGEST_LABEL
                && (values.len() < MOST_VALUES || values.contains_key(&text));
            if fits {
                *values.entry(text).or_default() += 1;
            } else {
                column.values = None;
            }
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

fn measure(record: &Record, lens: Lens) -> Result<Measured> {
    let mut hasher = FxHasher::default();
    // Equal rows have equal text; the order of columns is that of the file.
    serde_json::to_string(&record.columns).unwrap_or_default().hash(&mut hasher);
    let hash = hasher.finish();
    let Some(template) = lens.template else {
        let text = all_text(record);
        let length = match lens.tokenizer {
            Some(tokenizer) => tokenizer.encode_plain(&text)?.ids.len(),
            None => text.split_whitespace().count(),
        };
        return Ok(Measured { hash, length: Some(length as u64), empty: false });
    };
    let rendered = match template.render(record) {
        Ok(rendered) => rendered,
        Err(Error::Render { .. }) => return Ok(Measured { hash, length: None, empty: false }),
        Err(error) => return Err(error),
    };
    let length = match lens.tokenizer {
        Some(tokenizer) => encode(tokenizer, &rendered)?.tokens.len(),
        None => rendered.text.split_whitespace().count(),
    };
    let empty = rendered.has_empty_answer();
    Ok(Measured { hash, length: Some(length as u64), empty })
}

/// All text of a row, a line for each value.
pub fn all_text(record: &Record) -> String {
    let mut out = String::new();
    for value in record.columns.values() {
        add_text(value, &mut out);
    }
    out
}

/// Text of some columns, a line for each value.
pub fn text_of(record: &Record, columns: &[String]) -> String {
    let mut out = String::new();
    for value in columns.iter().filter_map(|name| record.get(name)) {
        add_text(value, &mut out);
    }
    out
}

/// The longest single text in a row; empty if there is none.
pub fn longest_text(record: &Record) -> &str {
    fn visit<'a>(value: &'a Value, longest: &mut &'a str) {
        match value {
            Value::String(text) if text.len() > longest.len() => *longest = text,
            Value::Array(items) => items.iter().for_each(|item| visit(item, longest)),
            Value::Object(fields) => fields.values().for_each(|item| visit(item, longest)),
            _ => {}
        }
    }
    let mut longest = "";
    record.columns.values().for_each(|value| visit(value, &mut longest));
    longest
}

fn add_text(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| add_text(item, out)),
        Value::Object(fields) => fields.values().for_each(|item| add_text(item, out)),
        other => {
            if let Some(text) = scalar_text(other) {
                if !out.is_empty() {
                    out.push('\n');
                }
                out.push_str(&text);
            }
        }
    }
}
