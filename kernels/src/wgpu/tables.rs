//! The batch as the kernels see it: one buffer of 32-bit integers, tables one after another.

use paddock_core::batch::{Batch, Rows, Visibility};

use crate::attention_tiles::{Tiles, by_key, by_query};

/// Where the tables of one [`Visibility`] begin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VisibilityTables {
    /// (first range, ranges, first own key, own key) of each query.
    pub queries: u32,
    /// (start, length) of each range.
    pub ranges: u32,
    /// (first query, query after the last) of each key.
    pub blocks: u32,
    /// How many keys have an entry in `blocks`.
    pub keys: u32,
    /// The same relation as tiles of queries.
    pub by_query: TileTables,
    /// And as tiles of keys.
    pub by_key: TileTables,
}

/// Where the lists of [`Tiles`] begin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TileTables {
    /// The tiles.
    pub tiles: u32,
    /// Their blocks.
    pub blocks: u32,
    /// Masks of blocks.
    pub masks: u32,
    /// How many tiles.
    pub count: u32,
    /// How many blocks the longest of them has.
    pub longest: u32,
}

/// Where each table begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// Token of each row.
    pub tokens: u32,
    /// Position of each row.
    pub positions: u32,
    /// (low half, high half) of each row's hash.
    pub hashes: u32,
    /// Kept rows.
    pub kept_rows: u32,
    /// Their positions.
    pub kept_positions: u32,
    /// First entry of each kept row, and the number of entries.
    pub entry_first: u32,
    /// Target of each entry.
    pub targets: u32,
    /// First of each distinct token's rows in `order`, and the number of rows.
    pub token_firsts: u32,
    /// Rows ordered by token, equal ones ascending.
    pub token_order: u32,
    /// Distinct tokens.
    pub distinct: u32,
    /// All rows.
    pub all: VisibilityTables,
    /// Kept rows.
    pub kept: VisibilityTables,
    /// Rows of the batch.
    pub rows: u64,
    /// Kept rows of the batch.
    pub kept_count: u64,
    /// Entries of the batch.
    pub entries: u64,
}

impl Tables {
    /// The tables of a batch: where each begins, and the integers.
    pub fn of(batch: &Batch) -> (Tables, Vec<u32>) {
        let mut words = Vec::new();
        let mut tables = Tables {
            rows: batch.rows(),
            kept_count: batch.kept(),
            entries: batch.entries(),
            tokens: put(&mut words, batch.tokens.iter().copied()),
            positions: put(&mut words, batch.positions.iter().copied()),
            hashes: put(
                &mut words,
                batch.hashes.iter().flat_map(|&h| [h as u32, (h >> 32) as u32]),
            ),
            kept_rows: put(&mut words, batch.kept_rows.iter().copied()),
            kept_positions: put(&mut words, batch.kept_positions.iter().copied()),
            entry_first: put(&mut words, batch.entry_first.iter().copied()),
            targets: put(&mut words, batch.targets.iter().copied()),
            ..Tables::default()
        };
        let (order, firsts) = by_token(&batch.tokens);
        tables.distinct = firsts.len() as u32 - 1;
        tables.token_firsts = put(&mut words, firsts.into_iter());
        tables.token_order = put(&mut words, order.into_iter());
        tables.all = visibility(&mut words, &batch.all);
        tables.kept = visibility(&mut words, &batch.kept);
        (tables, words)
    }

    /// The tables of `rows`.
    pub fn visibility(&self, rows: Rows) -> VisibilityTables {
        match rows {
            Rows::All => self.all,
            Rows::Kept => self.kept,
        }
    }

    /// How many rows `rows` stands for.
    pub fn count(&self, rows: Rows) -> u64 {
        match rows {
            Rows::All => self.rows,
            Rows::Kept => self.kept_count,
        }
    }
}

fn put(words: &mut Vec<u32>, table: impl Iterator<Item = u32>) -> u32 {
    let start = words.len() as u32;
    words.extend(table);
    start
}

fn visibility(words: &mut Vec<u32>, v: &Visibility) -> VisibilityTables {
    let queries = put(
        words,
        v.spans.iter().flat_map(|s| {
            (s.q_start..s.q_start + s.q_len)
                .flat_map(|q| [s.first_range, s.n_ranges, s.self_start, v.at[q as usize]])
        }),
    );
    let ranges = put(words, v.ranges.iter().flat_map(|r| [r.start, r.len]));
    let keys = v.blocks.iter().map(|b| b.k_start + b.k_len).max().unwrap_or(0);
    let mut blocks = vec![0; 2 * keys as usize];
    for b in &v.blocks {
        for key in b.k_start..b.k_start + b.k_len {
            blocks[2 * key as usize] = b.q_start;
            blocks[2 * key as usize + 1] = b.q_end;
        }
    }
    let blocks = put(words, blocks.into_iter());
    let by_query = tiles(words, &by_query(v));
    let by_key = tiles(words, &by_key(v, keys));
    VisibilityTables { queries, ranges, blocks, keys, by_query, by_key }
}

fn tiles(words: &mut Vec<u32>, tiles: &Tiles) -> TileTables {
    TileTables {
        tiles: put(words, tiles.tiles.iter().flatten().copied()),
        blocks: put(words, tiles.entries.iter().flatten().copied()),
        masks: put(words, tiles.masks.iter().flat_map(|&m| [m as u32, (m >> 32) as u32])),
        count: tiles.tiles.len() as u32,
        longest: tiles.tiles.iter().map(|tile| tile[3]).max().unwrap_or(0),
    }
}

/// Rows ordered by token, and where each distinct token's rows begin (and the last end).
fn by_token(tokens: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
    order.sort_by_key(|&row| (tokens[row as usize], row));
    let token = |i: usize| tokens[order[i] as usize];
    let mut firsts: Vec<u32> = (0..order.len())
        .filter(|&i| i == 0 || token(i) != token(i - 1))
        .map(|i| i as u32)
        .collect();
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
}
