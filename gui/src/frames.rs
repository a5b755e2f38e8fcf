//! How long the window takes for its frames: measured all the time, since it costs nothing.

use std::time::Duration;

/// How long the window's thread worked on its latest frames.
#[derive(Debug, Default)]
pub struct Frames {
    latest: Vec<Duration>,
    next: usize,
}

/// Frames that are remembered.
const MOST_FRAMES: usize = 2_000;

impl Frames {
    /// Notes a frame.
    pub fn push(&mut self, took: Duration) {
        if self.latest.len() < MOST_FRAMES {
            self.latest.push(took);
        } else {
            self.latest[self.next % MOST_FRAMES] = took;
        }
        self.next += 1;
    }

    /// The time that so large a share of the frames stays under; `None` before the first.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let mut sorted = self.latest.clone();
        sorted.sort();
        let last = sorted.len().checked_sub(1)?;
        sorted.get((share * last as f64).round() as usize).copied()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Frames::default();
    }
}
