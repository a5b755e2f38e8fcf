//! Loads, stores, atomics, asynchronous copies.

use super::operands::{Modifiers, exactly};
use super::sync::need;
use super::{Decoded, Decoder};
use crate::ast::{Operand, Space};
use crate::counters::Class;
use crate::exec::access::{PARAMETER_WINDOW, SHARED_WINDOW};
use crate::exec::lanes::wide;
use crate::ir::{AtomicOp, Op, Reg, Ty};

fn space(modifiers: &mut Modifiers) -> Space {
    let found = modifiers.take_any(&["global", "shared", "shared::cta", "param", "const", "local"]);
    match found {
        Some("global") => Space::Global,
        Some("param") => Space::Param,
        Some("const") => Space::Const,
        Some("local") => Space::Local,
        Some(_) => Space::Shared,
        None => Space::Generic,
    }
}

/// Ordering, scope and cache hints change nothing here: a CTA runs alone and in order.
fn drop_hints(modifiers: &mut Modifiers) {
    modifiers.drop_hints("L1::");
    modifiers.drop_hints("L2::");
    let hints = [
        "volatile", "weak", "relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys", "ca",
        "cg", "cs", "lu", "cv", "wb", "wt", "nc",
    ];
    while modifiers.take_any(&hints).is_some() {}
}

fn vector(modifiers: &mut Modifiers) -> usize {
    match modifiers.take_any(&["v2", "v4"]) {
        Some("v2") => 2,
        Some(_) => 4,
        None => 1,
    }
}

impl<'a> Decoder<'a> {
    fn note_shared(&mut self, space: Space, bytes: u32) {
        if matches!(space, Space::Shared | Space::Generic) {
            self.smallest_shared = self.smallest_shared.min(bytes);
        }
    }

    pub(super) fn load(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let (ty, n, space) = access_shape(modifiers)?;
        let [d, addr] = exactly::<2>(operands)?;
        let d = self.targets(d, ty, n)?;
        let addr = self.address(addr, space)?;
        self.note_shared(space, ty.bytes() * n as u32);
        let class = match space {
            Space::Global | Space::Generic => Class::GlobalLoad,
            Space::Shared => Class::SharedLoad,
            _ => Class::OtherMemory,
        };
        Ok((Op::Ld { space, ty, d, n: n as u8, addr }, class))
    }

    pub(super) fn store(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let (ty, n, space) = access_shape(modifiers)?;
        let [addr, s] = exactly::<2>(operands)?;
        let s = self.values(s, ty, n)?;
        let addr = self.address(addr, space)?;
        self.note_shared(space, ty.bytes() * n as u32);
        let class = match space {
            Space::Global | Space::Generic => Class::GlobalStore,
            Space::Shared => Class::SharedStore,
            _ => Class::OtherMemory,
        };
        Ok((Op::St { space, ty, s, n: n as u8, addr }, class))
    }

    pub(super) fn atomic(
        &mut self,
        name: &str,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let ty = modifiers.ty()?;
        drop_hints(modifiers);
        let space = space(modifiers);
        let op = match modifiers.first() {
            Some("add") => AtomicOp::Add,
            Some("min") => AtomicOp::Min,
            Some("max") => AtomicOp::Max,
            Some("and") => AtomicOp::And,
            Some("or") => AtomicOp::Or,
            Some("xor") => AtomicOp::Xor,
            Some("exch") => AtomicOp::Exch,
            Some("cas") => AtomicOp::Cas,
            Some("inc") => AtomicOp::Inc,
            Some("dec") => AtomicOp::Dec,
            other => return Err(format!("{other:?} is no atomic operation known here")),
        };
        let float = matches!(ty, Ty::F32 | Ty::F64);
        if ty.bytes() < 4 || matches!(ty, Ty::F16x2 | Ty::Bf16x2) || (float && op != AtomicOp::Add)
        {
            return Err(format!("not supported for .{ty:?}"));
        }
        let (d, rest) = match (name, operands) {
            ("atom", [d, rest @ ..]) => (self.target(d, ty)?, rest),
            (_, rest) => (Reg::Sink, rest),
        };
        let (addr, b, c) = match (op, rest) {
            (AtomicOp::Cas, [addr, b, c]) => (addr, b, self.value(c, ty)?),
            (AtomicOp::Cas, _) | (_, [] | [_] | [_, _, _, ..]) => {
                return Err(format!("has {} operands", operands.len()));
            }
            (_, [addr, b]) => (addr, b, Reg::Sink),
        };
        let b = self.value(b, ty)?;
        let addr = self.address(addr, space)?;
        self.note_shared(space, ty.bytes());
        Ok((Op::Atom { space, op, ty, d, addr, b, c }, Class::Atomic))
    }

