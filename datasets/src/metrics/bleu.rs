//! Corpus BLEU as sacreBLEU computes it by default: tokens of mteval-13a, four-grams, exponential
//! smoothing, brevity penalty.

use rustc_hash::FxHashMap;

/// Longest n-gram.
const N: usize = 4;

/// Counts over a corpus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bleu {
    right: [u64; N],
    total: [u64; N],
    answer_len: u64,
    reference_len: u64,
}

impl Bleu {
    /// Counts an answer against its references; with none it counts as an answer to nothing.
    pub fn push(&mut self, answer: &str, references: &[&str]) {
        let answer = tokens(answer);
        let references: Vec<Vec<String>> = references.iter().map(|r| tokens(r)).collect();
        self.answer_len += answer.len() as u64;
        // The reference of nearest length, the shorter of two equally near.
        let nearest =
            references.iter().map(Vec::len).min_by_key(|r| (r.abs_diff(answer.len()), *r));
        self.reference_len += nearest.unwrap_or_default() as u64;
        for n in 1..=N {
            let counts = grams(&answer, n);
            let mut most: FxHashMap<&[String], u64> = FxHashMap::default();
            for reference in &references {
                for (gram, count) in grams(reference, n) {
                    let known = most.entry(gram).or_default();
                    *known = count.max(*known);
                }
            }
            for (gram, count) in counts {
                self.total[n - 1] += count;
                self.right[n - 1] += count.min(most.get(gram).copied().unwrap_or_default());
            }
        }
    }

    /// Adds the counts of other rows.
    pub fn add(&mut self, other: &Bleu) {
        for n in 0..N {
            self.right[n] += other.right[n];
            self.total[n] += other.total[n];
        }
        self.answer_len += other.answer_len;
        self.reference_len += other.reference_len;
    }

    /// From 0 to 100.
    pub fn score(&self) -> f64 {
        let mut smoothing = 1.0;
        let mut sum = 0.0;
        for n in 0..N {
            if self.total[n] == 0 {
                return 0.0;
            }
            let precision = if self.right[n] == 0 {
                smoothing *= 2.0;
                1.0 / (smoothing * self.total[n] as f64)
            } else {
                self.right[n] as f64 / self.total[n] as f64
            };
            sum += precision.ln();
        }
        if self.right.iter().all(|n| *n == 0) {
            return 0.0;
        }
        let (answer, reference) = (self.answer_len as f64, self.reference_len as f64);
        let brevity = if answer < reference { (1.0 - reference / answer).exp() } else { 1.0 };
        100.0 * brevity * (sum / N as f64).exp()
    }
}

fn grams(tokens: &[String], n: usize) -> FxHashMap<&[String], u64> {
    let mut counts = FxHashMap::default();
    tokens.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1);
    counts
}

/// Tokens of mteval-13a.
pub fn tokens(text: &str) -> Vec<String> {
    let text = text.trim_end().replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = text.replace("&quot;", "\"").replace("&amp;", "&");
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let mut spaced = String::from(" ");
    for c in text.chars() {
        if is_symbol(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    let point = |c: char| matches!(c, '.' | ',');
    let digit = |c: char| c.is_ascii_digit();
    let spaced = pairs(&spaced, |a, b| !digit(a) && point(b), |a, b| format!("{a} {b} "));
    let spaced = pairs(&spaced, |a, b| point(a) && !digit(b), |a, b| format!(" {a} {b}"));
    let spaced = pairs(&spaced, |a, b| digit(a) && b == '-', |a, b| format!("{a} {b} "));
    spaced.split_whitespace().map(str::to_string).collect()
}

fn is_symbol(c: char) -> bool {
    matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/')
}

/// Rewrites pairs of neighbours that fit, from left to right, each character in one pair at most.
fn pairs(
    text: &str,
    fits: impl Fn(char, char) -> bool,
    write: impl Fn(char, char) -> String,
) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(a) = chars.next() {
        match chars.peek() {
            Some(&b) if fits(a, b) => {
                out.push_str(&write(a, b));
                chars.next();
            }
            _ => out.push(a),
        }
    }
    out
}
