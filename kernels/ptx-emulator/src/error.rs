//! What can go wrong: in the text, or while a kernel runs.

use std::fmt;

/// An error in the PTX text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct SourceError {
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

/// What a running kernel did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// An address outside every allocation, variable or parameter.
    #[error("{access} of {bytes} bytes at {space} address {address:#x}: {detail}")]
    OutOfBounds {
        /// read, write or atomic.
        access: &'static str,
        /// global, shared, …
        space: &'static str,
        /// The address.
        address: u64,
        /// How many bytes.
        bytes: u32,
        /// The nearest allocation, or the space's size.
        detail: String,
    },
    /// An address that is no multiple of the access's size.
    #[error("{space} address {address:#x} is no multiple of {bytes}")]
    Misaligned {
        /// global, shared, …
        space: &'static str,
        /// The address.
        address: u64,
        /// The alignment that the access needs.
        bytes: u32,
    },
    /// A register that was never written in this lane.
    #[error("register {name} is read before it is written")]
    UninitialisedRegister {
        /// The register.
        name: String,
    },
    /// Shared or local memory that was never written.
    #[error("{space} memory at {address:#x} is read before it is written")]
    UninitialisedMemory {
        /// shared or local.
        space: &'static str,
        /// The address.
        address: u64,
    },
    /// Two threads touched the same byte, one of them wrote, and no barrier lies between.
    #[error(
        "race in shared memory at {address:#x}: this {now} and a {before} by warp {warp} \
         lane {lane} with no barrier between"
    )]
    Race {
        /// The address.
        address: u64,
        /// read, write or atomic: the access that was about to happen.
        now: &'static str,
        /// The access that happened before.
        before: &'static str,
        /// Who did it.
        warp: u32,
        /// Who did it; 255 stands for several lanes.
        lane: u32,
    },
    /// Data of a `cp.async` touched before its group was waited for.
    #[error(
        "{now} of shared memory at {address:#x} while a cp.async of warp {warp} lane {lane} \
         into it has not been waited for"
    )]
    AsyncPending {
        /// read, write or atomic.
        now: &'static str,
        /// The address.
        address: u64,
        /// Who issued the copy.
        warp: u32,
        /// Who issued the copy.
        lane: u32,
    },
    /// Data of a bulk copy touched by who has not seen its mbarrier's phase end.
    #[error(
        "{now} of shared memory at {address:#x} while a bulk copy into it has not been waited for: \
         phase {phase} (parity {}) of the mbarrier at {mbarrier:#x} counts its bytes", phase % 2
    )]
    BulkPending {
        /// read, write, …
        now: &'static str,
        /// The address.
        address: u64,
        /// The mbarrier that the copy signals.
        mbarrier: u64,
        /// Its phase, counted from 0, that ends when the bytes have come.
        phase: u32,
    },
    /// An ordinary write that an asynchronous instruction need not see yet.
    #[error(
        "{now} of shared memory at {address:#x}, which warp {warp} lane {lane} wrote with no \
         fence.proxy.async between"
    )]
    NotFenced {
        /// The asynchronous access.
        now: &'static str,
        /// The address.
        address: u64,
        /// Who wrote.
        warp: u32,
        /// Who wrote.
        lane: u32,
    },
    /// An mbarrier used wrongly.
    #[error("mbarrier at {address:#x}: {problem}")]
    Mbarrier {
        /// Where it is.
        address: u64,
        /// What is wrong.
        problem: String,
    },
    /// A register that a `wgmma` still works on.
    #[error("register {name} is touched while a wgmma on it has not been waited for")]
    RegisterInFlight {
        /// The register.
        name: String,
    },
    /// A register of a `wgmma` that was touched since the last `wgmma.fence`.
    #[error("register {name} was touched since the last wgmma.fence (or there was none)")]
    RegisterNotFenced {
        /// The register.
        name: String,
    },
    /// A barrier that not all of a warp's running lanes reached together.
    #[error("barrier {id} is reached by lanes {here:#010x} only, of {running:#010x} still running")]
    DivergentBarrier {
        /// The barrier's number.
        id: u32,
        /// The lanes at it.
        here: u32,
        /// The lanes of this warp that have not ended.
        running: u32,
    },
    /// Every warp waits and nothing can wake any.
    #[error("the CTA cannot go on: {0}")]
    Deadlock(String),
    /// A `.sync` instruction whose member mask names lanes that are elsewhere.
    #[error("{what}: the mask names lanes {mask:#010x}, but only {here:#010x} are here")]
    MemberMask {
        /// The instruction.
        what: &'static str,
        /// The mask given.
        mask: u32,
        /// The lanes that execute it.
        here: u32,
    },
    /// An operand that must be the same in all lanes, or must have a certain value.
    #[error("{0}")]
    BadOperand(String),
    /// `trap`.
    #[error("trap")]
    Trap,
    /// More instructions than the machine's limit: most likely an endless loop.
    #[error("stopped after {0} instructions of one warp: an endless loop?")]
    Endless(u64),
}

/// A fault with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kernel.
    pub kernel: String,
    /// The line of the PTX text.
    pub line: u32,
    /// That line.
    pub text: String,
    /// `%ctaid`.
    pub cta: [u32; 3],
    /// The warp inside the CTA.
    pub warp: u32,
    /// The lane inside the warp, where one lane is to blame.
    pub lane: Option<u32>,
    /// What happened.
    pub kind: FaultKind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.cta;
        write!(f, "kernel {}, line {}", self.kernel, self.line)?;
        write!(f, " (`{}`), CTA ({x},{y},{z}), warp {}", self.text, self.warp)?;
        if let Some(lane) = self.lane {
            write!(f, ", lane {lane}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for Fault {}

/// A fault before its place is known: which lane, and what.
pub(crate) type LaneFault = (Option<u32>, FaultKind);
