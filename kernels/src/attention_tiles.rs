//! Who sees whom, cut into the tiles that the attention kernels work on.
//!
//! A tile is 128 rows (queries for forward and dq, keys for dk and dv); its entries are the blocks of 64
//! columns of which some row of the tile sees something. A block that all rows see whole has no mask;
//! another has 64 bits for each row. Nothing that nobody sees is ever read, so a cache may hold anything
//! where no key was written.
//!
//! Made once a micro-batch, used by all layers.

use std::ops::Range;

use paddock_core::batch::Visibility;

/// Rows of a tile.
pub const ROWS: u32 = 128;
/// Columns of a block.
const COLUMNS: u32 = 64;
/// The mask number of a block that needs none.
const NO_MASK: u32 = u32::MAX;

/// The three lists that the kernels read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tiles {
    /// First row, rows, first entry, number of entries. Those with most entries come first, so that
    /// the short ones fill the gaps at the end.
    pub tiles: Vec<[u32; 4]>,
    /// First column of a block, number of its mask, and 64 bits: the columns that some row sees.
    pub entries: Vec<[u32; 4]>,
    /// 128 numbers a mask: for each row of the tile, the columns of the block that it sees.
    pub masks: Vec<u64>,
}

/// Some rows of a tile that see the same columns.
struct Seen {
    rows: Range<u32>,
    columns: Range<u32>,
}

/// Tiles of queries; their columns are key rows.
///
/// With a cache (where `blocks` is empty) no tile spans two pieces: those seldom share what they see.
pub fn by_query(visibility: &Visibility) -> Tiles {
    let mut tiles = Tiles::default();
    let decodes = visibility.blocks.is_empty();
    let queries = visibility.at.len() as u32;
    let mut seen = Vec::new();
    let (mut first, mut span) = (0, 0);
    while first < queries {
        let mut end = queries.min(first + ROWS);
        let mut at = first;
        while at < end {
            let s = &visibility.spans[span];
            let span_end = s.q_start + s.q_len;
            if decodes {
                end = end.min(span_end);
            }
            let rows = at - first..span_end.min(end) - first;
            let ranges = s.first_range as usize..(s.first_range + s.n_ranges) as usize;
            seen.extend(visibility.ranges[ranges].iter().map(|range| Seen {
                rows: rows.clone(),
                columns: range.start..range.start + range.len,
            }));
            seen.extend(rows.clone().map(|row| Seen {
                rows: row..row + 1,
                columns: s.self_start..visibility.at[(first + row) as usize] + 1,
            }));
            at = first + rows.end;
            span += usize::from(at == span_end);
        }
        tiles.add(first, end - first, &seen);
        seen.clear();
        first = end;
    }
    tiles.most_work_first()
}

/// Tiles of keys `0..keys`; their columns are queries.
pub fn by_key(visibility: &Visibility, keys: u32) -> Tiles {
    let mut tiles = Tiles::default();
    let mut blocks = visibility.blocks.iter().peekable();
    let mut seen = Vec::new();
    for first in (0..keys).step_by(ROWS as usize) {
        let end = keys.min(first + ROWS);
        while let Some(block) = blocks.peek().filter(|block| block.k_start < end) {
            let block_end = block.k_start + block.k_len;
            let queries = &visibility.at[block.q_start as usize..block.q_end as usize];
            seen.extend((block.k_start.max(first)..block_end.min(end)).map(|key| Seen {
                rows: key - first..key - first + 1,
                columns: block.q_start + queries.partition_point(|&at| at < key) as u32
                    ..block.q_end,
            }));
            if block_end > end {
                break;
            }
            blocks.next();
        }
        tiles.add(first, end - first, &seen);
        seen.clear();
    }
    tiles.most_work_first()
}

