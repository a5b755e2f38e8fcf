//! Mixtures of data sets: which row comes next, from which set. The order depends on sizes, rates
//! and seed alone; one integer, the position, resumes it.

use paddock_core::philox::{Philox, Stream};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::order::Order;

/// How often each set is drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rates {
    /// By size, where sets above `cap` count as `cap` (FLAN: 3,000).
    Proportional {
        /// Mixing-rate maximum.
        cap: u64,
    },
    /// By size (capped) to the power 1 / temperature: 1 is proportional, large is even.
    Temperature {
        /// Above 0.
        temperature: f64,
        /// Mixing-rate maximum.
        cap: u64,
    },
    /// As stated, one a set; they need not sum to 1.
    Weights(Vec<f64>),
}

impl Rates {
    /// The share of each set; they sum to 1.
    ///
    /// # Errors
    /// [`Error::Setting`] where weights are negative, not finite, all zero or not one a set.
    pub fn shares(&self, sizes: &[u64]) -> Result<Vec<f64>> {
        let fail = |message: &str| Err(Error::Setting(format!("mixture: {message}")));
        let raw: Vec<f64> = match self {
            Self::Proportional { cap } => sizes.iter().map(|n| (*n).min(*cap) as f64).collect(),
            Self::Temperature { temperature, .. }
                if temperature.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) =>
            {
                return fail("the temperature must be above 0");
            }
            Self::Temperature { temperature, cap } => {
                sizes.iter().map(|n| ((*n).min(*cap) as f64).powf(1.0 / temperature)).collect()
            }
            Self::Weights(weights) if weights.len() != sizes.len() => {
                return fail(&format!("{} weights for {} sets", weights.len(), sizes.len()));
            }
            Self::Weights(weights) => weights.clone(),
        };
        if raw.iter().any(|w| !w.is_finite() || *w < 0.0) {
            return fail("a weight is negative or not a number");
        }
        if sizes.iter().zip(&raw).any(|(n, w)| *n == 0 && *w > 0.0) {
            return fail("a set without rows has a weight");
        }
        let sum: f64 = raw.iter().sum();
        if sum <= 0.0 {
            return fail("all weights are 0");
        }
        Ok(raw.iter().map(|w| w / sum).collect())
    }
}

/// The endless order of a mixture.
#[derive(Debug, Clone)]
pub struct Mixture {
    /// Upper end of each set's part of 0..1.
    ends: Vec<f64>,
    orders: Vec<Option<Order>>,
    /// Rows drawn from each set before `position`.
    drawn: Vec<u64>,
    position: u64,
    philox: Philox,
}

impl Mixture {
    /// Of sets with these numbers of rows.
    pub fn new(sizes: &[u64], rates: &Rates, seed: u64) -> Result<Self> {
        let shares = rates.shares(sizes)?;
        let mut sum = 0.0;
        let ends = shares.iter().map(|share| {
            sum += share;
            sum
        });
        let ends = ends.collect();
        let orders = sizes.iter().enumerate().map(|(set, rows)| {
            let rows = usize::try_from(*rows).unwrap_or(usize::MAX);
            // Each set has a seed of its own, so that equal sizes give different orders.
            let seed = seed.wrapping_add((set as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            (rows > 0).then(|| Order::new(rows, seed, true)).transpose()
        });
        Ok(Self {
            ends,
            orders: orders.collect::<Result<_>>()?,
            drawn: vec![0; sizes.len()],
            position: 0,
            philox: Philox::new(seed, Stream::MIX),
        })
    }

    /// The set and its row at the current position; moves on by one.
    pub fn draw(&mut self) -> (usize, usize) {
        let set = self.set_at(self.position);
        self.position += 1;
        let place = self.drawn[set];
        self.drawn[set] += 1;
        let row = self.orders[set].as_mut().map_or(0, |order| order.row(place));
        (set, row)
    }

    /// Positions drawn so far: all that is needed to resume.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to a position, as if all before it had been drawn.
    pub fn seek(&mut self, position: u64) {
        if position < self.position {
            self.position = 0;
            self.drawn.fill(0);
        }
        for p in self.position..position {
            let set = self.set_at(p);
            self.drawn[set] += 1;
        }
        self.position = position;
    }

    fn set_at(&self, position: u64) -> usize {
        // Steps from 2^31 on are the mixture's: templates draw with small ones.
        let [a, b, _, _] = self.philox.block(1 << 31, position);
        let unit = ((u64::from(a) << 21) ^ (u64::from(b) >> 11)) as f64 / (1u64 << 53) as f64;
        let set = self.ends.iter().position(|end| unit < *end);
        // Rounding may leave the last end below 1: the last set that has a share takes it.
        let share = |i: usize| self.ends[i] - if i == 0 { 0.0 } else { self.ends[i - 1] };
        set.unwrap_or_else(|| (0..self.ends.len()).rfind(|i| share(*i) > 0.0).unwrap_or(0))
    }
}
