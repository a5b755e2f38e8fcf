//! Some rows of many, chosen by seed before anything is rendered.

use std::path::PathBuf;

use paddock_core::philox::{Philox, Stream};

use crate::error::Result;
use crate::prepare::PrepareOptions;
use crate::readers;

/// A choice of rows by seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Most rows over all files.
    pub rows: u64,
    /// Seed of the choice.
    pub seed: u64,
}

impl Sample {
    pub(crate) fn rank(&self, row: u64) -> u64 {
        // Steps from 2^29 on: those above and below are taken by other draws of this stream.
        Philox::new(self.seed, Stream::MIX).below(1 << 29, row, u64::MAX)
    }

    /// The rank up to which rows are taken, if there are too many.
    pub(crate) fn limit(&self, paths: &[PathBuf], options: &PrepareOptions) -> Result<Option<u64>> {
        let mut count = 0;
        for path in paths {
            count += readers::open(path, &options.read)?.count() as u64;
        }
        if count <= self.rows {
            return Ok(None);
        }
        let mut ranks: Vec<u64> = (0..count).map(|row| self.rank(row)).collect();
        let place = self.rows.max(1) as usize - 1;
        Ok(Some(*ranks.select_nth_unstable(place).1))
    }
}
