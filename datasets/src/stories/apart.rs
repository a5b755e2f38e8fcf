//! Keeping near-duplicates apart: how many runs of eight words two texts share.

use rustc_hash::{FxHashMap, FxHashSet};

use super::sentences::words;

/// Words in a run.
const GRAM: usize = 8;

/// Texts seen so far, by their runs of eight words.
#[derive(Debug, Default)]
pub struct Apart {
    texts: u32,
    holders: FxHashMap<u64, Vec<u32>>,
}

impl Apart {
    /// Remembers `text`.
    pub fn insert(&mut self, text: &str) {
        for gram in grams(text) {
            self.holders.entry(gram).or_default().push(self.texts);
        }
        self.texts = self.texts.saturating_add(1);
    }

    /// The largest share (0 to 1) of the runs of `text` that one remembered text has too.
    pub fn nearest(&self, text: &str) -> f64 {
        let own = grams(text);
        let mut shared: FxHashMap<u32, usize> = FxHashMap::default();
        for holder in own.iter().filter_map(|gram| self.holders.get(gram)).flatten() {
            *shared.entry(*holder).or_default() += 1;
        }
        let most = shared.values().max().copied().unwrap_or(0);
        if own.is_empty() { 0.0 } else { most as f64 / own.len() as f64 }
    }
}

fn grams(text: &str) -> FxHashSet<u64> {
    let words: Vec<String> = words(text).map(str::to_lowercase).collect();
    words.windows(GRAM).map(hash).collect()
}

fn hash(gram: &[String]) -> u64 {
    let bytes = gram.iter().flat_map(|w| w.bytes().chain([b' ']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_runs_are_counted() {
        let mut apart = Apart::default();
        apart.insert("one two three four five six seven eight nine");
        assert_eq!(apart.nearest("one two three four five six seven eight nine"), 1.0);
        assert_eq!(apart.nearest("One, two three four five six seven EIGHT ten."), 0.5);
        assert_eq!(apart.nearest("one two three four five six seven"), 0.0);
        assert_eq!(apart.nearest(""), 0.0);
    }
}
