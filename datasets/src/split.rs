//! Training and validation rows, told apart by a seed. Equal rows stay on one side, so that no
//! validation row has been seen in training.

use std::collections::BTreeMap;

use paddock_core::philox::{Philox, Stream};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::encode::{Example, key_of};
use crate::error::{Error, Result};

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
    let wanted = wanted(keys.len(), options);
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

/// Like [`split`], for each label by itself, so that both sides have the labels' shares.
///
/// # Errors
/// [`Error::Setting`] if there is not one label a row.
pub fn split_stratified(keys: &[u128], labels: &[&str], options: &SplitOptions) -> Result<Split> {
    if labels.len() != keys.len() {
        let message = format!("{} labels for {} rows", labels.len(), keys.len());
        return Err(Error::Setting(message));
    }
    let mut strata: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, label) in labels.iter().enumerate() {
        strata.entry(label).or_default().push(row);
    }
    let mut whole = Split::default();
    for rows in strata.values() {
        let own: Vec<u128> = rows.iter().map(|row| keys[*row]).collect();
        let least = (options.min_rows * rows.len()).div_ceil(keys.len().max(1));
        let part = split(&own, &SplitOptions { min_rows: least, ..*options });
        whole.train.extend(part.train.iter().map(|i| rows[*i]));
        whole.validation.extend(part.validation.iter().map(|i| rows[*i]));
        whole.duplicates += part.duplicates;
    }
    whole.train.sort_unstable();
    whole.validation.sort_unstable();
    Ok(whole)
}

/// Keys that put rows of one group (a document, a person) on one side of [`split`].
pub fn group_keys(groups: &[&str]) -> Vec<u128> {
    let key = |group: &&str| {
        let digest = Sha256::digest(group.as_bytes());
        digest.iter().take(16).fold(0, |key, byte| (key << 8) | u128::from(*byte))
    };
    groups.iter().map(key).collect()
}

/// The last rows by order (of time, say) are held out: nothing of the future is trained on.
/// `order` gives each row its place; equal places stay on one side, the training one.
pub fn split_by_order<T: Ord>(order: &[T], options: &SplitOptions) -> Split {
    let mut rows: Vec<usize> = (0..order.len()).collect();
    rows.sort_by(|a, b| order[*a].cmp(&order[*b]).then(a.cmp(b)));
    let mut cut = order.len() - wanted(order.len(), options);
    while cut > 0 && cut < rows.len() && order[rows[cut]] == order[rows[cut - 1]] {
        cut += 1;
    }
    let mut train = rows[..cut].to_vec();
    let mut validation = rows[cut..].to_vec();
    train.sort_unstable();
    validation.sort_unstable();
    Split { train, validation, duplicates: 0 }
}

/// How many of `rows` are to be held out.
fn wanted(rows: usize, options: &SplitOptions) -> usize {
    if options.share > 0.0 {
        let share = (rows as f64 * options.share).round() as usize;
        share.max(options.min_rows).min(rows / 2)
    } else {
        0
    }
}
