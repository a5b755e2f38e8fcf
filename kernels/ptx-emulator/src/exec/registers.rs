//! A warp's registers, and which lanes of each have been written.

use crate::error::{FaultKind, LaneFault};
use crate::exec::access::CLUSTER_STEP;
use crate::ir::{Code, L32, L64, PredSrc, Reg, Special};
use std::cell::Cell;

/// What a thread may ask about its place; fixed while a CTA runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) warp: u32,
    pub(crate) warps: u32,
    pub(crate) block: [u32; 3],
    pub(crate) grid: [u32; 3],
    pub(crate) cta: [u32; 3],
    /// CTAs of a cluster, and this one's number in it.
    pub(crate) cluster: [u32; 3],
    pub(crate) rank: u32,
    pub(crate) dynamic_shared: u32,
}

/// The three register files.
pub(crate) struct Registers {
    narrow: Vec<L32>,
    wide: Vec<L64>,
    predicate: Vec<u32>,
    /// Lanes written so far, for each file.
    written: [Vec<u32>; 3],
    /// What `wgmma` does with the 32-bit registers; empty in kernels without.
    flights: Vec<Flight>,
    /// A register that was written while a `wgmma` worked on it.
    violation: Option<u16>,
}

/// A register as `wgmma` sees it.
#[derive(Clone, Default)]
struct Flight {
    /// The group, counted from 1, that writes it, or 0; and of which shape (n).
    writes: u32,
    shape: usize,
    /// The group that reads it, or 0.
    reads: u32,
    /// Whether an ordinary instruction touched it since the last `wgmma.fence`.
    touched: Cell<bool>,
}

static ZERO32: L32 = [0; 32];
static ZERO64: L64 = [0; 32];

impl Registers {
    pub(crate) fn new(code: &Code) -> Self {
        let [narrow, wide, predicate] = code.registers.map(|count| count as usize);
        let mut out = Self {
            narrow: vec![ZERO32; narrow],
            wide: vec![ZERO64; wide],
            predicate: vec![0; predicate],
            written: [vec![0; narrow], vec![0; wide], vec![0; predicate]],
            flights: vec![Flight::default(); if code.asynchronous { narrow } else { 0 }],
            violation: None,
        };
        for &(at, value) in &code.constants32 {
            out.narrow[at as usize] = [value; 32];
        }
        for &(at, value) in &code.constants64 {
            out.wide[at as usize] = [value; 32];
        }
        out
    }

    /// Prepares for a new CTA: nothing is written but constants and special registers.
    pub(crate) fn reset(&mut self, code: &Code, place: &Place) {
        for file in &mut self.written {
            file.fill(0);
        }
        self.flights.fill(Flight { touched: Cell::new(true), ..Flight::default() });
        self.violation = None;
        for &(at, _) in &code.constants32 {
            self.written[0][at as usize] = !0;
        }
        for &(at, _) in &code.constants64 {
            self.written[1][at as usize] = !0;
        }
        for &(at, special) in &code.specials {
            self.narrow[at as usize] =
                std::array::from_fn(|lane| special_value(special, place, lane as u32));
            self.written[0][at as usize] = !0;
        }
    }

    fn check(&self, file: usize, at: u16, active: u32, code: &Code) -> Result<(), LaneFault> {
        let missing = active & !self.written[file][at as usize];
        if file == 0 && !self.flights.is_empty() {
            let flight = &self.flights[at as usize];
            if flight.writes != 0 {
                let name = name(code, file, at);
                return Err((None, FaultKind::RegisterInFlight { name }));
            }
            flight.touched.set(true);
        }
        if missing == 0 {
            return Ok(());
        }
        let name = name(code, file, at);
        Err((Some(missing.trailing_zeros()), FaultKind::UninitialisedRegister { name }))
    }

    /// Whether an ordinary instruction has written what a `wgmma` works on.
    pub(crate) fn check_flights(&mut self, code: &Code) -> Result<(), LaneFault> {
        match self.violation.take() {
            None => Ok(()),
            Some(at) => Err((None, FaultKind::RegisterInFlight { name: name(code, 0, at) })),
        }
    }

    /// `wgmma.fence`: what was done to registers so far comes before the next `wgmma`.
    pub(crate) fn fence_flights(&mut self) {
        self.flights.iter_mut().for_each(|flight| flight.touched.set(false));
    }

    /// The groups up to `done` work no longer.
    pub(crate) fn land(&mut self, done: u32) {
        for flight in &mut self.flights {
            flight.writes = if flight.writes <= done { 0 } else { flight.writes };
            flight.reads = if flight.reads <= done { 0 } else { flight.reads };
        }
    }

    /// The value of an accumulator of a `wgmma` of this shape; checked as far as it is `read`.
    pub(crate) fn accumulator(
        &self,
        reg: Reg,
        shape: usize,
        read: bool,
        code: &Code,
    ) -> Result<&L32, LaneFault> {
        let Reg::R(at) = reg else { return Ok(&ZERO32) };
        let flight = &self.flights[at as usize];
        if flight.touched.get() {
            let name = name(code, 0, at);
            return Err((None, FaultKind::RegisterNotFenced { name }));
        }
        if flight.reads != 0 || (flight.writes != 0 && flight.shape != shape) {
            return Err((None, FaultKind::RegisterInFlight { name: name(code, 0, at) }));
        }
        let missing = !self.written[0][at as usize];
        if read && missing != 0 {
            let name = name(code, 0, at);
            let lane = Some(missing.trailing_zeros());
            return Err((lane, FaultKind::UninitialisedRegister { name }));
        }
        Ok(&self.narrow[at as usize])
    }

