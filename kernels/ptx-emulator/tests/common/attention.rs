//! Attention as its formulas say it, in f64.
#![allow(dead_code)]

use half::bf16;

/// Sizes of one attention.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub heads: usize,
    pub kv: usize,
    pub d: usize,
}

/// One result, and for each of its elements the root of the sum of the squares of what was added up.
#[derive(Clone)]
pub struct Sums {
    pub value: Vec<f64>,
    pub spread: Vec<f64>,
}

impl Sums {
    fn new(count: usize) -> Self {
        Self { value: vec![0.0; count], spread: vec![0.0; count] }
    }

    fn add(&mut self, at: usize, term: f64) {
        self.value[at] += term;
        self.spread[at] = self.spread[at].hypot(term);
    }

    /// Each element of `found` is the exact value rounded to bf16, but for `slack` and for weights
    /// that were rounded to bf16 before they were added up (`rounded`).
    pub fn assert(&self, found: &[u16], rounded: bool, slack: f64, what: &str) {
        assert_eq!(found.len(), self.value.len());
        for (at, (&bits, (value, spread))) in
            found.iter().zip(self.value.iter().zip(&self.spread)).enumerate()
        {
            let found = bf16::from_bits(bits).to_f64();
            let binade = if *value == 0.0 { 0.0 } else { value.abs().log2().floor().exp2() };
            // Each weight is off by at most 2^-9 of itself, at random.
            let weights = if rounded { 4.0 * spread / 512.0 } else { 0.0 };
            let bound = binade / 256.0 + slack + weights;
            let error = (found - value).abs();
            assert!(error <= bound, "{what}: element {at} is {found}, exact {value} ± {bound}");
        }
    }
}

pub struct Expected {
    pub out: Sums,
    pub lse: Vec<f64>,
    pub dq: Sums,
    pub dk: Sums,
    pub dv: Sums,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `keys`: the key rows that each query sees. `given`: the out that backward reads; none: the exact
/// one.
pub fn reference(
    keys: &[Vec<usize>],
    s: Sizes,
    [q, k, v, dout]: [&[f64]; 4],
    given: Option<&[f64]>,
) -> Expected {
    let Sizes { heads, kv, d } = s;
    let scale = 1.0 / (d as f64).sqrt();
    let mut e = Expected {
        out: Sums::new(q.len()),
        lse: vec![0.0; q.len() / d],
        dq: Sums::new(q.len()),
        dk: Sums::new(k.len()),
        dv: Sums::new(v.len()),
    };
    for item in 0..q.len() / d {
        let (query, head) = (item / heads, item % heads);
        let own = item * d..(item + 1) * d;
        let rows: Vec<_> = keys[query]
            .iter()
            .map(|key| (key * kv + head / (heads / kv)) * d)
            .map(|at| at..at + d)
            .collect();
        let scores: Vec<f64> =
            rows.iter().map(|row| dot(&q[own.clone()], &k[row.clone()]) * scale).collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
        e.lse[item] = max + sum.ln();
        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp() / sum).collect();
        for (row, weight) in rows.iter().zip(&weights) {
            for c in 0..d {
                e.out.add(own.start + c, weight * v[row.start + c]);
            }
        }
        let delta = dot(&dout[own.clone()], &given.unwrap_or(&e.out.value)[own.clone()]);
        for (row, weight) in rows.iter().zip(&weights) {
            let ds = weight * (dot(&dout[own.clone()], &v[row.clone()]) - delta) * scale;
            for c in 0..d {
                e.dv.add(row.start + c, weight * dout[own.start + c]);
                e.dq.add(own.start + c, ds * k[row.start + c]);
                e.dk.add(row.start + c, ds * q[own.start + c]);
            }
        }
    }
    e
}
