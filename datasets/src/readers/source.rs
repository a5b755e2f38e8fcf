//! Opens a data file: recognises what is no data, unpacks, strips a byte-order mark.

use std::fs::File;
use std::io::{BufRead, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result};
use crate::readers::compress::{Compression, UnpackLimits, unpack};

/// How much of the unpacked head is looked at to tell the format.
pub const HEAD: usize = 64 * 1024;

/// An open file, unpacked, positioned after any byte-order mark.
pub struct Source {
    /// The bytes.
    pub reader: Box<dyn BufRead + Send>,
    /// The first bytes (at most [`HEAD`]) that `reader` is going to give.
    pub head: Vec<u8>,
    /// How the file was packed.
    pub compression: Compression,
    /// Bytes taken off the front (3 for a UTF-8 byte-order mark).
    pub skipped: u64,
    /// What was noticed, in words.
    pub notes: Vec<String>,
}

/// Opens `path`.
pub fn open_source(path: &Path, limits: UnpackLimits) -> Result<Source> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, "open", e))?;
    if meta.is_dir() {
        return Err(Error::not_data(path, "is a folder", "name a data file in it"));
    }
    let mut file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
    let mut magic = Vec::with_capacity(512);
    (&mut file).take(512).read_to_end(&mut magic).map_err(|e| Error::io(path, "read", e))?;
    if magic.is_empty() {
        return Err(Error::not_data(path, "is empty", "a data file needs at least one row"));
    }
    refuse_foreign(path, &magic)?;
    let compression = Compression::detect(&magic);
    file.seek(SeekFrom::Start(0)).map_err(|e| Error::io(path, "read", e))?;
    let unpacked = unpack(Box::new(file), compression, meta.len(), limits)
        .map_err(|e| Error::io(path, "read", e))?;
    from_reader(path, unpacked, compression)
}

/// Looks at the unpacked head, strips a byte-order mark and puts the rest back in front.
fn from_reader(
    path: &Path,
    mut unpacked: Box<dyn BufRead + Send>,
    compression: Compression,
) -> Result<Source> {
    let mut head = Vec::with_capacity(HEAD);
    (&mut unpacked)
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(|e| Error::io(path, "read", e))?;
    if compression != Compression::None {
        refuse_foreign(path, &head)?;
    }
    refuse_utf16(path, &head)?;
    let mut notes = Vec::new();
    let mut skipped = 0;
    if head.starts_with(b"\xef\xbb\xbf") {
        head.drain(..3);
        skipped = 3;
        notes.push("a UTF-8 byte-order mark at the start was ignored".to_string());
    }
    if head.is_empty() {
        return Err(Error::not_data(path, "is empty", "a data file needs at least one row"));
    }
    let reader = Box::new(Cursor::new(head.clone()).chain(unpacked));
    Ok(Source { reader, head, compression, skipped, notes })
}

/// An Excel or OpenDocument file: an archive whose first entries have the names of such files, or the older
/// format.
fn is_workbook(head: &[u8]) -> bool {
    let has = |name: &[u8]| head.windows(name.len()).any(|part| part == name);
    let archive = head.starts_with(b"PK\x03\x04");
    let names: [&[u8]; 3] =
        [b"xl/workbook", b"xl/worksheets", b"application/vnd.oasis.opendocument.spreadsheet"];
    (archive && names.into_iter().any(has)) || head.starts_with(b"\xd0\xcf\x11\xe0")
}

/// Things that often lie where a data file should.
fn refuse_foreign(path: &Path, head: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(&head[..head.len().min(512)]).to_ascii_lowercase();
    let text = text.trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']);
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        return Err(Error::not_data(
            path,
            "is a Git LFS pointer, not the data itself",
            "run `git lfs pull` in its repository",
        ));
    }
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        return Err(Error::not_data(
            path,
            "is an HTML page, not a data file",
            "download the raw file instead of the web page that shows it",
        ));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Err(Error::not_data(
            path,
            "is a tar archive",
            "unpack it yourself and name a file of it: archives are never opened here",
        ));
    }
    if is_workbook(head) {
        return Err(Error::not_data(
            path,
            "is a spreadsheet's own file (Excel, LibreOffice), not a plain table",
            "save the sheet as CSV in the program that made it, and open that file",
        ));
    }
    let kind = match head {
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [b'B', b'Z', b'h', ..] => "a bzip2 file",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "an xz file",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z archive",
        [b'%', b'P', b'D', b'F', ..] => "a PDF document",
        [0x80, 2..=5, ..] => "a Python pickle, which could run code",
        _ => return Ok(()),
    };
    Err(Error::not_data(
        path,
        &format!("is {kind}"),
        "give JSON, JSONL, CSV, TSV, Parquet or fastText lines, plain or packed by gzip or zstd",
    ))
}

fn refuse_utf16(path: &Path, head: &[u8]) -> Result<()> {
    let by_zeros = |odd: usize| {
        let sample = &head[..head.len().min(64) & !1];
        sample.len() >= 8 && sample.chunks_exact(2).all(|pair| pair[odd] == 0 && pair[1 - odd] != 0)
    };
    let name = if head.starts_with(&[0xff, 0xfe, 0, 0]) {
        "UTF-32, little end first"
    } else if head.starts_with(&[0xff, 0xfe]) || by_zeros(1) {
        "UTF-16, little end first"
    } else if head.starts_with(&[0xfe, 0xff]) || by_zeros(0) {
        "UTF-16, big end first"
    } else {
        return Ok(());
    };
    Err(Error::not_data(
        path,
        &format!("is encoded as {name}"),
        "save it as UTF-8 (for example: iconv -f UTF-16 -t UTF-8 FILE > NEW)",
    ))
}

/// Reads whole rows of text from a buffered reader, counting bytes and lines.
pub struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// Byte offset of the next row.
    pub byte: u64,
    /// Number (from 1) of the next line.
    pub line: u64,
    limit: usize,
}

/// One line without its end, or what is wrong with it.
pub enum Line {
    /// The bytes.
    Text(Vec<u8>),
    /// Longer than the cap; the rest of the line was skipped.
    TooLarge,
}

impl Lines {
    /// Starts at byte `byte` of the file.
    pub fn new(reader: Box<dyn BufRead + Send>, byte: u64, limit: usize) -> Self {
        Self { reader, byte, line: 1, limit }
    }

    /// The next line with its byte offset and line number; `None` at the end.
    pub fn next_line(&mut self) -> std::io::Result<Option<(u64, u64, Line)>> {
        let (byte, line) = (self.byte, self.line);
        let mut text = Vec::new();
        let mut too_large = false;
        let mut any = false;
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|&b| b == b'\n');
            let take = end.unwrap_or(chunk.len());
            if text.len() + take > self.limit {
                too_large = true;
                text = Vec::new();
            }
            if !too_large {
                text.extend_from_slice(&chunk[..take]);
            }
            let used = end.map_or(take, |at| at + 1);
            self.reader.consume(used);
            self.byte += used as u64;
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.line += 1;
        if too_large {
            return Ok(Some((byte, line, Line::TooLarge)));
        }
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        Ok(Some((byte, line, Line::Text(text))))
    }
}
