//! Checkpoints that survive a kill, a full disk and a power cut at any moment.
//!
//! The protocol: write everything into a hidden temporary folder, sync each file, write
//! `manifest.json` with sizes and SHA-256 last, sync, rename the folder to `step-N`, sync the
//! parent, read everything back and compare; only then remove older checkpoints. A resume takes the
//! newest folder that verifies. There is no "latest" link that could point to the wrong one.
//!
//! Names in the `checkpoints` folder: `step-N` is a checkpoint; `replaced-step-N` is an older one
//! of the same step, used where the new one is bad; `superseded-step-N` was given up by a person
//! who went back to an earlier step, and `damaged-step-N` did not verify: neither is ever used or
//! removed; `.tmp-…` and `.trash-…` are unfinished work that [`sweep`] removes.

#[cfg(test)]
mod enumeration;
#[cfg(test)]
mod going_on;
#[cfg(test)]
mod kill;
mod manifest;
mod reader;
mod rotate;
mod save;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

pub use manifest::{Defect, MANIFEST, MANIFEST_VERSION, Manifest, ManifestFile};
pub use reader::Reader;
pub use rotate::{Keep, set_aside_bad, set_aside_newer};
pub use save::{Checkpoint, Entry, Payload, Saved, check_space, save, save_patiently};
pub(super) use save::{Failure, check_entries, write_files};

use crate::storage::whole::{FileRecord, read_file, retry, sha256_hex};
use crate::storage::words::{explain, is_full};
use crate::storage::{Storage, tree};

/// Room left over for logs, metrics and samples in [`check_space`].
pub const SPARE_BYTES: u64 = 16 << 20;

/// What can go wrong with checkpoints.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A call failed while saving. Older checkpoints are as they were, and the temporary folder is
    /// gone unless `left_behind` names it.
    #[error(
        "the checkpoint of step {step} was not saved: {action} {} failed: {}. Earlier checkpoints \
         are untouched{}", path.display(), explain(source), left_words(left_behind)
    )]
    Save {
        /// The step that was to be saved.
        step: u64,
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
        /// A temporary folder that could not be removed either.
        left_behind: Option<PathBuf>,
    },
    /// What was written does not read back the same.
    #[error(
        "the checkpoint of step {step} does not read back as it was written ({}): {defect}. \
         Earlier checkpoints are untouched; check the disk", path.display()
    )]
    Verify {
        /// The step.
        step: u64,
        /// The checkpoint's folder, left for inspection.
        path: PathBuf,
        /// What differs.
        defect: Defect,
    },
    /// There is not enough space for two checkpoints.
    #[error(
        "{} has {} of free space, but a run needs {} (two checkpoints and its logs); free some \
         space or choose another folder with --out", path.display(), size(*free), size(*needed)
    )]
    LittleSpace {
        /// Where.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// A newer program wrote this checkpoint; falling back to an older one would lose work unasked.
    #[error(
        "{}: {defect}. Use that version of Paddock, or move the folder away to go on from an \
         earlier checkpoint", path.display()
    )]
    Future {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Its version, in words.
        defect: Defect,
    },
    /// The checkpoint asked for does not exist or is damaged.
    #[error("{} cannot be used: {defect}", path.display())]
    Bad {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Why not.
        defect: Defect,
    },
    /// The folder of checkpoints could not be read or changed.
    #[error("{}: {}", path.display(), explain(source))]
    Folder {
        /// Which entry.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The caller asked for something that makes no checkpoint.
    #[error("no checkpoint can be made of this: {0}")]
    Usage(String),
}

impl CheckpointError {
    /// Whether trying again may help once a person has freed some space.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Save { source, .. } | Self::Folder { source, .. } if is_full(source))
    }

    fn folder(path: &Path, source: io::Error) -> Self {
        Self::Folder { path: path.to_path_buf(), source }
    }
}

fn left_words(left: &Option<PathBuf>) -> String {
    let words = |path: &PathBuf| format!("; {} can be deleted", path.display());
    left.as_ref().map(words).unwrap_or_default()
}

