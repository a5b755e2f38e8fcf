//! A CTA's shared memory, with a record of who touched what.
//!
//! Every granule (the kernel's smallest access, one to sixteen bytes) remembers its last write and
//! the reads since. "Ordered" is decided with vector clocks (`clock.rs`): a warp's own clock moves
//! at each barrier, and a barrier hands the clocks of all who arrived to all who waited. So named
//! barriers and producer/consumer pairs are judged as exactly as a barrier of the whole CTA.
//! Asynchronous reads and writes have components of their own, and see an ordinary write only
//! behind a proxy fence.

use crate::clock::{Layout, Owner, Touch, Who};
use crate::error::FaultKind;
use crate::exec::access::CLUSTER_STEP;
use crate::mbarrier::Mbarriers;

/// Stands for "several lanes" in a record of reads.
pub(crate) const SEVERAL: u32 = 255;
const PENDING: u64 = 1 << 24;
const ATOMIC: u64 = 1 << 25;
/// Written by a bulk copy.
const BULK: u64 = 1 << 26;

/// Time, flags, component, lane.
fn record(then: u32, flags: u64, component: usize, lane: u32) -> u64 {
    u64::from(then) << 32 | flags | (component as u64 & 0xFFFF) << 8 | u64::from(lane)
}

fn parts(record: u64) -> (u32, usize, u32) {
    ((record >> 32) as u32, (record >> 8 & 0xFFFF) as usize, (record & 255) as u32)
}

/// A bulk store that may still read.
struct Reading {
    start: usize,
    end: usize,
    warp: usize,
    lane: u32,
}

/// The memory and its records.
pub(crate) struct Shared {
    bytes: Vec<u8>,
    granule: u32,
    layout: Layout,
    /// The CTA's number in its cluster.
    rank: usize,
    /// Last write of each granule, see `record`. 0: never written.
    writes: Vec<u64>,
    /// Reads since the last write, for each granule a row of warps and, in asynchronous kernels, of
    /// their `wgmma` groups: clock and lane. 0: none.
    reads: Vec<u32>,
    row: usize,
    reading: Vec<Reading>,
    pub(crate) mbarriers: Mbarriers,
    /// Whether the CTA has ended, while others of its cluster go on.
    pub(crate) ended: bool,
    /// Registers that warps have given back.
    pub(crate) free_registers: u32,
}

impl Shared {
    /// `granule` is the power of two that every access is a multiple of.
    pub(crate) fn new(size: u32, granule: u32, layout: Layout, rank: usize) -> Self {
        let granules = size.div_ceil(1 << granule) as usize;
        let row = layout.warps * if layout.asynchronous { 2 } else { 1 };
        Self {
            bytes: vec![0xFF; size as usize],
            granule,
            layout,
            rank,
            writes: vec![0; granules],
            reads: vec![0; granules * row],
            row,
            reading: Vec::new(),
            mbarriers: Mbarriers::new(size),
            ended: false,
            free_registers: 0,
        }
    }

