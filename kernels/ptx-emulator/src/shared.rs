//! A CTA's shared memory, with a record of who touched what.
//!
//! Every granule (the kernel's smallest access, one to sixteen bytes) remembers its last write and
//! the reads since. "Ordered" is decided with vector clocks: a warp's own clock moves at each
//! barrier, and a barrier hands the clocks of all who arrived to all who waited. So named barriers
//! and producer/consumer pairs are judged as exactly as a barrier of the whole CTA.

use crate::counters::Counters;
use crate::error::FaultKind;

/// Kinds of access, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Write,
    Atomic,
    Async,
}

impl Touch {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Atomic => "atomic",
            Self::Async => "cp.async",
        }
    }
}

/// Who touches: the warp, the lane, and the warp's clocks.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) warp: u32,
    pub(crate) lane: u32,
    pub(crate) clocks: &'a [u32],
}

impl Who<'_> {
    fn now(&self) -> u32 {
        self.clocks[self.warp as usize]
    }

    /// Whether an access by (`warp`, `lane`) at that warp's clock `then` surely lies before.
    fn is_after(&self, warp: u32, lane: u32, then: u32) -> bool {
        if warp == self.warp {
            lane == self.lane || self.now() > then
        } else {
            self.clocks[warp as usize] >= then
        }
    }
}

/// Stands for "several lanes" in a record of reads.
const SEVERAL: u32 = 255;
const PENDING: u64 = 1 << 16;
const ATOMIC: u64 = 1 << 17;

fn write_record(who: &Who, flags: u64) -> u64 {
    u64::from(who.now()) << 32 | flags | u64::from(who.warp) << 8 | u64::from(who.lane)
}

/// The memory and its records.
pub(crate) struct Shared {
    bytes: Vec<u8>,
    granule: u32,
    /// Last write of each granule: clock, flags, warp, lane. 0: never written.
    writes: Vec<u64>,
    /// Reads since the last write, for each granule and warp: clock and lane. 0: none.
    reads: Vec<u32>,
    warps: usize,
}

impl Shared {
    /// `granule` is the power of two that every access is a multiple of.
    pub(crate) fn new(size: u32, granule: u32, warps: u32) -> Self {
        let granules = size.div_ceil(1 << granule) as usize;
        Self {
            bytes: vec![0xFF; size as usize],
            granule,
            writes: vec![0; granules],
            reads: vec![0; granules * warps as usize],
            warps: warps as usize,
        }
    }

    /// Forgets everything: a new CTA begins.
    pub(crate) fn reset(&mut self) {
        self.bytes.fill(0xFF);
        self.writes.fill(0);
        self.reads.fill(0);
    }

    fn range(&self, address: u64, length: u32, touch: Touch) -> Result<usize, FaultKind> {
        if !address.is_multiple_of(u64::from(length)) {
            return Err(FaultKind::Misaligned { space: "shared", address, bytes: length });
        }
        match address.checked_add(u64::from(length)) {
            Some(end) if end <= self.bytes.len() as u64 => Ok(address as usize),
            _ => Err(FaultKind::OutOfBounds {
                access: touch.name(),
                space: "shared",
                address,
                bytes: length,
                detail: format!("the CTA has {} bytes of shared memory", self.bytes.len()),
            }),
        }
    }

    fn granules(&self, start: usize, length: u32) -> std::ops::Range<usize> {
        start >> self.granule..((start + length as usize - 1) >> self.granule) + 1
    }

    fn race(&self, granule: usize, now: Touch, before: Touch, warp: u32, lane: u32) -> FaultKind {
        let address = (granule << self.granule) as u64;
        FaultKind::Race { address, now: now.name(), before: before.name(), warp, lane }
    }

    /// The last write of `granule` lies before this access, or an error.
    fn after_write(&self, granule: usize, who: &Who, touch: Touch) -> Result<(), FaultKind> {
        let record = self.writes[granule];
        if record == 0 {
            return Ok(());
        }
        let (warp, lane) = ((record >> 8 & 255) as u32, (record & 255) as u32);
        if record & PENDING != 0 {
            let address = (granule << self.granule) as u64;
            return Err(FaultKind::AsyncPending { now: touch.name(), address, warp, lane });
        }
        let both_atomic = touch == Touch::Atomic && record & ATOMIC != 0;
        if both_atomic || who.is_after(warp, lane, (record >> 32) as u32) {
            return Ok(());
        }
        let before = if record & ATOMIC != 0 { Touch::Atomic } else { Touch::Write };
        Err(self.race(granule, touch, before, warp, lane))
    }

