//! Operands and modifiers.

use super::{Decoder, Entry, special};
use crate::ast::{Operand, Space};
use crate::ir::{Addr, PredSrc, Reg, Special, Ty};

/// The parts of an instruction's name, taken off one by one.
pub(crate) struct Modifiers<'a> {
    op: &'a str,
    rest: Vec<&'a str>,
}

impl<'a> Modifiers<'a> {
    pub(crate) fn new(name: &'a str) -> Self {
        let mut parts = name.split('.');
        Self { op: parts.next().unwrap_or(""), rest: parts.collect() }
    }

    /// The operation itself.
    pub(crate) fn op(&self) -> &'a str {
        self.op
    }

    /// Takes `wanted` off if it is there.
    pub(crate) fn take(&mut self, wanted: &str) -> bool {
        self.take_any(&[wanted]).is_some()
    }

    /// Takes the first modifier that is one of `wanted`.
    pub(crate) fn take_any(&mut self, wanted: &[&str]) -> Option<&'a str> {
        let at = self.rest.iter().position(|part| wanted.contains(part))?;
        Some(self.rest.remove(at))
    }

    /// Whether `wanted` is there.
    pub(crate) fn has(&self, wanted: &str) -> bool {
        self.rest.contains(&wanted)
    }

    /// Takes all modifiers that begin with `stem`: hints such as `L2::128B`.
    pub(super) fn drop_hints(&mut self, stem: &str) {
        self.rest.retain(|part| !part.starts_with(stem));
    }

    /// Takes the type at the end.
    pub(super) fn ty(&mut self) -> Result<Ty, String> {
        let last = self.rest.last().copied().unwrap_or("");
        let ty = Ty::parse(last).ok_or_else(|| format!("`{last}` is no type known here"))?;
        self.rest.pop();
        Ok(ty)
    }

    /// The next modifier, whatever it is.
    pub(super) fn first(&mut self) -> Option<&'a str> {
        (!self.rest.is_empty()).then(|| self.rest.remove(0))
    }

    /// All must have been taken.
    pub(super) fn finish(&self) -> Result<(), String> {
        match self.rest.as_slice() {
            [] => Ok(()),
            rest => Err(format!("modifier .{} is not supported", rest.join("."))),
        }
    }
}

/// Exactly `N` operands.
pub(super) fn exactly<'o, 'a, const N: usize>(
    operands: &'o [Operand<'a>],
) -> Result<&'o [Operand<'a>; N], String> {
    operands.try_into().map_err(|_| format!("takes {N} operands, found {}", operands.len()))
}

