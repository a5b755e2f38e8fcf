//! JSON that is no JSON Lines: an array of objects, or objects one after another. Streamed: only
//! one element is held at a time; an element that does not parse is reported and the next one read.

use std::io::{self, BufRead};
use std::path::PathBuf;

use crate::readers::jsonl::parse_object;
use crate::readers::{RawRow, bad_row};
use crate::record::{BadRow, BadRowKind};

/// Streaming reader.
pub struct JsonRows {
    reader: Box<dyn BufRead + Send>,
    file: PathBuf,
    row: u64,
    byte: u64,
    line: u64,
    limit: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    InArray,
    /// Objects after one another without an array around them.
    Stream,
    Done,
}

enum Step {
    Element {
        byte: u64,
        line: u64,
        bytes: Vec<u8>,
        too_large: bool,
    },
    End,
    /// The array is closed and something follows, or never closed, …
    Broken(String),
}

impl JsonRows {
    /// Reads from `reader`, which stands at byte `byte` of the file.
    pub fn new(reader: Box<dyn BufRead + Send>, file: PathBuf, byte: u64, limit: usize) -> Self {
        Self { reader, file, row: 0, byte, line: 1, limit, state: State::Start }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    fn bump(&mut self, byte: u8) {
        self.reader.consume(1);
        self.byte += 1;
        self.line += u64::from(byte == b'\n');
    }

    /// Skips blanks; the next byte, if any.
    fn next_solid(&mut self) -> io::Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.bump(byte);
        }
        Ok(None)
    }

    fn step(&mut self) -> io::Result<Step> {
        let mut next = self.next_solid()?;
        if self.state == State::Start {
            self.state = State::Stream;
            if next == Some(b'[') {
                self.bump(b'[');
                self.state = State::InArray;
                next = self.next_solid()?;
            }
        } else if self.state == State::InArray && next == Some(b',') {
            self.bump(b',');
            next = self.next_solid()?;
        }
        match (self.state, next) {
            (State::Stream, None) => Ok(Step::End),
            (State::InArray, None) => Ok(Step::Broken(
                "the file ends inside the array: it was cut off, fetch it again".to_string(),
            )),
            (State::InArray, Some(b']')) => {
                self.bump(b']');
                match self.next_solid()? {
                    None => Ok(Step::End),
                    Some(_) => {
                        Ok(Step::Broken("there is more text after the array's end".to_string()))
                    }
                }
            }
            (_, Some(_)) => self.element(),
            (State::Start | State::Done, None) => Ok(Step::End),
        }
    }

    /// One value: up to its closing bracket, or for a scalar up to a comma or bracket.
    fn element(&mut self) -> io::Result<Step> {
        let (byte, line) = (self.byte, self.line);
        let mut bytes = Vec::new();
        let mut too_large = false;
        let (mut depth, mut in_string, mut escaped) = (0u64, false, false);
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                if depth > 0 || in_string {
                    return Ok(Step::Broken(format!(
                        "the file ends inside row {}, which begins at line {line}",
                        self.row
                    )));
                }
                return Ok(Step::Element { byte, line, bytes, too_large });
            }
            let mut used = 0;
            let mut finished = false;
            for &b in chunk {
                if in_string {
                    match b {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => in_string = false,
                        _ => {}
                    }
                } else {
                    match b {
                        b'"' => in_string = true,
                        b'{' | b'[' => depth += 1,
                        b']' | b',' if depth == 0 => {
                            finished = true;
                            break;
                        }
                        b'}' | b']' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    finished = depth == 0 && matches!(b, b'}' | b']');
                }
                self.line += u64::from(b == b'\n');
                used += 1;
                if finished {
                    break;
                }
            }
            if bytes.len() + used > self.limit {
                too_large = true;
                bytes = Vec::new();
            }
            if !too_large {
                bytes.extend_from_slice(&chunk[..used]);
            }
            self.reader.consume(used);
            self.byte += used as u64;
            if finished {
                // A stray comma or bracket where a value should be: step over it, or this would
                // never end.
                if used == 0 {
                    let stray = self.peek()?.unwrap_or(b' ');
                    self.bump(stray);
                    bytes.push(stray);
                }
                return Ok(Step::Element { byte, line, bytes, too_large });
            }
        }
    }
}

impl Iterator for JsonRows {
    type Item = Result<RawRow, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let broken = match self.step() {
            Ok(Step::End) => {
                self.state = State::Done;
                return None;
            }
            Ok(Step::Element { byte, line, bytes, too_large }) => {
                let row = self.row;
                self.row += 1;
                let parsed = if too_large {
                    Err(BadRowKind::TooLarge { limit: self.limit })
                } else {
                    parse_object(&bytes)
                };
                let item = parsed
                    .map(|columns| RawRow { row, byte: Some(byte), line: Some(line), columns })
                    .map_err(|kind| bad_row(&self.file, row, Some(line), Some(byte), kind));
                return Some(item);
            }
            Ok(Step::Broken(message)) => BadRowKind::Json(message),
            Err(error) => BadRowKind::Stream(error.to_string()),
        };
        self.state = State::Done;
        let mut bad = bad_row(&self.file, self.row, Some(self.line), Some(self.byte), broken);
        bad.fatal = true;
        Some(Err(bad))
    }
}
