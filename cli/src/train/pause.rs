//! A run that waits, on request or for room on the disk: its process and all its memory stay, no step is made.

use std::time::{Duration, Instant};

use super::go::Loop;
use crate::run::events::{Event, Pause};

/// Between two looks while it waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Between two attempts to write to a full disk.
const FULL_DISK_WAIT: Duration = Duration::from_secs(5);

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

    /// Waits for a while, after which what failed on a full disk is tried again.
    pub(super) fn wait_for_space(&mut self, what: &str) -> anyhow::Result<()> {
        let message = format!(
            "{what}. The run waits and keeps everything in memory: free some space and it goes on by \
             itself, or press Ctrl-C to stop it."
        );
        self.out.listener.event(&Event::Pause(Pause { waiting: true, message, asked: false }))?;
        let until = Instant::now() + FULL_DISK_WAIT;
        while Instant::now() < until {
            if self.out.signals.stop_requested() {
                anyhow::bail!("stopped while the disk was full; earlier checkpoints are untouched");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let message = "Trying again.".to_string();
        self.out.listener.event(&Event::Pause(Pause { waiting: false, message, asked: false }))
    }

    fn tell_pause(&mut self, waiting: bool, message: String) -> anyhow::Result<()> {
        self.out.listener.event(&Event::Pause(Pause { waiting, message, asked: true }))
    }
}
