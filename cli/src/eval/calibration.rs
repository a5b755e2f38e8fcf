//! Whether probabilities mean what they say: of the answers given with 80%, 80% should be right.

use serde::{Deserialize, Serialize};

/// Bins of equal width.
const BINS: usize = 10;

/// Answers whose probability lies in one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// How many.
    pub rows: u64,
    /// Their mean probability.
    pub confidence: f64,
    /// Share of them that is right.
    pub accuracy: f64,
}

/// Bins over (probability of the chosen answer, whether it is right); empty bins are left out.
pub fn bins(answers: &[(f64, bool)]) -> Vec<Bin> {
    let mut bins = [Bin::default(); BINS];
    for &(probability, right) in answers {
        let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        bin.rows += 1;
        bin.confidence += probability;
        bin.accuracy += f64::from(u8::from(right));
    }
    let mean = |bin: &Bin| {
        let n = bin.rows as f64;
        Bin { rows: bin.rows, confidence: bin.confidence / n, accuracy: bin.accuracy / n }
    };
    bins.iter().filter(|bin| bin.rows > 0).map(mean).collect()
}

/// Expected calibration error (Guo et al. 2017): the mean over rows of the distance between confidence and
/// accuracy of their bin.
pub fn error(answers: &[(f64, bool)]) -> f64 {
    let all = answers.len() as f64;
    let distance = |bin: &Bin| bin.rows as f64 / all * (bin.accuracy - bin.confidence).abs();
    bins(answers).iter().map(distance).sum()
}

/// Probabilities from log-likelihoods: as if one of the choices had to be true.
pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_and_half_wrong_is_off_by_a_half() {
        assert_eq!(error(&[(1.0, true), (1.0, false)]), 0.5);
        assert_eq!(error(&[(0.5, true), (0.5, false)]), 0.0);
        // 3 of 4 rows at 0.95, right: off by 0.05; one at 0.15, wrong: off by 0.15.
        let mixed = [(0.95, true), (0.95, true), (0.95, true), (0.15, false)];
        assert!((error(&mixed) - (0.75 * 0.05 + 0.25 * 0.15)).abs() < 1e-12);
        assert_eq!(bins(&mixed).len(), 2);
    }

    #[test]
    fn softmax_of_very_unlikely_choices() {
        let p = softmax(&[-2_000.0, -2_000.0 + (3.0_f64).ln()]);
        assert!((p[0] - 0.25).abs() < 1e-12 && (p[1] - 0.75).abs() < 1e-12);
    }
}
