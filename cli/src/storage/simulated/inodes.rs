//! Files and directories by number, and the operations that change them. Names and contents are
//! apart, as on a real disk: either may survive a power cut without the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::power_cut::Image;

/// The number of the root directory.
pub(super) const ROOT: usize = 0;

/// A file's contents or a directory's entries (name to number).
#[derive(Clone)]
pub(super) enum Inode {
    File(Arc<Vec<u8>>),
    Dir(Arc<BTreeMap<String, usize>>),
}

/// One entry of the trace.
#[derive(Clone)]
pub(super) enum Op {
    /// A new, empty file or directory with its first name.
    Link {
        dir: usize,
        name: String,
        inode: usize,
        is_dir: bool,
    },
    Write {
        inode: usize,
        offset: usize,
        data: Vec<u8>,
    },
    Cut {
        inode: usize,
        bytes: usize,
    },
    Move {
        from_dir: usize,
        from_name: String,
        to_dir: usize,
        to_name: String,
        inode: usize,
    },
    Unlink {
        dir: usize,
        name: String,
        inode: usize,
    },
    SyncFile {
        inode: usize,
        done: bool,
    },
    SyncDir {
        dir: usize,
        done: bool,
    },
    Mark(u64),
}

/// All inodes ever made on a disk; those without a name are out of reach.
#[derive(Clone)]
pub(super) struct Inodes {
    nodes: Vec<Inode>,
    versions: Vec<u128>,
}

impl Default for Inodes {
    fn default() -> Self {
        Self { nodes: vec![Inode::Dir(Arc::default())], versions: vec![0] }
    }
}

impl Inodes {
    pub(super) fn get(&self, inode: usize) -> Option<&Inode> {
        self.nodes.get(inode)
    }

    pub(super) fn file(&self, inode: usize) -> Option<&[u8]> {
        match self.nodes.get(inode)? {
            Inode::File(contents) => Some(contents),
            Inode::Dir(_) => None,
        }
    }

    pub(super) fn dir(&self, inode: usize) -> Option<&BTreeMap<String, usize>> {
        match self.nodes.get(inode)? {
            Inode::Dir(entries) => Some(entries),
            Inode::File(_) => None,
        }
    }

    pub(super) fn entry(&self, dir: usize, name: &str) -> Option<usize> {
        self.dir(dir)?.get(name).copied()
    }

    /// The number that the next new inode gets.
    pub(super) fn next(&self) -> usize {
        self.nodes.len()
    }

    /// Stands in for the time of the last change.
    pub(super) fn version(&self, inode: usize) -> u128 {
        self.versions.get(inode).copied().unwrap_or(0)
    }

    /// Bytes in files that have a name.
    pub(super) fn used(&self) -> u64 {
        self.image().values().flatten().map(|contents| contents.len() as u64).sum()
    }

    /// Makes room for an inode, so that later operations on it work even if its name was lost.
    pub(super) fn allocate(&mut self, inode: usize, is_dir: bool) {
        let empty = |is_dir| match is_dir {
            true => Inode::Dir(Arc::default()),
            false => Inode::File(Arc::default()),
        };
        while self.nodes.len() <= inode {
            self.nodes.push(empty(false));
            self.versions.push(0);
        }
        self.nodes[inode] = empty(is_dir);
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Link { dir, name, inode, is_dir } => {
                self.allocate(*inode, *is_dir);
                self.set_entry(*dir, name, Some(*inode));
            }
            Op::Write { inode, offset, data } => self.write(*inode, *offset, data),
            Op::Cut { inode, bytes } => self.change_file(*inode, |file| file.resize(*bytes, 0)),
            Op::Move { from_dir, from_name, to_dir, to_name, inode } => {
                if self.entry(*from_dir, from_name) == Some(*inode) {
                    self.set_entry(*from_dir, from_name, None);
                }
                self.set_entry(*to_dir, to_name, Some(*inode));
            }
            Op::Unlink { dir, name, inode } => {
                if self.entry(*dir, name) == Some(*inode) {
                    self.set_entry(*dir, name, None);
                }
            }
            Op::SyncFile { .. } | Op::SyncDir { .. } | Op::Mark(_) => {}
        }
    }

    /// Writes at an offset; a gap before it (an earlier write that was lost) reads as zeros.
    pub(super) fn write(&mut self, inode: usize, offset: usize, data: &[u8]) {
        self.change_file(inode, |file| {
            let end = offset + data.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            file[offset..end].copy_from_slice(data);
        });
    }

    fn change_file(&mut self, inode: usize, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Inode::File(contents)) = self.nodes.get_mut(inode) {
            change(Arc::make_mut(contents));
            self.versions[inode] += 1;
        }
    }

    fn set_entry(&mut self, dir: usize, name: &str, inode: Option<usize>) {
        if let Some(Inode::Dir(entries)) = self.nodes.get_mut(dir) {
            let entries = Arc::make_mut(entries);
            match inode {
                Some(inode) => entries.insert(name.to_string(), inode),
                None => entries.remove(name),
            };
        }
    }

    /// What can be reached from the root, by path.
    pub(super) fn image(&self) -> Image {
        let mut image = Image::new();
        self.collect(ROOT, "", &mut image);
        image
    }

    fn collect(&self, dir: usize, path: &str, image: &mut Image) {
        for (name, inode) in self.dir(dir).into_iter().flatten() {
            let path = format!("{path}/{name}");
            match self.nodes.get(*inode) {
                Some(Inode::File(contents)) => {
                    image.insert(path, Some(Arc::clone(contents)));
                }
                Some(Inode::Dir(_)) => {
                    self.collect(*inode, &path, image);
                    image.insert(path, None);
                }
                None => {}
            }
        }
    }

    pub(super) fn from_image(image: &Image) -> Self {
        let mut inodes = Self::default();
        let mut numbers = BTreeMap::from([(String::new(), ROOT)]);
        // Parents sort before what they hold, so each parent is known when its entries come.
        for (path, contents) in image {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let Some(dir) = numbers.get(parent).copied() else { continue };
            let inode = inodes.next();
            inodes.allocate(inode, contents.is_none());
            if let Some(contents) = contents {
                inodes.nodes[inode] = Inode::File(Arc::clone(contents));
            }
            inodes.set_entry(dir, name, Some(inode));
            numbers.insert(path.clone(), inode);
        }
        inodes
    }
}
