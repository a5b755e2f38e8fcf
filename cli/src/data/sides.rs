//! Which side of a split a row of a very large file goes to, told from the row alone: nothing is
//! remembered of other rows, so memory does not grow with the file.

use paddock_core::philox::Philox;
use paddock_core::philox::Stream;

/// Values looked at to tell where the last rows by order begin.
const SAMPLE: usize = 100_000;

/// Shares of test and validation rows.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Of the test rows.
    pub test: f64,
    /// Of the validation rows.
    pub validation: f64,
    /// Seed of the choice.
    pub seed: u64,
}

impl Shares {
    /// The side of a row by the hash of what keeps rows together: 0 train, 1 validation, 2 test.
    pub fn by_key(&self, key: u128) -> usize {
        let random = Philox::new(self.seed, Stream::SPLIT);
        let [a, b, _, _] = random.block((key >> 96) as u32, key as u64);
        let place = ((u64::from(a) << 21) ^ (u64::from(b) >> 11)) as f64 / (1u64 << 53) as f64;
        match place {
            place if place < self.test => 2,
            place if place < self.test + self.validation => 1,
            _ => 0,
        }
    }
}

/// Values of a column of order, as numbers where all of them are.
#[derive(Default)]
pub struct Places {
    sample: Vec<String>,
    seen: u64,
}

/// Where the sides begin.
pub struct Cuts {
    numbers: bool,
    validation: Option<String>,
    test: Option<String>,
}

impl Places {
    /// Notes a value: each one seen stays with the same chance.
    pub fn push(&mut self, value: &str, seed: u64) {
        self.seen += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(value.to_string());
            return;
        }
        let place = Philox::new(seed, Stream::SPLIT).below(u32::MAX, self.seen, self.seen) as usize;
        if let Some(slot) = self.sample.get_mut(place) {
            *slot = value.to_string();
        }
    }

    /// The cuts for these shares.
    pub fn cuts(&self, shares: &Shares) -> Cuts {
        let numbers = self.sample.iter().all(|value| number(value).is_some());
        let mut sample: Vec<&String> = self.sample.iter().collect();
        sample.sort_by(|a, b| compare(a, b, numbers));
        let at = |share: f64| {
            let place = ((1.0 - share) * sample.len() as f64).ceil() as usize;
            sample.get(place.saturating_sub(1)).map(|value| (*value).clone())
        };
        Cuts {
            numbers,
            validation: at(shares.validation + shares.test),
            test: at(shares.test).filter(|_| shares.test > 0.0),
        }
    }
}

impl Cuts {
    /// The side of a value: what lies behind a cut is held out, equal values are not.
    pub fn side(&self, value: &str) -> usize {
        let behind = |cut: &Option<String>| {
            cut.as_ref().is_some_and(|cut| compare(value, cut, self.numbers).is_gt())
        };
        if behind(&self.test) { 2 } else { usize::from(behind(&self.validation)) }
    }
}

/// The number that a text is, if it is one.
pub fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

fn compare(a: &str, b: &str, numbers: bool) -> std::cmp::Ordering {
    match (numbers, number(a), number(b)) {
        (true, Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_the_future_is_held_out() {
        let shares = Shares { test: 0.1, validation: 0.2, seed: 7 };
        let mut counts = [0; 3];
        (0..30_000u128).for_each(|key| counts[shares.by_key(key << 60 | key)] += 1);
        for (count, share) in counts.iter().zip([0.7, 0.2, 0.1]) {
            assert!((f64::from(*count) / 30_000.0 - share).abs() < 0.01, "{counts:?}");
        }
        let mut places = Places::default();
        (0..1000).for_each(|day| places.push(&(day * 37 % 1000).to_string(), 7));
        let cuts = places.cuts(&shares);
        let sides: Vec<usize> = (0..1000).map(|day| cuts.side(&day.to_string())).collect();
        assert!(sides.is_sorted(), "days 699 and 899 are the last of their sides");
        assert_eq!(sides.iter().filter(|side| **side == 1).count(), 200);
        assert_eq!(sides.iter().filter(|side| **side == 2).count(), 100);
    }
}
