//! ROUGE-1, ROUGE-2 and ROUGE-L: lower-case words of ASCII letters and digits, no stemming.

use rustc_hash::FxHashMap;

/// Precision, recall and their harmonic mean.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// Share of the answer that the reference has.
    pub precision: f64,
    /// Share of the reference that the answer has.
    pub recall: f64,
    /// Harmonic mean.
    pub f1: f64,
}

fn score(common: usize, answer: usize, reference: usize) -> Score {
    let share = |of: usize| if of == 0 { 0.0 } else { common as f64 / of as f64 };
    let (precision, recall) = (share(answer), share(reference));
    let sum = precision + recall;
    let f1 = if sum == 0.0 { 0.0 } else { 2.0 * precision * recall / sum };
    Score { precision, recall, f1 }
}

/// Words as ROUGE sees them.
pub fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_string)
        .collect()
}

/// ROUGE-N.
pub fn rouge_n(answer: &str, reference: &str, n: usize) -> Score {
    let (answer, reference) = (words(answer), words(reference));
    let count = |words: &[String]| {
        let mut counts: FxHashMap<Vec<String>, usize> = FxHashMap::default();
        words.windows(n.max(1)).for_each(|gram| *counts.entry(gram.to_vec()).or_default() += 1);
        counts
    };
    let (left, right) = (count(&answer), count(&reference));
    let common = left.iter().map(|(gram, a)| right.get(gram).map_or(0, |b| *a.min(b))).sum();
    score(common, left.values().sum(), right.values().sum())
}

/// ROUGE-L over whole texts: the longest common subsequence of words.
pub fn rouge_l(answer: &str, reference: &str) -> Score {
    rouge_l_words(&words(answer), &words(reference))
}

/// ROUGE-L of texts that are cut into words already.
pub fn rouge_l_words(answer: &[String], reference: &[String]) -> Score {
    score(common_subsequence(answer, reference), answer.len(), reference.len())
}

fn common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}