/// Bytes for people, in powers of 1000.
fn size(bytes: u64) -> String {
    match bytes {
        0..=999_999 => format!("{bytes} bytes"),
        1_000_000..=999_999_999 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A checkpoint whose every byte has been compared with its manifest.
#[derive(Clone, Debug)]
pub struct Found {
    /// Optimizer steps done.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// What it consists of.
    pub manifest: Manifest,
}

/// A folder that should be a checkpoint and is not; it is left where it is.
#[derive(Debug, thiserror::Error)]
#[error("{} is passed over: {defect}", path.display())]
pub struct BadCheckpoint {
    /// The step in its name.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// Why it is passed over.
    pub defect: Defect,
}

/// What [`latest_good`] found.
#[derive(Debug, Default)]
pub struct Search {
    /// The newest good checkpoint, if there is any.
    pub found: Option<Found>,
    /// Newer ones that are damaged. The caller must name them loudly.
    pub bad: Vec<BadCheckpoint>,
}

impl Found {
    fn bad(&self, defect: Defect) -> CheckpointError {
        CheckpointError::Bad { path: self.path.clone(), defect }
    }

    /// What the manifest says of a file.
    fn entry(&self, name: &str) -> Result<&ManifestFile, CheckpointError> {
        self.manifest.file(name).ok_or_else(|| self.bad(Defect::Missing(name.to_string())))
    }

    /// Reads a small file of the checkpoint and compares it once more with the manifest.
    pub fn read(&self, storage: &dyn Storage, name: &str) -> Result<Vec<u8>, CheckpointError> {
        let file = self.entry(name)?;
        let path = self.path.join(&file.name);
        let contents = read_file(storage, &path, file.bytes)
            .map_err(|source| self.bad(Defect::Unreadable { path, source }))?;
        let record = FileRecord { bytes: contents.len() as u64, sha256: sha256_hex(&contents) };
        file.check(&record).map_err(|defect| self.bad(defect))?;
        Ok(contents)
    }
}

/// One folder that bears a checkpoint's name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    step: u64,
    /// Whether it is a `replaced-` one, used only after the plain one of the same step.
    replaced: bool,
    path: PathBuf,
}

/// The name of a checkpoint's folder.
pub fn step_name(step: u64) -> String {
    format!("step-{step}")
}

fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (rest, replaced) = match name.strip_prefix("replaced-") {
        // `replaced-step-7-2` is the second one of step 7.
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let mut parts = rest.strip_prefix("step-")?.split('-');
    let digits = parts.next()?;
    let step: u64 = digits.parse().ok()?;
    let is_plain = digits == step.to_string() && parts.next().is_none();
    (replaced || is_plain).then_some((step, replaced))
}

/// Everything that bears a checkpoint's name, newest first; nothing where the folder is missing.
fn candidates(storage: &dyn Storage, dir: &Path) -> Result<Vec<Candidate>, CheckpointError> {
    let names = match retry(|| storage.list(dir)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(|error| CheckpointError::folder(dir, error))?,
    };
    let mut found: Vec<Candidate> = names
        .iter()
        .filter_map(|name| {
            let (step, replaced) = parse_name(name)?;
            Some(Candidate { step, replaced, path: dir.join(name) })
        })
        .collect();
    found.sort_by_key(|candidate| (std::cmp::Reverse(candidate.step), candidate.replaced));
    Ok(found)
}

fn verified(storage: &dyn Storage, candidate: &Candidate) -> Result<Found, Defect> {
    let manifest = Manifest::read(storage, &candidate.path, candidate.step)?;
    manifest.verify(storage, &candidate.path)?;
    Ok(Found { step: candidate.step, path: candidate.path.clone(), manifest })
}

/// The newest checkpoint in `dir` that verifies, and the newer ones that do not. Changes nothing.
///
/// # Errors
/// If the folder cannot be listed, or if a newer program wrote the newest checkpoint.
pub fn latest_good(storage: &dyn Storage, dir: &Path) -> Result<Search, CheckpointError> {
    let mut search = Search::default();
    for candidate in candidates(storage, dir)? {
        match verified(storage, &candidate) {
            Ok(found) => {
                search.found = Some(found);
                break;
            }
            Err(defect @ Defect::Future(_)) => {
                return Err(CheckpointError::Future { path: candidate.path, defect });
            }
            Err(defect) => {
                let Candidate { step, path, .. } = candidate;
                search.bad.push(BadCheckpoint { step, path, defect });
            }
        }
    }
    Ok(search)
}

/// The checkpoint of one step, verified: for `--resume` from a chosen step, and for the best one.
pub fn find_step(storage: &dyn Storage, dir: &Path, step: u64) -> Result<Found, CheckpointError> {
    let path = dir.join(step_name(step));
    let mut result = Err(CheckpointError::Bad { path, defect: Defect::NoManifest });
    for candidate in candidates(storage, dir)?.into_iter().filter(|c| c.step == step) {
        match verified(storage, &candidate) {
            Ok(found) => return Ok(found),
            Err(defect) if !candidate.replaced => {
                result = Err(CheckpointError::Bad { path: candidate.path, defect });
            }
            Err(_) => {}
        }
    }
    result
}

/// Removes unfinished work of earlier runs (`.tmp-`, `.trash-`). Call it with the run's lock held.
/// Returns the names removed.
pub fn sweep(storage: &dyn Storage, dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let ours = |name: &str| name.starts_with(save::TEMPORARY_PREFIX);
    match tree::sweep(storage, dir, &ours) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|error| CheckpointError::folder(dir, error)),
    }
}
