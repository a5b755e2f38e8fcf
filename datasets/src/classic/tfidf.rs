//! Words of texts as numbers: term frequency times inverse document frequency.

use rustc_hash::FxHashMap;

use super::Sparse;

/// A vocabulary with the rarity of its words.
#[derive(Debug, Clone, Default)]
pub struct Tfidf {
    vocabulary: FxHashMap<String, u32>,
    /// ln((1 + texts) / (1 + texts with the word)) + 1.
    idf: Vec<f64>,
}

impl Tfidf {
    /// Learns the words of the texts.
    pub fn fit<'t>(texts: impl Iterator<Item = &'t str>) -> Tfidf {
        let mut found = Tfidf::default();
        let (mut having, mut last, mut count) = (Vec::<u32>::new(), Vec::<usize>::new(), 0);
        for text in texts {
            count += 1;
            for word in words(text) {
                let next = found.vocabulary.len() as u32;
                let id = *found.vocabulary.entry(word).or_insert(next) as usize;
                if id == having.len() {
                    having.push(0);
                    last.push(0);
                }
                if last[id] != count {
                    last[id] = count;
                    having[id] += 1;
                }
            }
        }
        let total = count as f64;
        found.idf =
            having.iter().map(|&n| ((1.0 + total) / (1.0 + f64::from(n))).ln() + 1.0).collect();
        found
    }

    /// How many words are known.
    pub fn features(&self) -> usize {
        self.idf.len()
    }

    /// The known words of a text; their squares sum to 1 (to 0 if there are none).
    pub fn row(&self, text: &str) -> Sparse {
        let mut ids: Vec<u32> =
            words(text).filter_map(|word| self.vocabulary.get(&word).copied()).collect();
        ids.sort_unstable();
        let mut row = Sparse::new();
        for id in ids {
            match row.last_mut() {
                Some((last, count)) if *last == id => *count += 1.0,
                _ => row.push((id, 1.0)),
            }
        }
        row.iter_mut().for_each(|(id, value)| *value *= self.idf[*id as usize]);
        let length = row.iter().map(|(_, value)| value * value).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|(_, value)| *value /= length);
        }
        row
    }
}

/// Runs of two or more letters, digits or underscores, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    let lower = text.to_lowercase();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let found: Vec<String> = lower
        .split(|c| !is_word(c))
        .filter(|word| word.chars().nth(1).is_some())
        .map(str::to_string)
        .collect();
    found.into_iter()
}
