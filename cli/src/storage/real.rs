//! The real file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{Kind, Meta, ReadFile, Storage, WriteFile};

/// `std::fs`, call by call.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealStorage;

struct RealFile(File);

/// Opens a file that is there already, or may be, for writing; never through a link, whose target would be changed.
fn open_to_write(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW);
    options.open(path).map_err(|error| match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => {
            let what = "it is a link, and nothing is written through links; delete it";
            io::Error::new(io::ErrorKind::InvalidData, what)
        }
        _ => error,
    })
}

impl WriteFile for RealFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    #[cfg(target_os = "linux")]
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        if bytes == 0 {
            return Ok(());
        }
        // KEEP_SIZE: the space is taken, the length stays 0 and grows with each write.
        fallocate(&self.0, FallocateFlags::KEEP_SIZE, 0, bytes).map_err(|errno| match errno {
            rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS => {
                io::ErrorKind::Unsupported.into()
            }
            other => other.into(),
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn reserve(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        // On macOS std asks for F_FULLFSYNC here, which also empties the drive's own cache.
        self.0.sync_all()
    }
}

impl ReadFile for RealFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Storage for RealStorage {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let file = open_to_write(OpenOptions::new().append(true).create(true), path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        open_to_write(OpenOptions::new().write(true), path)?.set_len(bytes)
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        let meta = fs::symlink_metadata(path)?;
        let kind = match meta.file_type() {
            t if t.is_file() => Kind::File,
            t if t.is_dir() => Kind::Dir,
            t if t.is_symlink() => Kind::Symlink,
            _ => Kind::Other,
        };
        let bytes = if kind == Kind::Dir { 0 } else { meta.len() };
        let since = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Meta { kind, bytes, modified_ns: since.map_or(0, |d| d.as_nanos()) })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name().into_string().map_err(|name| {
                let text = format!("the name {name:?} is not Unicode");
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    #[cfg(unix)]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    // Windows has no flush of a directory; NTFS journals its entries in order. The checkpoint is
    // re-read after the rename, and a torn one is passed over when a run resumes.
    #[cfg(not(unix))]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::metadata(dir).map(|_| ())
    }

    #[cfg(unix)]
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    #[cfg(not(unix))]
    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        dunce::canonicalize(path)
    }

    #[cfg(target_os = "linux")]
    fn forget_cached(&self, path: &Path) {
        // Only a hint: where it fails the verification reads from memory, which still finds every
        // fault but that of the drive itself.
        if let Ok(file) = File::open(path) {
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn forget_cached(&self, _: &Path) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{tree, whole};

    #[test]
    fn a_file_survives_the_round_trip() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let disk = RealStorage;
        let path = dir.path().join("a.txt");
        let record = whole::write_new(&disk, &path, &mut |out| out.write_all(b"twelve bytes"))?;
        assert_eq!(record.bytes, 12);
        assert_eq!(whole::read_file(&disk, &path, 100)?, b"twelve bytes");
        assert_eq!(whole::hash_file(&disk, &path)?, record);
        assert_eq!(disk.list(dir.path())?, ["a.txt"]);
        assert!(disk.free_space(dir.path())? > 0);
        whole::replace_file(&disk, &path, b"new")?;
        assert_eq!(whole::read_file(&disk, &path, 100)?, b"new");
        assert_eq!(disk.list(dir.path())?, ["a.txt"]);
        Ok(())
    }

    #[test]
    fn a_new_file_never_overwrites() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a");
        fs::write(&path, "old")?;
        let result = whole::write_new(&RealStorage, &path, &mut |out| out.write_all(b"new"));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path)?, b"old");
        Ok(())
    }

    #[test]
    #[cfg(unix)]
    fn f42_nothing_is_appended_or_cut_through_a_link() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (precious, link) = (dir.path().join("precious"), dir.path().join("metrics.jsonl"));
        fs::write(&precious, "not a run's")?;
        std::os::unix::fs::symlink(&precious, &link)?;
        let appended = RealStorage.append(&link).map(drop);
        for result in [appended, RealStorage.truncate(&link, 0)] {
            let error = result.expect_err("it is a link");
            assert!(error.to_string().contains("nothing is written through links"), "{error}");
        }
        // A link to nothing creates nothing there either.
        fs::remove_file(&precious)?;
        assert!(RealStorage.append(&link).is_err() && !precious.exists());
        // What is no link is written as before.
        fs::remove_file(&link)?;
        whole::write_all(&mut *RealStorage.append(&link)?, b"a line")?;
        RealStorage.truncate(&link, 1)?;
        assert_eq!(fs::read(&link)?, b"a");
        Ok(())
    }

    #[test]
    #[cfg(unix)]
    fn removing_a_tree_does_not_follow_links() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let kept = dir.path().join("kept");
        fs::create_dir(&kept)?;
        fs::write(kept.join("precious"), "x")?;
        let doomed = dir.path().join("doomed");
        fs::create_dir_all(doomed.join("deep"))?;
        fs::write(doomed.join("deep/file"), "y")?;
        std::os::unix::fs::symlink(&kept, doomed.join("link"))?;
        tree::remove_tree(&RealStorage, &doomed)?;
        assert!(!doomed.exists());
        assert_eq!(fs::read(kept.join("precious"))?, b"x");
        assert_eq!(RealStorage.list(dir.path())?, ["kept"]);
        Ok(())
    }
}
