//! Rows that wait in a file until it is their turn, so that memory does not grow with them.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value};

/// A file of rows, gone when it is dropped.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Rows on their way into the file.
pub struct Spill {
    place: Place,
    writer: BufWriter<File>,
    at: u64,
}

impl Spill {
    /// Beside a file that is going to be written.
    pub fn create(beside: &Path) -> anyhow::Result<Spill> {
        let name = beside.file_name().map(|n| n.to_string_lossy().to_string()).unwrap_or_default();
        let path = beside.with_file_name(format!(".{name}.{}.waiting", std::process::id()));
        let mut both = File::options();
        let file = both.read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Spill { place: Place(path), writer: BufWriter::with_capacity(1 << 18, file), at: 0 })
    }

    /// Adds a row; where it stands.
    pub fn push(&mut self, row: &Map<String, Value>) -> anyhow::Result<u64> {
        let bytes = serde_json::to_vec(row)?;
        let place = self.at;
        let length = (bytes.len() as u64).to_le_bytes();
        let written = self.writer.write_all(&length).and_then(|()| self.writer.write_all(&bytes));
        written.with_context(|| format!("cannot write {}", self.place.0.display()))?;
        self.at += 8 + bytes.len() as u64;
        Ok(place)
    }

    /// Ready to be read.
    pub fn finish(self) -> anyhow::Result<Waiting> {
        let Spill { place, writer, at } = self;
        let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error);
        let file = file.with_context(|| format!("cannot write {}", place.0.display()))?;
        Ok(Waiting { place, file, bytes: at })
    }
}

/// Rows by their place.
pub struct Waiting {
    place: Place,
    file: File,
    bytes: u64,
}

impl Waiting {
    /// The row that stands there.
    pub fn get(&mut self, place: u64) -> anyhow::Result<Map<String, Value>> {
        let mut read = || -> std::io::Result<Vec<u8>> {
            self.file.seek(SeekFrom::Start(place))?;
            let mut length = [0; 8];
            self.file.read_exact(&mut length)?;
            let length = u64::from_le_bytes(length).min(self.bytes);
            let mut bytes = vec![0; length as usize];
            self.file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().with_context(|| format!("cannot read {}", self.place.0.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}
