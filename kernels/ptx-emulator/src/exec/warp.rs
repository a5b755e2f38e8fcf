//! One warp: 32 lanes in lockstep, and what happens when they part.
//!
//! Divergence is handled by a lowest-line-first rule: the lanes stand in groups, each with its own
//! place in the code, and the group that is furthest behind runs next; groups that meet merge. In
//! code whose joins come after their branches (all structured code) this joins lanes at the
//! earliest place where they can meet, needs no analysis of the control flow, and cannot miss a
//! join, unlike a stack of post-dominators that a hand-written jump out of a loop confuses. A group
//! that waits for an mbarrier lets the others go on. The rule's one weakness, a group that spins on
//! what a group further on will write, is stopped by the instruction limit.

use crate::clock::{Clocks, Layout, Who};
use crate::error::{FaultKind, LaneFault};
use crate::exec::bulk::Stores;
use crate::exec::convert::{convert, convert_pair, flush_lanes};
use crate::exec::copies::Copies;
use crate::exec::mbarrier::{Flow, Tried, Wait};
use crate::exec::registers::{Place, Registers};
use crate::exec::wgmma::Groups;
use crate::exec::world::World;
use crate::ir::{Code, Inst, Op, Reg};

/// Registers of a processor.
const REGISTERS: u32 = 65_536;

/// Why a warp stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It stands at a barrier; `threads` is the count given, if any.
    Barrier { id: u32, threads: Option<u32>, wait: bool, line: u32 },
    /// It asked for something that is not there yet, and goes on without.
    Poll,
    /// All its lanes wait; see [`Warp::waits`].
    Parked,
    /// All lanes have ended.
    Done,
}

/// A warp between two instructions.
pub(crate) struct Warp {
    pub(crate) id: u32,
    /// Its component of the clocks.
    pub(crate) component: usize,
    pub(crate) registers: Registers,
    /// (instruction, lanes), ascending by instruction.
    groups: Vec<(u32, u32)>,
    /// The group that runs.
    current: usize,
    /// Lanes that wait, and what for.
    parked: u32,
    pub(crate) waits: Vec<Wait>,
    /// The wait that failed last.
    pub(crate) tried: Option<Tried>,
    /// Lanes that have not ended.
    pub(crate) running: u32,
    /// Lanes that stand before the cluster's barrier, and those that owe it a wait.
    pub(crate) arrived: u32,
    pub(crate) owing: u32,
    /// What this warp knows; see `clock.rs`.
    pub(crate) clocks: Clocks,
    /// Its own clock when its lanes last met.
    pub(crate) met: u32,
    pub(crate) copies: Copies,
    pub(crate) stores: Stores,
    pub(crate) products: Groups,
    /// Registers that a thread may use, as `setmaxnreg` counts them.
    pub(crate) register_count: u32,
    pub(crate) local: Vec<u8>,
    pub(crate) local_written: Vec<bool>,
    pub(crate) steps: u64,
}

impl Warp {
    pub(crate) fn new(id: u32, code: &Code) -> Self {
        let local = code.local_bytes as usize * 32;
        Self {
            id,
            component: 0,
            registers: Registers::new(code),
            groups: Vec::new(),
            current: 0,
            parked: 0,
            waits: Vec::new(),
            tried: None,
            running: 0,
            arrived: 0,
            owing: 0,
            clocks: Clocks::default(),
            met: 0,
            copies: Copies::default(),
            stores: Stores::default(),
            products: Groups::default(),
            register_count: 0,
            local: vec![0; local],
            local_written: vec![false; local],
            steps: 0,
        }
    }

    /// Back to the kernel's first instruction, with `lanes` threads.
    pub(crate) fn reset(&mut self, code: &Code, place: &Place, layout: &Layout, lanes: u32) {
        self.component = layout.warp(place.rank as usize, self.id as usize);
        self.registers.reset(code, place);
        self.groups.clear();
        self.groups.push((0, lanes));
        self.current = 0;
        self.parked = 0;
        self.waits.clear();
        self.tried = None;
        self.running = lanes;
        (self.arrived, self.owing) = (0, 0);
        self.clocks.reset(layout);
        self.clocks.known[self.component] = 1;
        self.met = 1;
        self.copies = Copies::default();
        self.stores = Stores::default();
        self.products = Groups::default();
        self.register_count = ((REGISTERS / (32 * place.warps)) & !7).min(256);
        self.local_written.fill(false);
        self.steps = 0;
    }

