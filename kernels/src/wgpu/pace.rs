//! How much work goes into one dispatch, so that none runs long: drivers reset a card that seems to
//! hang (Windows after two seconds), and a desktop on the same card stands still meanwhile.
//!
//! Work is counted in operations, about. It begins small; a submission that is large enough to show
//! the device's speed doubles it, until a dispatch would take [`TARGET`]. Where a grid is cut
//! changes no result, so neither does the clock.

use std::time::Duration;

/// What one dispatch may take.
const TARGET: Duration = Duration::from_millis(100);

/// Where it begins: a tenth of a second for a slow integrated card.
const FIRST: u64 = 200_000_000;

/// Never less, however slow the device: it would only wait for its own launches.
const LEAST: u64 = 20_000_000;

/// Enough for any card.
const MOST: u64 = 4_000_000_000_000;

/// Operations of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    budget: u64,
    /// Whether the last submission took so long that the budget could not double.
    slow: bool,
    settled: bool,
}

impl Pace {
    /// To be found out.
    pub fn unknown() -> Pace {
        Pace { budget: FIRST, slow: false, settled: false }
    }

    /// A given one, for tests.
    pub fn fixed(budget: u64) -> Pace {
        Pace { budget, slow: false, settled: true }
    }

    /// Workgroups of one dispatch, each of `cost` operations. Beyond a row of the grid only whole rows, so that
    /// dispatches do not overlap.
    pub fn groups(&self, cost: u64, row: u64) -> u64 {
        let groups = (self.budget / cost.max(1)).max(1);
        if groups > row { groups / row * row } else { groups }
    }

    /// Operations of one submission.
    pub fn submission(&self) -> u64 {
        2 * self.budget
    }

    /// Whether a submission of `cost` operations tells how fast the device is, and that is still to be known.
    pub fn wants_to_see(&self, cost: u64) -> bool {
        !self.settled && cost >= self.budget / 2
    }

    /// A submission of `cost` operations took so long.
    pub fn saw(&mut self, cost: u64, took: Duration) {
        let fair = cost as f64 / took.as_secs_f64().max(1e-6) * TARGET.as_secs_f64();
        let doubled = 2 * self.budget;
        let slow = fair < doubled as f64;
        self.settled = slow && self.slow || doubled > MOST;
        self.slow = slow;
        self.budget = (fair as u64).min(doubled).clamp(LEAST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations a second, as seen from submissions of any size.
    fn settle(speed: f64) -> Pace {
        let mut pace = Pace::unknown();
        for _ in 0..40 {
            let cost = pace.submission();
            if pace.wants_to_see(cost) {
                pace.saw(cost, Duration::from_secs_f64(cost as f64 / speed));
            }
        }
        pace
    }

    #[test]
    fn dispatches_take_a_tenth_of_a_second_on_any_device() {
        for speed in [1e9, 4e10, 1e12, 2e13] {
            let seconds = settle(speed).budget as f64 / speed;
            assert!((0.02..=0.11).contains(&seconds), "{speed:e}: {seconds}");
        }
        // A device of the stone age gets the least.
        assert_eq!(settle(1e6).budget, LEAST);
    }

    #[test]
    fn one_slow_submission_does_not_settle_it() {
        let (mut pace, speed) = (Pace::unknown(), 2e13);
        for i in 0..40 {
            let cost = pace.submission();
            if pace.wants_to_see(cost) {
                let waited = if i == 5 { 0.5 } else { 0.0 };
                pace.saw(cost, Duration::from_secs_f64(waited + cost as f64 / speed));
            }
        }
        assert!(pace.settled && pace.budget as f64 / speed >= 0.02, "{pace:?}");
    }

    #[test]
    fn small_submissions_say_nothing() {
        let pace = Pace::unknown();
        assert!(!pace.wants_to_see(FIRST / 3) && pace.wants_to_see(FIRST));
        assert!(!Pace::fixed(1).wants_to_see(100));
    }

    #[test]
    fn dispatches_end_at_whole_rows_of_the_grid() {
        let pace = Pace::fixed(1000);
        assert_eq!([1, 10, 300, 5000].map(|cost| pace.groups(cost, 64)), [960, 64, 3, 1]);
    }
}
