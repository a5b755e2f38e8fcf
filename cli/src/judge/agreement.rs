//! How far two judges agree.

use serde::Serialize;

/// A choice between two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first is better.
    First,
    /// The second is.
    Second,
    /// Neither.
    Tie,
}

impl Choice {
    /// Points of the second answer: 1, ½ or 0.
    pub fn second(self) -> f64 {
        match self {
            Choice::First => 0.0,
            Choice::Second => 1.0,
            Choice::Tie => 0.5,
        }
    }
}

/// Agreement in points: 1 where both agree, ½ where exactly one says tie, 0 otherwise.
pub fn points(a: Choice, b: Choice) -> f64 {
    match (a == b, a == Choice::Tie || b == Choice::Tie) {
        (true, _) => 1.0,
        (false, true) => 0.5,
        (false, false) => 0.0,
    }
}

/// How two lists of grades go together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// Spearman's ρ.
    pub spearman: f64,
    /// Kendall's τ-b.
    pub kendall: f64,
    /// Share of equal grades.
    pub equal: f64,
    /// Mean distance of grades.
    pub distance: f64,
}

/// Of two lists of equal length. NaN where all grades of a list are equal.
pub fn correlation(a: &[f64], b: &[f64]) -> Correlation {
    let n = a.len().min(b.len()).max(1) as f64;
    let pairs = || a.iter().zip(b);
    Correlation {
        spearman: pearson(&ranks(a), &ranks(b)),
        kendall: kendall(a, b),
        equal: pairs().filter(|(a, b)| a == b).count() as f64 / n,
        distance: pairs().map(|(a, b)| (a - b).abs()).sum::<f64>() / n,
    }
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let from = order.iter().position(|i| *i == group[0]).unwrap_or(0);
        let mean = from as f64 + (group.len() + 1) as f64 / 2.0;
        group.iter().for_each(|&i| ranks[i] = mean);
    }
    ranks
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (ma, mb) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(x - ma, y - mb)).sum();
    let (ab, aa, bb): (f64, f64, f64) =
        (sum(&|x, y| x * y), sum(&|x, _| x * x), sum(&|_, y| y * y));
    ab / (aa * bb).sqrt()
}

fn kendall(a: &[f64], b: &[f64]) -> f64 {
    let (mut with, mut against, mut tied_a, mut tied_b) = (0.0, 0.0, 0.0, 0.0);
    for i in 0..a.len() {
        for j in 0..i {
            let (x, y) = (a[i] - a[j], b[i] - b[j]);
            match (x == 0.0, y == 0.0) {
                (true, true) => {}
                (true, false) => tied_a += 1.0,
                (false, true) => tied_b += 1.0,
                _ if (x > 0.0) == (y > 0.0) => with += 1.0,
                _ => against += 1.0,
            }
        }
    }
    let all: f64 = with + against;
    (with - against) / ((all + tied_a) * (all + tied_b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_point_where_one_says_tie() {
        use Choice::{First, Second, Tie};
        let found = [
            points(First, First),
            points(Tie, Tie),
            points(First, Tie),
            points(Tie, Second),
            points(First, Second),
        ];
        assert_eq!(found, [1.0, 1.0, 0.5, 0.5, 0.0]);
    }

    #[test]
    fn correlations_are_those_of_scipy() {
        // scipy.stats.spearmanr, kendalltau
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 3.0], [2.0, 1.0, 4.0, 3.0, 6.0, 6.0, 3.0]);
        let found = correlation(&a, &b);
        assert!((found.spearman - 0.871_596_314).abs() < 1e-6, "{found:?}");
        assert!((found.kendall - 0.718_184_846).abs() < 1e-6, "{found:?}");
        assert!(correlation(&[1.0, 1.0], &[1.0, 2.0]).spearman.is_nan());
        assert_eq!(correlation(&a, &a).equal, 1.0);
    }
}
