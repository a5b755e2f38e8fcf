//! Arithmetic, comparisons, conversions and moves.

use super::operands::{Modifiers, exactly};
use super::{Decoded, Decoder};
use crate::ast::Operand;
use crate::counters::Class;
use crate::exec::lanes::{narrow, wide};
use crate::exec::{compare, int, real};
use crate::float::Round;
use crate::ir::{Combine, Cvt, FloatMods, Lanes, Op, Reg, Ty};

fn is_float(ty: Ty) -> bool {
    matches!(ty, Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 | Ty::F32 | Ty::F64)
}

const SPECIAL_UNIT: [&str; 9] = ["ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh", "div"];

impl<'a> Decoder<'a> {
    /// Everything that computes one result from one to four values.
    pub(super) fn arithmetic(
        &mut self,
        op: &str,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let ty = modifiers.ty()?;
        if ty == Ty::Pred {
            return self.logic(op, operands);
        }
        let mut mods = FloatMods::default();
        let is_wide_product = modifiers.take("wide");
        if is_wide_product {
            // Put back for the table that looks for it; it also changes the operands' types below.
            return self.wide_product(op, ty, operands);
        }
        let (lanes, sources) = if is_float(ty) {
            mods = FloatMods { ftz: modifiers.take("ftz"), sat: modifiers.take("sat") };
            if ty != Ty::F32 && (mods.ftz || mods.sat) {
                return Err("flushing and saturating are known for .f32 only".into());
            }
            real::find(op, ty, modifiers)
        } else {
            int::find(op, ty, modifiers)
        }
        .ok_or_else(|| format!("not supported for .{ty:?} in this form"))?;
        if operands.len() != usize::from(sources) + 1 {
            return Err(format!("takes {} operands, found {}", sources + 1, operands.len()));
        }
        let counts = matches!(op, "popc" | "clz");
        let d = self.target(&operands[0], if counts { Ty::U32 } else { ty })?;
        let mut s = [Reg::Sink; 4];
        for (at, operand) in operands[1..].iter().enumerate() {
            s[at] = self.value(operand, source_type(op, ty, at))?;
        }
        let class = match (is_float(ty), SPECIAL_UNIT.contains(&op)) {
            (false, _) => Class::Integer,
            (true, true) => Class::Special,
            (true, false) => Class::Float,
        };
        Ok((with_lanes(lanes, d, s, sources, mods), class))
    }

