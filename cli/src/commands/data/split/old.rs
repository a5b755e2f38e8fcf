//! What an earlier split left in the folder.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::{Args, SIDES};
use crate::data::output::{manifest_path, refuse};

/// Sides of an earlier split that this one replaces but does not write: they would stand beside sides that they
/// share rows with. A file that no manifest names is not the split's own and stays.
///
/// # Errors
/// If such a file is one of those that are read.
pub(super) fn stale_sides(args: &Args, paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string(manifest_of(&args.out)).unwrap_or_default();
    let manifest: Value = serde_json::from_str(&text).unwrap_or_default();
    let written = manifest["outputs"].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for name in (0..3).filter(|side| !args.uses(*side)).map(|side| format!("{}.jsonl", SIDES[side]))
    {
        let path = args.out.join(&name);
        if written.iter().any(|file| file["file"] == name) && path.exists() {
            refuse(&path, args.force, paths)?;
            found.push(path);
        }
    }
    Ok(found)
}

/// Removes those sides, and then the old manifest: it is never beside sides that it does not tell of.
pub(super) fn remove_old(out: &Path, stale: &[PathBuf]) -> anyhow::Result<()> {
    for path in stale.iter().chain([&manifest_of(out)]) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn manifest_of(out: &Path) -> PathBuf {
    manifest_path(&out.join("split"))
}
