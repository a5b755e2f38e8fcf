//! fastText lines: `__label__NAME … text`.

use std::io::BufRead;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::readers::source::{Line, Lines};
use crate::readers::{RawRow, bad_row, check_text};
use crate::record::{BadRow, BadRowKind};

const PREFIX: &str = "__label__";

/// Streaming reader. Columns: `label` (a string, or a list where a line has several) and `text`.
pub struct FastTextRows {
    lines: Lines,
    file: PathBuf,
    row: u64,
    limit: usize,
    done: bool,
}

impl FastTextRows {
    /// Reads from `reader`, which stands at byte `byte` of the file.
    pub fn new(reader: Box<dyn BufRead + Send>, file: PathBuf, byte: u64, limit: usize) -> Self {
        Self { lines: Lines::new(reader, byte, limit), file, row: 0, limit, done: false }
    }
}

impl Iterator for FastTextRows {
    type Item = Result<RawRow, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.done {
                return None;
            }
            let row = self.row;
            let (byte, line, parsed) = match self.lines.next_line() {
                Ok(None) => return None,
                Ok(Some((_, _, Line::Text(text)))) if text.iter().all(u8::is_ascii_whitespace) => {
                    continue;
                }
                Ok(Some((byte, line, Line::Text(text)))) => (byte, line, parse_line(&text)),
                Ok(Some((byte, line, Line::TooLarge))) => {
                    (byte, line, Err(BadRowKind::TooLarge { limit: self.limit }))
                }
                Err(error) => {
                    self.done = true;
                    let kind = BadRowKind::Stream(error.to_string());
                    let mut bad = bad_row(&self.file, row, None, Some(self.lines.byte), kind);
                    bad.fatal = true;
                    return Some(Err(bad));
                }
            };
            self.row += 1;
            let item = parsed
                .map(|columns| RawRow { row, byte: Some(byte), line: Some(line), columns })
                .map_err(|kind| bad_row(&self.file, row, Some(line), Some(byte), kind));
            return Some(item);
        }
    }
}

fn parse_line(bytes: &[u8]) -> Result<Map<String, Value>, BadRowKind> {
    let mut rest = check_text(bytes)?;
    let mut labels = Vec::new();
    while let Some(tail) = rest.trim_start().strip_prefix(PREFIX) {
        let end = tail.find(char::is_whitespace).unwrap_or(tail.len());
        labels.push(Value::String(tail[..end].to_string()));
        rest = &tail[end..];
    }
    let label = match labels.len() {
        0 => return Err(BadRowKind::NoLabel),
        1 => labels.remove(0),
        _ => Value::Array(labels),
    };
    let mut columns = Map::new();
    columns.insert("label".to_string(), label);
    columns.insert("text".to_string(), Value::String(rest.trim().to_string()));
    Ok(columns)
}
