//! What the back-ends see of a micro-batch: plain integer tables derived from a [`Forest`], or from
//! pieces of text that continue cached ones. Made once per micro-batch, outside the step.

use alloc::vec::Vec;
use core::ops::Range;

use crate::error::{Error, Result};
use crate::forest::{Entry, Forest};

/// Which rows an op works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All N rows of the batch.
    All,
    /// The M rows that the loss (or the sampler) reads: `kept_rows`, ascending.
    Kept,
}

/// Consecutive key rows that a span of queries sees in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key row.
    pub start: u32,
    /// How many.
    pub len: u32,
}

/// Consecutive queries of one segment. Query i sees every key of its ranges, and the keys
/// `self_start..=at[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First query.
    pub q_start: u32,
    /// How many.
    pub q_len: u32,
    /// First of its ranges in [`Visibility::ranges`].
    pub first_range: u32,
    /// How many ranges.
    pub n_ranges: u32,
    /// First key row of the span's own segment.
    pub self_start: u32,
}

/// The same relation read from the keys' side (for dk and dv): keys `k_start..k_start + k_len` are
/// seen by exactly those queries q of `q_start..q_end` whose `at[q]` is at least the key's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyBlock {
    /// First key row.
    pub k_start: u32,
    /// How many.
    pub k_len: u32,
    /// First query that may see them.
    pub q_start: u32,
    /// The query after the last one that may.
    pub q_end: u32,
}

/// Who sees whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visibility {
    /// The queries, cut by segment, ascending.
    pub spans: Vec<Span>,
    /// The spans' fully visible key ranges, ascending within a span.
    pub ranges: Vec<KeyRange>,
    /// For each query, its own key row.
    pub at: Vec<u32>,
    /// The keys, cut by segment (empty for decoding, which has no backward).
    pub blocks: Vec<KeyBlock>,
}

/// One micro-batch, ready for a back-end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Token of each row (N).
    pub tokens: Vec<u32>,
    /// Position of each row (N).
    pub positions: Vec<u32>,
    /// A hash of each row's token and all before it (N): the index of its dropout masks.
    pub hashes: Vec<u64>,
    /// The queries of all rows.
    pub all: Visibility,
    /// The queries of the kept rows alone (last layer).
    pub kept: Visibility,
    /// The M rows whose outputs are needed, ascending.
    pub kept_rows: Vec<u32>,
    /// Positions of the kept rows (M).
    pub kept_positions: Vec<u32>,
    /// Entries of kept row m are `entry_first[m]..entry_first[m + 1]` (M + 1).
    pub entry_first: Vec<u32>,
    /// Targets of the entries (E), grouped by kept row.
    pub targets: Vec<u32>,
    /// Weights of the entries (E).
    pub weights: Vec<f32>,
    /// For each entry here, its number in the forest (E).
    pub entry_order: Vec<u32>,
    /// The largest position plus one.
    pub longest: u32,
}

/// New tokens that continue cached ones.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    /// The new tokens.
    pub tokens: &'a [u32],
    /// Position of the first.
    pub first_position: u32,
    /// Cache rows that all of them see: ancestors, and what the sequence already holds.
    pub ranges: &'a [KeyRange],
    /// Cache row of the first new token; the others follow.
    pub first_row: u32,
    /// Whether the output of the last token is wanted.
    pub wanted: bool,
}

/// A segment on its way into a [`Visibility`].
struct Part {
    rows: Range<u32>,
    first_key: u32,
    ranges: Range<u32>,
}

impl Batch {
    /// Rows (N).
    pub fn rows(&self) -> u64 {
        self.tokens.len() as u64
    }

    /// Rows whose outputs are needed (M).
    pub fn kept(&self) -> u64 {
        self.kept_rows.len() as u64
    }

    /// Loss entries (E).
    pub fn entries(&self) -> u64 {
        self.targets.len() as u64
    }

    /// How many rows `rows` stands for.
    pub fn count(&self, rows: Rows) -> u64 {
        match rows {
            Rows::All => self.rows(),
            Rows::Kept => self.kept(),
        }
    }

    /// The tables of `rows`.
    pub fn visibility(&self, rows: Rows) -> &Visibility {
        match rows {
            Rows::All => &self.all,
            Rows::Kept => &self.kept,
        }
    }