    pub(super) fn cvta(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let ty = modifiers.ty()?;
        let to = modifiers.take("to");
        let space = space(modifiers);
        if ty != Ty::U64 {
            return Err("only .u64 addresses are known".into());
        }
        let [d, a] = exactly::<2>(operands)?;
        let (d, a) = (self.target(d, ty)?, self.value(a, ty)?);
        let f = match (space, to) {
            (Space::Global, _) => wide!(|a| a),
            (Space::Shared, false) => wide!(|a| a.wrapping_add(SHARED_WINDOW)),
            (Space::Param, false) => wide!(|a| a.wrapping_add(PARAMETER_WINDOW)),
            (Space::Shared, true) => wide!(|a| a.wrapping_sub(SHARED_WINDOW)),
            _ => return Err("generic addresses of this state space are not supported".into()),
        };
        Ok((Op::Alu64 { f, d, s: [a, Reg::Sink, Reg::Sink, Reg::Sink], n: 1 }, Class::Integer))
    }

    pub(super) fn async_copy(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let reduces = modifiers.take("reduce");
        if !modifiers.take("async") {
            return Err("only cp.async is known".into());
        }
        if reduces || modifiers.has("bulk") {
            return self.bulk(reduces, modifiers, operands);
        }
        if modifiers.take("commit_group") {
            return Ok((Op::CpCommit, Class::AsyncCopy));
        }
        if modifiers.take("wait_all") {
            return Ok((Op::CpWaitAll, Class::AsyncCopy));
        }
        if modifiers.take("wait_group") {
            let [Operand::Int(keep)] = operands else { return Err("needs a number".into()) };
            let keep = u32::try_from(*keep).map_err(|_| "the number is too large")?;
            return Ok((Op::CpWait { keep }, Class::AsyncCopy));
        }
        let whole_line = modifiers.take_any(&["ca", "cg"]).ok_or("needs .ca or .cg")? == "cg";
        modifiers.drop_hints("L2::");
        if modifiers.take_any(&["shared", "shared::cta"]).is_none() || !modifiers.take("global") {
            return Err("copies from .global to .shared only".into());
        }
        let (dst, src, bytes, size) = match operands {
            [dst, src, Operand::Int(bytes)] => (dst, src, *bytes, None),
            [dst, src, Operand::Int(bytes), size] => {
                (dst, src, *bytes, Some(self.value(size, Ty::U32)?))
            }
            _ => return Err("needs [to], [from], bytes and perhaps the bytes to read".into()),
        };
        if !(bytes == 16 || (!whole_line && matches!(bytes, 4 | 8))) {
            return Err(format!("{bytes} bytes: .cg copies 16, .ca copies 4, 8 or 16"));
        }
        let (dst, src) = (self.address(dst, Space::Shared)?, self.address(src, Space::Global)?);
        let bytes = bytes as u32;
        self.note_shared(Space::Shared, bytes);
        Ok((Op::CpAsync { bytes, dst, src, size }, Class::AsyncCopy))
    }

    pub(super) fn ldmatrix(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let (n, trans) = matrix_shape(modifiers)?;
        let [d, addr] = exactly::<2>(operands)?;
        let d = self.targets(d, Ty::B32, n)?;
        let addr = self.address(addr, Space::Shared)?;
        Ok((Op::Ldmatrix { n: n as u8, trans, d, addr }, Class::MatrixLoad))
    }

    pub(super) fn stmatrix(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let (n, trans) = matrix_shape(modifiers)?;
        let [addr, s] = exactly::<2>(operands)?;
        let s = self.values(s, Ty::B32, n)?;
        let addr = self.address(addr, Space::Shared)?;
        Ok((Op::Stmatrix { n: n as u8, trans, s, addr }, Class::SharedStore))
    }
}

/// How many 8x8 matrices, and whether they are transposed.
fn matrix_shape(modifiers: &mut Modifiers) -> Result<(usize, bool), String> {
    need(modifiers, &["sync", "aligned", "m8n8", "b16"])?;
    let trans = modifiers.take("trans");
    if modifiers.take_any(&["shared", "shared::cta"]).is_none() {
        return Err("is known in .shared only".into());
    }
    match modifiers.take_any(&["x1", "x2", "x4"]) {
        Some("x1") => Ok((1, trans)),
        Some("x2") => Ok((2, trans)),
        Some(_) => Ok((4, trans)),
        None => Err("needs .x1, .x2 or .x4".into()),
    }
}

fn access_shape(modifiers: &mut Modifiers) -> Result<(Ty, usize, Space), String> {
    let ty = modifiers.ty()?;
    if matches!(ty, Ty::Pred | Ty::F16x2 | Ty::Bf16x2 | Ty::Bf16 | Ty::Tf32) {
        return Err(format!(".{ty:?} is no type for memory; use .b16 or .b32"));
    }
    drop_hints(modifiers);
    let n = vector(modifiers);
    if ty.bytes() * n as u32 > 16 {
        return Err("more than 16 bytes a lane".into());
    }
    Ok((ty, n, space(modifiers)))
}
