//! Attention's work, cut once for each batch: blocks of queries with the keys that any of them sees,
//! and trees (what hangs together through keys), which are the unit of the backward pass.

use paddock_core::batch::{KeyRange, Span, Visibility};

/// Queries of a block at most.
const QUERIES: u32 = 128;

/// Consecutive queries that are worked on together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// First query.
    pub q_start: u32,
    /// How many.
    pub q_len: u32,
    /// The span of the first query.
    pub first_span: u32,
    /// First of its intervals in [`Layout::intervals`].
    pub first_interval: u32,
    /// How many intervals.
    pub n_intervals: u32,
}

/// The cut of one [`Visibility`].
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Blocks of queries, ascending, without gaps.
    pub blocks: Vec<Block>,
    /// Keys that a block's queries see (each at least in part): ascending and apart.
    pub intervals: Vec<KeyRange>,
    /// Where blocks begin, and the end.
    pub q_cuts: Vec<u32>,
    /// Where the trees' queries begin, and the end. Empty without key blocks (decoding).
    pub tree_q: Vec<u32>,
    /// Where the trees' keys begin, and the end.
    pub tree_k: Vec<u32>,
    /// The first block of each tree, and the end.
    pub tree_blocks: Vec<u32>,
}

impl Layout {
    /// Cuts `visibility` anew; the vectors keep their room.
    pub fn rebuild(&mut self, visibility: &Visibility) {
        self.cut_trees(visibility);
        self.cut_blocks(visibility);
        self.tree_blocks.clear();
        let blocks = &self.blocks;
        let first = |&q: &u32| blocks.partition_point(|b| b.q_start < q) as u32;
        self.tree_blocks.extend(self.tree_q.iter().map(first));
    }

    /// A key block that begins at or after the end of the tree's queries begins a new tree.
    fn cut_trees(&mut self, visibility: &Visibility) {
        self.tree_q.clear();
        self.tree_k.clear();
        let mut end = 0;
        let mut keys = 0;
        for block in &visibility.blocks {
            if self.tree_q.is_empty() || block.q_start >= end {
                self.tree_q.push(block.q_start);
                self.tree_k.push(block.k_start);
            }
            end = end.max(block.q_end);
            keys = block.k_start + block.k_len;
        }
        if !self.tree_q.is_empty() {
            self.tree_q.push(visibility.at.len() as u32);
            self.tree_k.push(keys);
        }
    }

    /// Short spans share a block while they see the same first keys and belong to one tree.
    fn cut_blocks(&mut self, visibility: &Visibility) {
        self.blocks.clear();
        self.intervals.clear();
        self.q_cuts.clear();
        self.q_cuts.push(0);
        let spans = &visibility.spans;
        let mut i = 0;
        while i < spans.len() {
            let mut len = spans[i].q_len;
            let mut next = i + 1;
            while next < spans.len()
                && len + spans[next].q_len <= QUERIES
                && together(visibility, &spans[i], &spans[next])
                && self.tree_of(spans[next].q_start) == self.tree_of(spans[i].q_start)
            {
                len += spans[next].q_len;
                next += 1;
            }
            let pieces = len.div_ceil(QUERIES);
            let step = len.div_ceil(pieces.max(1)).max(1);
            for at in (0..len).step_by(step as usize) {
                let q_start = spans[i].q_start + at;
                self.push(visibility, q_start, step.min(len - at), i, next);
            }
            i = next;
        }
    }

    fn tree_of(&self, query: u32) -> usize {
        self.tree_q.partition_point(|&first| first <= query)
    }

    fn push(&mut self, visibility: &Visibility, q_start: u32, q_len: u32, from: usize, to: usize) {
        let first = self.intervals.len();
        for span in &visibility.spans[from..to] {
            let start = span.q_start.max(q_start);
            let end = (span.q_start + span.q_len).min(q_start + q_len);
            if start >= end {
                continue;
            }
            self.intervals.extend_from_slice(ranges_of(visibility, span));
            let last = visibility.at[start as usize..end as usize].iter().max();
            let own = last.map_or(0, |&last| last + 1 - span.self_start);
            self.intervals.push(KeyRange { start: span.self_start, len: own });
        }
        self.merge_from(first);
        self.q_cuts.push(q_start + q_len);
        self.blocks.push(Block {
            q_start,
            q_len,
            first_span: from as u32,
            first_interval: first as u32,
            n_intervals: (self.intervals.len() - first) as u32,
        });
    }

    /// Sorts and joins the intervals from `first` on.
    fn merge_from(&mut self, first: usize) {
        self.intervals[first..].sort_unstable_by_key(|r| r.start);
        let mut kept = first;
        for i in first + 1..self.intervals.len() {
            let next = self.intervals[i];
            let last = &mut self.intervals[kept];
            if next.start <= last.start + last.len {
                last.len = last.len.max(next.start + next.len - last.start);
            } else {
                kept += 1;
                self.intervals[kept] = next;
            }
        }
        self.intervals.truncate(kept + 1);
    }
}

/// The fully visible ranges of a span.
pub fn ranges_of<'a>(visibility: &'a Visibility, span: &Span) -> &'a [KeyRange] {
    &visibility.ranges[span.first_range as usize..][..span.n_ranges as usize]
}

/// Whether two spans share the keys they see first (roots share none).
fn together(visibility: &Visibility, a: &Span, b: &Span) -> bool {
    let first = |span| ranges_of(visibility, span).first().map(|r| r.start);
    // A child may share a block with its root: the root's own keys are the child's first.
    let of_a = first(a).unwrap_or(a.self_start);
    first(b) == Some(of_a)
}

/// Calls `f(from, to)` for each stretch of the keys `key..key + len` that query `q` of `span` sees,
/// ascending, counted from `key`.
#[inline(always)]
pub fn each_visible(
    visibility: &Visibility,
    span: &Span,
    q: u32,
    key: u32,
    len: u32,
    mut f: impl FnMut(usize, usize),
) {
    let mut emit = |start: u32, end: u32| {
        let (from, to) = (start.max(key), end.min(key + len));
        if from < to {
            f((from - key) as usize, (to - key) as usize);
        }
    };
    let own = (span.self_start, visibility.at[q as usize] + 1);
    let mut own_pending = true;
    for range in ranges_of(visibility, span) {
        if own_pending && own.0 < range.start {
            emit(own.0, own.1);
            own_pending = false;
        }
        emit(range.start, range.start + range.len);
    }
    if own_pending {
        emit(own.0, own.1);
    }
}
