//! Readers: a file becomes a stream of [`Record`]s. Format, packing and layout are recognised by
//! content, named in [`Detected`] and can be stated instead. Only the row at hand is in memory
//! (Parquet: a page of each column; a Super-NaturalInstructions task: the file).

pub mod compress;
pub mod csv;
pub mod fasttext;
pub mod json;
pub mod jsonl;
pub mod layout;
mod metered;
pub mod parquet;
pub mod source;
pub mod task;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;
use serde_json::{Map, Value};

pub use self::compress::UnpackLimits;
pub use self::layout::{Detected, Format, Layout};
use crate::error::Result;
use crate::record::{BadRow, BadRowKind, BadRows, Record};

/// Rows looked at when the layout is told.
const LAYOUT_ROWS: usize = 32;

/// Or fewer, where they are large: they are held, twice.
const LAYOUT_BYTES: usize = 4 << 20;

/// How to read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// State the format instead of having it told from the content.
    pub format: Option<Format>,
    /// State the layout instead.
    pub layout: Option<Layout>,
    /// State delimiter, quotes or header of a table instead.
    pub table: csv::TableChoice,
    /// Leave bad rows out (they are counted) instead of stopping at the end with an error.
    pub skip_bad: bool,
    /// Largest row in bytes.
    pub max_row_bytes: usize,
    /// Limits of unpacking.
    pub unpack: UnpackLimits,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: None,
            layout: None,
            table: csv::TableChoice::default(),
            skip_bad: false,
            max_row_bytes: 64 << 20,
            unpack: UnpackLimits::default(),
        }
    }
}

/// A row as a format's reader gives it.
pub struct RawRow {
    /// Row number from 0.
    pub row: u64,
    /// Byte offset in the unpacked file.
    pub byte: Option<u64>,
    /// Line from 1.
    pub line: Option<u64>,
    /// The columns.
    pub columns: Map<String, Value>,
}

type RawRows = Box<dyn Iterator<Item = std::result::Result<RawRow, BadRow>>>;

/// The rows of one file. Gives good rows and bad ones; [`Rows::bad`] counts the bad ones seen.
pub struct Rows {
    path: PathBuf,
    inner: RawRows,
    ahead: VecDeque<std::result::Result<Record, BadRow>>,
    detected: Detected,
    notes: Vec<String>,
    bad: BadRows,
}

impl Rows {
    /// What the file turned out to be.
    pub fn detected(&self) -> &Detected {
        &self.detected
    }

    /// What was noticed on opening, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Bad rows handed out so far.
    pub fn bad(&self) -> &BadRows {
        &self.bad
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Iterator for Rows {
    type Item = std::result::Result<Record, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match self.ahead.pop_front() {
            Some(item) => item,
            None => self.inner.next()?.map(to_record),
        };
        if let Err(bad) = &item {
            self.bad.push(bad.clone());
        }
        Some(item)
    }
}

fn to_record(raw: RawRow) -> Record {
    Record { row: raw.row, byte: raw.byte, line: raw.line, columns: raw.columns }
}

/// Opens a data file.
pub fn open(path: &Path, options: &ReadOptions) -> Result<Rows> {
    let source = source::open_source(path, options.unpack)?;
    let extension = extension_of(path);
    let (format, mut why) = match options.format {
        Some(format) => (format, "format as stated".to_string()),
        None => layout::detect_format(&source.head, &extension),
    };
    let compression = source.compression.word();
    let limit = options.max_row_bytes;
    let start = source.skipped;
    let notes = source.notes;
    let inner: RawRows = match format {
        Format::Json => {
            Box::new(json::JsonRows::new(source.reader, path.to_path_buf(), start, limit))
        }
        Format::Jsonl => {
            Box::new(jsonl::JsonlRows::new(source.reader, path.to_path_buf(), start, limit))
        }
        Format::FastText => {
            Box::new(fasttext::FastTextRows::new(source.reader, path.to_path_buf(), start, limit))
        }
        Format::Task => Box::new(task::read_task(source.reader, path)?),
        Format::Parquet if source.compression == compress::Compression::None => {
            Box::new(parquet::ParquetRows::open(path)?)
        }
        Format::Parquet => Box::new(parquet::ParquetRows::open_packed(path, source.reader)?),
        Format::Csv | Format::Tsv => {
            let mut choice = options.table;
            if format == Format::Tsv {
                choice.delimiter = choice.delimiter.or(Some(b'\t'));
            }
            let form = csv::detect_form(&source.head, &extension, choice);
            why = format!("{why}; {}", form.why);
            Box::new(csv::CsvRows::new(source.reader, path, start, &form, limit)?)
        }
    };
    finish(path, inner, notes, options, (format, compression, why))
}

/// Looks at the first rows to tell the layout.
fn finish(
    path: &Path,
    mut inner: RawRows,
    notes: Vec<String>,
    options: &ReadOptions,
    (format, compression, mut why): (Format, &'static str, String),
) -> Result<Rows> {
    let mut ahead: VecDeque<_> = VecDeque::new();
    let mut good: Vec<Record> = Vec::new();
    let mut bytes = 0;
    while ahead.len() < LAYOUT_ROWS && bytes < LAYOUT_BYTES {
        let Some(item) = inner.next() else { break };
        let item = item.map(to_record);
        if let Ok(record) = &item {
            bytes += record.columns.values().map(weight).sum::<usize>();
            good.push(record.clone());
        }
        let fatal = item.as_ref().is_err_and(|bad| bad.fatal);
        ahead.push_back(item);
        if fatal {
            break;
        }
    }
    let mut columns: Vec<String> = Vec::new();
    let mut known: FxHashSet<&str> = FxHashSet::default();
    for name in good.iter().flat_map(Record::names) {
        if known.insert(name) {
            columns.push(name.to_string());
        }
    }
    let layout = match options.layout {
        Some(layout) => {
            why.push_str("; layout as stated");
            layout
        }
        None => {
            let (layout, reason) = layout::detect_layout(&good);
            why = format!("{why}; {reason}");
            layout
        }
    };
    let detected = Detected { format, compression, layout, columns, why };
    Ok(Rows { path: path.to_path_buf(), inner, ahead, detected, notes, bad: BadRows::default() })
}

/// Bytes of a value in memory, about.
fn weight(value: &Value) -> usize {
    let inside = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        _ => 0,
    };
    inside + size_of::<Value>()
}

fn extension_of(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    name.rsplit_once('.').map_or(String::new(), |(_, ext)| ext.to_string())
}

pub(crate) fn bad_row(
    file: &Path,
    row: u64,
    line: Option<u64>,
    byte: Option<u64>,
    kind: BadRowKind,
) -> BadRow {
    BadRow { file: file.to_path_buf(), row, line, byte, kind, fatal: false }
}

/// UTF-8 without NUL, or what is wrong.
pub fn check_text(bytes: &[u8]) -> std::result::Result<&str, BadRowKind> {
    if let Some(at) = bytes.iter().position(|&b| b == 0) {
        return Err(BadRowKind::Nul { at });
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        BadRowKind::Utf8 { at, byte: bytes.get(at).copied().unwrap_or(0) }
    })
}
