//! Which calls on the simulated disk fail, and how.

use std::io::{self, ErrorKind};

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// "No space left on device". A write leaves half of its data behind.
    NoSpace,
    /// "Input/output error". A write leaves half of its data behind; a sync loses what it should
    /// keep.
    Io,
    /// "Input/output error" although the call was carried out, as when a reply is lost on a
    /// network.
    IoAfter,
    /// "Interrupted system call": nothing was done.
    Interrupted,
    /// A write or read does half of what was asked; other calls succeed.
    Short,
    /// A write reports success and stores other bytes, as a drive or cable that rots does; other calls succeed.
    Rot,
}

impl Fault {
    /// Every kind that a program is told of. [`Fault::Rot`] is seen by reading back alone.
    pub const ALL: [Self; 5] =
        [Self::NoSpace, Self::Io, Self::IoAfter, Self::Interrupted, Self::Short];

    fn error(self) -> io::Error {
        match self {
            Self::NoSpace => no_space(),
            Self::Io | Self::IoAfter => device_error(),
            Self::Interrupted | Self::Short | Self::Rot => ErrorKind::Interrupted.into(),
        }
    }
}

#[cfg(unix)]
fn no_space() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

#[cfg(unix)]
fn device_error() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

#[cfg(not(unix))]
fn no_space() -> io::Error {
    ErrorKind::StorageFull.into()
}

#[cfg(not(unix))]
fn device_error() -> io::Error {
    io::Error::other("input/output error")
}

/// A plan of failures and the counter of calls.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    plan: Option<(Fault, u64, bool)>,
    calls: u64,
}

/// What a write should do.
pub(super) struct WriteOutcome {
    pub(super) bytes: usize,
    pub(super) error: Option<io::Error>,
    /// Whether one bit of what is stored is another.
    pub(super) rots: bool,
}

impl WriteOutcome {
    fn new(bytes: usize, error: Option<io::Error>) -> Self {
        Self { bytes, error, rots: false }
    }
}

/// Whether a call that was carried out reports an error nevertheless.
pub(super) struct After(Option<io::Error>);

impl After {
    pub(super) fn finish<T>(self, value: T) -> io::Result<T> {
        self.0.map_or(Ok(value), Err)
    }
}

impl Faults {
    /// No call fails.
    pub fn none() -> Self {
        Self::default()
    }

    /// Call number `call` (counted from 0 since the disk was made) fails.
    pub fn once(fault: Fault, call: u64) -> Self {
        Self { plan: Some((fault, call, false)), calls: 0 }
    }

    /// Call number `call` and all after it fail.
    pub fn from_then_on(fault: Fault, call: u64) -> Self {
        Self { plan: Some((fault, call, true)), calls: 0 }
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn count_from(&mut self, calls: u64) {
        self.calls = calls;
    }

    fn next(&mut self) -> Option<Fault> {
        let call = self.calls;
        self.calls += 1;
        let (fault, first, for_ever) = self.plan?;
        (call == first || (for_ever && call > first)).then_some(fault)
    }

    /// For calls that are done or not done.
    pub(super) fn enter(&mut self) -> io::Result<After> {
        match self.next() {
            None | Some(Fault::Short | Fault::Rot) => Ok(After(None)),
            Some(Fault::IoAfter) => Ok(After(Some(Fault::IoAfter.error()))),
            Some(fault) => Err(fault.error()),
        }
    }

    /// A sync that reports an error is never a good one, so here "after" is no different.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.enter()?.finish(())
    }

    pub(super) fn write_outcome(&mut self, wanted: usize) -> WriteOutcome {
        let half = wanted / 2;
        match self.next() {
            None => WriteOutcome::new(wanted, None),
            Some(Fault::Short) => WriteOutcome::new(wanted.div_ceil(2), None),
            Some(Fault::Rot) => WriteOutcome { rots: true, ..WriteOutcome::new(wanted, None) },
            Some(fault @ Fault::Interrupted) => WriteOutcome::new(0, Some(fault.error())),
            Some(fault @ Fault::IoAfter) => WriteOutcome::new(wanted, Some(fault.error())),
            Some(fault) => WriteOutcome::new(half, Some(fault.error())),
        }
    }

    pub(super) fn read_bytes(&mut self, wanted: usize) -> io::Result<usize> {
        match self.next() {
            None | Some(Fault::Rot) => Ok(wanted),
            Some(Fault::Short) => Ok(wanted.div_ceil(2)),
            Some(fault) => Err(fault.error()),
        }
    }
}
