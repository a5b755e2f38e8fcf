//! Parquet files, read row by row. The package that decodes them believes what a file says of its sizes; [`guard`]
//! looks at that first, so that a small file fills no memory.

mod content;
mod footer;
mod guard;
mod metadata;
mod pages;
mod thrift;

use std::fs::File;
use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::errors::ParquetError;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use self::guard::Guarded;
use crate::error::{Error, Result};
use crate::readers::{RawRow, bad_row};
use crate::record::{BadRow, BadRowKind};

/// Streaming reader. A damaged page ends it: the library may even panic on one, which is caught.
pub struct ParquetRows {
    rows: RowIter<'static>,
    /// The unpacked copy, where the file was packed; behind `rows`, so that it is closed first.
    _copy: Option<Copied>,
    file: PathBuf,
    row: u64,
    done: bool,
}

impl ParquetRows {
    /// Opens a Parquet file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
        Self::of(path, file, None)
    }

    /// Opens a Parquet file inside gzip or zstd. Parquet is read by seeking, so it is unpacked into a
    /// file that is gone afterwards.
    pub fn open_packed(path: &Path, mut unpacked: Box<dyn BufRead + Send>) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("paddock-{}-{number}.parquet", std::process::id());
        let copy = Copied(std::env::temp_dir().join(name));
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let mut file = options.open(&copy.0).map_err(|e| Error::io(&copy.0, "write", e))?;
        std::io::copy(&mut unpacked, &mut file).map_err(|e| Error::io(path, "unpack", e))?;
        Self::of(path, file, Some(copy))
    }

    fn of(path: &Path, file: File, copy: Option<Copied>) -> Result<Self> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            // Batches of one row: with more, a batch of long lists or of texts that begin alike fills memory.
            let rows = |reader| RowIter::from_file_into(Box::new(reader)).with_batch_size(1);
            Guarded::open(file).map(rows)
        }))
        .unwrap_or_else(|_| Err("its footer is damaged".to_string()));
        let rows = opened.map_err(|why| {
            Error::not_data(
                path,
                &format!("begins like a Parquet file but cannot be read ({why})"),
                "it may be cut off: fetch it again",
            )
        })?;
        Ok(Self { rows, _copy: copy, file: path.to_path_buf(), row: 0, done: false })
    }
}

/// A file that is removed when it is no longer needed.
struct Copied(PathBuf);

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Iterator for ParquetRows {
    type Item = std::result::Result<RawRow, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let rows = &mut self.rows;
        let next = catch_unwind(AssertUnwindSafe(|| rows.next()));
        let why = match next {
            Ok(None) => {
                self.done = true;
                return None;
            }
            Ok(Some(Ok(row))) => {
                let number = self.row;
                self.row += 1;
                // The library has no text for dates and times beyond its calendar and panics.
                let columns = catch_unwind(AssertUnwindSafe(|| object(&row)));
                return Some(match columns {
                    Ok(columns) => Ok(RawRow { row: number, byte: None, line: None, columns }),
                    Err(_) => Err(bad_row(&self.file, number, None, None, BadRowKind::Date)),
                });
            }
            Ok(Some(Err(ParquetError::General(words)))) => words,
            Ok(Some(Err(error))) => error.to_string(),
            Err(_) => "a page is damaged".to_string(),
        };
        self.done = true;
        let mut bad = bad_row(&self.file, self.row, None, None, BadRowKind::Stream(why));
        bad.fatal = true;
        Some(Err(bad))
    }
}

fn object(row: &Row) -> Map<String, Value> {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

/// The number that a text writes: 3.8 stays 3.8, whose nearest float of 32 bits is 3.799999952316284. None for what
/// is no number.
fn number(text: &str) -> Value {
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

/// One cell as JSON. Types without a JSON twin (dates, decimals, maps with keys that are no text)
/// become the text that the library prints for them.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(v) => (*v).into(),
        Field::Byte(v) => (*v).into(),
        Field::Short(v) => (*v).into(),
        Field::Int(v) => (*v).into(),
        Field::Long(v) => (*v).into(),
        Field::UByte(v) => (*v).into(),
        Field::UShort(v) => (*v).into(),
        Field::UInt(v) => (*v).into(),
        Field::ULong(v) => (*v).into(),
        // A whole number of 16 bits is exact as it is: the shortest text for 65504 would be 65500.
        Field::Float16(v) if v.to_f32().fract() == 0.0 => v.to_f32().into(),
        Field::Float16(v) => {
            let texts = (0..5).map(|digits| format!("{:.digits$e}", v.to_f32()));
            let shortest = texts.into_iter().find(|text| text.parse() == Ok(*v));
            number(&shortest.unwrap_or_else(|| v.to_string()))
        }
        Field::Float(v) => number(&v.to_string()),
        Field::Double(v) => (*v).into(),
        Field::Str(v) => v.as_str().into(),
        Field::Bytes(v) => match std::str::from_utf8(v.data()) {
            Ok(text) => text.into(),
            Err(_) => field.to_string().into(),
        },
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => map
            .entries()
            .iter()
            .map(|(key, item)| match key {
                Field::Str(name) => (name.clone(), value(item)),
                other => (other.to_string(), value(item)),
            })
            .collect::<Map<_, _>>()
            .into(),
        other => other.to_string().into(),
    }
}
