//! Examples in a file: tokenised once, read in place ever after. Whoever opens the file maps it into
//! memory; only what is asked for is read.
//!
//! ```text
//! tokens and mask of each example | index, 56 bytes an example | notes (JSON) | tail, 72 bytes
//! ```
//!
//! The tail says where the parts lie and carries the SHA-256 of the notes. Nothing in the file is
//! trusted: every place is checked before it is read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::encode::{Example, key_of};
use crate::error::{Error, Result};

/// Version of the file; other versions are made anew.
pub const VERSION: u32 = 3;
const MAGIC: &[u8; 8] = b"PDKTOK01";
/// Bytes of an entry of the index.
const ENTRY: usize = 56;
const TAIL: usize = 32 + 4 * 8 + 8;

/// What is known of an example without reading its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// Tokens.
    pub tokens: u32,
    /// Of these, such that count in the loss.
    pub trained: u32,
    /// Row number over all files, in reading order.
    pub row: u64,
    /// What makes two examples equal: tokens and mask.
    pub key: u128,
    /// Hash of the row's longest text, whatever the template; 0 where there is none of some length.
    pub text: u64,
    /// The prompt was cut.
    pub cut: bool,
}

impl Facts {
    /// Of an example with its key; `text` is the hash of its row's longest text.
    pub fn of(example: &Example, key: u128, text: u64) -> Self {
        Self {
            tokens: example.tokens.len() as u32,
            trained: example.trained_tokens() as u32,
            row: example.row,
            key,
            text,
            cut: example.cut,
        }
    }
}

/// Writes examples one after another.
pub struct Writer<W: Write> {
    body: W,
    index: File,
    at: u64,
    rows: u64,
}

impl<W: Write> Writer<W> {
    /// `body` should be buffered; `index` is an empty file for the time being, open for reading too.
    pub fn new(body: W, index: File) -> Self {
        Self { body, index, at: 0, rows: 0 }
    }

    /// Adds examples with their facts.
    ///
    /// # Errors
    /// What the files report.
    pub fn push(&mut self, examples: &[(Example, Facts)]) -> std::io::Result<()> {
        let mut index = Vec::with_capacity(examples.len() * ENTRY);
        for (example, facts) in examples {
            let mut bytes = Vec::with_capacity(example.tokens.len() * 5);
            example.tokens.iter().for_each(|token| bytes.extend(token.to_le_bytes()));
            for eight in example.trained.chunks(8) {
                bytes.push((0..eight.len()).fold(0, |byte, i| byte | u8::from(eight[i]) << i));
            }
            index.extend(self.at.to_le_bytes());
            index.extend(facts.tokens.to_le_bytes());
            index.extend(facts.trained.to_le_bytes());
            index.extend(facts.row.to_le_bytes());
            index.extend(facts.key.to_le_bytes());
            index.extend(facts.text.to_le_bytes());
            index.extend(u64::from(facts.cut).to_le_bytes());
            self.body.write_all(&bytes)?;
            self.at += bytes.len() as u64;
            self.rows += 1;
        }
        self.index.write_all(&index)
    }

    /// Writes index, notes and tail; gives the body back.
    ///
    /// # Errors
    /// What the files report.
    pub fn finish(mut self, notes: &[u8]) -> std::io::Result<W> {
        self.index.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = self.index.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            self.body.write_all(&buffer[..n])?;
        }
        self.body.write_all(notes)?;
        let notes_at = self.at + self.rows * ENTRY as u64;
        self.body.write_all(&Sha256::digest(notes))?;
        for number in [self.at, self.rows, notes_at, notes.len() as u64] {
            self.body.write_all(&number.to_le_bytes())?;
        }
        self.body.write_all(MAGIC)?;
        Ok(self.body)
    }
}

/// Bytes of such a file, mapped or read.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

enum Place {
    Memory(Vec<(Example, Facts)>),
    File { bytes: Bytes, index_at: usize, rows: usize, notes: std::ops::Range<usize> },
}

/// Examples by number, in memory or in a file.
pub struct Store(Place);

