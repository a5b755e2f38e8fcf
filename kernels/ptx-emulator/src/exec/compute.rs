//! Arithmetic, selection and packing: what changes nothing but registers.

use crate::error::LaneFault;
use crate::exec::convert::{flush_lanes, saturate_lanes};
use crate::exec::registers::Registers;
use crate::exec::warp::Warp;
use crate::ir::{Code, Combine, FloatMods, Fn32, Fn64, L32, PredSrc, Reg};

impl Warp {
    pub(crate) fn alu32(
        &mut self,
        f: Fn32,
        d: Reg,
        s: &[Reg],
        mods: FloatMods,
        active: u32,
        code: &Code,
    ) -> Result<(), LaneFault> {
        for &reg in s {
            self.registers.ready(reg, active, code)?;
        }
        let source = |at: usize| self.registers.narrow(s.get(at).copied().unwrap_or(Reg::Sink));
        let mut value = if mods.ftz {
            let flushed: [L32; 4] = std::array::from_fn(|at| flush_lanes(source(at)));
            flush_lanes(&f([&flushed[0], &flushed[1], &flushed[2], &flushed[3]]))
        } else {
            f([source(0), source(1), source(2), source(3)])
        };
        if mods.sat {
            value = saturate_lanes(&value);
        }
        self.registers.set_narrow(d, &value, active);
        Ok(())
    }

    pub(crate) fn alu64(
        &mut self,
        f: Fn64,
        d: Reg,
        s: &[Reg],
        active: u32,
        code: &Code,
    ) -> Result<(), LaneFault> {
        for &reg in s {
            self.registers.ready(reg, active, code)?;
        }
        let source = |at: usize| self.registers.wide(s.get(at).copied().unwrap_or(Reg::Sink));
        let sources = [source(0), source(1), source(2), source(3)];
        let value = f([&sources[0], &sources[1], &sources[2], &sources[3]]);
        self.registers.set_wide(d, &value, active);
        Ok(())
    }

    /// Writes the result of a comparison: p = c op third, q = !c op third.
    pub(crate) fn combine(
        &mut self,
        value: u32,
        [p, q]: [Reg; 2],
        combine: Combine,
        active: u32,
        code: &Code,
    ) -> Result<(), LaneFault> {
        let join = |registers: &Registers, bits: u32| -> Result<u32, LaneFault> {
            Ok(match combine {
                Combine::None => bits,
                Combine::And(third) => bits & registers.predicate(third, active, code)?,
                Combine::Or(third) => bits | registers.predicate(third, active, code)?,
                Combine::Xor(third) => bits ^ registers.predicate(third, active, code)?,
            })
        };
        let (yes, no) = (join(&self.registers, value)?, join(&self.registers, !value)?);
        self.registers.set_predicate(p, yes, active);
        self.registers.set_predicate(q, no, active);
        Ok(())
    }

    pub(crate) fn select(
        &mut self,
        d: Reg,
        a: Reg,
        b: Reg,
        p: PredSrc,
        active: u32,
        code: &Code,
    ) -> Result<(), LaneFault> {
        self.registers.ready(a, active, code)?;
        self.registers.ready(b, active, code)?;
        let first = self.registers.predicate(p, active, code)?;
        let (a, b) = (self.registers.wide(a), self.registers.wide(b));
        let value =
            std::array::from_fn(|lane| if first >> lane & 1 == 1 { a[lane] } else { b[lane] });
        self.registers.set_wide(d, &value, active);
        Ok(())
    }

    pub(crate) fn pack(
        &mut self,
        d: Reg,
        parts: &[Reg],
        bits: u8,
        active: u32,
        code: &Code,
    ) -> Result<(), LaneFault> {
        let mut value = [0_u64; 32];
        for (place, &part) in parts.iter().enumerate() {
            self.registers.ready(part, active, code)?;
            let lanes = self.registers.wide(part);
            for lane in 0..32 {
                let low = lanes[lane] & ((1 << bits) - 1);
                value[lane] |= low << (place as u32 * u32::from(bits));
            }
        }
        self.registers.set_wide(d, &value, active);
        Ok(())
    }

    pub(crate) fn unpack(
        &mut self,
        d: &[Reg],
        a: Reg,
        bits: u8,
        active: u32,
        code: &Code,
    ) -> Result<(), LaneFault> {
        self.registers.ready(a, active, code)?;
        let value = self.registers.wide(a);
        for (place, &part) in d.iter().enumerate() {
            let shift = place as u32 * u32::from(bits);
            let lanes = value.map(|lane| lane >> shift & ((1 << bits) - 1));
            self.registers.set_wide(part, &lanes, active);
        }
        Ok(())
    }
}
