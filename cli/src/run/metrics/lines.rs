//! Lines of a file that may be torn, in bounded memory.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::storage::Storage;
use crate::storage::whole::{for_each_piece, retry};

/// Longer lines are not kept in memory.
const LINE_LIMIT_BYTES: usize = 64 << 10;

/// Where a line starts.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its number, from 1.
    pub(super) line: u64,
    /// Its first byte in the file.
    pub(super) byte: u64,
}

/// A line without its newline.
#[derive(Clone, Copy)]
pub(super) enum Text<'a> {
    Whole(&'a [u8]),
    /// The file ended before the newline.
    Unfinished,
    TooLong,
}

/// Calls `visit` for each line; a missing file has none.
pub(super) fn for_each_line(
    storage: &dyn Storage,
    path: &Path,
    visit: &mut dyn FnMut(Place, Text),
) -> io::Result<()> {
    let mut file = match retry(|| storage.open(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    let mut line: Vec<u8> = Vec::new();
    let mut length = 0_u64;
    let mut place = Place { line: 1, byte: 0 };
    for_each_piece(file.as_mut(), &mut |bytes| {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            length += piece.len() as u64;
            if line.len() <= LINE_LIMIT_BYTES {
                line.extend_from_slice(piece);
            }
            if piece.last() != Some(&b'\n') {
                continue;
            }
            let is_whole = length == line.len() as u64 && line.len() <= LINE_LIMIT_BYTES;
            let text = if is_whole { Text::Whole(&line[..line.len() - 1]) } else { Text::TooLong };
            visit(place, text);
            place = Place { line: place.line + 1, byte: place.byte + length };
            line.clear();
            length = 0;
        }
        Ok(())
    })?;
    if length > 0 {
        visit(place, Text::Unfinished);
    }
    Ok(())
}