impl Tiles {
    /// One tile; `seen` may name a row or a column more than once.
    fn add(&mut self, first: u32, rows: u32, seen: &[Seen]) {
        let blocks_of =
            |columns: &Range<u32>| columns.start / COLUMNS..columns.end.div_ceil(COLUMNS);
        let mut blocks: Vec<u32> = Vec::new();
        let mut before = 0..0;
        for columns in seen.iter().map(|s| &s.columns).filter(|columns| !columns.is_empty()) {
            // Neighbouring rows see nearly the same: what the row before named is there already.
            let now = blocks_of(columns);
            blocks.extend(now.clone().filter(|block| !before.contains(block)));
            before = now;
        }
        blocks.sort_unstable();
        blocks.dedup();
        let mut words = vec![[0_u64; ROWS as usize]; blocks.len()];
        for s in seen.iter().filter(|s| !s.columns.is_empty()) {
            let here = blocks_of(&s.columns);
            let from = blocks.partition_point(|&block| block < here.start);
            for (word, block) in words[from..].iter_mut().zip(here) {
                let low = s.columns.start.saturating_sub(block * COLUMNS);
                let high = (s.columns.end - block * COLUMNS).min(COLUMNS);
                let bits = (u64::MAX >> (COLUMNS - (high - low))) << low;
                for row in &mut word[s.rows.start as usize..s.rows.end as usize] {
                    *row |= bits;
                }
            }
        }
        let entry = self.entries.len() as u32;
        self.tiles.push([first, rows, entry, blocks.len() as u32]);
        for (block, word) in blocks.iter().zip(&words) {
            let some = word.iter().fold(0, |all, row| all | row);
            let all = word[..rows as usize].iter().fold(u64::MAX, |all, row| all & row);
            let mut mask = NO_MASK;
            if all != u64::MAX {
                mask = (self.masks.len() / ROWS as usize) as u32;
                self.masks.extend(word);
            }
            self.entries.push([block * COLUMNS, mask, some as u32, (some >> 32) as u32]);
        }
    }

