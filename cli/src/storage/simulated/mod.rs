//! A disk in memory for tests: it remembers what is durable and what is not, fails on the n-th
//! call, is full after n bytes, and can be looked at as a power cut would leave it (see
//! [`power_cut`]).

pub mod faults;
mod inodes;
pub mod power_cut;

use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use faults::{Fault, Faults};
use inodes::{Inode, Inodes, Op, ROOT};
pub use power_cut::{Counts, Image, Trace};

use super::{Kind, Meta, ReadFile, Storage, WriteFile};

/// The disk. Clones share one state, as processes share a file system.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    inodes: Inodes,
    start: Inodes,
    trace: Vec<Op>,
    faults: Faults,
    capacity: Option<u64>,
    ignores_syncs: bool,
}

impl SimulatedDisk {
    /// An empty disk with a root directory, without faults or limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that holds exactly what `image` shows, all of it durable.
    pub fn from_image(image: &Image) -> Self {
        let inodes = Inodes::from_image(image);
        let state = State { start: inodes.clone(), inodes, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Sets which calls fail; the call counter goes on.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.lock();
        let calls = state.faults.calls();
        state.faults = faults;
        state.faults.count_from(calls);
    }

    /// A disk that says "done" to every sync and does nothing: to show that a test would notice.
    pub fn ignore_syncs(&self) {
        self.lock().ignores_syncs = true;
    }

    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.lock().faults.calls()
    }

    /// The disk is full once files hold this many bytes (`None`: never).
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Notes in the trace that the program now counts on something, for checks of crash states.
    pub fn mark(&self, label: u64) {
        self.lock().trace.push(Op::Mark(label));
    }

    /// Everything that was done to the disk so far.
    pub fn trace(&self) -> Trace {
        let state = self.lock();
        Trace { start: state.start.clone(), ops: state.trace.clone() }
    }

    /// What a program sees on the disk now.
    pub fn visible(&self) -> Image {
        self.lock().inodes.image()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call that changes directories: counted, perhaps failed, traced.
    fn change(&self, decide: impl FnOnce(&mut State) -> io::Result<Op>) -> io::Result<()> {
        let mut state = self.lock();
        let after = state.faults.enter()?;
        let op = decide(&mut state)?;
        state.inodes.apply(&op);
        state.trace.push(op);
        after.finish(())
    }
}

impl State {
    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut inode = ROOT;
        for name in components(path)? {
            let entries = self.inodes.dir(inode).ok_or(ErrorKind::NotADirectory)?;
            inode = *entries.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(inode)
    }

    /// The directory that holds (or would hold) `path`, and the last name.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let names = components(path)?;
        let (name, parents) = names.split_last().ok_or(ErrorKind::InvalidFilename)?;
        let mut dir = ROOT;
        for parent in parents {
            let entries = self.inodes.dir(dir).ok_or(ErrorKind::NotADirectory)?;
            dir = *entries.get(*parent).ok_or(ErrorKind::NotFound)?;
        }
        self.inodes.dir(dir).ok_or(ErrorKind::NotADirectory)?;
        Ok((dir, (*name).to_string()))
    }

    fn create(&mut self, path: &Path, is_dir: bool) -> io::Result<(Op, usize)> {
        let (dir, name) = self.place(path)?;
        if self.inodes.entry(dir, &name).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = self.inodes.next();
        Ok((Op::Link { dir, name, inode, is_dir }, inode))
    }

    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.inodes.used()))
    }

    /// Notes a sync in the trace. An interrupted one has not begun; a failed one may have thrown
    /// the pages away.
    fn note_sync(&mut self, op: Op, result: &io::Result<()>) {
        let interrupted = matches!(result, Err(e) if e.kind() == ErrorKind::Interrupted);
        if !interrupted && !self.ignores_syncs {
            self.trace.push(op);
        }
    }

    fn file_bytes(&self, inode: usize) -> io::Result<u64> {
        let contents = self.inodes.file(inode).ok_or(ErrorKind::IsADirectory)?;
        Ok(contents.len() as u64)
    }
}

fn components(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(ErrorKind::InvalidFilename)?),
            _ => return Err(ErrorKind::InvalidFilename.into()),
        }
    }
    Ok(names)
}

struct OpenFile {
    disk: SimulatedDisk,
    inode: usize,
    position: usize,
}

