//! What the loop of a run reaches outside of it: files, a listener, signals, the clock.

use std::time::{Duration, Instant};

use super::report::Listener;
use crate::run::control::Control;
use crate::run::folder::RunFolder;
use crate::run::metrics::MetricsWriter;
use crate::run::signals::Signals;
use crate::storage::Storage;

/// Where a run writes and who hears of it.
pub struct Outlets<'a, 's> {
    /// The file system.
    pub storage: &'s dyn Storage,
    /// The run's folder.
    pub folder: &'a RunFolder,
    /// Its metrics.
    pub metrics: MetricsWriter<'s>,
    /// Whoever listens.
    pub listener: &'a mut dyn Listener,
    /// Whether to stop.
    pub signals: &'a Signals,
    /// Whether to pause.
    pub control: &'a Control,
}

/// The clock of a run over all its starts.
pub struct Clock {
    before: f64,
    since: Instant,
}

impl Clock {
    /// Goes on from `before` seconds.
    pub fn from(before: f64) -> Clock {
        Clock { before, since: Instant::now() }
    }

    /// Time that was not spent on training.
    pub fn leave_out(&mut self, time: Duration) {
        self.since += time;
    }

    /// Seconds of training so far.
    pub fn elapsed_s(&self) -> f64 {
        self.before + self.since.elapsed().as_secs_f64()
    }
}
