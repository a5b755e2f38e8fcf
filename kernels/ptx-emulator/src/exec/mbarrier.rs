//! mbarriers, the cluster's barrier, fences: where warps wait for each other and for copies.

use crate::asynchronous::{Async, SharedAddr};
use crate::error::{FaultKind, LaneFault};
use crate::exec::access::{CLUSTER_STEP, SHARED_WINDOW, address_lanes};
use crate::exec::warp::{Pause, Warp};
use crate::exec::world::World;
use crate::ir::Reg;

/// How a warp goes on after an instruction.
pub(crate) enum Flow {
    /// With the next instruction.
    Next,
    /// With the next instruction, but not now.
    Stop(Pause),
    /// Not before this has happened.
    Wait(Wait),
}

/// What lanes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The end of an mbarrier's phase.
    Mbarrier { rank: usize, slot: usize, line: u32 },
    /// The other threads of the cluster.
    Cluster { line: u32 },
    /// The other lanes of the warp.
    Lanes { line: u32 },
    /// Registers that other warps of the CTA give back.
    Registers { free: u32, line: u32 },
}

/// A wait that failed once: instruction, mbarrier (CTA and slot), goal.
pub(crate) type Tried = (usize, usize, usize, u64);

/// For each lane the CTA and the address in its shared memory.
pub(crate) type Places = [(usize, u64); 32];

fn lanes(active: u32) -> impl Iterator<Item = u32> {
    (0..32).filter(move |lane| active >> lane & 1 == 1)
}

impl Warp {
    pub(crate) fn asynchronous(
        &mut self,
        op: &Async,
        line: u32,
        active: u32,
        world: &mut World,
    ) -> Result<Flow, LaneFault> {
        match op {
            Async::MbarrierInit { at, count } => self.init(at, *count, active, world)?,
            Async::MbarrierInval { at } => {
                self.each(at, active, world, |warp, lane, (rank, address), world| {
                    world.ctas[rank].mbarriers.invalidate(address, &warp.who(lane))
                })?;
            }
            Async::Arrive { d, at, count, expect, drops_out } => {
                self.arrive(*d, at, [*count, *expect], *drops_out, active, world)?;
            }
            Async::Expect { at, bytes } | Async::Complete { at, bytes } => {
                let completes = matches!(op, Async::Complete { .. });
                self.count_bytes(at, *bytes, completes, active, world)?;
            }
            Async::Wait { p, at, goal, patient } => {
                return self.wait(*p, at, *goal, *patient, line, active, world);
            }
            Async::Mapa { d, a, rank } => self.map_address(*d, *a, *rank, active, world)?,
            Async::FenceProxy => {
                self.clocks.fence();
                self.tick();
                let warp = self.component;
                world.shared().mbarriers.fence(warp);
            }
            Async::FenceMbarrierInit => {
                let warp = self.component;
                world.shared().mbarriers.fence(warp);
            }
            Async::SetRegisters { count, more } => {
                return self.set_registers(*count, *more, line, active, world);
            }
            Async::ClusterArrive => self.arrive_cluster(active, world)?,
            Async::ClusterWait => return self.wait_cluster(line, active, world),
            Async::TensorLoad { .. }
            | Async::TensorStore { .. }
            | Async::BulkCommit
            | Async::BulkWait { .. } => self.bulk(op, active, world)?,
            Async::WgmmaFence | Async::WgmmaCommit | Async::WgmmaWait { .. } | Async::Wgmma(_) => {
                self.warpgroup(op, active, world)?
            }
        }
        Ok(Flow::Next)
    }

    /// Where each lane's address leads.
    pub(crate) fn places(
        &self,
        at: &SharedAddr,
        active: u32,
        world: &World,
    ) -> Result<Places, LaneFault> {
        let addresses = address_lanes(&self.registers, &at.addr, active, world.code)?;
        let mut places = [(world.rank, 0); 32];
        for lane in lanes(active) {
            let address = addresses[lane as usize];
            if at.generic || at.addr.base.is_none() {
                let window = if at.generic { SHARED_WINDOW } else { 0 };
                places[lane as usize].1 = address.wrapping_sub(window);
                continue;
            }
            let rank = (address / CLUSTER_STEP) as usize;
            if rank >= world.ctas.len() {
                let text = format!(
                    "address {address:#x} is not in the shared memory of this cluster of {}",
                    world.ctas.len()
                );
                return Err((Some(lane), FaultKind::BadOperand(text)));
            }
            if rank != world.rank && world.ctas[rank].ended {
                let text = format!("CTA {rank} of the cluster has ended; its memory is gone");
                return Err((Some(lane), FaultKind::BadOperand(text)));
            }
            places[lane as usize] = (rank, address % CLUSTER_STEP);
        }
        Ok(places)
    }

