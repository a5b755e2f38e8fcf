//! Writing a checkpoint.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::manifest::{MANIFEST, Manifest, ManifestFile, check_file_name};
use super::rotate::{Keep, rotate};
use super::{Candidate, CheckpointError, SPARE_BYTES, step_name, verified};
use crate::storage::whole::{retry, write_new, write_new_reserved};
use crate::storage::{Storage, tree};

pub(super) const TEMPORARY_PREFIX: &str = ".tmp-step-";

/// What goes into one file of a checkpoint.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A function that writes `bytes` bytes. It may be called again if the save is tried again, and
    /// must then write the same.
    Stream {
        /// How many bytes it writes.
        bytes: u64,
        /// Writes them.
        write: &'a dyn Fn(&mut dyn Write) -> io::Result<()>,
    },
}

impl Payload<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream { bytes, .. } => *bytes,
        }
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => out.write_all(bytes),
            Self::Stream { write, .. } => write(out),
        }
    }
}

/// One file of a checkpoint.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Its name: letters, digits, `.`, `_`, `-`.
    pub name: &'a str,
    /// Its contents.
    pub payload: Payload<'a>,
}

/// What is to be saved.
pub struct Checkpoint<'a> {
    /// Optimizer steps done.
    pub step: u64,
    /// The files; at least one.
    pub files: &'a [Entry<'a>],
    /// What the manifest shall remember beside them.
    pub info: Map<String, Value>,
}

/// A checkpoint that is durable and has been read back.
#[derive(Debug)]
pub struct Saved {
    /// Its folder.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Older checkpoints that were removed.
    pub removed: Vec<PathBuf>,
    /// What a person should know: older checkpoints that are damaged or could not be removed.
    pub warnings: Vec<String>,
}

/// Refuses to start where two checkpoints of `bytes` each and the logs do not fit. Returns the free
/// bytes, or nothing where the system does not say.
pub fn check_space(
    storage: &dyn Storage,
    dir: &Path,
    bytes: u64,
) -> Result<Option<u64>, CheckpointError> {
    let free = match retry(|| storage.free_space(dir)) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
        result => result.map_err(|error| CheckpointError::folder(dir, error))?,
    };
    let needed = bytes.saturating_mul(2).saturating_add(SPARE_BYTES);
    if free < needed {
        return Err(CheckpointError::LittleSpace { path: dir.to_path_buf(), free, needed });
    }
    Ok(Some(free))
}

/// Saves a checkpoint as `dir/step-N` by the protocol of this module. `dir` must exist.
///
/// When this returns `Ok` the checkpoint is durable and verified. When it returns an error every
/// earlier checkpoint is as it was, and the call may be repeated; see [`CheckpointError::is_full`].
pub fn save(
    storage: &dyn Storage,
    dir: &Path,
    checkpoint: &Checkpoint,
    keep: &Keep,
) -> Result<Saved, CheckpointError> {
    check_request(checkpoint, keep)?;
    let step = checkpoint.step;
    let temporary = dir.join(format!("{TEMPORARY_PREFIX}{step}"));
    let target = dir.join(step_name(step));
    let prepared = write_temporary(storage, &temporary, checkpoint);
    let published = prepared.and_then(|bytes| {
        let aside = format!("replaced-{}", step_name(step));
        tree::publish(storage, &temporary, &target, &aside)
            .map_err(|source| ("renaming to", target.clone(), source))?;
        Ok(bytes)
    });
    let bytes = published.map_err(|(action, path, source)| {
        let removal = tree::remove_unnamed(storage, &temporary);
        let left_behind = removal.is_err().then_some(temporary);
        CheckpointError::Save { step, action, path, source, left_behind }
    })?;
    let candidate = Candidate { step, replaced: false, path: target };
    let found = verified(storage, &candidate).map_err(|defect| CheckpointError::Verify {
        step,
        path: candidate.path.clone(),
        defect,
    })?;
    let (removed, warnings) = rotate(storage, dir, step, keep);
    Ok(Saved { path: found.path, bytes, removed, warnings })
}

/// As [`save`], but where the disk is full `pause` is asked each time: it tells the person, waits,
/// and answers whether to try again. The training state is in memory meanwhile, and earlier
/// checkpoints are untouched.
pub fn save_patiently(
    storage: &dyn Storage,
    dir: &Path,
    checkpoint: &Checkpoint,
    keep: &Keep,
    pause: &mut dyn FnMut(&CheckpointError) -> bool,
) -> Result<Saved, CheckpointError> {
    loop {
        match save(storage, dir, checkpoint, keep) {
            Err(error) if error.is_full() && pause(&error) => {}
            result => return result,
        }
    }
}

fn check_request(checkpoint: &Checkpoint, keep: &Keep) -> Result<(), CheckpointError> {
    if keep.newest == 0 {
        return Err(CheckpointError::Usage("at least one must be kept".to_string()));
    }
    check_entries(checkpoint.files).map_err(CheckpointError::Usage)
}

/// There must be files, with plain names, each once.
pub(in crate::run) fn check_entries(entries: &[Entry]) -> Result<(), String> {
    if entries.is_empty() {
        return Err("it has no files".to_string());
    }
    for (index, entry) in entries.iter().enumerate() {
        check_file_name(entry.name)?;
        if entries[..index].iter().any(|other| other.name == entry.name) {
            return Err(format!("the file {} is there twice", entry.name));
        }
    }
    Ok(())
}

/// Action, path and error of a failed call.
pub(in crate::run) type Failure = (&'static str, PathBuf, io::Error);

/// Writes and syncs the temporary folder, manifest last. Returns the bytes of its files.
fn write_temporary(
    storage: &dyn Storage,
    temporary: &Path,
    checkpoint: &Checkpoint,
) -> Result<u64, Failure> {
    let at = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| (action, path, source)
    };
    tree::remove_unnamed(storage, temporary).map_err(at("clearing", temporary))?;
    retry(|| storage.mkdir(temporary)).map_err(at("creating", temporary))?;
    let files = write_files(storage, temporary, checkpoint.files)?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    let path = temporary.join(MANIFEST);
    let text = Manifest::new(checkpoint.step, files, checkpoint.info.clone()).to_bytes();
    let text = text.map_err(at("writing", &path))?;
    write_new(storage, &path, &mut |out| out.write_all(&text)).map_err(at("writing", &path))?;
    retry(|| storage.sync_dir(temporary)).map_err(at("syncing", temporary))?;
    Ok(bytes)
}

/// Writes and syncs the files of a folder that nobody reads yet.
pub(in crate::run) fn write_files(
    storage: &dyn Storage,
    dir: &Path,
    entries: &[Entry],
) -> Result<Vec<ManifestFile>, Failure> {
    let mut files = Vec::with_capacity(entries.len());
    for entry in entries {
        let path = dir.join(entry.name);
        let failed = |source| ("writing", path.clone(), source);
        let expected = entry.payload.bytes();
        let mut fill = |out: &mut dyn Write| entry.payload.write_to(out);
        let record = write_new_reserved(storage, &path, expected, &mut fill).map_err(failed)?;
        if record.bytes != expected {
            let text = format!("{} bytes were written, {expected} announced", record.bytes);
            return Err(failed(io::Error::new(ErrorKind::InvalidData, text)));
        }
        let (name, sha256) = (entry.name.to_string(), record.sha256);
        files.push(ManifestFile { name, bytes: record.bytes, sha256 });
    }
    Ok(files)
}
