//! CSV and TSV. CSV follows RFC 4180 (quotes, quoted line breaks); TSV has no quotes unless the
//! file evidently uses them. Delimiter, quotes and header are told from the first rows and named.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::readers::metered::{Meter, Metered};
use crate::readers::{RawRow, bad_row, check_text};
use crate::record::{BadRow, BadRowKind};

/// Rows looked at when the form of a table is told.
const SAMPLE_ROWS: usize = 64;

/// The form of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableForm {
    /// Field separator.
    pub delimiter: u8,
    /// Whether `"` quotes a field.
    pub quotes: bool,
    /// Whether the first row names the columns.
    pub header: bool,
    /// Whether lines end in carriage return and line feed.
    pub crlf: bool,
    /// Why, in words.
    pub why: String,
}

/// What the user fixed about the form.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableChoice {
    /// Separator, if stated.
    pub delimiter: Option<u8>,
    /// Quoting, if stated.
    pub quotes: Option<bool>,
    /// Header, if stated.
    pub header: Option<bool>,
}

/// Tells the form of a table from its first bytes; `extension` breaks ties.
pub fn detect_form(head: &[u8], extension: &str, choice: TableChoice) -> TableForm {
    let preferred = if extension == "tsv" { b'\t' } else { b',' };
    let candidates: Vec<u8> = match choice.delimiter {
        Some(delimiter) => vec![delimiter],
        None => vec![preferred, b'\t', b',', b';', b'|'],
    };
    let mut best = (0u64, preferred, true);
    for delimiter in candidates {
        let plain_first = delimiter == b'\t';
        let ways = match choice.quotes {
            Some(quotes) => vec![quotes],
            None => vec![!plain_first, plain_first],
        };
        for (i, quotes) in ways.into_iter().enumerate() {
            // The uncommon way must be better by far: one ragged row is no reason for it.
            let handicap = if i == 0 { 0 } else { 256 };
            let score = regularity(&sample(head, delimiter, quotes)).saturating_sub(handicap);
            if score > best.0 {
                best = (score, delimiter, quotes);
            }
        }
    }
    let (score, mut delimiter, mut quotes) = best;
    if score == 0 {
        delimiter = choice.delimiter.unwrap_or(preferred);
        quotes = choice.quotes.unwrap_or(delimiter != b'\t');
    }
    let rows = sample(head, delimiter, quotes);
    let guessed = match &rows[..] {
        // pandas writes row numbers first, under no name.
        [first, second, ..] if first[0].is_empty() && second[0].parse::<u64>().is_ok() => {
            looks_like_header(&first[1..])
        }
        [first, ..] => looks_like_header(first),
        [] => false,
    };
    let header = choice.header.unwrap_or(guessed);
    let delimiter_word = match delimiter {
        b'\t' => "tab".to_string(),
        other => format!("'{}'", char::from(other)),
    };
    let why = format!(
        "fields are separated by {delimiter_word}, {}, {}",
        if quotes { "quotes are read as RFC 4180 says" } else { "quotes are ordinary characters" },
        match (choice.header, header) {
            (Some(true), _) => "the first row is the header as stated",
            (Some(false), _) => "there is no header as stated (columns are column_1, column_2, …)",
            (None, true) => "the first row names the columns",
            (None, false) => "the first row looks like data, so columns are column_1, column_2, …",
        }
    );
    let crlf =
        head.iter().position(|&b| b == b'\n').is_some_and(|at| at > 0 && head[at - 1] == b'\r');
    TableForm { delimiter, quotes, header, crlf, why }
}

fn sample(head: &[u8], delimiter: u8, quotes: bool) -> Vec<Vec<String>> {
    // The head may end inside a row: leave the last, incomplete line out.
    let whole = match head.iter().rposition(|&b| b == b'\n') {
        Some(end) if head.len() >= crate::readers::source::HEAD => &head[..=end],
        _ => head,
    };
    let mut reader = builder(delimiter, quotes).from_reader(whole);
    let mut rows = Vec::new();
    for record in reader.byte_records().take(SAMPLE_ROWS) {
        let Ok(record) = record else { break };
        rows.push(record.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect());
    }
    rows
}

/// How regular a table is: 0 if it has one column; else rows with the commonest width in 1024ths.
fn regularity(rows: &[Vec<String>]) -> u64 {
    let Some(width) = rows.first().map(Vec::len) else { return 0 };
    if width < 2 {
        return 0;
    }
    let same = rows.iter().filter(|row| row.len() == width).count() as u64;
    same * 1024 / rows.len() as u64
}

/// A header has no empty, repeated, numeric or very long field.
fn looks_like_header(first: &[String]) -> bool {
    let mut seen = std::collections::HashSet::new();
    first.iter().all(|field| {
        let field = field.trim();
        !field.is_empty()
            && field.len() <= 64
            && field.parse::<f64>().is_err()
            && field.split_whitespace().count() <= 5
            && seen.insert(field.to_lowercase())
    })
}

