//! A warp's registers, and which lanes of each have been written.

use crate::error::{FaultKind, LaneFault};
use crate::ir::{Code, L32, L64, PredSrc, Reg, Special};

/// What a thread may ask about its place; fixed while a CTA runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) warp: u32,
    pub(crate) warps: u32,
    pub(crate) block: [u32; 3],
    pub(crate) grid: [u32; 3],
    pub(crate) cta: [u32; 3],
    pub(crate) dynamic_shared: u32,
}

/// The three register files.
pub(crate) struct Registers {
    narrow: Vec<L32>,
    wide: Vec<L64>,
    predicate: Vec<u32>,
    /// Lanes written so far, for each file.
    written: [Vec<u32>; 3],
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
        if missing == 0 {
            return Ok(());
        }
        let name = code.names[file].get(at as usize).cloned().unwrap_or_default();
        Err((Some(missing.trailing_zeros()), FaultKind::UninitialisedRegister { name }))
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
        Special::DynamicSharedSize => place.dynamic_shared,
    }
}
