//! Rows back into a file: JSON Lines, a JSON array, CSV or TSV, packed by gzip if the name says so.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustc_hash::FxHashSet;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::record::{scalar_text, type_word};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An object a line.
    Jsonl,
    /// An array of objects.
    Json,
    /// A table, cells separated by this byte.
    Table(u8),
}

/// Form and packing that a file's name asks for.
///
/// # Errors
/// [`Error::Setting`] for an ending that is none of .jsonl, .json, .csv and .tsv, with or without
/// .gz.
pub fn form_of(path: &Path) -> Result<(Form, bool)> {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let (stem, packed) = name.strip_suffix(".gz").map_or((name.as_str(), false), |s| (s, true));
    let form = match stem.rsplit_once('.').map(|(_, ending)| ending) {
        Some("jsonl" | "ndjson") => Form::Jsonl,
        Some("json") => Form::Json,
        Some("csv") => Form::Table(b','),
        Some("tsv") => Form::Table(b'\t'),
        _ => {
            let path = path.display();
            return Err(Error::Setting(format!(
                "{path}: the name of a file to write must end in .jsonl, .json, .csv or .tsv, with \
                 or without .gz"
            )));
        }
    };
    Ok((form, packed))
}

enum Sink<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(sink) => sink.write(bytes),
            Self::Gzip(sink) => sink.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(sink) => sink.flush(),
            Self::Gzip(sink) => sink.flush(),
        }
    }
}

/// Writes rows one after another.
pub struct RowWriter<W: Write> {
    sink: Sink<W>,
    form: Form,
    /// Columns of a table, those of the first row.
    header: Vec<String>,
    known: FxHashSet<String>,
    rows: u64,
}

impl<W: Write> RowWriter<W> {
    /// Writes to `sink`, which should be buffered.
    pub fn new(sink: W, (form, packed): (Form, bool)) -> Self {
        let sink = if packed {
            Sink::Gzip(GzEncoder::new(sink, Compression::default()))
        } else {
            Sink::Plain(sink)
        };
        Self { sink, form, header: Vec::new(), known: FxHashSet::default(), rows: 0 }
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes a row.
    ///
    /// # Errors
    /// What the sink reports; in a table also a row with other columns than the first, with a cell
    /// that is a list or an object, or, where tabs separate, one that holds a tab or a line break
    /// ([`std::io::ErrorKind::InvalidData`]).
    pub fn row(&mut self, columns: &Map<String, Value>) -> std::io::Result<()> {
        match self.form {
            Form::Jsonl => {
                serde_json::to_writer(&mut self.sink, columns)?;
                self.sink.write_all(b"\n")?;
            }
            Form::Json => {
                self.sink.write_all(if self.rows == 0 { b"[\n" } else { b",\n" })?;
                serde_json::to_writer(&mut self.sink, columns)?;
            }
            Form::Table(delimiter) => self.cells(delimiter, columns)?,
        }
        self.rows += 1;
        Ok(())
    }

    fn cells(&mut self, delimiter: u8, columns: &Map<String, Value>) -> std::io::Result<()> {
        let fail = |message: String| {
            let row = self.rows;
            let message = format!("row {row}: {message}; write .jsonl, which holds any row");
            std::io::Error::new(std::io::ErrorKind::InvalidData, message)
        };
        if self.rows == 0 {
            self.header = columns.keys().cloned().collect();
            self.known = columns.keys().cloned().collect();
        }
        if let Some(other) = columns.keys().find(|name| !self.known.contains(*name)) {
            return Err(fail(format!("column {other:?} is not in the header of the table")));
        }
        let mut cells = Vec::with_capacity(self.header.len());
        for name in &self.header {
            cells.push(match columns.get(name) {
                None | Some(Value::Null) => String::new(),
                Some(value) => scalar_text(value).ok_or_else(|| {
                    fail(format!("column {name:?} is {}, no single cell", type_word(value)))
                })?,
            });
        }
        // Where tabs separate, quotes are ordinary characters, and a cell is what stands between.
        let tabs = delimiter == b'\t';
        let breaks = |text: &&String| tabs && text.contains(['\t', '\r', '\n']);
        let head = self.header.iter().filter(|_| self.rows == 0);
        if let Some(text) = head.chain(&cells).find(breaks) {
            let text: String = text.chars().take(40).collect();
            return Err(fail(format!("{text:?} holds a tab or a line break")));
        }
        let style = if tabs { csv::QuoteStyle::Never } else { csv::QuoteStyle::Necessary };
        let mut line = Vec::new();
        {
            let mut table = csv::WriterBuilder::new()
                .delimiter(delimiter)
                .quote_style(style)
                .from_writer(&mut line);
            if self.rows == 0 {
                table.write_record(&self.header)?;
            }
            table.write_record(&cells)?;
            table.flush()?;
        }
        self.sink.write_all(&line)
    }

    /// Writes what is still missing at the end and gives the sink back.
    pub fn finish(mut self) -> std::io::Result<W> {
        if self.form == Form::Json {
            self.sink.write_all(if self.rows == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        match self.sink {
            Sink::Plain(sink) => Ok(sink),
            Sink::Gzip(sink) => sink.finish(),
        }
    }
}
