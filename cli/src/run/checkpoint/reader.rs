//! Reading a file of a checkpoint a piece at a time: it may be larger than the memory that is left.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{CheckpointError, Defect, Found, ManifestFile};
use crate::storage::whole::{FileRecord, read_full, retry};
use crate::storage::{ReadFile, Storage};

/// Bytes that are read at once where nobody wants them.
const UNWANTED: usize = 4 << 10;

/// A file of a checkpoint that is being read from its beginning. What was read counts only once [`Reader::finish`]
/// has compared it with the manifest.
pub struct Reader<'f> {
    found: &'f Found,
    wanted: &'f ManifestFile,
    path: PathBuf,
    file: Box<dyn ReadFile>,
    hasher: Sha256,
    bytes: u64,
}

impl Found {
    /// Opens a file of the checkpoint, to be read once more from its beginning.
    pub fn open(&self, storage: &dyn Storage, name: &str) -> Result<Reader<'_>, CheckpointError> {
        let wanted = self.entry(name)?;
        let path = self.path.join(&wanted.name);
        let file = retry(|| storage.open(&path))
            .map_err(|source| self.bad(Defect::Unreadable { path: path.clone(), source }))?;
        Ok(Reader { found: self, wanted, path, file, hasher: Sha256::new(), bytes: 0 })
    }
}

impl Reader<'_> {
    /// Bytes that are still to be read.
    pub fn left(&self) -> u64 {
        self.wanted.bytes.saturating_sub(self.bytes)
    }

    /// Fills `into` with the next bytes.
    pub fn read_exact(&mut self, into: &mut [u8]) -> Result<(), CheckpointError> {
        if self.read(into)? == into.len() {
            return Ok(());
        }
        let (name, expected) = (self.wanted.name.clone(), self.wanted.bytes);
        Err(self.found.bad(Defect::Size { name, expected, found: self.bytes }))
    }

    /// Reads what is left and compares all of the file with the manifest.
    ///
    /// # Errors
    /// If it is not what was written: then nothing that was read may be used.
    pub fn finish(mut self) -> Result<(), CheckpointError> {
        let mut rest = [0; UNWANTED];
        while self.read(&mut rest)? > 0 {}
        let digest = self.hasher.finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let record = FileRecord { bytes: self.bytes, sha256 };
        self.wanted.check(&record).map_err(|defect| self.found.bad(defect))
    }

    /// Fewer bytes than asked for come at the end of the file alone.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, CheckpointError> {
        let read = read_full(self.file.as_mut(), into).map_err(|source| {
            self.found.bad(Defect::Unreadable { path: self.path.clone(), source })
        })?;
        self.hasher.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