    fn each(
        &mut self,
        at: &SharedAddr,
        active: u32,
        world: &mut World,
        mut act: impl FnMut(&mut Self, u32, (usize, u64), &mut World) -> Result<(), FaultKind>,
    ) -> Result<(), LaneFault> {
        let places = self.places(at, active, world)?;
        for lane in lanes(active) {
            act(self, lane, places[lane as usize], world).map_err(|kind| (Some(lane), kind))?;
        }
        Ok(())
    }

    fn init(
        &mut self,
        at: &SharedAddr,
        count: Reg,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        self.registers.ready(count, active, world.code)?;
        let counts = *self.registers.narrow(count);
        self.each(at, active, world, |warp, lane, (rank, address), world| {
            world.ctas[rank].mbarriers.init(address, counts[lane as usize], &warp.who(lane))
        })
    }

    /// What the arriving warp knows goes to those who wait; one lane's arrival stands for its warp.
    fn arrive(
        &mut self,
        d: Reg,
        at: &SharedAddr,
        [count, expect]: [Option<Reg>; 2],
        drops_out: bool,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        for reg in count.iter().chain(&expect) {
            self.registers.ready(*reg, active, world.code)?;
        }
        let counts = count.map_or([1; 32], |reg| *self.registers.narrow(reg));
        let expected = expect.map(|reg| *self.registers.narrow(reg));
        let mut states = [0; 32];
        self.each(at, active, world, |warp, lane, (rank, address), world| {
            let place = lane as usize;
            let mbarriers = &mut world.ctas[rank].mbarriers;
            let slot = mbarriers.find(address, &warp.who(lane))?;
            let Some(mbarrier) = mbarriers.get_mut(slot) else { return Ok(()) };
            states[place] = u64::from(mbarrier.phase);
            if let Some(bytes) = expected {
                mbarrier.expect(bytes[place])?;
            }
            if drops_out {
                mbarrier.drop_out(counts[place])?;
            }
            mbarrier.arrive(counts[place], &warp.clocks).map(drop)
        })?;
        self.tick();
        self.registers.set_wide(d, &states, active);
        Ok(())
    }

    fn count_bytes(
        &mut self,
        at: &SharedAddr,
        bytes: Reg,
        completes: bool,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        self.registers.ready(bytes, active, world.code)?;
        let bytes = *self.registers.narrow(bytes);
        self.each(at, active, world, |warp, lane, (rank, address), world| {
            let mbarriers = &mut world.ctas[rank].mbarriers;
            let slot = mbarriers.find(address, &warp.who(lane))?;
            let Some(mbarrier) = mbarriers.get_mut(slot) else { return Ok(()) };
            match completes {
                true => mbarrier.complete(bytes[lane as usize]).map(drop),
                false => mbarrier.expect(bytes[lane as usize]),
            }
        })
    }

