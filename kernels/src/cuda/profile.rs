//! Times of kernels by events on the stream, for measurements.

use std::collections::HashMap;

use cust::error::CudaError;
use cust::event::{Event, EventFlags};
use cust::stream::Stream;

use super::driver::{Answer, Code};

/// What launches of one kernel with one grid took together.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The kernel.
    pub kernel: &'static str,
    /// Its grid.
    pub grid: [u32; 3],
    /// Launches.
    pub count: u64,
    /// Milliseconds of all of them.
    pub milliseconds: f64,
}

/// Events around every launch.
#[derive(Default)]
pub struct Profile {
    launches: Vec<(&'static str, [u32; 3], Event, Event)>,
}

impl Profile {
    /// Records the time before a launch.
    pub fn begin(&mut self, kernel: &'static str, grid: [u32; 3], stream: &Stream) -> Answer {
        let record = || -> Result<(Event, Event), CudaError> {
            let (first, last) =
                (Event::new(EventFlags::DEFAULT)?, Event::new(EventFlags::DEFAULT)?);
            first.record(stream)?;
            Ok((first, last))
        };
        let (first, last) = record().map_err(|e| e as Code)?;
        self.launches.push((kernel, grid, first, last));
        Ok(())
    }

    /// Records the time after it.
    pub fn end(&mut self, stream: &Stream) -> Answer {
        match self.launches.last() {
            Some((_, _, _, last)) => last.record(stream).map_err(|e| e as Code),
            None => Ok(()),
        }
    }

    /// The sums; every launch has finished.
    pub fn lines(&self) -> Answer<Vec<Line>> {
        let mut sums: HashMap<(&'static str, [u32; 3]), (u64, f64)> = HashMap::new();
        for (kernel, grid, first, last) in &self.launches {
            let time = last.elapsed_time_f32(first).map_err(|e| e as Code)?;
            let sum = sums.entry((kernel, *grid)).or_default();
            *sum = (sum.0 + 1, sum.1 + f64::from(time));
        }
        let line =
            |((kernel, grid), (count, milliseconds))| Line { kernel, grid, count, milliseconds };
        let mut lines: Vec<Line> = sums.into_iter().map(line).collect();
        lines
            .sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds).then(a.kernel.cmp(b.kernel)));
        Ok(lines)
    }
}
