//! One run, one process: the lock file of a run folder.
//!
//! The operating system holds the lock (`flock`) and lets go of it when the process ends, however
//! it ends. The file says who holds it, for messages. Where the file system knows no locks, the
//! file's existence is the lock, and its contents decide whether the holder is gone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::storage::words::explain;

/// The lock file's name in a run folder.
pub const LOCK_FILE: &str = "run.lock";

/// Who holds a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Names one boot of one machine; empty where the system has none.
    pub boot_id: String,
    /// The machine's name.
    pub host: String,
    /// Seconds since 1970.
    pub since: u64,
}

/// Why a lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{} is in use by process {} on {}; wait for that run, stop it, or choose another folder",
        path.display(), holder.pid, holder.host
    )]
    Held {
        /// The run folder.
        path: PathBuf,
        /// Who.
        holder: Holder,
    },
    /// A process on another machine may have it, and this file system cannot tell.
    #[error(
        "{} was last used by process {} on {}, and this file system cannot tell whether that run \
         is over; if it is, delete {LOCK_FILE} in it", path.display(), holder.pid, holder.host
    )]
    Elsewhere {
        /// The run folder.
        path: PathBuf,
        /// Who.
        holder: Holder,
    },
    /// The file could not be made or read.
    #[error("{}: {}", path.display(), explain(source))]
    File {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A held lock; let go of when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    by_existence: bool,
    /// Who held it before and ended without letting go: killed, or cut off by a power failure.
    pub recovered_from: Option<Holder>,
}

impl Lock {
    /// Locks the run folder `dir`, which must exist.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(LOCK_FILE);
        let error = |source| LockError::File { path: path.clone(), source };
        let file = open(&path).map_err(error)?;
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&path).unwrap_or_default();
                return Err(LockError::Held { path: dir.to_path_buf(), holder });
            }
            Err(TryLockError::Error(source)) if has_no_locks(&source) => {
                return Self::take_by_existence(dir, &path);
            }
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        let recovered_from = read_holder(&path);
        if let Some(holder) = &recovered_from
            && holder.host != Holder::this().host
            && is_on_network(dir)
        {
            let holder = holder.clone();
            return Err(LockError::Elsewhere { path: dir.to_path_buf(), holder });
        }
        let mut lock = Self { file, path: path.clone(), by_existence: false, recovered_from };
        lock.write_holder().map_err(error)?;
        Ok(lock)
    }

    fn take_by_existence(dir: &Path, path: &Path) -> Result<Self, LockError> {
        let error = |source| LockError::File { path: path.to_path_buf(), source };
        let recovered_from = read_holder(path);
        if let Some(holder) = &recovered_from {
            let (path, holder) = (dir.to_path_buf(), holder.clone());
            match holder.is_gone() {
                Some(true) => {}
                Some(false) => return Err(LockError::Held { path, holder }),
                None => return Err(LockError::Elsewhere { path, holder }),
            }
        }
        std::fs::remove_file(path).map_err(error)?;
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(error)?;
        let mut lock = Self { file, path: path.to_path_buf(), by_existence: true, recovered_from };
        lock.write_holder().map_err(error)?;
        Ok(lock)
    }

    fn write_holder(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&Holder::this())?;
        self.file.set_len(0)?;
        self.file.write_all(&text)?;
        self.file.sync_all()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty file has no holder. The file itself stays: removing it could take away a lock
        // that another process has just got. If this fails the next run says that it took the lock
        // over.
        let _ = self.file.set_len(0);
        if self.by_existence {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Somebody who only asks who holds the lock (see [`holder`]) has it for an instant: that is waited for.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..4 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(15)),
            other => return other,
        }
    }
    file.try_lock()
}

/// Who uses the run folder `dir` now; nobody if its lock is free or cannot be asked.
pub fn holder(dir: &Path) -> Option<Holder> {
    let path = dir.join(LOCK_FILE);
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        // Let go of again at once, when the file is closed.
        Ok(()) => None,
        Err(TryLockError::WouldBlock) => Some(read_holder(&path).unwrap_or_default()),
        Err(TryLockError::Error(_)) => {
            read_holder(&path).filter(|holder| holder.is_gone() == Some(false))
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let meta = std::fs::symlink_metadata(path);
    if meta.is_ok_and(|meta| !meta.is_file()) {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is not a plain file; delete it"));
    }
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

fn has_no_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    let no_locks = error.raw_os_error() == Some(libc::ENOLCK);
    #[cfg(not(unix))]
    let no_locks = false;
    no_locks || error.kind() == ErrorKind::Unsupported
}

/// Who the file names; nobody if it is empty or unreadable (the lock itself is the operating
/// system's).
fn read_holder(path: &Path) -> Option<Holder> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(4096).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

impl Holder {
    /// This process.
    pub fn this() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self { pid: std::process::id(), boot_id: boot_id(), host: host(), since }
    }

    /// Whether the process is surely gone; nothing if that cannot be known from here.
    fn is_gone(&self) -> Option<bool> {
        let this = Self::this();
        if self.host != this.host {
            return None;
        }
        if self.boot_id != this.boot_id {
            return Some(true);
        }
        process_exists(self.pid).map(|exists| !exists)
    }
}

