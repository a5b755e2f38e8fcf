//! Worked examples before the question: drawn by seed, balanced over labels, or nearest by BM25,
//! and fitted to the context by leaving out whole ones.

use std::collections::BTreeMap;

use paddock_core::philox::{Philox, Stream};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::encode::encode;
use crate::error::Result;
use crate::template::Rendered;
use crate::tokenizer::Tokenizer;

/// How exemplars are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// Any, by seed.
    Random,
    /// As many of each label as can be, by seed.
    Balanced,
    /// The nearest to the question by BM25, nearest last (beside the question).
    Nearest,
}

/// One worked example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemplar {
    /// Question and answer as they stand in the prompt.
    pub text: String,
    /// What is compared with the question by BM25.
    pub query: String,
    /// Its label, for balance.
    pub label: String,
}

/// A pool to choose from.
pub struct Pool {
    exemplars: Vec<Exemplar>,
    labels: BTreeMap<String, Vec<usize>>,
    index: Bm25,
    seed: u64,
}

/// Few-shot draws use steps of their own: 2^30 and above.
pub(crate) const STEP: u32 = 1 << 30;

impl Pool {
    /// Of exemplars in a fixed order.
    pub fn new(exemplars: Vec<Exemplar>, seed: u64) -> Self {
        let mut labels: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, exemplar) in exemplars.iter().enumerate() {
            labels.entry(exemplar.label.clone()).or_default().push(i);
        }
        let index = Bm25::new(exemplars.iter().map(|e| e.query.as_str()));
        Self { exemplars, labels, index, seed }
    }

    /// The exemplars.
    pub fn exemplars(&self) -> &[Exemplar] {
        &self.exemplars
    }

    /// At most `k` exemplars for row `row` asking `query`; never the pool's own copy of it
    /// (`same_as`) nor any other that asks the same, which would give the answer away.
    pub fn choose(
        &self,
        choice: Choice,
        k: usize,
        row: u64,
        query: &str,
        same_as: Option<usize>,
    ) -> Vec<usize> {
        let allowed = |i: &usize| Some(*i) != same_as && self.exemplars[*i].query != query;
        match choice {
            Choice::Random => {
                let all = self.shuffled((0..self.exemplars.len()).collect(), row, 0);
                all.into_iter().filter(allowed).take(k).collect()
            }
            Choice::Balanced => self.balanced(k, row, allowed),
            Choice::Nearest => {
                let mut nearest: Vec<usize> =
                    self.index.ranked(query).into_iter().filter(allowed).take(k).collect();
                nearest.reverse();
                nearest
            }
        }
    }

    /// Turn by turn one of each label, both in an order of the seed's.
    fn balanced(&self, k: usize, row: u64, allowed: impl Fn(&usize) -> bool) -> Vec<usize> {
        let mut queues: Vec<Vec<usize>> = self
            .labels
            .values()
            .enumerate()
            .map(|(label, members)| {
                let members = members.iter().copied().filter(|i| allowed(i)).collect();
                self.shuffled(members, row, label as u32 + 1)
            })
            .collect();
        queues = self.shuffled(queues, row, 0);
        let mut chosen = Vec::new();
        while chosen.len() < k && queues.iter().any(|queue| !queue.is_empty()) {
            for queue in &mut queues {
                chosen.extend(queue.pop().filter(|_| chosen.len() < k));
            }
        }
        self.shuffled(chosen, row, u32::MAX)
    }

    fn shuffled<T>(&self, mut items: Vec<T>, row: u64, part: u32) -> Vec<T> {
        // Row and part choose the shuffle: the key takes the row, the step the part.
        let seed = self.seed ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Philox::new(seed, Stream::MIX).shuffle(STEP.wrapping_add(part % STEP), &mut items);
        items
    }
}

/// Puts exemplars before a rendered row, each followed by `separator`. They are prompt, not taught.
pub fn with_exemplars(rendered: &Rendered, exemplars: &[&str], separator: &str) -> Rendered {
    let mut out = Rendered { empty_answer: rendered.empty_answer, ..Rendered::default() };
    for exemplar in exemplars {
        out.data(exemplar);
        out.literal(separator);
    }
    let shift = out.text.len();
    out.text.push_str(&rendered.text);
    out.spans.extend(rendered.spans.iter().cloned().map(|mut span| {
        span.range = span.range.start + shift..span.range.end + shift;
        span
    }));
    out
}

/// As many of the exemplars as fit into `max_tokens` with the row; the first ones go first. Gives
/// the row and how many were left out.
pub fn fit_exemplars(
    tokenizer: &Tokenizer,
    rendered: &Rendered,
    exemplars: &[&str],
    separator: &str,
    max_tokens: usize,
) -> Result<(Rendered, usize)> {
    for skip in 0..exemplars.len() {
        let tried = with_exemplars(rendered, &exemplars[skip..], separator);
        if encode(tokenizer, &tried)?.tokens.len() <= max_tokens {
            return Ok((tried, skip));
        }
    }
    Ok((rendered.clone(), exemplars.len()))
}

/// Between worked examples, and before the question.
pub const SEPARATOR: &str = "\n\n";
/// Okapi BM25 with the usual constants.
struct Bm25 {
    /// For each word, the texts that hold it and how often.
    postings: FxHashMap<String, Vec<(usize, u32)>>,
    lengths: Vec<f64>,
    mean: f64,
}

const K1: f64 = 1.2;
const B: f64 = 0.75;

impl Bm25 {
    fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut postings: FxHashMap<String, Vec<(usize, u32)>> = FxHashMap::default();
        let mut lengths = Vec::new();
        for (i, text) in texts.enumerate() {
            let words = words(text);
            lengths.push(words.len() as f64);
            for word in words {
                let list = postings.entry(word).or_default();
                match list.last_mut() {
                    Some((last, count)) if *last == i => *count += 1,
                    _ => list.push((i, 1)),
                }
            }
        }
        let mean = lengths.iter().sum::<f64>() / (lengths.len().max(1) as f64);
        Self { postings, lengths, mean: mean.max(1.0) }
    }

    /// All texts that share a word with the query, best first; equals in order.
    fn ranked(&self, query: &str) -> Vec<usize> {
        let total = self.lengths.len() as f64;
        let mut scores: BTreeMap<usize, f64> = BTreeMap::new();
        let mut asked = words(query);
        asked.sort_unstable();
        asked.dedup();
        for word in asked {
            let Some(list) = self.postings.get(&word) else { continue };
            let have = list.len() as f64;
            let rarity = (1.0 + (total - have + 0.5) / (have + 0.5)).ln();
            for (i, count) in list {
                let count = f64::from(*count);
                let norm = K1 * (1.0 - B + B * self.lengths[*i] / self.mean);
                *scores.entry(*i).or_default() += rarity * count * (K1 + 1.0) / (count + norm);
            }
        }
        let mut ranked: Vec<(usize, f64)> = scores.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.into_iter().map(|(i, _)| i).collect()
    }
}

fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_string)
        .collect()
}