    /// Derives all tables from a forest.
    pub fn from_forest(forest: &Forest, vocab_size: u32) -> Result<Batch> {
        forest.validate(vocab_size)?;
        let mut batch = Batch { tokens: forest.tokens.clone(), ..Batch::default() };
        batch.set_positions(forest);
        batch.set_entries(&forest.entries);
        let ranges = ancestor_ranges(forest);
        let parts: Vec<Part> = forest
            .segments
            .iter()
            .zip(&ranges.1)
            .map(|(s, r)| Part {
                rows: s.start..s.start + s.len,
                first_key: s.start,
                ranges: r.clone(),
            })
            .collect();
        let ends = forest.subtree_ends();
        batch.all = visibility(&parts, &ranges.0, None);
        batch.kept = visibility(&parts, &ranges.0, Some(&batch.kept_rows));
        for (segment, &end) in forest.segments.iter().zip(&ends) {
            let (k_start, k_len) = (segment.start, segment.len);
            batch.all.blocks.push(KeyBlock { k_start, k_len, q_start: k_start, q_end: end });
            let q_start = batch.kept_rows.partition_point(|&r| r < k_start) as u32;
            let q_end = batch.kept_rows.partition_point(|&r| r < end) as u32;
            batch.kept.blocks.push(KeyBlock { k_start, k_len, q_start, q_end });
        }
        Ok(batch)
    }

    /// Derives all tables from pieces that continue cached sequences. Keys are cache rows.
    pub fn from_pieces(pieces: &[Piece<'_>], vocab_size: u32) -> Result<Batch> {
        let mut batch = Batch::default();
        let mut ranges = Vec::new();
        let mut parts = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            if piece.tokens.is_empty() || piece.tokens.iter().any(|&t| t >= vocab_size) {
                return Err(Error::Batch {
                    what: "a token beyond the vocabulary, or none",
                    index: index as u64,
                });
            }
            let start = batch.tokens.len() as u32;
            let first_range = ranges.len() as u32;
            batch.tokens.extend_from_slice(piece.tokens);
            let len = piece.tokens.len() as u32;
            batch.positions.extend(piece.first_position..piece.first_position + len);
            ranges.extend(piece.ranges.iter().filter(|r| r.len > 0));
            parts.push(Part {
                rows: start..start + len,
                first_key: piece.first_row,
                ranges: first_range..ranges.len() as u32,
            });
            if piece.wanted {
                batch.kept_rows.push(start + len - 1);
            }
        }
        batch.hashes = alloc::vec![0; batch.tokens.len()];
        batch.kept_positions =
            batch.kept_rows.iter().map(|&r| batch.positions[r as usize]).collect();
        batch.entry_first = alloc::vec![0; batch.kept_rows.len() + 1];
        batch.longest = batch.positions.iter().max().map_or(0, |p| p + 1);
        batch.all = visibility(&parts, &ranges, None);
        batch.kept = visibility(&parts, &ranges, Some(&batch.kept_rows));
        Ok(batch)
    }

    fn set_positions(&mut self, forest: &Forest) {
        let first = forest.first_positions();
        let mut last_hash: Vec<u64> = Vec::with_capacity(forest.segments.len());
        for (segment, &first) in forest.segments.iter().zip(&first) {
            let mut hash = segment.parent.map_or(0, |p| last_hash[p as usize]);
            for i in 0..segment.len {
                self.positions.push(first + i);
                hash = mix(hash, forest.tokens[(segment.start + i) as usize]);
                self.hashes.push(hash);
            }
            last_hash.push(hash);
        }
        self.longest = self.positions.iter().max().map_or(0, |p| p + 1);
    }

    fn set_entries(&mut self, entries: &[Entry]) {
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        order.sort_by_key(|&e| (entries[e as usize].position, e));
        for &e in &order {
            let entry = entries[e as usize];
            if self.kept_rows.last() != Some(&entry.position) {
                self.kept_rows.push(entry.position);
                self.kept_positions.push(self.positions[entry.position as usize]);
                self.entry_first.push(self.targets.len() as u32);
            }
            self.targets.push(entry.target);
            self.weights.push(entry.weight);
        }
        self.entry_first.push(self.targets.len() as u32);
        self.entry_order = order;
    }
}

/// The fully visible ranges of each segment: its ancestors' rows, neighbours merged.
fn ancestor_ranges(forest: &Forest) -> (Vec<KeyRange>, Vec<Range<u32>>) {
    let mut ranges: Vec<KeyRange> = Vec::new();
    let mut of_segment: Vec<Range<u32>> = Vec::with_capacity(forest.segments.len());
    for segment in &forest.segments {
        let first = ranges.len();
        if let Some(parent) = segment.parent {
            for r in of_segment[parent as usize].clone() {
                ranges.push(ranges[r as usize]);
            }
            let p = forest.segments[parent as usize];
            match ranges[first..].last_mut() {
                Some(last) if last.start + last.len == p.start => last.len += p.len,
                _ => ranges.push(KeyRange { start: p.start, len: p.len }),
            }
        }
        of_segment.push(first as u32..ranges.len() as u32);
    }
    (ranges, of_segment)
}

