//! A row of a data file: ordered columns with values, and where it stood in the file.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// One row. Columns keep the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Row number from 0, counted over all rows of the file, bad ones included.
    pub row: u64,
    /// Byte offset of the row in the uncompressed file, where the format has one.
    pub byte: Option<u64>,
    /// Line number from 1, where the format has one.
    pub line: Option<u64>,
    /// Column name to value.
    pub columns: Map<String, Value>,
}

impl Record {
    /// A record that stands in no file: for prompts typed by a person.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let columns = pairs.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        Self { row: 0, byte: None, line: None, columns }
    }

    /// The value of a column, if the row has it.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.columns.get(column)
    }

    /// Column names in file order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }
}

/// Text of a scalar value: strings as they are, numbers and booleans as JSON writes them.
/// `None` for null, lists and objects.
pub fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Names shown in a message; there may be very many.
const NAMES_SHOWN: usize = 20;

/// Names for a message, separated by commas; of many, the first and how many more there are.
pub fn name_list(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let list = names.take(NAMES_SHOWN).collect::<Vec<_>>().join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

/// A word for the type of a value, for messages.
pub fn type_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRowKind {
    /// Bytes that are not UTF-8.
    #[error("not valid UTF-8 (byte 0x{byte:02x} at byte {at} of the row)")]
    Utf8 {
        /// Offset inside the row.
        at: usize,
        /// The offending byte.
        byte: u8,
    },
    /// A NUL byte.
    #[error("holds a NUL byte at byte {at} of the row")]
    Nul {
        /// Offset inside the row.
        at: usize,
    },
    /// Broken JSON.
    #[error("broken JSON: {0}")]
    Json(String),
    /// JSON of another shape than one object a row.
    #[error("found {found} where one object a row was expected")]
    NotAnObject {
        /// What was found.
        found: &'static str,
    },
    /// A table row with too few or too many fields.
    #[error("has {found} fields, the header has {expected}; check the delimiter and the quotes")]
    Fields {
        /// Fields of the row.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// A row whose last quote is never closed, so that it runs to the end of the file.
    #[error("has a quote that is never closed: the rest of the file is in it; close or double it")]
    OpenQuote,
    /// A row above the size cap.
    #[error("is longer than the row limit of {limit} bytes (an unclosed quote or bracket?)")]
    TooLarge {
        /// The cap.
        limit: usize,
    },
    /// A cell that cannot be written as text.
    #[error("holds a date or time that is in no calendar")]
    Date,
    /// A fastText line without a label.
    #[error("does not begin with __label__")]
    NoLabel,
    /// The template cannot render it.
    #[error("template {template}: {message}")]
    NotRendered {
        /// Template name.
        template: String,
        /// What is wrong.
        message: String,
    },
    /// Reading failed; nothing more can be read from this file.
    #[error("reading stopped: {0}")]
    Stream(String),
}

/// A row that cannot be used, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub file: PathBuf,
    /// Row number from 0.
    pub row: u64,
    /// Line from 1, where known.
    pub line: Option<u64>,
    /// Byte offset of the row in the uncompressed file, where known.
    pub byte: Option<u64>,
    /// What is wrong.
    pub kind: BadRowKind,
    /// True if nothing can be read after it: such a row is never skipped.
    pub fatal: bool,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: row {}", self.file.display(), self.row)?;
        match (self.line, self.byte) {
            (Some(line), Some(byte)) => write!(f, " (line {line}, byte {byte})")?,
            (Some(line), None) => write!(f, " (line {line})")?,
            (None, Some(byte)) => write!(f, " (byte {byte})")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for BadRow {}

impl BadRow {
    /// A row that was read but cannot be rendered.
    pub fn not_rendered(file: &Path, record: &Record, template: &str, message: String) -> Self {
        Self {
            file: file.to_path_buf(),
            row: record.row,
            line: record.line,
            byte: record.byte,
            kind: BadRowKind::NotRendered { template: template.to_string(), message },
            fatal: false,
        }
    }
}

/// The first bad rows in full and the number of all.
#[derive(Debug, Clone, Default)]
pub struct BadRows {
    /// The first [`BadRows::KEEP`].
    pub first: Vec<BadRow>,
    /// How many there were.
    pub total: u64,
}

impl BadRows {
    /// How many are kept in full.
    pub const KEEP: usize = 20;

    /// Counts one.
    pub fn push(&mut self, bad: BadRow) {
        self.total += 1;
        if self.first.len() < Self::KEEP {
            self.first.push(bad);
        }
    }

    /// Adds the bad rows of another file.
    pub fn append(&mut self, other: BadRows) {
        self.total += other.total;
        let room = Self::KEEP.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }
}

impl fmt::Display for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = if self.total == 1 { "row" } else { "rows" };
        write!(f, "{} {rows} cannot be used (rows count from 0, lines from 1):", self.total)?;
        for bad in &self.first {
            write!(f, "\n  {bad}")?;
        }
        let more = self.total - self.first.len() as u64;
        if more > 0 {
            write!(f, "\n  … and {more} more")?;
        }
        Ok(())
    }
}
