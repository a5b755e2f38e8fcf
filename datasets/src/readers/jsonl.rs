//! JSON Lines: one object a line. A broken line is reported and the next one read.

use std::io::BufRead;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::readers::source::{Line, Lines};
use crate::readers::{RawRow, bad_row, check_text};
use crate::record::{BadRow, BadRowKind, type_word};

/// Streaming reader.
pub struct JsonlRows {
    lines: Lines,
    file: PathBuf,
    row: u64,
    limit: usize,
    done: bool,
}

impl JsonlRows {
    /// Reads from `reader`, which stands at byte `byte` of the file.
    pub fn new(reader: Box<dyn BufRead + Send>, file: PathBuf, byte: u64, limit: usize) -> Self {
        Self { lines: Lines::new(reader, byte, limit), file, row: 0, limit, done: false }
    }
}

impl Iterator for JsonlRows {
    type Item = Result<RawRow, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.done {
                return None;
            }
            let next = self.lines.next_line();
            let (byte, line, text) = match next {
                Ok(None) => return None,
                Ok(Some((byte, line, Line::Text(text)))) => (byte, line, text),
                Ok(Some((byte, line, Line::TooLarge))) => {
                    let kind = BadRowKind::TooLarge { limit: self.limit };
                    let bad = bad_row(&self.file, self.row, Some(line), Some(byte), kind);
                    self.row += 1;
                    return Some(Err(bad));
                }
                Err(error) => {
                    self.done = true;
                    let kind = BadRowKind::Stream(error.to_string());
                    let mut bad = bad_row(&self.file, self.row, None, Some(self.lines.byte), kind);
                    bad.fatal = true;
                    return Some(Err(bad));
                }
            };
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let row = self.row;
            self.row += 1;
            let item = parse_object(&text)
                .map(|columns| RawRow { row, byte: Some(byte), line: Some(line), columns })
                .map_err(|kind| bad_row(&self.file, row, Some(line), Some(byte), kind));
            return Some(item);
        }
    }
}

/// One JSON object from the bytes of a row.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, BadRowKind> {
    let text = check_text(bytes)?;
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(columns)) => Ok(columns),
        Ok(other) => Err(BadRowKind::NotAnObject { found: type_word(&other) }),
        Err(error) => Err(BadRowKind::Json(error.to_string())),
    }
}
