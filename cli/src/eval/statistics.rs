//! Intervals by resampling, mean and spread, and tests on the same rows.

use paddock_core::philox::{Philox, Stream};
use serde::{Deserialize, Serialize};

/// Resamplings of a bootstrap.
pub const RESAMPLINGS: u32 = 2_000;

/// A number with its 95% interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// On the rows as they are.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Percentile bootstrap over rows: `measure` gets the numbers of the drawn rows (all rows in order for the
/// value itself) and gives one number for each measure. Draws for which a measure is undefined (NaN) are left
/// out of its interval.
pub fn bootstrap(
    rows: usize,
    seed: u64,
    measure: &mut dyn FnMut(&[usize]) -> Vec<f64>,
) -> Vec<Interval> {
    let all: Vec<usize> = (0..rows).collect();
    let values = measure(&all);
    let mut draws = vec![Vec::with_capacity(RESAMPLINGS as usize); values.len()];
    let random = Philox::new(seed, Stream::BOOTSTRAP);
    let mut picks = all;
    for round in 0..if rows == 0 { 0 } else { RESAMPLINGS } {
        for (i, pick) in picks.iter_mut().enumerate() {
            *pick = random.below(round, i as u64, rows as u64) as usize;
        }
        for (draws, value) in draws.iter_mut().zip(measure(&picks)) {
            draws.extend(Some(value).filter(|v| !v.is_nan()));
        }
    }
    values.into_iter().zip(draws).map(|(value, draws)| interval(value, draws)).collect()
}

fn interval(value: f64, mut draws: Vec<f64>) -> Interval {
    draws.sort_by(f64::total_cmp);
    let n = draws.len();
    let at = |i: usize| draws.get(i.min(n.saturating_sub(1))).copied().unwrap_or(value);
    let low = at((0.025 * n as f64) as usize);
    let high = at(((0.975 * n as f64).ceil() as usize).saturating_sub(1));
    Interval { value, low, high }
}

/// The mean of per-row numbers, with its interval.
pub fn mean_interval(values: &[f64], seed: u64) -> Interval {
    let found = bootstrap(values.len(), seed, &mut |picks| {
        vec![picks.iter().map(|&i| values[i]).sum::<f64>() / picks.len().max(1) as f64]
    });
    found.into_iter().next().unwrap_or_default()
}

/// Mean and standard deviation (over n - 1; 0 for a single value).
pub fn mean_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let mean = values.iter().sum::<f64>() / n;
    if values.len() == 1 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// Exact McNemar test: how likely so uneven a split of the rows on which two systems differ would be, were
/// both equally good. `a_only`, `b_only`: rows that one alone has right. Two-sided.
pub fn mcnemar(a_only: u64, b_only: u64) -> f64 {
    let n = a_only + b_only;
    let few = a_only.min(b_only);
    // Σ C(n, i) / 2^n for i <= few, in logarithms: n may be thousands.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = 0.0;
    for i in 0..=few {
        sum += log_term.exp();
        log_term += ((n - i) as f64).ln() - ((i + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_interval_is_that_of_the_binomial() {
        // 100 rows, 30 right: sd of the mean is sqrt(.3*.7/100) = 0.0458, so about 0.21 to 0.39.
        let values: Vec<f64> = (0..100).map(|i| if i < 30 { 1.0 } else { 0.0 }).collect();
        let found = mean_interval(&values, 1);
        assert_eq!(found.value, 0.3);
        assert!((found.low - 0.21).abs() < 0.015 && (found.high - 0.39).abs() < 0.015, "{found:?}");
        assert_eq!(found, mean_interval(&values, 1));
        // Means of ones and zeros lie on a grid, where two seeds may meet; these do not.
        let fine: Vec<f64> = (0..100).map(|i| (f64::from(i) * 0.618).fract()).collect();
        assert_ne!(mean_interval(&fine, 1), mean_interval(&fine, 2));
        let same = mean_interval(&[0.5; 4], 1);
        assert_eq!((same.low, same.high), (0.5, 0.5));
        assert_eq!(mean_interval(&[], 1).low, mean_interval(&[], 1).value);
    }

    #[test]
    fn mcnemar_is_the_binomial_test() {
        // scipy.stats.binomtest(k, n).pvalue
        for (a, b, p) in [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 0.021484375), (8, 2, 0.109375)] {
            assert!((mcnemar(a, b) - p).abs() < 1e-12, "{a} {b} {}", mcnemar(a, b));
        }
        assert!((mcnemar(40, 60) - 0.056887933640981).abs() < 1e-9, "{}", mcnemar(40, 60));
        assert!(mcnemar(2_000, 3_000) < 1e-40);
    }

    #[test]
    fn spread_of_a_sample() {
        assert_eq!(mean_sd(&[1.0, 2.0, 3.0]), (2.0, 1.0));
        assert_eq!(mean_sd(&[4.0]), (4.0, 0.0));
        assert!(mean_sd(&[]).0.is_nan());
    }
}
