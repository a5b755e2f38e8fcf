//! Losses far above those before them: a bad row, a damaged file, or a learning rate that is too high.

use std::collections::VecDeque;

/// Steps that are looked back on.
const WINDOW: usize = 64;
/// Fewer steps say nothing yet.
const LEAST: usize = 20;
/// A spike lies so many standard deviations above the mean ...
const DEVIATIONS: f64 = 6.0;
/// ... and at least this share of it, so that a very even run does not cry wolf.
const LEAST_RISE: f64 = 0.5;

/// The losses of the last steps.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    recent: VecDeque<f64>,
}

impl Losses {
    /// Those of a run that goes on, oldest first.
    pub fn of(losses: impl Iterator<Item = f64>) -> Losses {
        let mut all = Losses::default();
        losses.for_each(|loss| all.push(loss));
        all
    }

    /// Notes a step whose update was made.
    pub fn push(&mut self, loss: f64) {
        if !loss.is_finite() {
            return;
        }
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(loss);
    }

    /// Above this a loss is a spike; infinite while too little is known.
    pub fn limit(&self) -> f64 {
        let n = self.recent.len();
        if n < LEAST {
            return f64::INFINITY;
        }
        let mean = self.recent.iter().sum::<f64>() / n as f64;
        let variance = self.recent.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        mean + (DEVIATIONS * variance.sqrt()).max(LEAST_RISE * mean.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f63_a_spike_stands_out_and_noise_does_not() {
        let noisy = |i: u32| 2.0 + 0.3 * f64::from(i * 7 % 11) / 11.0;
        let mut losses = Losses::of((0..LEAST as u32 - 1).map(noisy));
        assert_eq!(losses.limit(), f64::INFINITY, "too early to tell");
        (0..500).map(noisy).for_each(|loss| {
            assert!(loss < losses.limit());
            losses.push(loss);
        });
        losses.push(f64::NAN);
        assert!(losses.limit() > 2.3 && losses.limit() < 4.0, "{}", losses.limit());
    }
}