impl<'a> Decoder<'a> {
    fn lookup(&self, name: &str) -> Option<Entry> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).copied()
    }

    /// A 32-bit constant as a register.
    pub(super) fn constant32(&mut self, value: u32) -> Result<Reg, String> {
        if let Some(&reg) = self.constants32.get(&value) {
            return Ok(reg);
        }
        let reg = self.new_register(Ty::B32, format!("the constant {value:#x}"))?;
        if let Reg::R(at) = reg {
            self.code.constants32.push((at, value));
        }
        self.constants32.insert(value, reg);
        Ok(reg)
    }

    fn constant64(&mut self, value: u64) -> Result<Reg, String> {
        if let Some(&reg) = self.constants64.get(&value) {
            return Ok(reg);
        }
        let reg = self.new_register(Ty::B64, format!("the constant {value:#x}"))?;
        if let Reg::D(at) = reg {
            self.code.constants64.push((at, value));
        }
        self.constants64.insert(value, reg);
        Ok(reg)
    }

    fn special(&mut self, name: &'a str) -> Result<Option<Reg>, String> {
        if let Some(&reg) = self.specials.get(name) {
            return Ok(Some(reg));
        }
        let Some(found) = special(name) else { return Ok(None) };
        let reg = self.new_register(Ty::U32, name.to_string())?;
        if let Reg::R(at) = reg {
            self.code.specials.push((at, found));
        }
        self.specials.insert(name, reg);
        Ok(Some(reg))
    }

    /// The address of a shared variable, which tells the CTA's rank in its cluster too.
    fn shared_variable(&mut self, offset: u32) -> Result<Reg, String> {
        if let Some(&reg) = self.shared_variables.get(&offset) {
            return Ok(reg);
        }
        let reg = self.new_register(Ty::U32, format!("the shared address {offset:#x}"))?;
        if let Reg::R(at) = reg {
            self.code.specials.push((at, Special::SharedVariable(offset)));
        }
        self.shared_variables.insert(offset, reg);
        Ok(reg)
    }

    fn bits(&mut self, ty: Ty, bits: u64) -> Result<Reg, String> {
        match ty.bytes() {
            8 => self.constant64(bits),
            4 => self.constant32(bits as u32),
            2 => self.constant32(bits as u32 & 0xFFFF),
            _ => self.constant32(bits as u32 & 0xFF),
        }
    }

    /// A register to read, or a constant of type `ty`.
    pub(super) fn value(&mut self, operand: &Operand<'a>, ty: Ty) -> Result<Reg, String> {
        let is_f32 = matches!(ty, Ty::F32 | Ty::B32);
        let is_f64 = matches!(ty, Ty::F64 | Ty::B64);
        match operand {
            Operand::Name("WARP_SZ") => self.bits(ty, 32),
            Operand::Name(name) => match self.lookup(name) {
                Some(Entry::Register(reg, declared)) => {
                    if (declared == Ty::Pred) || declared.is_wide() != ty.is_wide() {
                        return Err(format!("{name} is .{declared:?}, not a register for .{ty:?}"));
                    }
                    Ok(reg)
                }
                Some(Entry::Variable(place)) if place.space == Space::Shared && !ty.is_wide() => {
                    self.shared_variable(place.address as u32)
                }
                Some(Entry::Variable(place)) => self.bits(ty, place.address),
                None => match self.special(name)? {
                    Some(reg) if !ty.is_wide() => Ok(reg),
                    Some(_) => Err(format!("{name} has 32 bits")),
                    None => Err(format!("{name} is not declared")),
                },
            },
            Operand::Int(value) if !matches!(ty, Ty::F32 | Ty::F64) => self.bits(ty, *value),
            Operand::F32(bits) if is_f32 => self.constant32(*bits),
            Operand::F64(bits) if is_f64 => self.constant64(*bits),
            Operand::Float(value) if is_f32 => self.constant32((*value as f32).to_bits()),
            Operand::Float(value) if is_f64 => self.constant64(value.to_bits()),
            other => Err(format!("{other:?} is no value of type .{ty:?}")),
        }
    }

    /// A register to read whose width may differ from the instruction's type (`ld`, `st`, `cvt`).
    pub(super) fn any_width(&mut self, operand: &Operand<'a>, ty: Ty) -> Result<Reg, String> {
        match operand {
            Operand::Name(name) => match self.lookup(name) {
                Some(Entry::Register(reg, declared)) if declared.bytes() >= ty.bytes() => Ok(reg),
                Some(Entry::Register(..)) => Err(format!("{name} is too narrow for .{ty:?}")),
                _ => self.value(operand, ty),
            },
            _ => self.value(operand, ty),
        }
    }

    /// A register to write.
    pub(super) fn target(&self, operand: &Operand<'a>, ty: Ty) -> Result<Reg, String> {
        match operand {
            Operand::Name("_") => Ok(Reg::Sink),
            Operand::Name(name) => match self.lookup(name) {
                Some(Entry::Register(reg, declared)) => {
                    let fits = (declared == Ty::Pred) == (ty == Ty::Pred)
                        && declared.is_wide() == ty.is_wide();
                    if fits {
                        Ok(reg)
                    } else {
                        Err(format!("{name} is .{declared:?}, not .{ty:?}"))
                    }
                }
                _ => Err(format!("{name} is not a declared register")),
            },
            other => Err(format!("{other:?} is no register")),
        }
    }

    /// A register to write that may be wider than the type.
    pub(super) fn wide_target(&self, operand: &Operand<'a>, ty: Ty) -> Result<Reg, String> {
        match operand {
            Operand::Name("_") => Ok(Reg::Sink),
            Operand::Name(name) => match self.lookup(name) {
                Some(Entry::Register(reg, declared))
                    if declared != Ty::Pred && declared.bytes() >= ty.bytes() =>
                {
                    Ok(reg)
                }
                Some(Entry::Register(..)) => Err(format!("{name} is too narrow for .{ty:?}")),
                _ => Err(format!("{name} is not a declared register")),
            },
            other => Err(format!("{other:?} is no register")),
        }
    }

    pub(super) fn predicate_name(&self, name: &str, not: bool) -> Result<PredSrc, String> {
        match self.lookup(name) {
            Some(Entry::Register(Reg::P(reg), _)) => Ok(PredSrc { reg, not }),
            _ => Err(format!("{name} is no predicate")),
        }
    }

    pub(super) fn predicate(&self, operand: &Operand<'a>) -> Result<PredSrc, String> {
        match operand {
            Operand::Name(name) => self.predicate_name(name, false),
            Operand::Not(name) => self.predicate_name(name, true),
            other => Err(format!("{other:?} is no predicate")),
        }
    }

    /// Up to four registers to write.
    pub(super) fn targets(
        &self,
        operand: &Operand<'a>,
        ty: Ty,
        wanted: usize,
    ) -> Result<[Reg; 4], String> {
        let mut out = [Reg::Sink; 4];
        let parts = parts(operand, wanted)?;
        for (slot, part) in out.iter_mut().zip(parts) {
            *slot = self.wide_target(part, ty)?;
        }
        Ok(out)
    }

    /// Up to four values to read.
    pub(super) fn values(
        &mut self,
        operand: &Operand<'a>,
        ty: Ty,
        wanted: usize,
    ) -> Result<[Reg; 4], String> {
        let mut out = [Reg::Sink; 4];
        for (slot, part) in out.iter_mut().zip(parts(operand, wanted)?) {
            *slot = self.any_width(part, ty)?;
        }
        Ok(out)
    }

    /// `[base + offset]` in `space`.
    pub(super) fn address(&mut self, operand: &Operand<'a>, space: Space) -> Result<Addr, String> {
        let Operand::Address(base, offset) = operand else {
            return Err(format!("{operand:?} is no address"));
        };
        match base.as_ref() {
            Operand::Name(name) => match self.lookup(name) {
                Some(Entry::Register(reg @ (Reg::R(_) | Reg::D(_)), _)) => {
                    if matches!(space, Space::Param | Space::Const) {
                        return Err("parameters and constants are addressed by name here".into());
                    }
                    if matches!(space, Space::Global | Space::Generic) && matches!(reg, Reg::R(_)) {
                        return Err(format!("{name} has 32 bits: no device address"));
                    }
                    Ok(Addr { base: Some(reg), offset: *offset })
                }
                Some(Entry::Variable(place)) if place.space == space => {
                    Ok(Addr { base: None, offset: place.address as i64 + offset })
                }
                Some(Entry::Variable(_)) => Err(format!("{name} lives in another state space")),
                _ => Err(format!("{name} is not declared")),
            },
            Operand::Int(value) => Ok(Addr { base: None, offset: *value as i64 + offset }),
            other => Err(format!("{other:?} is no address")),
        }
    }
}

/// The parts of a vector operand; a lone operand is its only part.
pub(super) fn parts<'o, 'a>(
    operand: &'o Operand<'a>,
    wanted: usize,
) -> Result<&'o [Operand<'a>], String> {
    let parts = match operand {
        Operand::List(parts) => parts.as_slice(),
        one => std::slice::from_ref(one),
    };
    if parts.len() == wanted {
        Ok(parts)
    } else {
        Err(format!("a list of {wanted} is needed, found {}", parts.len()))
    }
}
