//! Filters for quality. Each says for every text why it would go, so that a report can be shown
//! before anything goes.

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::metrics::rouge::{rouge_l_words, words};

/// What is asked of a text. `None` asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// Fewest words.
    pub min_words: Option<usize>,
    /// Most words.
    pub max_words: Option<usize>,
    /// Largest share of word three-grams that repeat an earlier one of the same text.
    pub max_repetition: Option<f64>,
    /// Smallest share of letters among the characters that are no blanks.
    pub min_letters: Option<f64>,
    /// Words and phrases that may not occur; case does not count, whole words do.
    pub blocklist: Vec<String>,
}

/// Why a text would go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Too few words.
    TooShort(usize),
    /// Too many words.
    TooLong(usize),
    /// Repeats itself: the share of repeated three-grams.
    Repeats(f64),
    /// Few letters: their share.
    FewLetters(f64),
    /// Holds a blocked phrase.
    Blocked(String),
}

impl Filters {
    /// The first reason for which a text would go.
    pub fn verdict(&self, text: &str) -> Option<Verdict> {
        let lower = text.to_lowercase();
        let words: Vec<&str> =
            lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let count = words.len();
        if self.min_words.is_some_and(|least| count < least) {
            return Some(Verdict::TooShort(count));
        }
        if self.max_words.is_some_and(|most| count > most) {
            return Some(Verdict::TooLong(count));
        }
        let repeated = repetition(&words);
        if self.max_repetition.is_some_and(|most| repeated > most) {
            return Some(Verdict::Repeats(repeated));
        }
        let letters = letter_share(text);
        if self.min_letters.is_some_and(|least| letters < least) {
            return Some(Verdict::FewLetters(letters));
        }
        let line = format!(" {} ", words.join(" "));
        self.blocklist
            .iter()
            .find(|phrase| line.contains(&spaced(phrase)))
            .cloned()
            .map(Verdict::Blocked)
    }

    /// Verdicts of all texts.
    pub fn verdicts(&self, texts: &[&str]) -> Vec<Option<Verdict>> {
        texts.par_iter().map(|text| self.verdict(text)).collect()
    }
}

/// A phrase as it stands in a line of words, with a blank at both ends.
fn spaced(phrase: &str) -> String {
    let lower = phrase.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    format!(" {} ", words.collect::<Vec<_>>().join(" "))
}

fn repetition(words: &[&str]) -> f64 {
    let grams = words.windows(3);
    let total = grams.len();
    if total == 0 {
        return 0.0;
    }
    let mut seen: FxHashMap<&[&str], ()> = FxHashMap::default();
    let repeated = grams.filter(|gram| seen.insert(gram, ()).is_some()).count();
    repeated as f64 / total as f64
}

fn letter_share(text: &str) -> f64 {
    let solid = text.chars().filter(|c| !c.is_whitespace()).count();
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    if solid == 0 { 0.0 } else { letters as f64 / solid as f64 }
}

/// Self-Instruct's test of novelty: for each text the first kept one before it (or of `known`)
/// whose ROUGE-L F1 is at least `threshold` (0.7 there), as an index into `known` followed by
/// `texts`. A text with such a twin is not kept.
pub fn too_similar(known: &[&str], texts: &[&str], threshold: f64) -> Vec<Option<usize>> {
    let all: Vec<Vec<String>> =
        known.par_iter().chain(texts.par_iter()).map(|text| words(text)).collect();
    let mut kept: Vec<usize> = (0..known.len()).collect();
    let mut found = Vec::with_capacity(texts.len());
    for i in known.len()..all.len() {
        let own = &all[i];
        let twin = kept.par_iter().copied().find_first(|j| {
            let other = &all[*j];
            // F1 is at most twice the shorter over the sum of both: most pairs need no more.
            let bound = 2.0 * own.len().min(other.len()) as f64;
            bound >= threshold * (own.len() + other.len()) as f64
                && rouge_l_words(own, other).f1 >= threshold
        });
        if twin.is_none() {
            kept.push(i);
        }
        found.push(twin);
    }
    found
}

/// At most `quota` texts of each source, taken in the given order: even sources before many texts
/// of one. True for those that stay.
pub fn even_sources(sources: &[&str], quota: usize) -> Vec<bool> {
    let mut taken: FxHashMap<&str, usize> = FxHashMap::default();
    sources
        .iter()
        .map(|source| {
            let count = taken.entry(source).or_default();
            *count += 1;
            *count <= quota
        })
        .collect()
}
