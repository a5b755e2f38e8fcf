//! The order of rows: a seeded shuffle for each epoch; the place in it is one integer.

use paddock_core::philox::{Philox, Stream};

use crate::error::{Error, Result};

/// The endless order of `rows` rows. Position p is the (p mod rows)-th row of epoch p / rows.
#[derive(Debug, Clone)]
pub struct Order {
    rows: usize,
    shuffle: Option<Philox>,
    /// The epoch that `current` belongs to.
    epoch: u64,
    current: Vec<usize>,
}

impl Order {
    /// Shuffled anew in each epoch by `seed`, or always in file order.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is no row.
    pub fn new(rows: usize, seed: u64, shuffle: bool) -> Result<Self> {
        if rows == 0 {
            return Err(Error::Setting("there is no row to put in order".to_string()));
        }
        let shuffle = shuffle.then(|| Philox::new(seed, Stream::SHUFFLE));
        let mut order = Self { rows, shuffle, epoch: 0, current: Vec::new() };
        order.fill(0);
        Ok(order)
    }

    fn fill(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.current = (0..self.rows).collect();
        if let Some(philox) = self.shuffle {
            // Epochs beyond 2^32 repeat: no run lasts that long.
            philox.shuffle(epoch as u32, &mut self.current);
        }
    }

    /// The row at a position.
    pub fn row(&mut self, position: u64) -> usize {
        let epoch = position / self.rows as u64;
        if epoch != self.epoch {
            self.fill(epoch);
        }
        self.current[(position % self.rows as u64) as usize]
    }

    /// `count` rows from a position on. With `stop_at_epoch_end` fewer where the epoch ends.
    pub fn rows(&mut self, position: u64, count: usize, stop_at_epoch_end: bool) -> Vec<usize> {
        let left = self.rows as u64 - position % self.rows as u64;
        let count = if stop_at_epoch_end { (count as u64).min(left) } else { count as u64 };
        (position..position + count).map(|p| self.row(p)).collect()
    }
}