/// Spans of all rows, or of those in `kept` only.
fn visibility(parts: &[Part], ranges: &[KeyRange], kept: Option<&[u32]>) -> Visibility {
    let mut out = Visibility { ranges: ranges.to_vec(), ..Visibility::default() };
    for part in parts {
        let q_start = out.at.len() as u32;
        let key = |row: u32| part.first_key + (row - part.rows.start);
        match kept {
            None => out.at.extend(part.rows.clone().map(key)),
            Some(kept) => {
                let from = kept.partition_point(|&r| r < part.rows.start);
                let to = kept.partition_point(|&r| r < part.rows.end);
                out.at.extend(kept[from..to].iter().map(|&r| key(r)));
            }
        }
        let q_len = out.at.len() as u32 - q_start;
        if q_len > 0 {
            out.spans.push(Span {
                q_start,
                q_len,
                first_range: part.ranges.start,
                n_ranges: part.ranges.end - part.ranges.start,
                self_start: part.first_key,
            });
        }
    }
    out
}

/// One step of the prefix hash (the finaliser of SplitMix64).
fn mix(hash: u64, token: u32) -> u64 {
    let mut z = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(u64::from(token) + 1);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::Segment;
    use alloc::vec;

    /// Root 0..3 with children 3..5 (and its child 5..6) and 6..8; entries out of order, one twice.
    fn example() -> Batch {
        let segment = |start, len, parent| Segment { start, len, parent };
        let entry = |position, target| Entry { position, target, weight: 1.0 };
        let forest = Forest {
            tokens: vec![1, 2, 3, 4, 5, 6, 4, 5],
            segments: vec![
                segment(0, 3, None),
                segment(3, 2, Some(0)),
                segment(5, 1, Some(1)),
                segment(6, 2, Some(0)),
            ],
            entries: vec![entry(6, 5), entry(2, 4), entry(4, 6), entry(2, 9)],
        };
        Batch::from_forest(&forest, 10).unwrap()
    }

    /// Which queries see which keys, by the spans.
    fn seen(v: &Visibility, keys: u32) -> Vec<Vec<bool>> {
        let mut seen = vec![vec![false; keys as usize]; v.at.len()];
        for s in &v.spans {
            for q in s.q_start..s.q_start + s.q_len {
                for r in s.first_range..s.first_range + s.n_ranges {
                    let range = v.ranges[r as usize];
                    (range.start..range.start + range.len)
                        .for_each(|k| seen[q as usize][k as usize] = true);
                }
                (s.self_start..=v.at[q as usize]).for_each(|k| seen[q as usize][k as usize] = true);
            }
        }
        seen
    }

    #[test]
    fn both_sides_of_visibility_agree() {
        let batch = example();
        for v in [&batch.all, &batch.kept] {
            let by_query = seen(v, 8);
            let mut by_key = vec![vec![false; 8]; v.at.len()];
            for b in &v.blocks {
                for k in b.k_start..b.k_start + b.k_len {
                    for q in b.q_start..b.q_end {
                        by_key[q as usize][k as usize] = v.at[q as usize] >= k;
                    }
                }
            }
            assert_eq!(by_query, by_key);
        }
        let last = &seen(&batch.all, 8)[7];
        assert_eq!(last, &[true, true, true, false, false, false, true, true]);
    }

    #[test]
    fn entries_are_grouped_by_row() {
        let batch = example();
        assert_eq!(batch.kept_rows, [2, 4, 6]);
        assert_eq!(batch.entry_first, [0, 2, 3, 4]);
        assert_eq!(batch.targets, [4, 9, 6, 5]);
        assert_eq!(batch.entry_order, [1, 3, 2, 0]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 5, 3, 4]);
    }

    #[test]
    fn equal_prefixes_have_equal_hashes() {
        let batch = example();
        assert_eq!(batch.hashes[3], batch.hashes[6]);
        assert_ne!(batch.hashes[2], batch.hashes[3]);
    }

    #[test]
    fn pieces_see_the_cache() {
        let ranges = [KeyRange { start: 0, len: 4 }, KeyRange { start: 10, len: 2 }];
        let piece = Piece {
            tokens: &[7, 8],
            first_position: 6,
            ranges: &ranges,
            first_row: 12,
            wanted: true,
        };
        let batch = Batch::from_pieces(&[piece], 10).unwrap();
        let seen = seen(&batch.all, 14);
        assert_eq!(seen[0].iter().filter(|&&s| s).count(), 7);
        assert_eq!(seen[1].iter().filter(|&&s| s).count(), 8);
        assert_eq!(batch.kept.at, [13]);
    }
}
