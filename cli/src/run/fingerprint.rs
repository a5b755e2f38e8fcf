//! Which bytes a run was made from, and whether they are still the same.

mod kept;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::kept::{Kept, Look};
use super::config::RecordedFile;
use crate::storage::whole::{FileRecord, for_each_piece, retry};
use crate::storage::words::explain;
use crate::storage::{Kind, Storage};

/// Why a file has no fingerprint.
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
}

/// A file's size and time: while they stay, its hash is taken to stay too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified_ns: u128,
}

/// Whether a hash that was kept from earlier may stand for a file that looks the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It may: for a question that is asked at every use.
    Kept,
    /// It may not, every file is read: for a record, or before something that cannot be undone.
    Nothing,
}

/// Hashes files, and remembers the hashes for as long as size and time of the file stay the same.
pub struct Fingerprinter<'s> {
    storage: &'s dyn Storage,
    known: HashMap<PathBuf, (Stamp, FileRecord)>,
    kept: Option<(Kept, Trust)>,
    /// Bytes of all files so far.
    done: u64,
    tell: Box<dyn FnMut(u64) + 's>,
}

impl<'s> Fingerprinter<'s> {
    /// With nothing remembered.
    pub fn new(storage: &'s dyn Storage) -> Self {
        Self { storage, known: HashMap::new(), kept: None, done: 0, tell: Box::new(|_| {}) }
    }

    /// The same, which keeps the hashes of files of the real file system in `folder` for later, and perhaps
    /// takes them from there.
    pub fn keeping(self, folder: PathBuf, trust: Trust) -> Self {
        Self { kept: Some((Kept(folder), trust)), ..self }
    }

    /// The same, which tells how many bytes of all files together are done, now and then.
    pub fn telling(self, tell: impl FnMut(u64) + 's) -> Self {
        Self { tell: Box::new(tell), ..self }
    }

    /// Size and SHA-256 of a file (links are followed).
    pub fn of(&mut self, path: &Path) -> Result<FileRecord, FingerprintError> {
        let place = self.resolve(path)?;
        let before = self.stamp(&place)?;
        match self.known.get(&place) {
            Some((stamp, record)) if *stamp == before => return Ok(record.clone()),
            _ => {}
        }
        let look = self.kept.as_ref().and_then(|_| Look::of(&place));
        if let Some(record) = look.as_ref().and_then(|look| self.trusted(look)) {
            self.done += record.bytes;
            (self.tell)(self.done);
            self.known.insert(place, (before, record.clone()));
            return Ok(record);
        }
        let record = self.hash(&place).map_err(unreadable(path))?;
        if self.stamp(&place)? != before || record.bytes != before.bytes {
            return Err(FingerprintError::Moving { path: path.to_path_buf() });
        }
        if let (Some((kept, _)), Some(look)) = (&self.kept, &look)
            && Look::of(&place).is_some_and(|now| now.is(look))
        {
            kept.keep(look, &record.sha256);
        }
        self.known.insert(place, (before, record.clone()));
        Ok(record)
    }

    /// What is kept of a file that looks like this, if that is to be trusted.
    fn trusted(&self, look: &Look) -> Option<FileRecord> {
        let (kept, trust) = self.kept.as_ref()?;
        let sha256 = (*trust == Trust::Kept).then(|| kept.find(look)).flatten()?;
        Some(FileRecord { bytes: look.bytes, sha256 })
    }

    fn hash(&mut self, place: &Path) -> io::Result<FileRecord> {
        let mut file = retry(|| self.storage.open(place))?;
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        for_each_piece(file.as_mut(), &mut |piece| {
            hash.update(piece);
            bytes += piece.len() as u64;
            (self.tell)(self.done + bytes);
            Ok(())
        })?;
        self.done += bytes;
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(FileRecord { bytes, sha256 })
    }

    /// The entry for run.toml.
    pub fn record(&mut self, path: &Path) -> Result<RecordedFile, FingerprintError> {
        let FileRecord { bytes, sha256 } = self.of(path)?;
        Ok(RecordedFile { path: path.display().to_string(), bytes, sha256 })
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

/// What differs between files that are known by their names, one sentence each; empty if nothing does, or
/// where nothing was recorded: earlier versions did not.
pub fn compare_named(recorded: &[RecordedFile], now: &[RecordedFile]) -> Vec<String> {
    if recorded.is_empty() {
        return Vec::new();
    }
    let mut differences = Vec::new();
    let record =
        |file: &RecordedFile| FileRecord { bytes: file.bytes, sha256: file.sha256.clone() };
    for before in recorded {
        match now.iter().find(|after| after.path == before.path) {
            None => differences.push(format!("{}: was read then, is not there now", before.path)),
            Some(after) if record(before) != record(after) => {
                let what = difference(&record(before), &record(after));
                differences.push(format!("{}: {what}", after.path));
            }
            Some(_) => {}
        }
    }
    for after in now.iter().filter(|after| recorded.iter().all(|r| r.path != after.path)) {
        differences.push(format!("{}: is read now, was not there then", after.path));
    }
    differences
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::storage::RealStorage;
    use crate::storage::simulated::{Fault, Faults, SimulatedDisk};

    #[test]
    fn f34_a_file_that_changes_while_it_is_hashed_is_named()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("data.json");
        std::fs::write(&path, "one")?;
        let still = Fingerprinter::new(&RealStorage).of(&path)?;
        let sha = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
        assert_eq!((still.bytes, still.sha256.as_str()), (3, sha));
        let mut moving = Fingerprinter::new(&RealStorage).telling(|_| {
            let file = std::fs::File::options().append(true).open(&path);
            file.and_then(|mut file| file.write_all(b" more")).expect("appended");
        });
        let error = moving.of(&path).unwrap_err().to_string();
        let words = ["data.json changed while it was being read", "wait until it is written"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(Fingerprinter::new(&RealStorage).of(dir.path()).is_err());
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

    #[test]
    fn f58_files_known_by_name_are_compared_by_it() {
        let file = |path: &str, sha256: &str| RecordedFile {
            path: path.into(),
            bytes: 1,
            sha256: sha256.into(),
        };
        let recorded = [file("a", "x"), file("b", "y")];
        assert!(compare_named(&recorded, &[file("b", "y"), file("a", "x")]).is_empty());
        assert!(compare_named(&[], &recorded).is_empty(), "an older record");
        assert_eq!(
            compare_named(&recorded, &[file("c", "z"), file("b", "z")]),
            [
                "a: was read then, is not there now",
                "b: the same 1 bytes long, but with other contents",
                "c: is read now, was not there then",
            ]
        );
    }
}