    fn after_reads(&self, granule: usize, who: &Who, touch: Touch) -> Result<(), FaultKind> {
        let rows = &self.reads[granule * self.warps..(granule + 1) * self.warps];
        for (warp, &record) in rows.iter().enumerate() {
            let (then, lane) = (record >> 8, record & 255);
            if record != 0 && !who.is_after(warp as u32, lane, then) {
                return Err(self.race(granule, touch, Touch::Read, warp as u32, lane));
            }
        }
        Ok(())
    }

    /// Reads `length` bytes (at most 16) after checking everything about them.
    pub(crate) fn read(
        &mut self,
        address: u64,
        length: u32,
        who: &Who,
    ) -> Result<&[u8], FaultKind> {
        let start = self.range(address, length, Touch::Read)?;
        for granule in self.granules(start, length) {
            if self.writes[granule] == 0 {
                let address = (granule << self.granule) as u64;
                return Err(FaultKind::UninitialisedMemory { space: "shared", address });
            }
            self.after_write(granule, who, Touch::Read)?;
            let row = &mut self.reads[granule * self.warps + who.warp as usize];
            let lane =
                if *row >> 8 == who.now() && *row & 255 != who.lane { SEVERAL } else { who.lane };
            *row = who.now() << 8 | lane;
        }
        Ok(&self.bytes[start..start + length as usize])
    }

