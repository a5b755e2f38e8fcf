//! Random draws that depend on nothing but (seed, purpose, number): the same story at any time, on
//! any machine, in any order.

use paddock_core::philox::{Philox, Stream};

/// What draws are for; two purposes never share a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Stories for pretraining.
    Corpus = 1,
    /// Instruction rows.
    Rows = 2,
}

/// The draws of one story or row, from the first one on.
#[derive(Debug, Clone)]
pub struct Draws {
    philox: Philox,
    number: u64,
    block: u32,
    words: [u32; 4],
    used: usize,
}

impl Draws {
    /// The draws of story (or row) `number` under `seed`.
    pub fn new(seed: u64, purpose: Purpose, number: u64) -> Self {
        let stream = Stream(Stream::GENERATE.0 | purpose as u32);
        Self { philox: Philox::new(seed, stream), number, block: 0, words: [0; 4], used: 4 }
    }

    fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.words = self.philox.block(self.block, self.number);
            self.block = self.block.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// A number in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }

    /// True in `percent` of 100 draws.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, or None when there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}
