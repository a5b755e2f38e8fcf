//! Folders that appear all at once: the adapter, the trained or merged model.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::checkpoint::{Defect, Entry, Failure, ManifestFile, check_entries, write_files};
use crate::storage::whole::{exists, hash_file, retry};
use crate::storage::words::explain;
use crate::storage::{Storage, tree};

/// Why a folder was not published. What bore its name before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A call failed.
    #[error(
        "{} was not written: {action} {} failed: {}",
        target.display(), path.display(), explain(source)
    )]
    Call {
        /// The folder that was to be made.
        target: PathBuf,
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's error; see [`crate::storage::words::is_full`].
        source: io::Error,
    },
    /// What was written reads back differently.
    #[error("{} does not read back as it was written: {defect}; check the disk", target.display())]
    Verify {
        /// The folder.
        target: PathBuf,
        /// What differs.
        defect: Defect,
    },
    /// The name is taken.
    #[error("{}: already exists; choose a new folder, nothing is overwritten", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// The caller asked for something impossible.
    #[error("{} cannot be written: {what}", path.display())]
    Usage {
        /// The folder.
        path: PathBuf,
        /// Why not.
        what: String,
    },
}

/// What to do with a folder that bears the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfTaken {
    /// It is an error.
    Refuse,
    /// It is removed once the new one is in place.
    Replace,
}

/// Writes a folder of files so that a reader finds all of them or none: temporary folder beside it,
/// every file synced and read back, then renamed. Returns the files with their checksums.
pub fn publish_folder(
    storage: &dyn Storage,
    target: &Path,
    entries: &[Entry],
    if_taken: IfTaken,
) -> Result<Vec<ManifestFile>, PublishError> {
    publish_checked(storage, target, entries, if_taken, &mut |_| Ok(()))
}

/// As [`publish_folder`], where `check` has the last word on the finished folder, which it gets under its temporary
/// name.
pub fn publish_checked(
    storage: &dyn Storage,
    target: &Path,
    entries: &[Entry],
    if_taken: IfTaken,
    check: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> Result<Vec<ManifestFile>, PublishError> {
    let usage = |what: String| PublishError::Usage { path: target.to_path_buf(), what };
    check_entries(entries).map_err(usage)?;
    let name = target.file_name().and_then(|name| name.to_str());
    let name =
        name.ok_or_else(|| usage("it has no name in Unicode; choose another".to_string()))?;
    let call = |(action, path, source): Failure| PublishError::Call {
        target: target.to_path_buf(),
        action,
        path,
        source,
    };
    let at = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source: io::Error| call((action, path, source))
    };
    if if_taken == IfTaken::Refuse && exists(storage, target).map_err(at("looking at", target))? {
        return Err(PublishError::Taken { path: target.to_path_buf() });
    }
    let temporary = target.with_file_name(format!(".tmp-{name}"));
    tree::remove_unnamed(storage, &temporary).map_err(at("clearing", &temporary))?;
    let prepared = write_and_verify(storage, &temporary, target, entries, &call);
    let aside = format!("{}{name}", tree::TRASH_PREFIX);
    let published = prepared.and_then(|files| {
        check(&temporary).map_err(at("checking", &temporary))?;
        let old = match if_taken {
            IfTaken::Replace => tree::publish(storage, &temporary, target, &aside),
            // Writing took its time: somebody may have made a folder of that name since.
            IfTaken::Refuse if exists(storage, target).map_err(at("looking at", target))? => {
                return Err(PublishError::Taken { path: target.to_path_buf() });
            }
            IfTaken::Refuse => tree::give_name(storage, &temporary, target).map(|()| None),
        };
        Ok((files, old.map_err(at("renaming to", target))?))
    });
    match published {
        Ok((files, old)) => {
            // The new folder is in place; an old one that cannot be removed is hidden and harmless.
            let _ = old.map(|old| tree::remove_unnamed(storage, &old));
            if if_taken == IfTaken::Replace {
                // Nor is one needed any more that a power cut left aside earlier.
                let _ = tree::remove_aside(storage, target, &aside);
            }
            Ok(files)
        }
        Err(error) => {
            let _ = tree::remove_unnamed(storage, &temporary);
            Err(error)
        }
    }
}

fn write_and_verify(
    storage: &dyn Storage,
    temporary: &Path,
    target: &Path,
    entries: &[Entry],
    call: &dyn Fn(Failure) -> PublishError,
) -> Result<Vec<ManifestFile>, PublishError> {
    let at = |action| move |source| call((action, temporary.to_path_buf(), source));
    retry(|| storage.mkdir(temporary)).map_err(at("creating"))?;
    let files = write_files(storage, temporary, entries).map_err(call)?;
    for file in &files {
        let path = temporary.join(&file.name);
        storage.forget_cached(&path);
        let found = hash_file(storage, &path).map_err(at("reading back"))?;
        let verify = |defect| PublishError::Verify { target: target.to_path_buf(), defect };
        file.check(&found).map_err(verify)?;
    }
    retry(|| storage.sync_dir(temporary)).map_err(at("syncing"))?;
    Ok(files)
}

