//! How long one rendering of a template may take. The interpreter counts steps, and one step may search a text of a
//! hundred megabytes: five million of those are days, in little memory. Nothing inside it looks at a clock, so that
//! another thread does.

use std::collections::HashMap;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks that may find the same rendering at work. Looks and not seconds: a machine that sleeps, or a process that is
/// stopped, makes none.
const LOOKS: u32 = 15;

/// Said when a rendering takes longer.
const WORDS: &[u8] =
    b"error: a template was stopped, because one row of it took more than 15 seconds. Look at the template \
named last, or do not use it.\n";

/// How many renderings have begun and ended, a place for each thread: odd while one lasts. Threads that share one, from
/// the 257th on, may hide each other's from the look, and never make one up.
static PLACES: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];
static NEXT: AtomicUsize = AtomicUsize::new(0);
static LOOKING: Once = Once::new();

thread_local! {
    static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % PLACES.len();
}

/// A rendering begins on this thread.
pub(super) fn begin() {
    LOOKING.call_once(|| {
        let thread = thread::Builder::new().name("time of templates".to_string());
        if let Err(error) = thread.spawn(look) {
            eprintln!("note: the time that templates take is not limited: {error}");
        }
    });
    turn();
}

/// And ends.
pub(super) fn end() {
    turn();
}

fn turn() {
    PLACE.with(|&place| PLACES[place].fetch_add(1, Ordering::Relaxed));
}

fn look() {
    let mut seen = Seen::default();
    loop {
        thread::sleep(LOOK_EVERY);
        if seen.look(PLACES.iter().map(|place| place.load(Ordering::Relaxed))) {
            super::stop(WORDS, 2);
        }
    }
}

/// The renderings that the last look found at work, and how many looks have found them.
#[derive(Default)]
struct Seen(HashMap<usize, (u32, u32)>);

impl Seen {
    /// Whether one of them has been there for too long.
    fn look(&mut self, counts: impl Iterator<Item = u32>) -> bool {
        let before = std::mem::take(&mut self.0);
        for (place, count) in counts.enumerate().filter(|(_, count)| count % 2 == 1) {
            let looks = match before.get(&place) {
                Some(&(same, looks)) if same == count => looks + 1,
                _ => 1,
            };
            self.0.insert(place, (count, looks));
        }
        self.0.values().any(|&(_, looks)| looks > LOOKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f24_only_a_rendering_that_stays_is_stopped() {
        let mut seen = Seen::default();
        // One that has ended, many one after the other, and one that stays from the third look on.
        let counts = |look: u32| [4, 2 * look + 1, if look < 3 { 6 } else { 7 }];
        let first = (0..100).find(|&look| seen.look(counts(look).into_iter()));
        assert_eq!(first, Some(3 + LOOKS));
        assert!(!seen.look([4, 8, 8].into_iter()), "it has ended");
        assert!(!seen.look([4, 8, 9].into_iter()), "another one begins");
    }
}
