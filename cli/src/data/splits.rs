//! Splits that were made once and are kept: what `core-cli data split` wrote, found again by the file that was
//! split, so that every later run and every evaluation uses the same rows on the same side.

use std::path::{Path, PathBuf};

use paddock_datasets::fingerprint::fingerprint;
use serde_json::Value;

use super::output::manifest_path;

/// A split that lies in a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptSplit {
    /// Its folder.
    pub folder: PathBuf,
    /// Rows to learn from, to watch and choose by, to judge by at the end.
    pub rows: [u64; 3],
    /// How rows were told apart: `random`, `stratified`, `group` or `order`.
    pub by: String,
    /// Shares of the second and the third side that were asked for.
    pub shares: [f64; 2],
    /// Rows with a near twin on another side; none if that was not looked for.
    pub leaks: Option<u64>,
    /// SHA-256 of the file that was split.
    pub source: String,
}

/// The sides, by their file's stem.
pub const SIDES: [&str; 3] = ["train", "validation", "test"];

impl KeptSplit {
    /// Reads the folder that `core-cli data split --out` wrote; nothing if it is no such folder, or not whole.
    pub fn read(folder: &Path) -> Option<KeptSplit> {
        let text = std::fs::read_to_string(manifest_path(&folder.join("split"))).ok()?;
        let found: Value = serde_json::from_str(&text).ok()?;
        let settings = &found["settings"];
        let mut split = KeptSplit {
            folder: folder.to_path_buf(),
            by: settings["by"].as_str()?.to_string(),
            shares: [settings["validation"].as_f64()?, settings["test"].as_f64()?],
            leaks: found["found"]["leaks"].as_u64(),
            source: found["inputs"][0]["sha256"].as_str()?.to_string(),
            ..KeptSplit::default()
        };
        for output in found["outputs"].as_array()? {
            let side = SIDES.iter().position(|side| output["file"] == format!("{side}.jsonl"))?;
            split.rows[side] = output["rows"].as_u64()?;
            let size = std::fs::metadata(split.path(side)).ok()?.len();
            if Some(size) != output["bytes"].as_u64() {
                return None;
            }
        }
        Some(split)
    }

    /// The file of a side: 0 to learn from, 1 to watch, 2 to judge by.
    pub fn path(&self, side: usize) -> PathBuf {
        self.folder.join(format!("{}.jsonl", SIDES[side]))
    }

    /// Settings of a run that uses it.
    pub fn flags(&self) -> Vec<(String, String)> {
        let names = ["data", "validation", "test"];
        let used = (0..3).filter(|side| self.rows[*side] > 0);
        let mut flags: Vec<(String, String)> = used
            .map(|side| (names[side].to_string(), self.path(side).display().to_string()))
            .collect();
        if self.rows[1] == 0 {
            flags.push(("validation".to_string(), "none".to_string()));
        }
        flags
    }
}

/// The split of `file` among the folders in `splits`, the latest first; nothing if the file has changed since.
///
/// # Errors
/// If the file cannot be read.
pub fn find(splits: &Path, file: &Path) -> anyhow::Result<Option<KeptSplit>> {
    let entries = std::fs::read_dir(splits).into_iter().flatten().flatten();
    let mut found: Vec<(std::time::SystemTime, KeptSplit)> = entries
        .filter_map(|entry| {
            let when = entry.metadata().ok()?.modified().ok()?;
            Some((when, KeptSplit::read(&entry.path())?))
        })
        .collect();
    if found.is_empty() {
        return Ok(None);
    }
    let own = fingerprint(file)?.sha256;
    found.sort_by_key(|(when, _)| std::cmp::Reverse(*when));
    Ok(found.into_iter().map(|(_, split)| split).find(|split| split.source == own))
}
