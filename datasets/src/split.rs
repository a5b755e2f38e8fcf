//! Training and validation rows, told apart by a seed. Equal rows stay on one side, so that no
//! validation row has been seen in training.

use paddock_core::philox::{Philox, Stream};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::encode::{Example, key_of};

/// How much is held out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitOptions {
    /// Share of the rows, from 0 (none) to 0.5.
    pub share: f64,
    /// At least so many rows where the data allow.
    pub min_rows: usize,
    /// Seed of the choice.
    pub seed: u64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { share: 0.1, min_rows: 32, seed: 1 }
    }
}

/// Indices of the two sides, each ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// To learn from.
    pub train: Vec<usize>,
    /// To judge by.
    pub validation: Vec<usize>,
    /// Rows that have an equal row before them (on the same side).
    pub duplicates: usize,
}

/// What makes two examples equal: tokens and mask.
pub fn example_key(example: &Example) -> u128 {
    key_of(&example.tokens, &example.trained)
}

/// Splits by the keys of the rows; equal keys go to one side.
///
/// The validation side gets `share` of the rows, at least `min_rows`, never more than half. Fewer
/// than two different rows give no validation side.
pub fn split(keys: &[u128], options: &SplitOptions) -> Split {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: FxHashMap<u128, usize> = FxHashMap::default();
    for (row, key) in keys.iter().enumerate() {
        let group = *known.entry(*key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(row);
    }
    let duplicates = keys.len() - groups.len();
    let half = keys.len() / 2;
    let wanted = if options.share > 0.0 {
        let share = (keys.len() as f64 * options.share).round() as usize;
        share.max(options.min_rows).min(half)
    } else {
        0
    };
    let mut order: Vec<usize> = (0..groups.len()).collect();
    Philox::new(options.seed, Stream::SPLIT).shuffle(0, &mut order);
    let mut held = vec![false; keys.len()];
    let mut count = 0;
    for group in order {
        let rows = &groups[group];
        if count >= wanted || groups.len() < 2 {
            break;
        }
        if count + rows.len() > half {
            continue;
        }
        rows.iter().for_each(|row| held[*row] = true);
        count += rows.len();
    }
    let (validation, train) = (0..keys.len()).partition(|row| held[*row]);
    Split { train, validation, duplicates }
}