    /// Says which lanes' phases have ended. A `try_wait` that finds none says no once, so that the
    /// code around it is tried too, and lets the warp wait when it comes again.
    fn wait(
        &mut self,
        p: Reg,
        at: &SharedAddr,
        goal: Reg,
        patient: bool,
        line: u32,
        active: u32,
        world: &mut World,
    ) -> Result<Flow, LaneFault> {
        self.registers.ready(goal, active, world.code)?;
        let (goals, by_parity) = (self.registers.wide(goal), matches!(goal, Reg::R(_)));
        let (mut over, mut failed) = (0_u32, (0, 0, 0));
        self.each(at, active, world, |warp, lane, (rank, address), world| {
            let layout = *world.ctas[rank].layout();
            let mbarriers = &mut world.ctas[rank].mbarriers;
            let slot = mbarriers.find(address, &warp.who(lane))?;
            let Some(mbarrier) = mbarriers.get_mut(slot) else { return Ok(()) };
            let goal = goals[lane as usize];
            let phase = u64::from(mbarrier.phase);
            let ended = if by_parity { phase & 1 != goal & 1 } else { phase > goal };
            if ended {
                over |= 1 << lane;
                mbarrier.note_seen();
                warp.clocks.join(&mbarrier.released);
                let known = &mut warp.clocks.known[layout.mbarrier(rank, slot)];
                *known = (*known).max(mbarrier.phase);
            } else {
                failed = (rank, slot, goal);
            }
            Ok(())
        })?;
        if over == 0 {
            let (rank, slot, goal) = failed;
            let tried = (self.at(), rank, slot, goal);
            if patient && self.tried == Some(tried) {
                return Ok(Flow::Wait(Wait::Mbarrier { rank, slot, line }));
            }
            self.tried = Some(tried);
        }
        self.registers.set_predicate(p, over, active);
        Ok(if over == active { Flow::Next } else { Flow::Stop(Pause::Poll) })
    }

    fn map_address(
        &mut self,
        d: Reg,
        a: Reg,
        rank: Reg,
        active: u32,
        world: &World,
    ) -> Result<(), LaneFault> {
        self.registers.ready(a, active, world.code)?;
        self.registers.ready(rank, active, world.code)?;
        let ranks = *self.registers.narrow(rank);
        let outside = |lane: &u32| ranks[*lane as usize] as usize >= world.ctas.len();
        if let Some(lane) = lanes(active).find(outside) {
            let text =
                format!("mapa: CTA {} of a cluster of {}", ranks[lane as usize], world.ctas.len());
            return Err((Some(lane), FaultKind::BadOperand(text)));
        }
        let mut mapped = *self.registers.narrow(a);
        for (address, rank) in mapped.iter_mut().zip(ranks) {
            *address = *address % CLUSTER_STEP as u32 + rank % 64 * CLUSTER_STEP as u32;
        }
        self.registers.set_narrow(d, &mapped, active);
        Ok(())
    }

    fn arrive_cluster(&mut self, active: u32, world: &mut World) -> Result<(), LaneFault> {
        if self.owing & active != 0 {
            let text = "barrier.cluster.arrive twice without a wait between".to_string();
            let lane = (self.owing & active).trailing_zeros();
            return Err((Some(lane), FaultKind::BadOperand(text)));
        }
        self.arrived |= active;
        self.owing |= active;
        world.gate.gathering.join(&self.clocks);
        self.tick();
        Ok(())
    }

    fn wait_cluster(&mut self, line: u32, active: u32, world: &World) -> Result<Flow, LaneFault> {
        if active & !self.owing != 0 {
            let text = "barrier.cluster.wait without an arrive before".to_string();
            let lane = (active & !self.owing).trailing_zeros();
            return Err((Some(lane), FaultKind::BadOperand(text)));
        }
        if self.arrived & active != 0 {
            return Ok(Flow::Wait(Wait::Cluster { line }));
        }
        self.owing &= !active;
        self.clocks.join(&world.gate.released);
        self.met = self.clocks.known[self.component];
        Ok(Flow::Next)
    }

    /// `setmaxnreg.dec` gives registers back to the CTA, `.inc` waits until there are enough. How
    /// many a thread begins with is ptxas's choice: as many as the threads of the CTA leave room
    /// for, in kernels like these.
    fn set_registers(
        &mut self,
        count: u32,
        more: bool,
        line: u32,
        active: u32,
        world: &mut World,
    ) -> Result<Flow, LaneFault> {
        if active != !0 {
            let what = "setmaxnreg";
            return Err((None, FaultKind::MemberMask { what, mask: !0, here: active }));
        }
        if (count < self.register_count) == more && count != self.register_count {
            let text = format!("setmaxnreg from {} to {count} registers", self.register_count);
            return Err((None, FaultKind::BadOperand(text)));
        }
        let free = &mut world.shared().free_registers;
        let wanted = 32 * count.abs_diff(self.register_count);
        match more {
            true if wanted > *free => return Ok(Flow::Wait(Wait::Registers { free: *free, line })),
            true => *free -= wanted,
            false => *free += wanted,
        }
        self.register_count = count;
        Ok(Flow::Next)
    }
}