impl Store {
    /// Of examples in memory.
    pub fn of(examples: Vec<(Example, Facts)>) -> Self {
        Self(Place::Memory(examples))
    }

    /// Opens a file; `None` if it is not whole or of another version.
    pub fn open(bytes: Bytes) -> Option<Self> {
        let all: &[u8] = (*bytes).as_ref();
        let tail = all.get(all.len().checked_sub(TAIL)?..)?;
        let number = |i: usize| usize::try_from(u64_at(tail, 32 + 8 * i)?).ok();
        let (index_at, rows, notes_at, notes_len) =
            (number(0)?, number(1)?, number(2)?, number(3)?);
        let end = notes_at.checked_add(notes_len)?;
        let fits = tail.ends_with(MAGIC)
            && index_at.checked_add(rows.checked_mul(ENTRY)?)? == notes_at
            && end.checked_add(TAIL)? == all.len()
            && Sha256::digest(all.get(notes_at..end)?)[..] == tail[..32];
        fits.then_some(())?;
        Some(Self(Place::File { index_at, rows, notes: notes_at..end, bytes }))
    }

    /// What was written beside the examples; empty for examples in memory.
    pub fn notes(&self) -> &[u8] {
        match &self.0 {
            Place::Memory(_) => &[],
            Place::File { bytes, notes, .. } => {
                (**bytes).as_ref().get(notes.clone()).unwrap_or_default()
            }
        }
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Memory(list) => list.len(),
            Place::File { rows, .. } => *rows,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of an example without reading it; nothing beyond the last.
    pub fn facts(&self, i: usize) -> Facts {
        match &self.0 {
            Place::Memory(list) => list.get(i).map_or(Facts::default(), |(_, facts)| *facts),
            Place::File { .. } => self.entry(i).map_or(Facts::default(), |(_, facts)| facts),
        }
    }

    /// An example.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is none of that number, or the file is damaged.
    pub fn get(&self, i: usize) -> Result<Example> {
        let found = match &self.0 {
            Place::Memory(list) => list.get(i).map(|(example, _)| example.clone()),
            Place::File { .. } => self.read(i),
        };
        found.ok_or_else(|| {
            Error::Setting(format!(
                "the token cache is damaged at example {i}; delete it and start again"
            ))
        })
    }

    fn entry(&self, i: usize) -> Option<(usize, Facts)> {
        let Place::File { bytes, index_at, rows, .. } = &self.0 else { return None };
        (i < *rows).then_some(())?;
        let entry = (**bytes).as_ref().get(index_at + i * ENTRY..)?.get(..ENTRY)?;
        let key = <[u8; 16]>::try_from(&entry[24..40]).ok()?;
        let facts = Facts {
            tokens: u32_at(entry, 8)?,
            trained: u32_at(entry, 12)?,
            row: u64_at(entry, 16)?,
            key: u128::from_le_bytes(key),
            text: u64_at(entry, 40)?,
            cut: u64_at(entry, 48)? != 0,
        };
        Some((usize::try_from(u64_at(entry, 0)?).ok()?, facts))
    }

    fn read(&self, i: usize) -> Option<Example> {
        let (at, facts) = self.entry(i)?;
        let Place::File { bytes, index_at, .. } = &self.0 else { return None };
        let n = facts.tokens as usize;
        let end = at.checked_add(n.checked_mul(4)?)?.checked_add(n.div_ceil(8))?;
        (end <= *index_at).then_some(())?;
        let own = (**bytes).as_ref().get(at..end)?;
        let (tokens, mask) = own.split_at(4 * n);
        let tokens: Vec<u32> = tokens.chunks_exact(4).filter_map(|four| u32_at(four, 0)).collect();
        let trained: Vec<bool> = (0..n).map(|t| mask[t / 8] >> (t % 8) & 1 == 1).collect();
        // Nothing else would notice that they are not those that were written.
        (key_of(&tokens, &trained) == facts.key).then_some(())?;
        Some(Example { tokens, trained, row: facts.row, template: 0, cut: facts.cut })
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
