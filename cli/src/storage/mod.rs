//! Files behind one small trait, so that the same checkpoint code runs on the real file system and
//! on a simulated disk that fails, fills up and loses power.
//!
//! The trait stays at the level of single system calls: a `write` may be short and may be
//! interrupted. What makes a whole file out of such calls (retries, hashing, fsync, rename) is
//! written once, in [`whole`] and [`tree`], above the trait, and is therefore tested against every
//! fault.

pub mod real;
pub mod simulated;
pub mod tree;
pub mod whole;
pub mod words;

use std::io;
use std::path::{Path, PathBuf};

pub use real::RealStorage;

/// What a directory entry is. Symbolic links are reported as such and never followed by
/// [`Storage::metadata`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A device, socket, pipe: nothing that Paddock reads or writes.
    Other,
}

/// Size and identity of one directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Size in bytes (0 for directories).
    pub bytes: u64,
    /// Time of the last change, in nanoseconds since 1970; 0 where the system does not say.
    pub modified_ns: u128,
}

/// A file being written, from [`Storage::create`] or [`Storage::append`].
pub trait WriteFile: Send {
    /// Writes some bytes at the end and says how many. May be short; may fail with `Interrupted`.
    fn write(&mut self, data: &[u8]) -> io::Result<usize>;
    /// Asks the file system to set aside `bytes` for this file, so that a full disk is found before
    /// anything is written. A system that cannot do this answers `Unsupported`.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;
    /// Makes the contents durable. After an error the contents must be taken as lost: a second call
    /// may report success without having written anything.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read, from [`Storage::open`].
pub trait ReadFile: Send {
    /// Reads some bytes; 0 at the end of the file. May be short; may fail with `Interrupted`.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
}

/// The calls that Paddock makes on a file system. Every method is one attempt: retrying is the
/// caller's business (see [`whole`]).
pub trait Storage: Send + Sync {
    /// Creates a new file for writing; fails with `AlreadyExists` where the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;
    /// Opens a file for writing at its end, creating it where it is missing.
    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>>;
    /// Cuts a file to `bytes`.
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Kind, size and time of an entry, without following a symbolic link.
    fn metadata(&self, path: &Path) -> io::Result<Meta>;
    /// Names in a directory, sorted. Names that are not Unicode are an `InvalidData` error.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates one directory; fails with `AlreadyExists` where the name is taken.
    fn mkdir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or directory. A directory is never renamed over one that has entries.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file (or a symbolic link, not what it points to).
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable: creations, renames and removals in it.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that this user may still write on the file system that holds `path`.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// The same place without symbolic links and `..`; it must exist.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;
    /// Asks that the next read of this file come from the device and not from memory. Best effort.
    fn forget_cached(&self, path: &Path);
}