#[cfg(unix)]
fn process_exists(pid: u32) -> Option<bool> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    match rustix::process::test_kill_process(pid) {
        Err(rustix::io::Errno::SRCH) => Some(false),
        _ => Some(true),
    }
}

#[cfg(not(unix))]
fn process_exists(_: u32) -> Option<bool> {
    None
}

#[cfg(target_os = "linux")]
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.unwrap_or_default().trim().to_string()
}

#[cfg(not(target_os = "linux"))]
fn boot_id() -> String {
    String::new()
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// Whether other machines may see this folder, so that `flock` may not tell the whole truth.
#[cfg(target_os = "linux")]
fn is_on_network(dir: &Path) -> bool {
    /// NFS, SMB, CIFS, SMB2, FUSE, 9P, Ceph, Lustre, AFS, GPFS, BeeGFS.
    const NETWORK: [u32; 11] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x6573_5546,
        0x0102_1997,
        0x00c3_6400,
        0x0bd0_0bd0,
        0x5346_414f,
        0x4750_4653,
        0x1983_0326,
    ];
    rustix::fs::statfs(dir).is_ok_and(|stat| NETWORK.contains(&(stat.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
fn is_on_network(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    const DIR_VARIABLE: &str = "PADDOCK_TEST_LOCK_DIR";

    #[test]
    #[ignore = "a child process of the tests below"]
    fn hold_the_lock() -> Result<(), LockError> {
        let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return Ok(()) };
        let _lock = Lock::take(Path::new(&dir))?;
        println!("\nlocked");
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    }

    /// A process of its own that holds the lock.
    fn holder(dir: &Path) -> io::Result<Child> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["run::lock::tests::hold_the_lock", "--exact", "--ignored", "--nocapture"])
            .env(DIR_VARIABLE, dir)
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
        for line in BufReader::new(out).lines() {
            if line? == "locked" {
                return Ok(child);
            }
        }
        Err(ErrorKind::UnexpectedEof.into())
    }

    #[test]
    fn f43_a_second_run_is_refused_and_a_killed_ones_lock_is_recovered() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut child = holder(dir.path())?;
        let text = match Lock::take(dir.path()) {
            Err(error @ LockError::Held { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(text.contains(&format!("in use by process {} on ", child.id())), "{text}");
        // SIGKILL: nothing in the child gets a chance to clean up.
        child.kill()?;
        child.wait()?;
        let lock = Lock::take(dir.path()).map_err(io::Error::other)?;
        let before = lock.recovered_from.as_ref().map(|holder| holder.pid);
        assert_eq!(before, Some(child.id()));
        drop(lock);
        let lock = Lock::take(dir.path()).map_err(io::Error::other)?;
        assert_eq!(lock.recovered_from, None, "a lock that was let go of needs no recovery");
        assert!(Lock::take(dir.path()).is_err(), "nor does one process get it twice");
        Ok(())
    }

    #[test]
    fn f43_without_flock_the_files_contents_decide() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join(LOCK_FILE);
        let this = Holder::this();
        let write = |holder: &Holder| std::fs::write(&path, serde_json::to_vec(holder)?);
        let take = || Lock::take_by_existence(dir.path(), &path);
        write(&this)?;
        assert!(matches!(take(), Err(LockError::Held { .. })));
        write(&Holder { host: "elsewhere".into(), ..this.clone() })?;
        let text = take().map(|_| ()).unwrap_err().to_string();
        assert!(text.contains("on elsewhere") && text.contains("delete run.lock"), "{text}");
        write(&Holder { boot_id: "an earlier one".into(), ..this.clone() })?;
        assert!(take()?.recovered_from.is_some());
        let mut child = Command::new("true").spawn()?;
        child.wait()?;
        write(&Holder { pid: child.id(), ..this })?;
        assert!(take()?.recovered_from.is_some());
        std::fs::write(&path, "garbage")?;
        assert!(take()?.recovered_from.is_none());
        assert!(!path.exists());
        Ok(())
    }
}
