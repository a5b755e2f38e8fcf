//! What a launch did, counted: the figures that need no clock.

use std::fmt;
use std::ops::AddAssign;

/// What kind of work an instruction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Integer and bit arithmetic.
    Integer,
    /// Float arithmetic, the 16-bit formats included.
    Float,
    /// Approximations by the special function unit (ex2, rcp, …).
    Special,
    /// Conversions between formats.
    Convert,
    /// Moves, packing, selection.
    Move,
    /// Comparisons and predicate logic.
    Compare,
    /// Branches and exits.
    Control,
    /// Barriers and fences.
    Barrier,
    /// Shuffles, votes, warp reductions.
    Shuffle,
    /// Loads from device memory.
    GlobalLoad,
    /// Stores to device memory.
    GlobalStore,
    /// Loads from shared memory.
    SharedLoad,
    /// Stores to shared memory.
    SharedStore,
    /// Parameters, constants and local memory.
    OtherMemory,
    /// Atomics.
    Atomic,
    /// `cp.async` and its groups.
    AsyncCopy,
    /// `ldmatrix`.
    MatrixLoad,
    /// `mma`.
    MatrixMultiply,
}

/// Names for a table, in the order of [`Class`].
pub const CLASS_NAMES: [&str; 18] = [
    "integer",
    "float",
    "special",
    "convert",
    "move",
    "compare",
    "control",
    "barrier",
    "shuffle",
    "global load",
    "global store",
    "shared load",
    "shared store",
    "other memory",
    "atomic",
    "async copy",
    "ldmatrix",
    "mma",
];

/// Counts of one launch or of several added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Warp instructions by [`Class`], those whose guard is false in every lane included.
    pub instructions: [u64; 18],
    /// Bytes that lanes asked of device memory.
    pub global_read: u64,
    /// Bytes that lanes wrote to device memory.
    pub global_written: u64,
    /// 32-byte sectors touched by device reads, each instruction for itself: what memory must move
    /// if no cache helps. Sectors x 32 above `global_read` means badly coalesced access.
    pub sectors_read: u64,
    /// 32-byte sectors touched by device writes.
    pub sectors_written: u64,
    /// Bytes read from shared memory, `ldmatrix` included.
    pub shared_read: u64,
    /// Bytes written to shared memory, `cp.async` included.
    pub shared_written: u64,
    /// Passes through the shared memory's 32 banks.
    pub shared_passes: u64,
    /// Passes beyond the fewest possible: bank conflicts.
    pub bank_conflicts: u64,
    /// Floating point operations of `mma` (a multiply-add is two).
    pub mma_flops: u64,
    /// CTAs run.
    pub ctas: u64,
}

impl Counters {
    /// Warp instructions of one class.
    pub fn of(&self, class: Class) -> u64 {
        self.instructions[class as usize]
    }

    /// All warp instructions.
    pub fn total(&self) -> u64 {
        self.instructions.iter().sum()
    }
}

impl AddAssign<&Counters> for Counters {
    fn add_assign(&mut self, other: &Counters) {
        for (sum, count) in self.instructions.iter_mut().zip(other.instructions) {
            *sum += count;
        }
        self.global_read += other.global_read;
        self.global_written += other.global_written;
        self.sectors_read += other.sectors_read;
        self.sectors_written += other.sectors_written;
        self.shared_read += other.shared_read;
        self.shared_written += other.shared_written;
        self.shared_passes += other.shared_passes;
        self.bank_conflicts += other.bank_conflicts;
        self.mma_flops += other.mma_flops;
        self.ctas += other.ctas;
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} warp instructions in {} CTAs (", self.total(), self.ctas)?;
        let mut first = true;
        for (name, count) in CLASS_NAMES.iter().zip(self.instructions) {
            if count > 0 {
                write!(f, "{}{name} {count}", if first { "" } else { ", " })?;
                first = false;
            }
        }
        write!(
            f,
            "); device memory {} B read ({} sectors), {} B written ({} sectors); \
             shared memory {} B read, {} B written, {} passes of which {} are bank conflicts; \
             {} mma flops",
            self.global_read,
            self.sectors_read,
            self.global_written,
            self.sectors_written,
            self.shared_read,
            self.shared_written,
            self.shared_passes,
            self.bank_conflicts,
            self.mma_flops
        )
    }
}