    /// Forgets everything: a new CTA begins.
    pub(crate) fn reset(&mut self) {
        self.bytes.fill(0xFF);
        self.writes.fill(0);
        self.reads.fill(0);
        self.reading.clear();
        self.mbarriers.reset();
        self.ended = false;
        self.free_registers = 0;
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    fn range(&self, address: u64, length: u32, touch: Touch) -> Result<usize, FaultKind> {
        let address = match address / CLUSTER_STEP {
            rank if rank == self.rank as u64 => address % CLUSTER_STEP,
            _ => address,
        };
        if !address.is_multiple_of(u64::from(length)) {
            return Err(FaultKind::Misaligned { space: "shared", address, bytes: length });
        }
        match address.checked_add(u64::from(length)) {
            Some(end) if end <= self.bytes.len() as u64 => {
                self.mbarriers.keep_off(address, end, touch.name())?;
                Ok(address as usize)
            }
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
        let (then, component, lane) = parts(record);
        let address = (granule << self.granule) as u64;
        let owner = self.layout.owner(component);
        if record & PENDING != 0 {
            let Owner::Warp { warp } = owner else { return Ok(()) };
            return Err(FaultKind::AsyncPending { now: touch.name(), address, warp, lane });
        }
        let both_atomic = touch == Touch::Atomic && record & ATOMIC != 0;
        if both_atomic || who.is_after(component, lane, then) {
            return Ok(());
        }
        match owner {
            Owner::Mbarrier { slot } => Err(FaultKind::BulkPending {
                now: touch.name(),
                address,
                mbarrier: self.mbarriers.address(slot),
                phase: then - 1,
            }),
            Owner::Warp { warp } | Owner::Group { warp } => {
                let before = if record & ATOMIC != 0 { Touch::Atomic } else { Touch::Write };
                Err(self.race(granule, touch, before, warp, lane))
            }
        }
    }

    fn after_reads(&self, granule: usize, who: &Who, touch: Touch) -> Result<(), FaultKind> {
        let rows = &self.reads[granule * self.row..(granule + 1) * self.row];
        for (place, &record) in rows.iter().enumerate() {
            let (then, lane) = (record >> 8, record & 255);
            if record == 0 {
                continue;
            }
            let (warps, warp) = (self.layout.warps, place % self.layout.warps);
            let (component, before) = if place < warps {
                (self.layout.warp(self.rank, warp), Touch::Read)
            } else {
                (self.layout.group(self.rank, warp), Touch::Wgmma)
            };
            if !who.is_after(component, lane, then) {
                return Err(self.race(granule, touch, before, warp as u32, lane));
            }
        }
        Ok(())
    }

    fn initialised(&self, granule: usize) -> Result<(), FaultKind> {
        if self.writes[granule] == 0 {
            let address = (granule << self.granule) as u64;
            return Err(FaultKind::UninitialisedMemory { space: "shared", address });
        }
        Ok(())
    }

    fn note_read(&mut self, granule: usize, warp: usize, now: u32, lane: u32) {
        let place = &mut self.reads[granule * self.row + warp];
        let lane = if *place >> 8 == now && *place & 255 != lane { SEVERAL } else { lane };
        *place = now << 8 | lane;
    }

    /// Reads `length` bytes (at most 16) after checking everything about them.
    pub(crate) fn read(
        &mut self,
        address: u64,
        length: u32,
        who: &Who,
    ) -> Result<&[u8], FaultKind> {
        let start = self.range(address, length, Touch::Read)?;
        let warp = who.warp % self.layout.warps;
        for granule in self.granules(start, length) {
            self.initialised(granule)?;
            self.after_write(granule, who, Touch::Read)?;
            self.note_read(granule, warp, who.now(), who.lane);
        }
        Ok(&self.bytes[start..start + length as usize])
    }

    /// Reads 16 bytes as asynchronous instructions do: what ordinary instructions wrote must lie
    /// behind a proxy fence. `group` is the `wgmma` group that reads until it is waited for.
    pub(crate) fn read_asynchronously(
        &mut self,
        address: u64,
        who: &Who,
        group: Option<u32>,
    ) -> Result<&[u8], FaultKind> {
        let touch = if group.is_some() { Touch::Wgmma } else { Touch::BulkStore };
        let start = self.range(address, 16, touch)?;
        let warp = who.warp % self.layout.warps;
        for granule in self.granules(start, 16) {
            self.initialised(granule)?;
            self.after_write(granule, who, touch)?;
            let (then, component, lane) = parts(self.writes[granule]);
            let fenced = who.clocks.fenced.get(component).copied().unwrap_or(0);
            if self.writes[granule] & BULK == 0 && fenced < then {
                let warp = (component % self.layout.warps) as u32;
                return Err(FaultKind::NotFenced { now: touch.name(), address, warp, lane });
            }
            if let Some(group) = group {
                self.note_read(granule, self.layout.warps + warp, group, SEVERAL);
            }
        }
        Ok(&self.bytes[start..start + 16])
    }

    /// Writes `data` after checking everything about the place.
    pub(crate) fn write(&mut self, address: u64, data: &[u8], who: &Who) -> Result<(), FaultKind> {
        let record = record(who.now(), 0, who.warp, who.lane);
        let start = self.claim(address, data.len() as u32, who, Touch::Write, record)?;
        self.bytes[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    /// Writes 16 bytes of a bulk copy, known to those who see `mbarrier` end its present phase.
    pub(crate) fn write_asynchronously(
        &mut self,
        address: u64,
        data: &[u8],
        who: &Who,
        (mbarrier, phase): (usize, u32),
    ) -> Result<(), FaultKind> {
        let record = record(phase + 1, BULK, mbarrier, SEVERAL);
        let start = self.claim(address, data.len() as u32, who, Touch::BulkCopy, record)?;
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
        for granule in self.granules(start, length) {
            self.initialised(granule)?;
        }
        let record = record(who.now(), ATOMIC, who.warp, who.lane);
        self.claim(address, length, who, Touch::Atomic, record)?;
        Ok(&mut self.bytes[start..start + length as usize])
    }

    /// Marks the target of a `cp.async` as under way.
    pub(crate) fn begin_async(
        &mut self,
        address: u64,
        length: u32,
        who: &Who,
    ) -> Result<(), FaultKind> {
        let record = record(who.now(), PENDING, who.warp, who.lane);
        self.claim(address, length, who, Touch::Async, record).map(drop)
    }

    /// Lets the data of a `cp.async` arrive: from now on it counts as written by its thread.
    pub(crate) fn finish_async(&mut self, address: u64, data: &[u8], who: &Who) {
        let start = (address % CLUSTER_STEP) as usize;
        self.bytes[start..start + data.len()].copy_from_slice(data);
        let record = record(who.now(), 0, who.warp, who.lane);
        for granule in self.granules(start, data.len() as u32) {
            self.writes[granule] = record;
        }
    }

    /// A bulk store begins to read; nobody may write there until [`Shared::end_reading`].
    pub(crate) fn begin_reading(&mut self, address: u64, length: u32, who: &Who) {
        let start = address as usize;
        let end = start + length as usize;
        self.reading.push(Reading { start, end, warp: who.warp, lane: who.lane });
    }

    /// The bulk store of this place has been waited for: it counts as a read of its thread now.
    pub(crate) fn end_reading(&mut self, address: u64, length: u32, who: &Who) {
        let start = address as usize;
        let same = |reading: &Reading| {
            reading.start == start && reading.warp == who.warp && reading.lane == who.lane
        };
        if let Some(at) = self.reading.iter().position(same) {
            self.reading.swap_remove(at);
        }
        let warp = who.warp % self.layout.warps;
        for granule in self.granules(start, length) {
            self.note_read(granule, warp, who.now(), who.lane);
        }
    }

    fn claim(
        &mut self,
        address: u64,
        length: u32,
        who: &Who,
        touch: Touch,
        record: u64,
    ) -> Result<usize, FaultKind> {
        let start = self.range(address, length, touch)?;
        let end = start + length as usize;
        let overlaps = |reading: &&Reading| reading.start < end && start < reading.end;
        if let Some(reading) = self.reading.iter().find(overlaps) {
            let warp = (reading.warp % self.layout.warps) as u32;
            let granule = start >> self.granule;
            return Err(self.race(granule, touch, Touch::BulkStore, warp, reading.lane));
        }
        for granule in self.granules(start, length) {
            self.after_write(granule, who, touch)?;
            self.after_reads(granule, who, touch)?;
            self.writes[granule] = record;
            self.reads[granule * self.row..(granule + 1) * self.row].fill(0);
        }
        Ok(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clocks;

    fn clocks(known: [u32; 2]) -> Clocks {
        Clocks { known: known.to_vec(), fenced: Vec::new() }
    }

    fn who(warp: usize, lane: u32, clocks: &Clocks) -> Who<'_> {
        Who { warp, lane, clocks, met: clocks.known[warp] }
    }

    #[test]
    fn a_write_and_a_read_by_another_thread_need_a_barrier() {
        let layout = Layout { warps: 2, ctas: 1, asynchronous: false };
        let mut shared = Shared::new(64, 2, layout, 0);
        let (first, second) = (clocks([1, 0]), clocks([0, 1]));
        shared.write(0, &[1; 4], &who(0, 3, &first)).unwrap();
        assert!(shared.read(0, 4, &who(0, 3, &first)).is_ok(), "the same thread");
        assert!(matches!(shared.read(0, 4, &who(0, 4, &first)), Err(FaultKind::Race { .. })));
        assert!(matches!(shared.read(0, 4, &who(1, 0, &second)), Err(FaultKind::Race { .. })));
        // After a barrier both know each other's clock 1 and have clock 2 themselves.
        let (first, second) = (clocks([2, 1]), clocks([1, 2]));
        assert!(shared.read(0, 4, &who(1, 0, &second)).is_ok());
        // A write needs the read to lie behind a barrier too.
        let race = shared.write(0, &[2; 4], &who(0, 3, &first)).unwrap_err();
        let FaultKind::Race { now: "write", before: "read", warp: 1, lane: 0, .. } = race else {
            panic!("{race}")
        };
        assert!(shared.write(0, &[2; 4], &who(0, 3, &clocks([3, 2]))).is_ok());
    }
}
