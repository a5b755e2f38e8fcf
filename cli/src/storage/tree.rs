//! Directories as a whole: removal, and publication under a name all at once.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::whole::{exists, retry};
use super::{Kind, Storage};

/// Folders whose name begins so are being removed; whoever finds one may finish the work.
pub const TRASH_PREFIX: &str = ".trash-";

/// Nothing that Paddock writes is nested deeper; a hostile folder must not exhaust the stack.
const MOST_LEVELS: u32 = 32;

/// Removes a directory: first it loses its name (rename, durable), then its contents go one by one.
/// A power cut at any point leaves either the whole directory or a `.trash-` one.
pub fn remove_tree(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    let trash = move_to_trash(storage, dir)?;
    empty_and_remove(storage, &trash, MOST_LEVELS)
}

/// The first half of [`remove_tree`]: returns the new, hidden name.
pub fn move_to_trash(storage: &dyn Storage, dir: &Path) -> io::Result<PathBuf> {
    let (parent, name) = split(dir)?;
    let trash = free_name(storage, parent, &format!("{TRASH_PREFIX}{name}"))?;
    retry(|| storage.rename(dir, &trash))?;
    retry(|| storage.sync_dir(parent))?;
    Ok(trash)
}

/// Removes what earlier runs left in `dir` under a temporary or trash name; `is_ours` says which of
/// the other hidden names may go too. Returns the names removed.
pub fn sweep(
    storage: &dyn Storage,
    dir: &Path,
    is_ours: &dyn Fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    let mut removed = Vec::new();
    for name in retry(|| storage.list(dir))? {
        if name.starts_with(TRASH_PREFIX) || is_ours(&name) {
            empty_and_remove(storage, &dir.join(&name), MOST_LEVELS)?;
            removed.push(name);
        }
    }
    Ok(removed)
}

/// Removes a directory that no reader looks for (temporary or trash); a missing one is no error.
pub fn remove_unnamed(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    empty_and_remove(storage, dir, MOST_LEVELS)
}

/// Gives the finished directory `ready` the name `target`. What bears that name already is first
/// moved aside under `aside` (a free name is derived from it) and stays there. Returns where it
/// went.
pub fn publish(
    storage: &dyn Storage,
    ready: &Path,
    target: &Path,
    aside: &str,
) -> io::Result<Option<PathBuf>> {
    let (parent, _) = split(target)?;
    let mut moved = None;
    // Where a call fails the old one gets its name back. If the call was carried out nevertheless
    // (a lost reply) this does nothing or the right thing: a directory never replaces a full one.
    let undo = |place: &Path, error| {
        let _ = retry(|| storage.rename(place, target));
        error
    };
    if exists(storage, target)? {
        let place = free_name(storage, parent, aside)?;
        retry(|| storage.rename(target, &place)).map_err(|error| undo(&place, error))?;
        moved = Some(place);
    }
    let renamed = retry(|| storage.rename(ready, target));
    match (renamed, &moved) {
        (Ok(()), _) => {}
        (Err(error), Some(place)) => return Err(undo(place, error)),
        (Err(error), None) => return Err(error),
    }
    retry(|| storage.sync_dir(parent))?;
    Ok(moved)
}

/// Gives the finished directory `ready` the name `target`, which must be free: what is there is never moved.
pub fn give_name(storage: &dyn Storage, ready: &Path, target: &Path) -> io::Result<()> {
    let (parent, _) = split(target)?;
    retry(|| storage.rename(ready, target))?;
    retry(|| storage.sync_dir(parent))
}

/// Removes everything beside `target` that bears a name which [`publish`] derives from `aside`.
pub fn remove_aside(storage: &dyn Storage, target: &Path, aside: &str) -> io::Result<()> {
    let (parent, _) = split(target)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_derived = |rest: &str| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_number);
    for name in retry(|| storage.list(parent))? {
        if name.strip_prefix(aside).is_some_and(is_derived) {
            remove_unnamed(storage, &parent.join(&name))?;
        }
    }
    Ok(())
}

/// `base`, or `base-2`, `base-3`, …: the first that is not taken in `parent`.
pub fn free_name(storage: &dyn Storage, parent: &Path, base: &str) -> io::Result<PathBuf> {
    let mut path = parent.join(base);
    let mut number = 1_u64;
    while exists(storage, &path)? {
        number += 1;
        path = parent.join(format!("{base}-{number}"));
    }
    Ok(path)
}

fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let (Some(parent), Some(name)) = (path.parent(), name) else {
        return Err(ErrorKind::InvalidFilename.into());
    };
    Ok((if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, name))
}

fn empty_and_remove(storage: &dyn Storage, path: &Path, levels: u32) -> io::Result<()> {
    let meta = match retry(|| storage.metadata(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    if meta.kind != Kind::Dir {
        return retry(|| storage.unlink(path));
    }
    if levels == 0 {
        let text = format!("{} is nested too deeply to be removed", path.display());
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    for name in retry(|| storage.list(path))? {
        empty_and_remove(storage, &path.join(name), levels - 1)?;
    }
    retry(|| storage.rmdir(path))
}
