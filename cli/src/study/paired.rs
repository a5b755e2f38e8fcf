//! Two ways compared on the same test rows.

use paddock_core::philox::{Philox, Stream};
use serde::{Deserialize, Serialize};

use crate::eval::statistics::{Interval, mcnemar, mean_interval};

/// Exchanges of the randomisation test.
const EXCHANGES: u32 = 10_000;

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// How much better the first is, as a share of the rows, with its 95% interval (bootstrap over rows).
    pub difference: Interval,
    /// How likely so large a difference, either way, would be were both equally good.
    pub p: f64,
}

impl Paired {
    /// Whether a difference is beyond doubt at the usual 5%.
    pub fn clear(&self) -> bool {
        self.p < 0.05
    }
}

/// Compares shares of right answers row by row (0 or 1 where there is one run of each; then the test is
/// McNemar's exact one). Otherwise both are exchanged at random, row by row: a randomisation test.
pub fn paired(a: &[f64], b: &[f64], seed: u64) -> Paired {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let whole = |x: &f64| *x == 0.0 || *x == 1.0;
    let p = if a.iter().chain(b).all(whole) {
        let count = |sign: f64| differences.iter().filter(|d| **d == sign).count() as u64;
        mcnemar(count(1.0), count(-1.0))
    } else {
        exchanged(&differences, seed)
    };
    Paired { difference: mean_interval(&differences, seed), p }
}

fn exchanged(differences: &[f64], seed: u64) -> f64 {
    let found: f64 = differences.iter().sum::<f64>().abs();
    let random = Philox::new(seed, Stream::BOOTSTRAP);
    let mut as_large = 1;
    for round in 0..EXCHANGES {
        let mut sum = 0.0;
        for (part, block) in differences.chunks(32).zip(0..) {
            let mut signs = random.word(round, block);
            for d in part {
                sum += if signs & 1 == 0 { *d } else { -*d };
                signs >>= 1;
            }
        }
        // Sums in another order differ by roundings.
        as_large += u32::from(sum.abs() >= found - 1e-9);
    }
    f64::from(as_large) / f64::from(EXCHANGES + 1)
}

/// Holm's correction: the more comparisons, the stronger each must be. In the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut out, mut largest) = (vec![1.0; p.len()], 0.0_f64);
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max(p[i] * (p.len() - rank) as f64).min(1.0);
        out[i] = largest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_each_is_mcnemars_test() {
        // 9 rows that the first alone has right, 1 that the second alone has: binomtest(1, 10).
        let a: Vec<f64> = (0..40).map(|i| f64::from(u8::from(i != 9))).collect();
        let b: Vec<f64> = (0..40).map(|i| f64::from(u8::from(i >= 9))).collect();
        let found = paired(&a, &b, 1);
        assert!((found.p - 0.021_484_375).abs() < 1e-12, "{found:?}");
        assert!((found.difference.value - 0.2).abs() < 1e-12 && found.clear());
        assert!(found.difference.low > 0.0 && found.difference.high < 0.4, "{found:?}");
    }

    #[test]
    fn the_randomisation_test_agrees_with_mcnemars() {
        let mut differences = vec![1.0; 9];
        differences.push(-1.0);
        differences.extend([0.0; 30]);
        let p = exchanged(&differences, 3);
        assert!((p - 0.0215).abs() < 0.005, "{p}");
        let same = paired(&[0.5, 0.75], &[0.5, 0.75], 1);
        assert_eq!((same.p, same.difference.value), (1.0, 0.0));
    }

    #[test]
    fn holm_is_that_of_statsmodels() {
        // statsmodels.stats.multitest.multipletests([.01, .04, .03, .5], method="holm")
        let found = holm(&[0.01, 0.04, 0.03, 0.5]);
        let expected = [0.04, 0.09, 0.09, 0.5];
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12), "{found:?}");
    }
}
