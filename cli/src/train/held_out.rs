//! Which rows a run held out, written down in its folder, so that whoever judges the model later asks the very
//! rows that it has not seen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::setup::Setup;
use crate::bundled;
use crate::error::bad_input;
use crate::run::folder::RunFolder;
use crate::storage::whole::{read_file, replace_file};
use crate::storage::{RealStorage, Storage};

/// The file's name in a run folder.
pub const HELD_OUT: &str = "held_out.json";
const VERSION: u32 = 1;

/// Rows that a run never trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOut {
    version: u32,
    /// The files, as named to the run.
    pub data: Vec<String>,
    /// Numbers over all files of the rows held out; none: all rows of the files.
    pub rows: Option<BTreeSet<u64>>,
}

/// Writes the file of a run. A mixture has none: its held-out rows are those of several sets.
pub fn write(setup: &Setup, folder: &RunFolder, storage: &dyn Storage) -> anyhow::Result<()> {
    if !setup.config.mixture.is_empty() || setup.validation.is_empty() {
        return Ok(());
    }
    let data = setup.config.data.clone();
    let found = match &setup.validation_file {
        Some(path) => HeldOut { version: VERSION, data: vec![path.clone()], rows: None },
        None => {
            let rows = setup.validation.facts().map(|facts| facts.row).collect();
            HeldOut { version: VERSION, data, rows: Some(rows) }
        }
    };
    Ok(replace_file(storage, &folder.path().join(HELD_OUT), &serde_json::to_vec(&found)?)?)
}

/// What the run in `folder` held out; nothing if it did not write that down.
pub fn read(folder: &Path) -> Option<HeldOut> {
    let bytes = read_file(&RealStorage, &folder.join(HELD_OUT), 1 << 30).ok()?;
    let found: HeldOut = serde_json::from_slice(&bytes).ok()?;
    (found.version == VERSION).then_some(found)
}

/// The same for a command: the files and the rows.
///
/// # Errors
/// If the folder holds nothing of the kind.
pub fn of_run(folder: &Path) -> anyhow::Result<(Vec<PathBuf>, Option<BTreeSet<u64>>)> {
    let found = read(folder).ok_or_else(|| {
        bad_input(format!(
            "{}: this run did not write down which rows it held out ({HELD_OUT}); name rows with --data",
            folder.display()
        ))
    })?;
    let paths = found.data.iter().map(|name| bundled::data_path(name));
    Ok((paths.collect::<anyhow::Result<_>>()?, found.rows))
}
