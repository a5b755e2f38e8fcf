//! How far a device's preparation has come, on stderr, once it takes long enough to be asked about.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use paddock_kernels::{Preparing, Progress};

/// Shorter preparations are not worth a word.
const SILENT: Duration = Duration::from_secs(2);

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Tells a person, a line at a time.
pub fn tell() -> Progress {
    let last: Mutex<Option<Instant>> = Mutex::default();
    Arc::new(move |now: Preparing<'_>| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due(now.spent, last.map(|at| at.elapsed())) {
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
        let now = Preparing { what: "compiling", done: 4, total: Some(9), spent: seconds(3) };
        assert_eq!(line(now), "compiling: 4 of 9 ready after 3 s");
        assert_eq!(line(Preparing { total: None, ..now }), "compiling: 4 ready after 3 s");
    }
}