    fn most_work_first(mut self) -> Tiles {
        self.tiles.sort_by_key(|tile| std::cmp::Reverse(tile[3]));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_core::batch::{Batch, KeyRange, Piece};
    use paddock_core::forest::{Entry, Forest, Segment};

    /// Which columns each row sees, by the tiles.
    fn table(tiles: &Tiles, rows: usize, columns: usize) -> Vec<Vec<bool>> {
        let mut table = vec![vec![false; columns]; rows];
        let mut times = vec![0; rows];
        for &[first, count, entry, entries] in &tiles.tiles {
            assert!((1..=ROWS).contains(&count));
            (first..first + count).for_each(|row| times[row as usize] += 1);
            for &[column, mask, low, high] in &tiles.entries[entry as usize..][..entries as usize] {
                let some = u64::from(low) | u64::from(high) << 32;
                assert!(some != 0, "an entry that nobody needs");
                for row in 0..ROWS as usize {
                    let bits = match mask {
                        NO_MASK => u64::MAX,
                        _ => tiles.masks[mask as usize * ROWS as usize + row],
                    };
                    assert!(
                        bits & !some == 0 && (mask == NO_MASK || row < count as usize || bits == 0)
                    );
                    for bit in (0..64).filter(|bit| bits >> bit & 1 == 1 && row < count as usize) {
                        table[first as usize + row][column as usize + bit] = true;
                    }
                }
            }
        }
        assert!(times.iter().all(|&times| times == 1), "every row has one tile");
        table
    }

    fn expected(v: &Visibility, columns: usize) -> Vec<Vec<bool>> {
        let mut table = vec![vec![false; columns]; v.at.len()];
        for s in &v.spans {
            let ranges = &v.ranges[s.first_range as usize..(s.first_range + s.n_ranges) as usize];
            let queries = s.q_start as usize..(s.q_start + s.q_len) as usize;
            for (row, &at) in table[queries.clone()].iter_mut().zip(&v.at[queries]) {
                let own = s.self_start..at + 1;
                let ranges = ranges.iter().map(|r| r.start..r.start + r.len).chain([own]);
                ranges.flatten().for_each(|key| row[key as usize] = true);
            }
        }
        table
    }

    fn check(v: &Visibility, keys: usize) {
        let seen = expected(v, keys);
        assert_eq!(table(&by_query(v), v.at.len(), keys), seen);
        let mut turned = vec![vec![false; v.at.len()]; keys];
        for (q, row) in seen.iter().enumerate() {
            row.iter().enumerate().for_each(|(key, &sees)| turned[key][q] = sees);
        }
        assert_eq!(table(&by_key(v, keys as u32), keys, v.at.len()), turned);
    }

    #[test]
    fn tiles_say_what_the_forest_says() {
        // Lengths and parents of segments, depth first; every third row is kept.
        let forests: [&[(u32, Option<u32>)]; 6] = [
            &[(1, None)],
            &[(128, None), (64, None)],
            &[(200, None), (70, Some(0)), (1, Some(1)), (300, Some(0)), (5, None)],
            &[(400, None)],
            &[
                (10, None),
                (54, Some(0)),
                (10, Some(0)),
                (300, Some(2)),
                (64, Some(2)),
                (65, Some(4)),
            ],
            &[(63, None), (65, None), (3, None), (130, None)],
        ];
        for parts in forests {
            let mut segments = Vec::new();
            let mut start = 0;
            for &(len, parent) in parts {
                segments.push(Segment { start, len, parent });
                start += len;
            }
            let entries = (0..start).filter(|position| position % 3 == 2 || start == 1);
            let entries = entries.map(|position| Entry { position, target: 1, weight: 1.0 });
            let tokens = vec![1; start as usize];
            let forest = Forest { tokens, segments, entries: entries.collect() };
            let batch = Batch::from_forest(&forest, 10).unwrap();
            check(&batch.all, start as usize);
            check(&batch.kept, start as usize);
        }
    }

    #[test]
    fn full_blocks_need_no_mask() {
        let segments = vec![Segment { start: 0, len: 512, parent: None }];
        let entries = vec![Entry { position: 3, target: 1, weight: 1.0 }];
        let forest = Forest { tokens: vec![1; 512], segments, entries };
        let batch = Batch::from_forest(&forest, 10).unwrap();
        let tiles = by_query(&batch.all);
        assert_eq!(tiles.tiles[0], [384, 128, 12, 8], "the tile with most work first");
        assert_eq!(tiles.masks.len(), 4 * 2 * 128, "two blocks of each tile on the diagonal");
        assert_eq!(tiles.entries[12 + 5], [320, NO_MASK, u32::MAX, u32::MAX]);
        let tiles = by_key(&batch.all, 512);
        assert_eq!(tiles.tiles[0], [0, 128, 0, 8]);
        let tiles = by_key(&batch.kept, 512);
        assert_eq!(tiles.tiles.len(), 4);
        assert_eq!(tiles.entries, [[0, 0, 1, 0]], "one query, seen by keys 0 to 3");
        assert_eq!(tiles.masks[..5], [1, 1, 1, 1, 0]);
    }

    #[test]
    fn pieces_have_their_own_tiles() {
        let ranges = [KeyRange { start: 0, len: 70 }, KeyRange { start: 200, len: 3 }];
        let piece = |tokens, ranges, first_row| Piece {
            tokens,
            first_position: 5,
            ranges,
            first_row,
            wanted: true,
        };
        let long = [7; 150];
        let pieces =
            [piece(&long, &ranges[..], 203), piece(&[7], &ranges[..1], 400), piece(&[8], &[], 90)];
        let batch = Batch::from_pieces(&pieces, 10).unwrap();
        for v in [&batch.all, &batch.kept] {
            let tiles = by_query(v);
            assert_eq!(table(&tiles, v.at.len(), 401), expected(v, 401));
        }
        assert_eq!(by_query(&batch.all).tiles.len(), 4);
        assert_eq!(by_query(&batch.kept).tiles.len(), 3);
    }
}
