//! How far an evaluation has come, on stderr: a bar on a terminal, a line now and then otherwise.

use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::signals::Signals;
use crate::train::report::duration;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The person asked to stop.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped before the end")
    }
}

impl std::error::Error for Interrupted {}

/// Progress of one stage.
pub struct Progress {
    what: String,
    total: u64,
    done: u64,
    began: Instant,
    last: Instant,
    bar: Option<ProgressBar>,
    quiet: bool,
    signals: Signals,
}

impl Progress {
    /// A stage of `total` parts.
    pub fn new(what: &str, total: usize, signals: &Signals) -> Progress {
        let mut progress = Progress::quiet(signals);
        (progress.what, progress.total, progress.quiet) = (what.into(), total as u64, false);
        if std::io::stderr().is_terminal() {
            let bar =
                ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let words = "{msg}  {bar:28} {pos}/{len}  {elapsed} gone, {eta} to go";
            if let Ok(style) = ProgressStyle::with_template(words) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(what.to_string());
            progress.bar = Some(bar);
        }
        progress
    }

    /// Says nothing, but still hears signals.
    pub fn quiet(signals: &Signals) -> Progress {
        let now = Instant::now();
        Progress {
            what: String::new(),
            total: 0,
            done: 0,
            began: now,
            last: now,
            bar: None,
            quiet: true,
            signals: signals.clone(),
        }
    }

    /// `n` more parts are done.
    ///
    /// # Errors
    /// [`Interrupted`] if a signal came.
    pub fn step(&mut self, n: usize) -> anyhow::Result<()> {
        self.done += n as u64;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if !self.quiet && self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            let left = self.total.saturating_sub(self.done) as f64 / self.done.max(1) as f64;
            let eta = self.began.elapsed().mul_f64(left);
            eprintln!(
                "{}: {} of {}, about {} to go",
                self.what,
                self.done,
                self.total,
                duration(eta)
            );
        }
        if self.signals.stop_requested() {
            return Err(Interrupted.into());
        }
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
