//! Which checkpoints stay and which go.

use std::path::{Path, PathBuf};

use super::{
    BadCheckpoint, Candidate, CheckpointError, Defect, Manifest, candidates, step_name, verified,
};
use crate::storage::whole::retry;
use crate::storage::words::explain;
use crate::storage::{Storage, tree};

/// Which checkpoints stay when a new one has been saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How many of the newest stay, the new one included; at least 1.
    pub newest: usize,
    /// The step of the best one, which stays too.
    pub best: Option<u64>,
    /// The step that a run may go back to, which stays too.
    pub due: Option<u64>,
}

impl Default for Keep {
    fn default() -> Self {
        Self { newest: 2, best: None, due: None }
    }
}

/// Removes older checkpoints once the new one has been verified. Those that stay as the newest are
/// verified again before anything is removed, so that damaged ones do not count; a damaged one is
/// named and left where it is. Nothing here can fail the save: the new checkpoint is safe already.
pub(super) fn rotate(
    storage: &dyn Storage,
    dir: &Path,
    saved: u64,
    keep: &Keep,
) -> (Vec<PathBuf>, Vec<String>) {
    let mut warnings = Vec::new();
    let all = match candidates(storage, dir) {
        Ok(all) => all,
        Err(error) => {
            warnings.push(format!("older checkpoints were not removed: {error}"));
            return (Vec::new(), warnings);
        }
    };
    let doomed = choose(storage, all, saved, keep, &mut warnings);
    let mut removed = Vec::new();
    for candidate in doomed {
        if let Err(defect) = may_go(storage, &candidate) {
            warnings.push(format!("{} is kept: {defect}", candidate.path.display()));
            continue;
        }
        match tree::remove_tree(storage, &candidate.path) {
            Ok(()) => removed.push(candidate.path),
            Err(error) => {
                let path = candidate.path.display();
                warnings.push(format!("{path} could not be removed: {}", explain(&error)));
            }
        }
    }
    (removed, warnings)
}

/// A damaged checkpoint is evidence of a fault that a person may not have seen yet: it stays. One
/// that was replaced is read in full, since damage is the likely reason; for the others the
/// manifest must do.
fn may_go(storage: &dyn Storage, candidate: &Candidate) -> Result<(), Defect> {
    if candidate.replaced {
        return verified(storage, candidate).map(|_| ());
    }
    Manifest::read(storage, &candidate.path, candidate.step).map(|_| ())
}

fn choose(
    storage: &dyn Storage,
    all: Vec<Candidate>,
    saved: u64,
    keep: &Keep,
    warnings: &mut Vec<String>,
) -> Vec<Candidate> {
    let mut kept = vec![saved];
    let mut doomed = Vec::new();
    for candidate in all {
        let is_saved = candidate.step == saved && !candidate.replaced;
        // A later one than that just saved belongs to a run that went back; not ours to judge.
        if is_saved || candidate.step > saved {
            continue;
        }
        if kept.len() < keep.newest && !kept.contains(&candidate.step) {
            match verified(storage, &candidate) {
                Ok(found) => kept.push(found.step),
                Err(defect) => {
                    warnings.push(format!("{} is damaged: {defect}", candidate.path.display()));
                }
            }
        } else if ![keep.best, keep.due].contains(&Some(candidate.step))
            || kept.contains(&candidate.step)
        {
            doomed.push(candidate);
        }
    }
    doomed
}

/// Moves every checkpoint of a later step than `step` out of the way, as `superseded-step-N`,
/// because the run goes on from `step` by a person's choice. They are kept, but never used again.
/// Returns the new names.
pub fn set_aside_newer(
    storage: &dyn Storage,
    dir: &Path,
    step: u64,
) -> Result<Vec<PathBuf>, CheckpointError> {
    let newer = candidates(storage, dir)?.into_iter().filter(|c| c.step > step);
    let newer: Vec<(u64, PathBuf)> = newer.map(|c| (c.step, c.path)).collect();
    move_aside(storage, dir, "superseded", &newer)
}

/// Renames damaged checkpoints to `damaged-step-N`, so that they are kept for inspection and no
/// longer looked at. Those that merely could not be read stay where they are. Returns the new
/// names.
pub fn set_aside_bad(
    storage: &dyn Storage,
    dir: &Path,
    bad: &[BadCheckpoint],
) -> Result<Vec<PathBuf>, CheckpointError> {
    let damaged = bad.iter().filter(|bad| !matches!(bad.defect, Defect::Unreadable { .. }));
    let damaged: Vec<(u64, PathBuf)> = damaged.map(|bad| (bad.step, bad.path.clone())).collect();
    move_aside(storage, dir, "damaged", &damaged)
}

fn move_aside(
    storage: &dyn Storage,
    dir: &Path,
    prefix: &str,
    checkpoints: &[(u64, PathBuf)],
) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut moved = Vec::new();
    for (step, path) in checkpoints {
        let error = |source| CheckpointError::folder(path, source);
        let base = format!("{prefix}-{}", step_name(*step));
        let place = tree::free_name(storage, dir, &base).map_err(error)?;
        retry(|| storage.rename(path, &place)).map_err(error)?;
        moved.push(place);
    }
    if !moved.is_empty() {
        retry(|| storage.sync_dir(dir)).map_err(|error| CheckpointError::folder(dir, error))?;
    }
    Ok(moved)
}