impl PublishError {
    /// Whether trying again may help once a person has freed some space.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Call { source, .. } if crate::storage::words::is_full(source))
    }

    /// The kind of the system's error, if one was behind it.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Call { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Payload;
    use super::*;
    use crate::storage::simulated::{Fault, Faults, Image, SimulatedDisk};
    use crate::storage::whole::read_file;

    fn publish(disk: &SimulatedDisk, text: &[u8], if_taken: IfTaken) -> Result<(), PublishError> {
        let entry = |name| Entry { name, payload: Payload::Bytes(text) };
        let files = [entry("adapter_config.json"), entry("adapter_model.safetensors")];
        publish_folder(disk, Path::new("/adapter"), &files, if_taken).map(|_| ())
    }

    /// What the two files contain; nothing if there is no folder.
    fn texts(disk: &SimulatedDisk) -> Vec<Vec<u8>> {
        ["adapter_config.json", "adapter_model.safetensors"]
            .iter()
            .filter_map(|name| read_file(disk, &Path::new("/adapter").join(name), 100).ok())
            .collect()
    }

    #[test]
    fn f15_a_folder_that_is_refused_is_not_published() -> Result<(), Box<dyn std::error::Error>> {
        let disk = SimulatedDisk::new();
        publish(&disk, b"old text", IfTaken::Refuse)?;
        let entry = Entry { name: "adapter_config.json", payload: Payload::Bytes(b"new text") };
        let mut refuse = |new: &Path| -> io::Result<()> {
            assert_eq!(read_file(&disk, &new.join("adapter_config.json"), 100)?, b"new text");
            Err(io::Error::other("not as it should be"))
        };
        let target = Path::new("/adapter");
        let result = publish_checked(&disk, target, &[entry], IfTaken::Replace, &mut refuse);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("checking") && error.contains("not as it should be"), "{error}");
        assert_eq!(disk.list(Path::new("/"))?, ["adapter"]);
        assert_eq!(texts(&disk), [b"old text"; 2]);
        Ok(())
    }

    #[test]
    fn f15_a_folder_that_somebody_made_meanwhile_is_not_touched()
    -> Result<(), Box<dyn std::error::Error>> {
        let disk = SimulatedDisk::new();
        let (target, theirs) = (Path::new("/adapter"), Path::new("/adapter/holiday.jpg"));
        let entry = Entry { name: "adapter_config.json", payload: Payload::Bytes(b"new text") };
        let mut meanwhile = |_: &Path| -> io::Result<()> {
            disk.mkdir(target)?;
            disk.create(theirs).map(drop)
        };
        let entries = [entry];
        let result = publish_checked(&disk, target, &entries, IfTaken::Refuse, &mut meanwhile);
        assert!(matches!(result, Err(PublishError::Taken { .. })), "{result:?}");
        assert_eq!(disk.list(Path::new("/"))?, ["adapter"]);
        assert_eq!(disk.list(target)?, ["holiday.jpg"]);
        Ok(())
    }

    #[test]
    fn f15_a_folder_is_the_old_one_or_the_new_one() -> Result<(), Box<dyn std::error::Error>> {
        let disk = SimulatedDisk::new();
        publish(&disk, b"old text", IfTaken::Refuse)?;
        let error = publish(&disk, b"new text", IfTaken::Refuse).unwrap_err();
        assert!(error.to_string().contains("already exists"), "{error}");
        let old: Image = disk.visible();
        let disk = SimulatedDisk::from_image(&old);
        publish(&disk, b"new text", IfTaken::Replace)?;
        assert_eq!(disk.list(Path::new("/"))?, ["adapter"]);
        assert_eq!(texts(&disk), [b"new text"; 2]);
        let counts = disk.trace().power_cuts(3, &mut |image, _| {
            let disk = SimulatedDisk::from_image(image);
            let found = texts(&disk);
            let whole = [vec![b"old text".to_vec(); 2], vec![b"new text".to_vec(); 2], Vec::new()];
            assert!(whole.contains(&found), "{found:?}");
            // Whatever was left half done goes with the next attempt.
            publish(&disk, b"new text", IfTaken::Replace).expect("a good disk");
            assert_eq!(disk.list(Path::new("/")).expect("a list"), ["adapter"]);
        });
        println!("publishing: {} power cuts, {} different disks", counts.cuts, counts.distinct);
        for fault in Fault::ALL {
            for call in 0..disk.calls() {
                let disk = SimulatedDisk::from_image(&old);
                disk.set_faults(Faults::once(fault, call));
                let result = publish(&disk, b"new text", IfTaken::Replace);
                disk.set_faults(Faults::none());
                let expected = if result.is_ok() { b"new text" } else { b"old text" };
                // A fault after the rename leaves the new one in place, whole.
                let found = texts(&disk);
                let is_whole = found == [expected; 2] || found == [b"new text"; 2];
                assert!(is_whole, "{fault:?} at call {call}: {found:?}");
                publish(&disk, b"new text", IfTaken::Replace)?;
                assert_eq!(texts(&disk), [b"new text"; 2]);
            }
        }
        Ok(())
    }
}