    fn wide_product(&mut self, op: &str, ty: Ty, operands: &[Operand<'a>]) -> Decoded {
        let mut modifiers = Modifiers::new("x.wide");
        let (lanes, sources) = int::find(op, ty, &mut modifiers)
            .ok_or_else(|| format!(".wide is not supported for .{ty:?}"))?;
        if operands.len() != usize::from(sources) + 1 {
            return Err(format!("takes {} operands, found {}", sources + 1, operands.len()));
        }
        let result = if ty.bytes() == 2 { Ty::U32 } else { Ty::U64 };
        let d = self.target(&operands[0], result)?;
        let mut s = [Reg::Sink; 4];
        for (at, operand) in operands[1..].iter().enumerate() {
            s[at] = self.value(operand, if at == 2 { result } else { ty })?;
        }
        Ok((with_lanes(lanes, d, s, sources, FloatMods::default()), Class::Integer))
    }

    fn logic(&mut self, op: &str, operands: &[Operand<'a>]) -> Decoded {
        // Bit 2a + b of the table is the result.
        let (table, unary) = match op {
            "and" => (0b1000, false),
            "or" => (0b1110, false),
            "xor" => (0b0110, false),
            "not" => (0b0001, true),
            "mov" => (0b1000, true),
            _ => return Err("not supported for predicates".into()),
        };
        if operands.len() != if unary { 2 } else { 3 } {
            return Err(format!("has {} operands", operands.len()));
        }
        let d = self.target(&operands[0], Ty::Pred)?;
        let a = self.predicate(&operands[1])?;
        let b = if unary { a } else { self.predicate(&operands[2])? };
        Ok((Op::Logic { table, d, a, b }, Class::Compare))
    }

    pub(super) fn mov(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let ty = modifiers.ty()?;
        if ty == Ty::Pred {
            return self.logic("mov", operands);
        }
        let [d, a] = exactly::<2>(operands)?;
        let total = (ty.bytes() * 8) as u8;
        if let Operand::List(list) = a {
            let (n, bits) = part_width(list.len(), total)?;
            let parts = self.values(a, part_type(bits), list.len())?;
            let d = self.target(d, ty)?;
            return Ok((Op::Pack { d, parts, n, bits }, Class::Move));
        }
        if let Operand::List(list) = d {
            let (n, bits) = part_width(list.len(), total)?;
            let d = self.targets(d, part_type(bits), list.len())?;
            let a = self.value(a, ty)?;
            return Ok((Op::Unpack { d, a, n, bits }, Class::Move));
        }
        let (d, a) = (self.target(d, ty)?, self.value(a, ty)?);
        let s = [a, Reg::Sink, Reg::Sink, Reg::Sink];
        let lanes =
            if ty.is_wide() { Lanes::Wide(wide!(|a| a)) } else { Lanes::Narrow(narrow!(|a| a)) };
        Ok((with_lanes(lanes, d, s, 1, FloatMods::default()), Class::Move))
    }

    pub(super) fn lop3(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        self.four_sources(int::lop3(), modifiers.ty()?, operands, 4)
    }

    pub(super) fn funnel(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let left = modifiers.take_any(&["l", "r"]).ok_or("needs .l or .r")? == "l";
        let wrap = modifiers.take_any(&["wrap", "clamp"]).ok_or("needs .wrap or .clamp")? == "wrap";
        self.four_sources(int::funnel(left, wrap), modifiers.ty()?, operands, 3)
    }

    fn four_sources(&mut self, lanes: Lanes, ty: Ty, operands: &[Operand<'a>], n: u8) -> Decoded {
        if ty != Ty::B32 || operands.len() != usize::from(n) + 1 {
            return Err(format!("is known with .b32 and {} operands", n + 1));
        }
        let d = self.target(&operands[0], ty)?;
        let mut s = [Reg::Sink; 4];
        for (slot, operand) in s.iter_mut().zip(&operands[1..]) {
            *slot = self.value(operand, Ty::B32)?;
        }
        Ok((with_lanes(lanes, d, s, n, FloatMods::default()), Class::Integer))
    }

    pub(super) fn setp(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let op = modifiers.first().ok_or("needs a comparison")?;
        let ty = modifiers.ty()?;
        let ftz = modifiers.take("ftz");
        let join = modifiers.take_any(&["and", "or", "xor"]);
        let (p, q) = match operands.first() {
            Some(Operand::Pair(p, q)) => (self.target(p, Ty::Pred)?, self.target(q, Ty::Pred)?),
            Some(p) => (self.target(p, Ty::Pred)?, Reg::Sink),
            None => return Err("needs operands".into()),
        };
        let combine = match (join, operands) {
            (None, [_, _, _]) => Combine::None,
            (Some("and"), [_, _, _, c]) => Combine::And(self.predicate(c)?),
            (Some("or"), [_, _, _, c]) => Combine::Or(self.predicate(c)?),
            (Some(_), [_, _, _, c]) => Combine::Xor(self.predicate(c)?),
            _ => return Err(format!("has {} operands", operands.len())),
        };
        let (a, b) = (self.value(&operands[1], ty)?, self.value(&operands[2], ty)?);
        let unknown = || format!("comparison .{op} is not known for .{ty:?}");
        let op = if ty.is_wide() {
            Op::Set64 { f: compare::wide(op, ty).ok_or_else(unknown)?, p, q, a, b, combine }
        } else {
            Op::Set32 { f: compare::narrow(op, ty).ok_or_else(unknown)?, p, q, a, b, ftz, combine }
        };
        Ok((op, Class::Compare))
    }

    pub(super) fn selp(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let ty = modifiers.ty()?;
        let [d, a, b, p] = exactly::<4>(operands)?;
        let d = self.target(d, ty)?;
        let (a, b) = (self.value(a, ty)?, self.value(b, ty)?);
        Ok((Op::Selp { d, a, b, p: self.predicate(p)? }, Class::Move))
    }

    pub(super) fn cvt(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let from = modifiers.ty()?;
        let to = modifiers.ty()?;
        let mode = modifiers.take_any(&["rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi"]);
        let round = match mode {
            Some("rz" | "rzi") => Round::Zero,
            Some("rm" | "rmi") => Round::Down,
            Some("rp" | "rpi") => Round::Up,
            Some("rna") => Round::NearAway,
            _ => Round::Near,
        };
        let integral = mode.is_some_and(|mode| mode.ends_with('i'));
        let c = Cvt {
            to,
            from,
            round,
            integral,
            sat: modifiers.take("sat"),
            ftz: modifiers.take("ftz"),
            relu: modifiers.take("relu"),
        };
        check_rounding(&c, mode)?;
        if matches!(to, Ty::Bf16x2 | Ty::F16x2) {
            let [d, a, b] = exactly::<3>(operands)?;
            let (a, b) = (self.value(a, Ty::F32)?, self.value(b, Ty::F32)?);
            return Ok((Op::Cvt2 { c, d: self.target(d, to)?, a, b }, Class::Convert));
        }
        let [d, a] = exactly::<2>(operands)?;
        let a = self.any_width(a, from)?;
        Ok((Op::Cvt { c, d: self.wide_target(d, to)?, a }, Class::Convert))
    }
}

/// The ISA asks for a rounding exactly where the result may be inexact.
fn check_rounding(c: &Cvt, mode: Option<&str>) -> Result<(), String> {
    let float = |ty| is_float(ty) || ty == Ty::Tf32;
    let needs = match (float(c.from), float(c.to)) {
        (true, true) => {
            c.to.bytes() < c.from.bytes() || matches!(c.to, Ty::Bf16x2 | Ty::F16x2 | Ty::Tf32)
        }
        (true, false) | (false, true) => true,
        (false, false) => false,
    };
    if needs && mode.is_none() {
        return Err("needs a rounding such as .rn or .rzi".into());
    }
    if float(c.from) && !float(c.to) && !c.integral {
        return Err("to an integer needs .rni, .rzi, .rmi or .rpi".into());
    }
    if (c.to == Ty::Tf32) != (mode == Some("rna")) {
        return Err(".rna and .tf32 belong together here".into());
    }
    let pair = matches!(c.to, Ty::Bf16x2 | Ty::F16x2);
    if c.from == Ty::F16x2 || c.from == Ty::Bf16x2 || (pair && c.from != Ty::F32) {
        return Err(format!("from .{:?} to .{:?} is not supported", c.from, c.to));
    }
    Ok(())
}

fn with_lanes(lanes: Lanes, d: Reg, s: [Reg; 4], n: u8, mods: FloatMods) -> Op {
    match lanes {
        Lanes::Narrow(f) => Op::Alu32 { f, d, s, n, mods },
        Lanes::Wide(f) => Op::Alu64 { f, d, s, n },
    }
}

/// Shift counts, positions and lengths are 32-bit whatever the instruction's type.
fn source_type(op: &str, ty: Ty, at: usize) -> Ty {
    match (op, at) {
        ("shl" | "shr", 1) | ("bfe", 1 | 2) | ("bfi", 2 | 3) => Ty::U32,
        _ => ty,
    }
}

fn part_width(parts: usize, total: u8) -> Result<(u8, u8), String> {
    match (parts, total) {
        (2, 32 | 64) => Ok((2, total / 2)),
        (4, 32 | 64) => Ok((4, total / 4)),
        _ => Err(format!("{parts} parts do not make {total} bits")),
    }
}

fn part_type(bits: u8) -> Ty {
    match bits {
        8 => Ty::B8,
        16 => Ty::B16,
        _ => Ty::B32,
    }
}