    pub(crate) fn who(&self, lane: u32) -> Who<'_> {
        Who { warp: self.component, lane, clocks: &self.clocks, met: self.met }
    }

    /// Others may know of all that this warp did before.
    pub(crate) fn tick(&mut self) {
        self.clocks.known[self.component] += 1;
    }

    /// As `tick`, and the warp's lanes know each other's accesses before.
    pub(crate) fn meet(&mut self) {
        self.tick();
        self.met = self.clocks.known[self.component];
    }

    /// The instruction that runs, for messages.
    pub(crate) fn at(&self) -> usize {
        self.groups.get(self.current).map_or(0, |group| group.0 as usize)
    }

    /// The group that is furthest behind of those that do not wait.
    fn next_group(&mut self) -> Option<usize> {
        self.groups.iter().position(|group| group.1 & !self.parked != 0)
    }

    /// Runs until a barrier, a wait or the end.
    pub(crate) fn run(&mut self, world: &mut World) -> Result<Pause, LaneFault> {
        let code = world.code;
        self.parked = 0;
        self.waits.clear();
        while let Some(current) = self.next_group() {
            self.current = current;
            let (at, mask) = self.groups[current];
            self.parked &= !mask;
            let inst = &code.body[at as usize];
            let active = match inst.guard {
                None => mask,
                Some(guard) => mask & self.registers.predicate(guard, mask, code)?,
            };
            world.counters.instructions[inst.class as usize] += 1;
            world.executed[at as usize] += u64::from(active != 0);
            self.steps += 1;
            if self.steps > world.limit {
                return Err((None, FaultKind::Endless(world.limit)));
            }
            match self.execute(inst, at, [mask, active], world) {
                Ok(Flow::Next) => {}
                Ok(Flow::Stop(pause)) => return Ok(pause),
                Ok(Flow::Wait(wait)) => self.park(wait, mask, inst, at, world),
                // Lanes that wait elsewhere may still come.
                Err((_, FaultKind::MemberMask { .. } | FaultKind::DivergentBarrier { .. }))
                    if self.parked != 0 =>
                {
                    self.park(Wait::Lanes { line: inst.line }, mask, inst, at, world);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(if self.groups.is_empty() { Pause::Done } else { Pause::Parked })
    }

    /// The instruction has not happened; it is tried again when the warp has its next turn.
    fn park(&mut self, wait: Wait, mask: u32, inst: &Inst, at: u32, world: &mut World) {
        world.counters.instructions[inst.class as usize] -= 1;
        world.executed[at as usize] -= 1;
        self.steps -= 1;
        self.parked |= mask;
        self.waits.push(wait);
    }

    fn execute(
        &mut self,
        inst: &Inst,
        at: u32,
        [mask, active]: [u32; 2],
        world: &mut World,
    ) -> Result<Flow, LaneFault> {
        let code = world.code;
        let mut flow = Flow::Next;
        match &inst.op {
            Op::Bra { target } => {
                self.branch(at, mask, active, *target);
                return Ok(flow);
            }
            Op::Exit => {
                self.exit(at, mask, active)?;
                return Ok(flow);
            }
            _ if active == 0 => {}
            Op::Bar { id, count, wait } => {
                let operands = [*id, count.unwrap_or(Reg::Sink)];
                flow = Flow::Stop(self.barrier(inst, operands, *wait, active, code)?);
            }
            Op::Async(op) => flow = self.asynchronous(op, inst.line, active, world)?,
            _ => {
                self.step(inst, active, world)?;
                self.registers.check_flights(code)?;
            }
        }
        if !matches!(flow, Flow::Wait(_)) {
            self.advance(at);
        }
        Ok(flow)
    }

    fn advance(&mut self, at: u32) {
        self.groups[self.current].0 = at + 1;
        if self.groups.len() > 1 {
            self.settle();
        }
    }

    /// Sorts the groups and merges those that have met.
    fn settle(&mut self) {
        self.groups.retain(|group| group.1 != 0);
        self.groups.sort_unstable();
        self.groups.dedup_by(|next, first| {
            let meet = next.0 == first.0;
            first.1 |= if meet { next.1 } else { 0 };
            meet
        });
    }

    fn branch(&mut self, at: u32, mask: u32, taken: u32, target: u32) {
        if taken == mask {
            self.groups[self.current].0 = target;
        } else {
            self.groups[self.current] = (at + 1, mask & !taken);
            self.groups.push((target, taken));
        }
        self.settle();
    }

    fn exit(&mut self, at: u32, mask: u32, leaving: u32) -> Result<(), LaneFault> {
        self.stores.check_end(leaving)?;
        self.running &= !leaving;
        self.groups[self.current] = (at + 1, mask & !leaving);
        self.settle();
        Ok(())
    }

    fn barrier(
        &self,
        inst: &Inst,
        [id, count]: [Reg; 2],
        wait: bool,
        active: u32,
        code: &Code,
    ) -> Result<Pause, LaneFault> {
        let id = self.uniform(id, active, code, "a barrier's number")?;
        if id > 15 {
            return Err((None, FaultKind::BadOperand(format!("barrier {id}: there are 16"))));
        }
        if active != self.running {
            let kind = FaultKind::DivergentBarrier { id, here: active, running: self.running };
            return Err((None, kind));
        }
        let threads = match count {
            Reg::Sink => None,
            _ => Some(self.uniform(count, active, code, "a barrier's thread count")?),
        };
        if threads.is_some_and(|threads| threads == 0 || threads % 32 != 0) {
            let text = "a barrier's thread count must be a multiple of 32".to_string();
            return Err((None, FaultKind::BadOperand(text)));
        }
        Ok(Pause::Barrier { id, threads, wait, line: inst.line })
    }

    /// A value that must be the same in all active lanes.
    pub(crate) fn uniform(
        &self,
        reg: Reg,
        active: u32,
        code: &Code,
        what: &str,
    ) -> Result<u32, LaneFault> {
        self.registers.ready(reg, active, code)?;
        let lanes = self.registers.narrow(reg);
        let first = lanes[active.trailing_zeros() as usize];
        let differs =
            (0..32).find(|&lane| active >> lane & 1 == 1 && lanes[lane as usize] != first);
        match differs {
            None => Ok(first),
            Some(lane) => {
                let text = format!("{what} differs between lanes");
                Err((Some(lane), FaultKind::BadOperand(text)))
            }
        }
    }

    /// All operations but control flow.
    fn step(&mut self, inst: &Inst, active: u32, world: &mut World) -> Result<(), LaneFault> {
        let code = world.code;
        match &inst.op {
            Op::Alu32 { f, d, s, n, mods } => {
                self.alu32(*f, *d, &s[..*n as usize], *mods, active, code)
            }
            Op::Alu64 { f, d, s, n } => self.alu64(*f, *d, &s[..*n as usize], active, code),
            Op::Logic { table, d, a, b } => {
                let a = self.registers.predicate(*a, active, code)?;
                let b = self.registers.predicate(*b, active, code)?;
                let row = |row: u8, bits: u32| if table >> row & 1 == 1 { bits } else { 0 };
                let value = row(0, !a & !b) | row(1, !a & b) | row(2, a & !b) | row(3, a & b);
                self.registers.set_predicate(*d, value, active);
                Ok(())
            }
            Op::Cvt { c, d, a } => {
                self.registers.ready(*a, active, code)?;
                let value = self.registers.wide(*a).map(|bits| convert(c, bits));
                self.registers.set_wide(*d, &value, active);
                Ok(())
            }
            Op::Cvt2 { c, d, a, b } => {
                self.registers.ready(*a, active, code)?;
                self.registers.ready(*b, active, code)?;
                let value = convert_pair(c, self.registers.narrow(*a), self.registers.narrow(*b));
                self.registers.set_narrow(*d, &value, active);
                Ok(())
            }
            Op::Set32 { f, p, q, a, b, ftz, combine } => {
                self.registers.ready(*a, active, code)?;
                self.registers.ready(*b, active, code)?;
                let (a, b) = (self.registers.narrow(*a), self.registers.narrow(*b));
                let value = if *ftz { f(&flush_lanes(a), &flush_lanes(b)) } else { f(a, b) };
                self.combine(value, [*p, *q], *combine, active, code)
            }
            Op::Set64 { f, p, q, a, b, combine } => {
                self.registers.ready(*a, active, code)?;
                self.registers.ready(*b, active, code)?;
                let value = f(&self.registers.wide(*a), &self.registers.wide(*b));
                self.combine(value, [*p, *q], *combine, active, code)
            }
            Op::Selp { d, a, b, p } => self.select(*d, *a, *b, *p, active, code),
            Op::Pack { d, parts, n, bits } => {
                self.pack(*d, &parts[..*n as usize], *bits, active, code)
            }
            Op::Unpack { d, a, n, bits } => self.unpack(&d[..*n as usize], *a, *bits, active, code),
            Op::Trap => Err((Some(active.trailing_zeros()), FaultKind::Trap)),
            Op::WarpBar { mask } => self.warp_barrier(*mask, active, code),
            Op::Nop | Op::Bra { .. } | Op::Exit | Op::Bar { .. } | Op::Async(_) => Ok(()),
            Op::Ld { .. } | Op::St { .. } | Op::Atom { .. } => self.access(&inst.op, active, world),
            Op::CpAsync { .. } | Op::CpCommit | Op::CpWait { .. } | Op::CpWaitAll => {
                self.copy(&inst.op, active, world)
            }
            Op::Ldmatrix { .. } | Op::Stmatrix { .. } | Op::Mma { .. } => {
                self.matrix(&inst.op, active, world)
            }
            Op::Shfl { .. }
            | Op::Vote { .. }
            | Op::Redux { .. }
            | Op::Activemask { .. }
            | Op::Elect { .. } => self.exchange(&inst.op, active, code),
        }
    }

    /// `bar.warp.sync`. With all running lanes it orders their accesses to shared memory. With
    /// fewer it is accepted but orders nothing here, which can only report a race too many.
    fn warp_barrier(&mut self, mask: Reg, active: u32, code: &Code) -> Result<(), LaneFault> {
        let mask = self.uniform(mask, active, code, "the member mask")?;
        self.members("bar.warp.sync", mask, active)?;
        if mask & self.running == self.running {
            self.meet();
        }
        Ok(())
    }

    /// Every lane that a member mask names must be here, unless it has ended.
    pub(crate) fn members(
        &self,
        what: &'static str,
        mask: u32,
        here: u32,
    ) -> Result<(), LaneFault> {
        if mask & self.running & !here != 0 || here & !mask != 0 {
            return Err((None, FaultKind::MemberMask { what, mask, here }));
        }
        Ok(())
    }
}