impl WriteFile for OpenFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.lock();
        let outcome = state.faults.write_outcome(data.len());
        let fits = usize::try_from(state.room()).unwrap_or(usize::MAX);
        let wanted = outcome.bytes.min(data.len());
        let bytes = wanted.min(fits);
        if bytes > 0 {
            let offset = state.file_bytes(self.inode)? as usize;
            let mut data = data[..bytes].to_vec();
            data[0] ^= u8::from(outcome.rots) << 2;
            let op = Op::Write { inode: self.inode, offset, data };
            state.inodes.apply(&op);
            state.trace.push(op);
        }
        match outcome.error {
            Some(error) => Err(error),
            None if bytes == 0 && wanted > 0 => Err(ErrorKind::StorageFull.into()),
            None => Ok(bytes),
        }
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let after = state.faults.enter()?;
        if bytes > state.room() {
            return Err(ErrorKind::StorageFull.into());
        }
        after.finish(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let result = state.faults.sync();
        state.note_sync(Op::SyncFile { inode: self.inode, done: result.is_ok() }, &result);
        result
    }
}

impl ReadFile for OpenFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.lock();
        let allowed = state.faults.read_bytes(into.len())?;
        let contents = state.inodes.file(self.inode).ok_or(ErrorKind::IsADirectory)?;
        let rest = contents.get(self.position..).unwrap_or_default();
        let read = rest.len().min(allowed);
        into[..read].copy_from_slice(&rest[..read]);
        self.position += read;
        Ok(read)
    }
}

impl Storage for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut created = ROOT;
        self.change(|state| {
            let (op, inode) = state.create(path, false)?;
            created = inode;
            Ok(op)
        })?;
        Ok(Box::new(OpenFile { disk: self.clone(), inode: created, position: 0 }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.lock();
        let after = state.faults.enter()?;
        let inode = match state.find(path) {
            Ok(inode) => inode,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (op, inode) = state.create(path, false)?;
                state.inodes.apply(&op);
                state.trace.push(op);
                inode
            }
            Err(error) => return Err(error),
        };
        state.file_bytes(inode)?;
        drop(state);
        after.finish(Box::new(OpenFile { disk: self.clone(), inode, position: 0 }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        let mut state = self.lock();
        let after = state.faults.enter()?;
        let inode = state.find(path)?;
        drop(state);
        after.finish(Box::new(OpenFile { disk: self.clone(), inode, position: 0 }))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.change(|state| {
            let inode = state.find(path)?;
            state.file_bytes(inode)?;
            let bytes = usize::try_from(bytes).map_err(|_| ErrorKind::FileTooLarge)?;
            Ok(Op::Cut { inode, bytes })
        })
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        let mut state = self.lock();
        let after = state.faults.enter()?;
        let inode = state.find(path)?;
        let (kind, bytes) = match state.inodes.get(inode) {
            Some(Inode::File(contents)) => (Kind::File, contents.len() as u64),
            _ => (Kind::Dir, 0),
        };
        after.finish(Meta { kind, bytes, modified_ns: state.inodes.version(inode) })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.lock();
        let after = state.faults.enter()?;
        let inode = state.find(dir)?;
        let entries = state.inodes.dir(inode).ok_or(ErrorKind::NotADirectory)?;
        after.finish(entries.keys().cloned().collect())
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        self.change(|state| Ok(state.create(path, true)?.0))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            let inode = state.find(from)?;
            let (from_dir, from_name) = state.place(from)?;
            let (to_dir, to_name) = state.place(to)?;
            if let Some(target) = state.inodes.entry(to_dir, &to_name) {
                match (state.inodes.dir(inode), state.inodes.dir(target)) {
                    (None, None) => {}
                    (Some(_), Some(entries)) if entries.is_empty() => {}
                    (Some(_), Some(_)) => return Err(ErrorKind::DirectoryNotEmpty.into()),
                    (None, Some(_)) => return Err(ErrorKind::IsADirectory.into()),
                    (Some(_), None) => return Err(ErrorKind::NotADirectory.into()),
                }
            }
            Ok(Op::Move { from_dir, from_name, to_dir, to_name, inode })
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let inode = state.find(path)?;
            state.file_bytes(inode)?;
            let (dir, name) = state.place(path)?;
            Ok(Op::Unlink { dir, name, inode })
        })
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let inode = state.find(path)?;
            let entries = state.inodes.dir(inode).ok_or(ErrorKind::NotADirectory)?;
            if !entries.is_empty() {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            let (dir, name) = state.place(path)?;
            Ok(Op::Unlink { dir, name, inode })
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let result = state.faults.sync();
        let dir = state.find(dir)?;
        state.inodes.dir(dir).ok_or(ErrorKind::NotADirectory)?;
        state.note_sync(Op::SyncDir { dir, done: result.is_ok() }, &result);
        result
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.lock();
        let after = state.faults.enter()?;
        state.find(path)?;
        after.finish(state.room())
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut state = self.lock();
        let after = state.faults.enter()?;
        state.find(path)?;
        after.finish(path.to_path_buf())
    }

    fn forget_cached(&self, _: &Path) {}
}
