//! What a power cut may leave of a trace of operations.
//!
//! The model is harsher than any common file system. A write is certain only after a successful
//! sync of its file, an entry (creation, rename, removal) only after a successful sync of its
//! directory; a failed sync makes nothing certain, nor does a later one for what came before it. At
//! each point of the trace every choice of up to `depth` uncertain operations is lost or torn while
//! the rest survives, and every choice of up to `depth` survives while the rest is lost. A write
//! may be torn: its first half only, its second half only, or only the file's new length, filled
//! with zeros.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::inodes::{Inodes, Op};

/// A disk's reachable contents by path: `None` for a directory, the bytes for a file.
pub type Image = BTreeMap<String, Option<Arc<Vec<u8>>>>;

/// The operations made on a disk since it was created.
pub struct Trace {
    pub(super) start: Inodes,
    pub(super) ops: Vec<Op>,
}

/// How many power cuts were simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Points of the trace times choices of lost operations.
    pub cuts: u64,
    /// Different disks among them.
    pub distinct: u64,
}

/// What becomes of one uncertain operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    FirstHalf,
    SecondHalf,
    Zeros,
}

const OF_A_WRITE: &[Fate] = &[Fate::Lost, Fate::FirstHalf, Fate::SecondHalf, Fate::Zeros];
const OF_AN_ENTRY: &[Fate] = &[Fate::Lost];

impl Trace {
    /// Number of operations.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Shows `visit` every different disk that a power cut may leave, with the marks set before the
    /// cut (the same disk comes again if the marks differ).
    pub fn power_cuts(&self, depth: usize, visit: &mut dyn FnMut(&Image, &[u64])) -> Counts {
        let mut cuts = Cuts { seen: HashSet::new(), images: HashSet::new(), tried: 0, visit };
        let mut marks = Vec::new();
        for end in 0..=self.ops.len() {
            if let Some(Op::Mark(label)) = end.checked_sub(1).and_then(|last| self.ops.get(last)) {
                marks.push(*label);
            }
            Point::new(self, end, &marks).visit_all(depth, &mut cuts);
        }
        Counts { cuts: cuts.tried, distinct: cuts.images.len() as u64 }
    }

    /// Indices before `end` of operations that no sync made certain.
    fn uncertain(&self, end: usize) -> Vec<usize> {
        (0..end).filter(|&index| !self.is_certain(index, end)).collect()
    }

    fn is_certain(&self, index: usize, end: usize) -> bool {
        match &self.ops[index] {
            Op::Write { inode, .. } | Op::Cut { inode, .. } => self.file_synced(*inode, index, end),
            Op::Link { dir, .. } | Op::Unlink { dir, .. } => self.dir_synced(*dir, index, end),
            Op::Move { from_dir, to_dir, .. } => {
                self.dir_synced(*from_dir, index, end) && self.dir_synced(*to_dir, index, end)
            }
            Op::SyncFile { .. } | Op::SyncDir { .. } | Op::Mark(_) => true,
        }
    }

    fn file_synced(&self, wanted: usize, index: usize, end: usize) -> bool {
        let first = self.ops[index..end].iter().find_map(|op| match op {
            Op::SyncFile { inode, done } if *inode == wanted => Some(*done),
            _ => None,
        });
        first.unwrap_or(false)
    }

    fn dir_synced(&self, wanted: usize, index: usize, end: usize) -> bool {
        let first = self.ops[index..end].iter().find_map(|op| match op {
            Op::SyncDir { dir, done } if *dir == wanted => Some(*done),
            _ => None,
        });
        first.unwrap_or(false)
    }
}

struct Cuts<'a> {
    seen: HashSet<(u64, usize)>,
    images: HashSet<u64>,
    tried: u64,
    visit: &'a mut dyn FnMut(&Image, &[u64]),
}

/// One point in time at which the power may go.
struct Point<'a> {
    trace: &'a Trace,
    end: usize,
    marks: &'a [u64],
    uncertain: Vec<usize>,
    /// The disk just before the first uncertain operation.
    base: Inodes,
    base_end: usize,
}

impl<'a> Point<'a> {
    fn new(trace: &'a Trace, end: usize, marks: &'a [u64]) -> Self {
        let uncertain = trace.uncertain(end);
        let base_end = uncertain.first().copied().unwrap_or(end);
        let mut base = trace.start.clone();
        trace.ops[..base_end].iter().for_each(|op| base.apply(op));
        Self { trace, end, marks, uncertain, base, base_end }
    }

    fn visit_all(&self, depth: usize, cuts: &mut Cuts) {
        let mut fates = vec![Fate::Kept; self.uncertain.len()];
        self.choose(0, depth, true, &mut fates, cuts);
        // Where all choices are covered already, the other direction adds nothing but torn writes.
        fates.fill(Fate::Lost);
        self.choose(0, depth, false, &mut fates, cuts);
    }

    /// Visits the present choice, then changes each later operation in turn, `left` of them at
    /// most.
    fn choose(&self, from: usize, left: usize, lose: bool, fates: &mut [Fate], cuts: &mut Cuts) {
        self.visit_one(fates, cuts);
        if left == 0 {
            return;
        }
        for index in from..fates.len() {
            let usual = fates[index];
            let others = match (&self.trace.ops[self.uncertain[index]], lose) {
                (_, false) => &[Fate::Kept][..],
                (Op::Write { .. }, true) => OF_A_WRITE,
                (_, true) => OF_AN_ENTRY,
            };
            for fate in others {
                fates[index] = *fate;
                self.choose(index + 1, left - 1, lose, fates, cuts);
            }
            fates[index] = usual;
        }
    }

    fn visit_one(&self, fates: &[Fate], cuts: &mut Cuts) {
        cuts.tried += 1;
        let image = self.image(fates);
        let mut hasher = DefaultHasher::new();
        image.hash(&mut hasher);
        let hash = hasher.finish();
        cuts.images.insert(hash);
        if cuts.seen.insert((hash, self.marks.len())) {
            (cuts.visit)(&image, self.marks);
        }
    }

    fn image(&self, fates: &[Fate]) -> Image {
        let mut inodes = self.base.clone();
        let mut next = 0;
        for index in self.base_end..self.end {
            let op = &self.trace.ops[index];
            let mut fate = Fate::Kept;
            if self.uncertain.get(next) == Some(&index) {
                fate = fates[next];
                next += 1;
            }
            apply_with_fate(&mut inodes, op, fate);
        }
        inodes.image()
    }
}

fn apply_with_fate(inodes: &mut Inodes, op: &Op, fate: Fate) {
    match (op, fate) {
        (_, Fate::Kept) => inodes.apply(op),
        // The name is lost, yet the file exists and may still get another name by a rename.
        (Op::Link { inode, is_dir, .. }, _) => inodes.allocate(*inode, *is_dir),
        (Op::Write { inode, offset, data }, Fate::FirstHalf) => {
            inodes.write(*inode, *offset, &data[..data.len() / 2]);
        }
        (Op::Write { inode, offset, data }, Fate::SecondHalf) => {
            let half = data.len() / 2;
            inodes.write(*inode, offset + half, &data[half..]);
        }
        (Op::Write { inode, offset, data }, Fate::Zeros) => {
            inodes.write(*inode, *offset, &vec![0; data.len()]);
        }
        _ => {}
    }
}
