//! The batch as the kernels see it: one buffer of 32-bit integers, tables one after another.

use paddock_core::batch::{Batch, Rows, Visibility};

use crate::attention_tiles::{Tiles, by_key, by_query};

/// Where the tables of all rows, or of the kept ones, begin (in words).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowTables {
    /// How many rows.
    pub count: u64,
    /// Position of each.
    pub positions: u64,
    /// (low half, high half) of each one's hash.
    pub hashes: u64,
    /// (first range, ranges, first own key, own key) of each query.
    pub visible: u64,
    /// (start, length) of each range.
    pub ranges: u64,
    /// (first query, query after the last) of each key.
    pub seen: u64,
    /// How many keys have an entry in `seen`.
    pub keys: u64,
    /// The same relation as tiles of queries.
    pub by_query: TileTables,
    /// And as tiles of keys.
    pub by_key: TileTables,
}

/// Where the lists of [`Tiles`] begin (in words).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TileTables {
    /// How many tiles.
    pub count: u64,
    /// The tiles.
    pub tiles: u64,
    /// Their entries.
    pub entries: u64,
    /// Masks of entries.
    pub masks: u64,
}

/// Where each table begins (in words).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tables {
    /// All rows.
    pub all: RowTables,
    /// Kept rows.
    pub kept: RowTables,
    /// Token of each row.
    pub tokens: u64,
    /// Key row of each row: where the cache keeps it.
    pub at: u64,
    /// Kept rows.
    pub kept_rows: u64,
    /// First entry of each kept row, and the number of entries.
    pub entry_first: u64,
    /// Target of each entry.
    pub targets: u64,
    /// Entries of the batch.
    pub entries: u64,
    /// Distinct tokens: how many, which, and where each one's rows begin in `token_order`.
    pub distinct: u64,
    /// The distinct tokens.
    pub distinct_tokens: u64,
    /// First of each distinct token's rows in `token_order`, and the number of rows.
    pub token_firsts: u64,
    /// Rows ordered by token, equal ones ascending.
    pub token_order: u64,
}

impl Tables {
    /// The tables of a batch: where each begins, and the integers.
    pub fn of(batch: &Batch) -> (Tables, Vec<u32>) {
        let mut words = Vec::new();
        let kept = |i: &u32| batch.hashes[*i as usize];
        let kept_hashes: Vec<u64> = batch.kept_rows.iter().map(kept).collect();
        let (order, firsts) = by_token(&batch.tokens);
        let distinct = |&first: &u32| batch.tokens[order[first as usize] as usize];
        let distinct: Vec<u32> = firsts[..firsts.len() - 1].iter().map(distinct).collect();
        let tables = Tables {
            all: rows(&mut words, &batch.positions, &batch.hashes, &batch.all),
            kept: rows(&mut words, &batch.kept_positions, &kept_hashes, &batch.kept),
            tokens: put(&mut words, &batch.tokens),
            at: put(&mut words, &batch.all.at),
            kept_rows: put(&mut words, &batch.kept_rows),
            entry_first: put(&mut words, &batch.entry_first),
            targets: put(&mut words, &batch.targets),
            entries: batch.entries(),
            distinct: distinct.len() as u64,
            distinct_tokens: put(&mut words, &distinct),
            token_firsts: put(&mut words, &firsts),
            token_order: put(&mut words, &order),
        };
        (tables, words)
    }

    /// The tables of `rows`.
    pub fn rows(&self, rows: Rows) -> &RowTables {
        match rows {
            Rows::All => &self.all,
            Rows::Kept => &self.kept,
        }
    }
}

/// Appends a table at a multiple of 16 bytes, so that kernels may read several words at once.
fn put(words: &mut Vec<u32>, table: &[u32]) -> u64 {
    words.resize(words.len().next_multiple_of(4), 0);
    let start = words.len() as u64;
    words.extend_from_slice(table);
    start
}

fn rows(words: &mut Vec<u32>, positions: &[u32], hashes: &[u64], v: &Visibility) -> RowTables {
    let halves: Vec<u32> = hashes.iter().flat_map(|&h| [h as u32, (h >> 32) as u32]).collect();
    let mut visible = Vec::with_capacity(4 * positions.len());
    for s in &v.spans {
        for q in s.q_start..s.q_start + s.q_len {
            visible.extend([s.first_range, s.n_ranges, s.self_start, v.at[q as usize]]);
        }
    }
    let ranges: Vec<u32> = v.ranges.iter().flat_map(|r| [r.start, r.len]).collect();
    let keys = v.blocks.iter().map(|b| b.k_start + b.k_len).max().unwrap_or(0);
    let mut seen = vec![0; 2 * keys as usize];
    for b in &v.blocks {
        for key in b.k_start..b.k_start + b.k_len {
            seen[2 * key as usize] = b.q_start;
            seen[2 * key as usize + 1] = b.q_end;
        }
    }
    RowTables {
        count: positions.len() as u64,
        positions: put(words, positions),
        hashes: put(words, &halves),
        visible: put(words, &visible),
        ranges: put(words, &ranges),
        seen: put(words, &seen),
        keys: u64::from(keys),
        by_query: tiles(words, &by_query(v)),
        by_key: tiles(words, &by_key(v, keys)),
    }
}

fn tiles(words: &mut Vec<u32>, t: &Tiles) -> TileTables {
    let halves: Vec<u32> = t.masks.iter().flat_map(|&m| [m as u32, (m >> 32) as u32]).collect();
    TileTables {
        count: t.tiles.len() as u64,
        tiles: put(words, t.tiles.as_flattened()),
        entries: put(words, t.entries.as_flattened()),
        masks: put(words, &halves),
    }
}

/// Rows ordered by token, and where each distinct token's rows begin (and the last end).
fn by_token(tokens: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
    order.sort_by_key(|&row| (tokens[row as usize], row));
    let token = |i: usize| tokens[order[i] as usize];
    let begins = |&i: &usize| i == 0 || token(i) != token(i - 1);
    let mut firsts: Vec<u32> = (0..order.len()).filter(begins).map(|i| i as u32).collect();
    firsts.push(order.len() as u32);
    (order, firsts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_by_token() {
        assert_eq!(by_token(&[5, 2, 5, 2, 9]), (vec![1, 3, 0, 2, 4], vec![0, 2, 4, 5]));
        assert_eq!(by_token(&[]), (vec![], vec![0]));
    }

    #[test]
    fn tables_begin_at_multiples_of_16_bytes() {
        let mut words = vec![];
        assert_eq!(put(&mut words, &[1, 2, 3]), 0);
        assert_eq!(put(&mut words, &[4]), 4);
        assert_eq!(words, [1, 2, 3, 0, 4]);
    }
}
