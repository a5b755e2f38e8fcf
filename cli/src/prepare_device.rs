//! How far a device's preparation has come, on stderr, once it takes long enough to be asked about.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use paddock_kernels::{Preparing, Progress};

/// Shorter preparations are not worth a word.
const SILENT: Duration = Duration::from_secs(2);

/// Between two lines, where there is no terminal to draw a bar on.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Characters of the bar.
const WIDTH: u64 = 30;

/// Tells a person: a bar on a terminal, which is wiped away while nothing is prepared, else a line now and
/// then.
pub fn tell() -> Progress {
    let last: Mutex<Option<Instant>> = Mutex::default();
    let terminal = std::io::stderr().is_terminal();
    Arc::new(move |now: Preparing<'_>| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if terminal {
            let text = if now.spent >= SILENT && now.goes_on { bar(now) } else { String::new() };
            // A bar that cannot be drawn is no reason to stop.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
        } else if is_due(now.spent, last.map(|at| at.elapsed())) {
            eprintln!("{}", line(now));
            *last = Some(Instant::now());
        }
    })
}

fn is_due(spent: Duration, since_last: Option<Duration>) -> bool {
    spent >= SILENT && since_last.is_none_or(|since| since >= LINE_EVERY)
}

fn line(now: Preparing<'_>) -> String {
    let of = now.total.map_or(String::new(), |total| format!(" of {total}"));
    format!("{}: {}{of} ready after {:.0} s", now.what, now.done, now.spent.as_secs_f64())
}

fn bar(now: Preparing<'_>) -> String {
    let Some(total) = now.total.filter(|&total| total > 0) else { return line(now) };
    let full = (WIDTH * now.done / total).min(WIDTH);
    let (done, left) = ("#".repeat(full as usize), "-".repeat((WIDTH - full) as usize));
    format!("[{done}{left}] {}", line(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_preparations_are_told() {
        let seconds = Duration::from_secs;
        assert!(!is_due(seconds(1), None));
        assert!(is_due(seconds(2), None));
        assert!(!is_due(seconds(5), Some(seconds(1))));
        assert!(is_due(seconds(5), Some(seconds(3))));
        let now = Preparing {
            what: "compiling",
            done: 4,
            total: Some(9),
            spent: seconds(3),
            goes_on: false,
        };
        assert_eq!(line(now), "compiling: 4 of 9 ready after 3 s");
        assert_eq!(line(Preparing { total: None, ..now }), "compiling: 4 ready after 3 s");
        let bars = [0, 3, 9, 12].map(|done| bar(Preparing { done, ..now }));
        let filled = bars.map(|bar| bar.matches('#').count());
        assert_eq!(filled, [0, 10, 30, 30]);
        assert!(bar(Preparing { total: None, ..now }).starts_with("compiling"));
    }
}