fn builder(delimiter: u8, quotes: bool) -> csv::ReaderBuilder {
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(delimiter).quoting(quotes).has_headers(false).flexible(true);
    builder
}

/// Streaming reader of a table.
pub struct CsvRows {
    reader: csv::Reader<Metered>,
    meter: Arc<Meter>,
    names: Vec<String>,
    file: PathBuf,
    row: u64,
    start_byte: u64,
    crlf: bool,
    limit: usize,
    done: bool,
}

impl CsvRows {
    /// Reads from `reader`, which stands at byte `byte` of the file.
    pub fn new(
        reader: Box<dyn BufRead + Send>,
        file: &Path,
        byte: u64,
        form: &TableForm,
        limit: usize,
    ) -> Result<Self> {
        let meter = Arc::new(Meter::default());
        let metered =
            Metered::new(reader, form.quotes.then_some(form.delimiter), Arc::clone(&meter));
        let reader = builder(form.delimiter, form.quotes).from_reader(metered);
        let mut rows = Self {
            reader,
            meter,
            names: Vec::new(),
            file: file.to_path_buf(),
            row: 0,
            start_byte: byte,
            crlf: form.crlf,
            limit,
            done: false,
        };
        if form.header {
            rows.read_header()?;
        }
        Ok(rows)
    }

    fn read_header(&mut self) -> Result<()> {
        self.meter.refill(self.limit);
        let mut record = csv::ByteRecord::new();
        let more = self.reader.read_byte_record(&mut record).map_err(|e| {
            Error::not_data(
                &self.file,
                &format!("has no readable header ({e})"),
                "check the delimiter and the quotes of the first row",
            )
        })?;
        if !more {
            return Err(Error::not_data(&self.file, "is empty", "a table needs a header and rows"));
        }
        if self.meter.ended_in_quotes() {
            return Err(Error::not_data(
                &self.file,
                "has a header with a quote that is never closed",
                "close it, or state that quotes are ordinary characters",
            ));
        }
        let mut seen = rustc_hash::FxHashSet::default();
        for field in &record {
            let name = check_text(field).map_err(|kind| {
                Error::not_data(
                    &self.file,
                    &format!("has a header that {kind}"),
                    "save it as UTF-8",
                )
            })?;
            let name = match name.trim() {
                "" => format!("column_{}", self.names.len() + 1),
                name => name.to_string(),
            };
            if !seen.insert(name.clone()) {
                return Err(Error::not_data(
                    &self.file,
                    &format!("has two columns called {name:?}"),
                    "rename one, or state that there is no header",
                ));
            }
            self.names.push(name);
        }
        Ok(())
    }

    fn columns(
        &mut self,
        record: &csv::ByteRecord,
    ) -> std::result::Result<Map<String, Value>, BadRowKind> {
        // Whatever else the row is, the rest of the file is in it.
        if self.meter.ended_in_quotes() {
            return Err(BadRowKind::OpenQuote);
        }
        if self.names.is_empty() {
            self.names = (1..=record.len()).map(|i| format!("column_{i}")).collect();
        }
        if record.len() != self.names.len() {
            return Err(BadRowKind::Fields { found: record.len(), expected: self.names.len() });
        }
        if record.as_slice().len() > self.limit {
            return Err(BadRowKind::TooLarge { limit: self.limit });
        }
        let mut columns = Map::with_capacity(self.names.len());
        for (name, field) in self.names.iter().zip(record) {
            columns.insert(name.clone(), Value::String(check_text(field)?.to_string()));
        }
        Ok(columns)
    }
}

impl Iterator for CsvRows {
    type Item = std::result::Result<RawRow, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        self.meter.refill(self.limit);
        let position = self.reader.position().clone();
        let mut record = csv::ByteRecord::new();
        let more = self.reader.read_byte_record(&mut record);
        let (row, line) = (self.row, position.line());
        let (byte, line) = match record.position() {
            Some(at) => (at.byte(), at.line()),
            None => (position.byte(), line),
        };
        // The parser takes a line's \r as its end and the \n as part of the next row.
        let lag = u64::from(self.crlf && byte > 0);
        let (byte, line) = (self.start_byte + byte + lag, line + lag);
        match more {
            Ok(false) => None,
            Ok(true) => {
                self.row += 1;
                let item = self
                    .columns(&record)
                    .map(|columns| RawRow { row, byte: Some(byte), line: Some(line), columns })
                    .map_err(|kind| bad_row(&self.file, row, Some(line), Some(byte), kind));
                Some(item.map_err(|mut bad| {
                    // Other rows are in it, which nobody would miss if it were left out.
                    bad.fatal = bad.kind == BadRowKind::OpenQuote;
                    bad
                }))
            }
            Err(error) => {
                self.done = true;
                let kind = if self.meter.is_used_up() {
                    BadRowKind::TooLarge { limit: self.limit }
                } else {
                    BadRowKind::Stream(error.to_string())
                };
                let mut bad = bad_row(&self.file, row, Some(line), Some(byte), kind);
                bad.fatal = true;
                Some(Err(bad))
            }
        }
    }
}
