//! Which bytes a run was made from, and whether they are still the same.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::config::RecordedFile;
use crate::storage::whole::{FileRecord, hash_file, retry};
use crate::storage::words::explain;
use crate::storage::{Kind, Storage};

/// Why a file has no fingerprint, or another one than before.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    /// It could not be read.
    #[error("{} could not be read: {}", path.display(), explain(source))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is a folder, a device or the like.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// Which entry.
        path: PathBuf,
    },
    /// It changed while it was being read.
    #[error(
        "{} changed while it was being read; wait until it is written, then start again",
        path.display()
    )]
    Moving {
        /// Which file.
        path: PathBuf,
    },
    /// It is not what it was at the start.
    #[error(
        "{} has changed since the run started ({what}); put the old file back and use --resume, or \
         start a new run", path.display()
    )]
    Changed {
        /// Which file.
        path: PathBuf,
        /// Sizes or checksums before and now.
        what: String,
    },
}

/// A file's size and time: while they stay, its hash is taken to stay too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified_ns: u128,
}

/// Hashes files, and remembers the hashes for as long as size and time of the file stay the same.
pub struct Fingerprinter<'s> {
    storage: &'s dyn Storage,
    known: HashMap<PathBuf, (Stamp, FileRecord)>,
}

impl<'s> Fingerprinter<'s> {
    /// With nothing remembered.
    pub fn new(storage: &'s dyn Storage) -> Self {
        Self { storage, known: HashMap::new() }
    }

    /// Size and SHA-256 of a file (links are followed).
    pub fn of(&mut self, path: &Path) -> Result<FileRecord, FingerprintError> {
        let place = self.resolve(path)?;
        let before = self.stamp(&place)?;
        match self.known.get(&place) {
            Some((stamp, record)) if *stamp == before => return Ok(record.clone()),
            _ => {}
        }
        let record = hash_file(self.storage, &place).map_err(unreadable(path))?;
        if self.stamp(&place)? != before || record.bytes != before.bytes {
            return Err(FingerprintError::Moving { path: path.to_path_buf() });
        }
        self.known.insert(place, (before, record.clone()));
        Ok(record)
    }

    /// The entry for run.toml.
    pub fn record(&mut self, path: &Path) -> Result<RecordedFile, FingerprintError> {
        let FileRecord { bytes, sha256 } = self.of(path)?;
        Ok(RecordedFile { path: path.display().to_string(), bytes, sha256 })
    }

    /// Compares a file with what it was. Reads it again only if its size or time differs; a file
    /// that was merely touched is no change. Cheap enough for the start of every epoch.
    pub fn verify(&mut self, path: &Path, expected: &FileRecord) -> Result<(), FingerprintError> {
        let found = self.of(path)?;
        if found == *expected {
            return Ok(());
        }
        Err(FingerprintError::Changed {
            path: path.to_path_buf(),
            what: difference(expected, &found),
        })
    }

    fn resolve(&self, path: &Path) -> Result<PathBuf, FingerprintError> {
        retry(|| self.storage.resolve(path)).map_err(unreadable(path))
    }

    fn stamp(&self, path: &Path) -> Result<Stamp, FingerprintError> {
        let meta = retry(|| self.storage.metadata(path)).map_err(unreadable(path))?;
        if meta.kind != Kind::File {
            return Err(FingerprintError::NotAFile { path: path.to_path_buf() });
        }
        Ok(Stamp { bytes: meta.bytes, modified_ns: meta.modified_ns })
    }
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> FingerprintError + use<'_> {
    |source| FingerprintError::Unreadable { path: path.to_path_buf(), source }
}

fn difference(before: &FileRecord, now: &FileRecord) -> String {
    if before.bytes == now.bytes {
        return format!("the same {} bytes long, but with other contents", now.bytes);
    }
    format!("{} bytes then, {} bytes now", before.bytes, now.bytes)
}

