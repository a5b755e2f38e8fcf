//! A run that waits on request: its process and all its memory stay, no step is made.

use std::time::{Duration, Instant};

use super::go::Loop;
use crate::run::events::{Event, Pause};

/// Between two looks while it waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Loop<'_, '_, '_> {
    /// Waits for as long as the run is asked to pause; a request to stop ends the waiting too.
    pub(super) fn wait_while_paused(&mut self) -> anyhow::Result<()> {
        if !self.out.control.paused() {
            return Ok(());
        }
        let since = Instant::now();
        let step = self.session.run.step;
        let message = format!(
            "Paused after step {step}. The process waits and keeps its memory; it goes on when it is asked to."
        );
        self.tell_pause(true, message)?;
        while self.out.control.paused() && !self.out.signals.stop_requested() {
            std::thread::sleep(LOOK_EVERY);
        }
        self.clock.leave_out(since.elapsed());
        let stops = self.out.signals.stop_requested();
        let message = if stops { "Stopping after the pause." } else { "Going on after the pause." };
        self.tell_pause(false, message.to_string())
    }

    fn tell_pause(&mut self, waiting: bool, message: String) -> anyhow::Result<()> {
        self.out.listener.event(&Event::Pause(Pause { waiting, message, asked: true }))
    }
}