    /// Gives an accumulator its value, which only the group's end makes readable.
    pub(crate) fn set_accumulator(&mut self, reg: Reg, value: &L32, group: u32, shape: usize) {
        let Reg::R(at) = reg else { return };
        self.narrow[at as usize] = *value;
        self.written[0][at as usize] = !0;
        let flight = &mut self.flights[at as usize];
        (flight.writes, flight.shape) = (group, shape);
    }

    /// A register that a `wgmma` of `group` reads from now on.
    pub(crate) fn multiplicand(
        &mut self,
        reg: Reg,
        group: u32,
        code: &Code,
    ) -> Result<&L32, LaneFault> {
        let Reg::R(at) = reg else { return Ok(&ZERO32) };
        let flight = &mut self.flights[at as usize];
        if flight.touched.get() {
            let name = name(code, 0, at);
            return Err((None, FaultKind::RegisterNotFenced { name }));
        }
        flight.reads = group;
        self.check(0, at, !0, code)?;
        self.flights[at as usize].touched.set(false);
        Ok(&self.narrow[at as usize])
    }

    /// Checks that the active lanes of `reg` were written.
    pub(crate) fn ready(&self, reg: Reg, active: u32, code: &Code) -> Result<(), LaneFault> {
        match reg {
            Reg::R(at) => self.check(0, at, active, code),
            Reg::D(at) => self.check(1, at, active, code),
            Reg::P(at) => self.check(2, at, active, code),
            Reg::Sink => Ok(()),
        }
    }

    /// The lanes of a 32-bit register (zeros for an operand that is not there).
    pub(crate) fn narrow(&self, reg: Reg) -> &L32 {
        match reg {
            Reg::R(at) => &self.narrow[at as usize],
            _ => &ZERO32,
        }
    }

    /// The lanes of a register of either file, as 64 bits (zero-extended).
    pub(crate) fn wide(&self, reg: Reg) -> L64 {
        match reg {
            Reg::R(at) => self.narrow[at as usize].map(u64::from),
            Reg::D(at) => self.wide[at as usize],
            _ => ZERO64,
        }
    }

    /// Writes the active lanes of a 32-bit register.
    pub(crate) fn set_narrow(&mut self, reg: Reg, value: &L32, active: u32) {
        let Reg::R(at) = reg else { return };
        if let Some(flight) = self.flights.get(at as usize) {
            flight.touched.set(true);
            if flight.writes != 0 || flight.reads != 0 {
                self.violation = Some(at);
            }
        }
        let target = &mut self.narrow[at as usize];
        if active == !0 {
            *target = *value;
        } else {
            for lane in 0..32 {
                let keep = (active >> lane & 1).wrapping_sub(1);
                target[lane] = (target[lane] & keep) | (value[lane] & !keep);
            }
        }
        self.written[0][at as usize] |= active;
    }

    /// Writes the active lanes of a register of either file.
    pub(crate) fn set_wide(&mut self, reg: Reg, value: &L64, active: u32) {
        match reg {
            Reg::R(_) => self.set_narrow(reg, &value.map(|lane| lane as u32), active),
            Reg::D(at) => {
                let target = &mut self.wide[at as usize];
                for lane in 0..32 {
                    if active >> lane & 1 == 1 {
                        target[lane] = value[lane];
                    }
                }
                self.written[1][at as usize] |= active;
            }
            Reg::P(_) | Reg::Sink => {}
        }
    }

    /// A predicate over the active lanes, negation applied.
    pub(crate) fn predicate(&self, p: PredSrc, active: u32, code: &Code) -> Result<u32, LaneFault> {
        self.check(2, p.reg, active, code)?;
        let value = self.predicate[p.reg as usize];
        Ok(if p.not { !value } else { value })
    }

    /// Writes the active lanes of a predicate.
    pub(crate) fn set_predicate(&mut self, reg: Reg, value: u32, active: u32) {
        let Reg::P(at) = reg else { return };
        let target = &mut self.predicate[at as usize];
        *target = (*target & !active) | (value & active);
        self.written[2][at as usize] |= active;
    }
}

fn name(code: &Code, file: usize, at: u16) -> String {
    code.names[file].get(at as usize).cloned().unwrap_or_default()
}

fn special_value(special: Special, place: &Place, lane: u32) -> u32 {
    let thread = place.warp * 32 + lane;
    let [x, y, _] = place.block;
    let below = |lane: u32| ((1_u64 << lane) - 1) as u32;
    match special {
        Special::Tid(0) => thread % x,
        Special::Tid(1) => thread / x % y,
        Special::Tid(_) => thread / x / y,
        Special::Ntid(axis) => place.block[axis as usize],
        Special::Ctaid(axis) => place.cta[axis as usize],
        Special::Nctaid(axis) => place.grid[axis as usize],
        Special::Laneid => lane,
        Special::Warpid => place.warp,
        Special::Nwarpid => place.warps,
        Special::LanemaskEq => 1 << lane,
        Special::LanemaskLt => below(lane),
        Special::LanemaskLe => below(lane) | 1 << lane,
        Special::LanemaskGt => !(below(lane) | 1 << lane),
        Special::LanemaskGe => !below(lane),
        Special::Clusterid(axis) => place.cta[axis as usize] / place.cluster[axis as usize],
        Special::Nclusterid(axis) => place.grid[axis as usize] / place.cluster[axis as usize],
        Special::ClusterCtaid(axis) => place.cta[axis as usize] % place.cluster[axis as usize],
        Special::ClusterNctaid(axis) => place.cluster[axis as usize],
        Special::ClusterCtarank => place.rank,
        Special::ClusterNctarank => place.cluster.iter().product(),
        Special::SharedVariable(offset) => offset | place.rank << CLUSTER_STEP.trailing_zeros(),
        Special::DynamicSharedSize => place.dynamic_shared,
    }
}