/// What differs between the files of a recorded run and those found now, one sentence each; empty
/// if nothing does. The order counts: it decides the order of the rows.
pub fn compare_recorded(recorded: &[RecordedFile], now: &[RecordedFile]) -> Vec<String> {
    let mut differences = Vec::new();
    if recorded.len() != now.len() {
        differences.push(format!("{} files then, {} files now", recorded.len(), now.len()));
    }
    for (before, after) in recorded.iter().zip(now) {
        let record =
            |file: &RecordedFile| FileRecord { bytes: file.bytes, sha256: file.sha256.clone() };
        if record(before) != record(after) {
            let moved = if before.path == after.path { "" } else { "; the name was another" };
            let what = difference(&record(before), &record(after));
            differences.push(format!("{}: {what}{moved}", after.path));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealStorage;
    use crate::storage::simulated::{Fault, Faults, SimulatedDisk};

    #[test]
    fn f34_a_changed_file_is_named() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("data.json");
        std::fs::write(&path, "one")?;
        let mut prints = Fingerprinter::new(&RealStorage);
        let before = prints.of(&path)?;
        let sha = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
        assert_eq!((before.bytes, before.sha256.as_str()), (3, sha));
        prints.verify(&path, &before)?;
        std::fs::write(&path, "seven")?;
        let error = prints.verify(&path, &before).unwrap_err().to_string();
        assert!(
            error.contains("data.json has changed") && error.contains("3 bytes then, 5 bytes now"),
            "{error}"
        );
        std::fs::write(&path, "two")?;
        // A clock too coarse to tell the writes apart must not matter here.
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        std::fs::File::options().append(true).open(&path)?.set_modified(later)?;
        let error = prints.verify(&path, &before).unwrap_err().to_string();
        assert!(error.contains("with other contents"), "{error}");
        std::fs::write(&path, "one")?;
        prints.verify(&path, &before)?;
        std::fs::remove_file(&path)?;
        let error = prints.verify(&path, &before).unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
        assert!(prints.of(dir.path()).is_err());
        Ok(())
    }

    /// What lies on a network file system may come in pieces, late, or not at all.
    #[test]
    fn f17_short_and_interrupted_reads_are_repeated_and_errors_named()
    -> Result<(), Box<dyn std::error::Error>> {
        let disk = SimulatedDisk::new();
        let path = Path::new("/model.safetensors");
        crate::storage::whole::replace_file(&disk, path, &vec![7; 100_000])?;
        let before = disk.calls();
        let whole = Fingerprinter::new(&disk).of(path)?;
        let calls = disk.calls() - before;
        assert!(calls > 6, "{calls}");
        let mut failed = 0;
        for call in 0..calls {
            for fault in [Fault::Short, Fault::Interrupted] {
                disk.set_faults(Faults::once(fault, disk.calls() + call));
                assert_eq!(Fingerprinter::new(&disk).of(path)?, whole, "{fault:?} at {call}");
            }
            disk.set_faults(Faults::once(Fault::Io, disk.calls() + call));
            if let Err(error) = Fingerprinter::new(&disk).of(path) {
                let text = error.to_string();
                assert!(text.contains("/model.safetensors could not be read"), "{text}");
                failed += 1;
            }
        }
        assert!(failed > 3, "{failed}");
        // What is interrupted for ever is given up.
        disk.set_faults(Faults::from_then_on(Fault::Interrupted, disk.calls()));
        let text = Fingerprinter::new(&disk).of(path).unwrap_err().to_string();
        assert!(text.contains("kept interrupting"), "{text}");
        Ok(())
    }

    #[test]
    fn the_hash_is_remembered_while_the_file_stays() -> Result<(), Box<dyn std::error::Error>> {
        let disk = SimulatedDisk::new();
        let path = Path::new("/a");
        crate::storage::whole::replace_file(&disk, path, b"contents")?;
        let mut prints = Fingerprinter::new(&disk);
        let first = prints.of(path)?;
        let calls = disk.calls();
        assert_eq!(prints.of(path)?, first);
        assert_eq!(disk.calls() - calls, 2, "resolve and metadata, no read");
        Ok(())
    }

    #[test]
    fn f59_recorded_files_are_compared_in_order() {
        let file = |path: &str, bytes, sha256: &str| RecordedFile {
            path: path.into(),
            bytes,
            sha256: sha256.into(),
        };
        let recorded = [file("a", 1, "x"), file("b", 2, "y")];
        assert!(compare_recorded(&recorded, &recorded).is_empty());
        // Files that moved elsewhere are still the same.
        assert!(
            compare_recorded(&recorded, &[file("c/a", 1, "x"), file("c/b", 2, "y")]).is_empty()
        );
        let swapped = compare_recorded(&recorded, &[file("b", 2, "y"), file("a", 1, "x")]);
        assert_eq!(swapped.len(), 2, "{swapped:?}");
        assert_eq!(swapped[0], "b: 1 bytes then, 2 bytes now; the name was another");
        assert_eq!(compare_recorded(&recorded, &recorded[..1]), ["2 files then, 1 files now"]);
    }
}