    /// Writes `data` after checking everything about the place.
    pub(crate) fn write(&mut self, address: u64, data: &[u8], who: &Who) -> Result<(), FaultKind> {
        let start = self.claim(address, data.len() as u32, who, Touch::Write, 0)?;
        self.bytes[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    /// The bytes of an atomic, to be changed in place.
    pub(crate) fn atomic(
        &mut self,
        address: u64,
        length: u32,
        who: &Who,
    ) -> Result<&mut [u8], FaultKind> {
        let start = self.range(address, length, Touch::Atomic)?;
        if let Some(granule) = self.granules(start, length).find(|&at| self.writes[at] == 0) {
            let address = (granule << self.granule) as u64;
            return Err(FaultKind::UninitialisedMemory { space: "shared", address });
        }
        self.claim(address, length, who, Touch::Atomic, ATOMIC)?;
        Ok(&mut self.bytes[start..start + length as usize])
    }

    /// Marks the target of a `cp.async` as under way.
    pub(crate) fn begin_async(
        &mut self,
        address: u64,
        length: u32,
        who: &Who,
    ) -> Result<(), FaultKind> {
        self.claim(address, length, who, Touch::Async, PENDING).map(drop)
    }

    /// Lets the data of a `cp.async` arrive: from now on it counts as written by its thread.
    pub(crate) fn finish_async(&mut self, address: u64, data: &[u8], who: &Who) {
        let start = address as usize;
        self.bytes[start..start + data.len()].copy_from_slice(data);
        let record = write_record(who, 0);
        for granule in self.granules(start, data.len() as u32) {
            self.writes[granule] = record;
        }
    }

    fn claim(
        &mut self,
        address: u64,
        length: u32,
        who: &Who,
        touch: Touch,
        flags: u64,
    ) -> Result<usize, FaultKind> {
        let start = self.range(address, length, touch)?;
        let record = write_record(who, flags);
        for granule in self.granules(start, length) {
            self.after_write(granule, who, touch)?;
            self.after_reads(granule, who, touch)?;
            self.writes[granule] = record;
            self.reads[granule * self.warps..(granule + 1) * self.warps].fill(0);
        }
        Ok(start)
    }
}

/// Counts the passes that one warp instruction needs through the 32 banks of four bytes. An access
/// of 8 bytes a lane goes by half warps, of 16 bytes by quarter warps, as the hardware does it.
pub(crate) fn count_passes(
    addresses: &[u64; 32],
    active: u32,
    bytes: u32,
    counters: &mut Counters,
) {
    let lanes_a_phase = match bytes {
        16 => 8,
        8 => 16,
        _ => 32,
    };
    for phase in 0..32 / lanes_a_phase {
        let lanes = phase * lanes_a_phase..(phase + 1) * lanes_a_phase;
        let mut words = [0_u64; 32];
        let mut count = 0;
        for lane in lanes.filter(|lane| active >> lane & 1 == 1) {
            for word in 0..u64::from(bytes.div_ceil(4)) {
                words[count] = addresses[lane] / 4 + word;
                count += 1;
            }
        }
        if count > 0 {
            let passes = passes(&mut words[..count]);
            counters.shared_passes += passes;
            counters.bank_conflicts += passes - 1;
        }
    }
}

/// Most distinct words in one bank.
fn passes(words: &mut [u64]) -> u64 {
    let mut first = [u64::MAX; 32];
    let clean = words.iter().all(|&word| {
        let slot = &mut first[(word % 32) as usize];
        if *slot == u64::MAX {
            *slot = word;
        }
        *slot == word
    });
    if clean {
        return 1;
    }
    words.sort_unstable();
    let mut in_bank = [0_u64; 32];
    let mut before = u64::MAX;
    for &word in words.iter() {
        in_bank[(word % 32) as usize] += u64::from(word != before);
        before = word;
    }
    in_bank.into_iter().max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflicts(bytes: u32, address: impl Fn(u64) -> u64) -> (u64, u64) {
        let mut counters = Counters::default();
        let addresses = std::array::from_fn(|lane| address(lane as u64));
        count_passes(&addresses, !0, bytes, &mut counters);
        (counters.shared_passes, counters.bank_conflicts)
    }

    #[test]
    fn bank_conflicts_by_hand() {
        assert_eq!(conflicts(4, |lane| 4 * lane), (1, 0));
        assert_eq!(conflicts(4, |_| 64), (1, 0), "a broadcast");
        assert_eq!(conflicts(4, |lane| 8 * lane), (2, 1));
        assert_eq!(conflicts(4, |lane| 128 * lane), (32, 31));
        assert_eq!(conflicts(2, |lane| 2 * lane), (1, 0), "two halves of one word");
        assert_eq!(conflicts(8, |lane| 8 * lane), (2, 0));
        assert_eq!(conflicts(16, |lane| 16 * lane), (4, 0));
        assert_eq!(conflicts(16, |lane| 128 * lane), (32, 28), "rows of 128 bytes, not swizzled");
        assert_eq!(conflicts(16, |lane| 128 * lane + 16 * (lane % 8)), (4, 0), "swizzled");
    }

    fn who<'a>(warp: u32, lane: u32, clocks: &'a [u32]) -> Who<'a> {
        Who { warp, lane, clocks }
    }

    #[test]
    fn a_write_and_a_read_by_another_thread_need_a_barrier() {
        let mut shared = Shared::new(64, 2, 2);
        let (first, second) = ([1, 0], [0, 1]);
        shared.write(0, &[1; 4], &who(0, 3, &first)).unwrap();
        assert!(shared.read(0, 4, &who(0, 3, &first)).is_ok(), "the same thread");
        assert!(matches!(shared.read(0, 4, &who(0, 4, &first)), Err(FaultKind::Race { .. })));
        assert!(matches!(shared.read(0, 4, &who(1, 0, &second)), Err(FaultKind::Race { .. })));
        // After a barrier both know each other's clock 1 and have clock 2 themselves.
        let (first, second) = ([2, 1], [1, 2]);
        assert!(shared.read(0, 4, &who(1, 0, &second)).is_ok());
        // A write needs the read to lie behind a barrier too.
        let race = shared.write(0, &[2; 4], &who(0, 3, &first)).unwrap_err();
        let FaultKind::Race { now: "write", before: "read", warp: 1, lane: 0, .. } = race else {
            panic!("{race}")
        };
        assert!(shared.write(0, &[2; 4], &who(0, 3, &[3, 2])).is_ok());
    }
}
