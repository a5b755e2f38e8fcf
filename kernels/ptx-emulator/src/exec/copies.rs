//! `cp.async`: copies from device to shared memory that arrive when they are waited for.

use crate::ast::Space;
use crate::banks::count_passes;
use crate::error::{FaultKind, LaneFault};
use crate::exec::access::address_lanes;
use crate::exec::warp::Warp;
use crate::exec::world::World;
use crate::ir::{Addr, Op, Reg};

/// A copy under way.
struct Pending {
    lane: u32,
    /// The number of the group that it belongs to, counted by its lane.
    group: u32,
    to: u64,
    length: u32,
    data: [u8; 16],
}

/// A warp's copies under way.
#[derive(Default)]
pub(crate) struct Copies {
    pending: Vec<Pending>,
    /// Groups that each lane has closed.
    closed: [u32; 32],
}

impl Warp {
    pub(crate) fn copy(
        &mut self,
        op: &Op,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        match op {
            Op::CpAsync { bytes, dst, src, size } => {
                self.begin_copies(*bytes, [dst, src], *size, active, world)
            }
            Op::CpCommit => {
                self.each_lane(active, |closed| *closed += 1);
                Ok(())
            }
            Op::CpWait { keep } => {
                self.finish_copies(active, Some(*keep), world);
                Ok(())
            }
            _ => {
                self.finish_copies(active, None, world);
                self.each_lane(active, |closed| *closed += 1);
                Ok(())
            }
        }
    }

    fn each_lane(&mut self, active: u32, change: impl Fn(&mut u32)) {
        for (lane, closed) in self.copies.closed.iter_mut().enumerate() {
            if active >> lane & 1 == 1 {
                change(closed);
            }
        }
    }

    /// The source is read now; the hardware may read it at any time until the wait.
    fn begin_copies(
        &mut self,
        bytes: u32,
        [dst, src]: [&Addr; 2],
        size: Option<Reg>,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        let to = address_lanes(&self.registers, dst, active, world.code)?;
        let from = address_lanes(&self.registers, src, active, world.code)?;
        let sizes = match size {
            None => [bytes; 32],
            Some(reg) => {
                self.registers.ready(reg, active, world.code)?;
                *self.registers.narrow(reg)
            }
        };
        let mut sectors = SectorCount::default();
        for lane in (0..32_u32).filter(|lane| active >> lane & 1 == 1) {
            let at = lane as usize;
            let read = sizes[at];
            if read > bytes {
                let text = format!("cp.async of {bytes} bytes asks for {read}");
                return Err((Some(lane), FaultKind::BadOperand(text)));
            }
            let mut data = [0; 16];
            if read > 0 {
                let found =
                    global_read(world, from[at], read, bytes).map_err(|kind| (Some(lane), kind))?;
                data[..read as usize].copy_from_slice(found);
                world.counters.global_read += u64::from(read);
                sectors.add(from[at], read);
            }
            world
                .shared()
                .begin_async(to[at], bytes, &self.who(lane))
                .map_err(|kind| (Some(lane), kind))?;
            let group = self.copies.closed[at];
            self.copies.pending.push(Pending { lane, group, to: to[at], length: bytes, data });
            world.counters.shared_written += u64::from(bytes);
        }
        world.counters.sectors_read += sectors.finish();
        count_passes(&to, active, bytes, world.counters);
        Ok(())
    }

    /// Lets the copies of the active lanes arrive, except those of the `keep` youngest closed
    /// groups and of the open one. None: all of them.
    fn finish_copies(&mut self, active: u32, keep: Option<u32>, world: &mut World) {
        let mut pending = std::mem::take(&mut self.copies.pending);
        pending.retain(|copy| {
            let closed = self.copies.closed[copy.lane as usize];
            let waits = match keep {
                None => true,
                Some(keep) => copy.group < closed.saturating_sub(keep),
            };
            let arrives = active >> copy.lane & 1 == 1 && waits;
            if arrives {
                let data = &copy.data[..copy.length as usize];
                world.shared().finish_async(copy.to, data, &self.who(copy.lane));
            }
            !arrives
        });
        self.copies.pending = pending;
    }
}

/// `length` bytes of device memory, aligned to `align`.
fn global_read<'a>(
    world: &'a World,
    address: u64,
    length: u32,
    align: u32,
) -> Result<&'a [u8], FaultKind> {
    if !address.is_multiple_of(u64::from(align)) {
        return Err(FaultKind::Misaligned { space: "global", address, bytes: align });
    }
    world.memory.get(address, length as usize).ok_or_else(|| FaultKind::OutOfBounds {
        access: "read",
        space: crate::exec::access::space_name(Space::Global),
        address,
        bytes: length,
        detail: world.memory.describe(address),
    })
}

/// Counts the distinct 32-byte sectors that one instruction touches.
#[derive(Default)]
pub(crate) struct SectorCount {
    sectors: Vec<u64>,
}

impl SectorCount {
    pub(crate) fn add(&mut self, address: u64, length: u32) {
        for sector in address / 32..=(address + u64::from(length) - 1) / 32 {
            if self.sectors.last() != Some(&sector) {
                self.sectors.push(sector);
            }
        }
    }

    pub(crate) fn finish(mut self) -> u64 {
        self.sectors.sort_unstable();
        self.sectors.dedup();
        self.sectors.len() as u64
    }
}
