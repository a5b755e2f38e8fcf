//! Waiting for the device, but not for ever: a card that hangs, or a driver that does, must not look like
//! a run that is slow.
//!
//! No call of the driver is made that could block for longer than a copy: waits ask an event again and
//! again, and so few launches are under way that the driver's own queue never fills.

use std::time::{Duration, Instant};

use cust::event::{Event, EventFlags, EventStatus};
use cust::stream::Stream;

use super::driver::{Answer, Code};

/// No code of the driver's: what was waited for has not finished within the limit.
pub const HUNG: Code = Code::MAX;

/// The longest wait, unless the options or the environment say otherwise. Nothing that a step does takes a
/// device that works a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// Launches between two marks.
const LAUNCHES: u32 = 256;

/// Marks that may be under way: at most 768 launches, and drivers queue some thousand.
const MARKS: usize = 2;

/// The limit that `asked` names, or the environment variable PADDOCK_DEVICE_WAIT (seconds).
pub fn limit(asked: Option<Duration>) -> Duration {
    let variable = || std::env::var("PADDOCK_DEVICE_WAIT").ok()?.parse().ok();
    asked.or_else(|| variable().map(Duration::from_secs)).unwrap_or(LIMIT)
}

/// Waits for everything before `event` on its stream.
pub fn until(event: &Event, limit: Duration) -> Answer {
    let since = Instant::now();
    loop {
        match event.query() {
            Ok(EventStatus::Ready) => return Ok(()),
            Ok(EventStatus::NotReady) => {}
            Err(error) => return Err(error as Code),
        }
        let spent = since.elapsed();
        if spent >= limit {
            return Err(HUNG);
        }
        // Short waits are for short kernels, whose results are wanted at once.
        match spent.as_micros() {
            0..1_000 => std::thread::yield_now(),
            1_000..100_000 => std::thread::sleep(Duration::from_micros(50)),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Events of one stream: one to wait for its end by, and marks between launches.
pub struct Pace {
    end: Event,
    marks: [Event; MARKS],
    next: usize,
    launches: u32,
    limit: Duration,
}

impl Pace {
    /// The events of a stream on which nothing is queued.
    pub fn new(stream: &Stream, limit: Duration) -> Answer<Pace> {
        let event = || -> Answer<Event> {
            let event = Event::new(EventFlags::DISABLE_TIMING).map_err(|e| e as Code)?;
            event.record(stream).map_err(|e| e as Code)?;
            Ok(event)
        };
        Ok(Pace { end: event()?, marks: [event()?, event()?], next: 0, launches: 0, limit })
    }

    /// The longest wait.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Waits until everything queued has finished.
    pub fn wait(&self, stream: &Stream) -> Answer {
        self.end.record(stream).map_err(|e| e as Code)?;
        until(&self.end, self.limit)
    }

    /// Counts a launch; waits where too many are under way.
    pub fn launched(&mut self, stream: &Stream) -> Answer {
        self.launches += 1;
        if self.launches < LAUNCHES {
            return Ok(());
        }
        let mark = &self.marks[self.next];
        until(mark, self.limit)?;
        self.next = (self.next + 1) % MARKS;
        self.launches = 0;
        mark.record(stream).map_err(|e| e as Code)
    }
}
