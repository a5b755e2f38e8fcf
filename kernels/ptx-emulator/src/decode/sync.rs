//! Control flow, barriers, exchange between lanes, matrix products.

use super::operands::{Modifiers, exactly};
use super::{Decoded, Decoder};
use crate::ast::Operand;
use crate::counters::Class;
use crate::ir::{AtomicOp, MmaKind, Op, Reg, ShflMode, Ty, VoteMode};

/// Takes each of `parts`, or says which one is missing.
pub(super) fn need(modifiers: &mut Modifiers, parts: &[&str]) -> Result<(), String> {
    match parts.iter().find(|part| !modifiers.take(part)) {
        None => Ok(()),
        Some(part) => Err(format!("needs .{part}")),
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn branch(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        modifiers.take("uni");
        let [Operand::Name(name)] = operands else { return Err("needs a label".into()) };
        let target = self.open.iter().rev().find_map(|scope| self.labels.get(&(*scope, *name)));
        let target = *target.ok_or_else(|| format!("label {name} is not here"))?;
        Ok((Op::Bra { target }, Class::Control))
    }

    pub(super) fn fence(&mut self, op: &str, modifiers: &mut Modifiers<'a>) -> Decoded {
        if op == "fence" && (modifiers.has("proxy") || modifiers.has("mbarrier_init")) {
            return self.proxy_fence(modifiers);
        }
        let parts: &[&str] = match op {
            "membar" => &["cta", "gl", "sys"],
            "fence" => &["acq_rel", "sc", "cta", "cluster", "gpu", "sys"],
            _ => &["global", "L1", "L2", "tensormap", "param"],
        };
        while modifiers.take_any(parts).is_some() {}
        Ok((Op::Nop, Class::Barrier))
    }

    pub(super) fn barrier(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        if modifiers.take("warp") {
            need(modifiers, &["sync"])?;
            let [mask] = exactly::<1>(operands)?;
            return Ok((Op::WarpBar { mask: self.value(mask, Ty::B32)? }, Class::Barrier));
        }
        if modifiers.take("cluster") {
            return self.cluster_barrier(modifiers, operands);
        }
        modifiers.take("cta");
        modifiers.take("aligned");
        let wait = modifiers.take("sync");
        if !wait {
            need(modifiers, &["arrive"])?;
        }
        let (id, count) = match operands {
            [id] if wait => (self.value(id, Ty::U32)?, None),
            [id, count] => (self.value(id, Ty::U32)?, Some(self.value(count, Ty::U32)?)),
            _ => return Err("needs a barrier's number, and .arrive a thread count".into()),
        };
        Ok((Op::Bar { id, count, wait }, Class::Barrier))
    }

    /// Kernels run one after the other here, so there is nothing to wait for.
    pub(super) fn dependent_launch(&mut self, modifiers: &mut Modifiers<'a>) -> Decoded {
        if modifiers.take_any(&["launch_dependents", "wait"]).is_none() {
            return Err("needs .launch_dependents or .wait".into());
        }
        Ok((Op::Nop, Class::Barrier))
    }

    pub(super) fn shuffle(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["sync", "b32"])?;
        let mode = match modifiers.take_any(&["up", "down", "bfly", "idx"]) {
            Some("up") => ShflMode::Up,
            Some("down") => ShflMode::Down,
            Some("bfly") => ShflMode::Bfly,
            Some(_) => ShflMode::Idx,
            None => return Err("needs .up, .down, .bfly or .idx".into()),
        };
        let [d, a, b, c, mask] = exactly::<5>(operands)?;
        let (d, p) = match d {
            Operand::Pair(d, p) => (self.target(d, Ty::B32)?, self.target(p, Ty::Pred)?),
            d => (self.target(d, Ty::B32)?, Reg::Sink),
        };
        let [a, b, c, mask] = [a, b, c, mask].map(|operand| self.value(operand, Ty::B32));
        Ok((Op::Shfl { mode, d, p, a: a?, b: b?, c: c?, mask: mask? }, Class::Shuffle))
    }

    pub(super) fn vote(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["sync"])?;
        let mode = match modifiers.take_any(&["all", "any", "uni", "ballot"]) {
            Some("all") => VoteMode::All,
            Some("any") => VoteMode::Any,
            Some("uni") => VoteMode::Uni,
            Some(_) => VoteMode::Ballot,
            None => return Err("needs .all, .any, .uni or .ballot".into()),
        };
        let ty = if mode == VoteMode::Ballot { Ty::B32 } else { Ty::Pred };
        need(modifiers, &[if ty == Ty::B32 { "b32" } else { "pred" }])?;
        let [d, a, mask] = exactly::<3>(operands)?;
        let d = self.target(d, ty)?;
        let a = self.predicate(a)?;
        Ok((Op::Vote { mode, d, a, mask: self.value(mask, Ty::B32)? }, Class::Shuffle))
    }

    pub(super) fn redux(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["sync"])?;
        let ty = modifiers.ty()?;
        let op = match modifiers.take_any(&["add", "min", "max", "and", "or", "xor"]) {
            Some("add") => AtomicOp::Add,
            Some("min") => AtomicOp::Min,
            Some("max") => AtomicOp::Max,
            Some("and") => AtomicOp::And,
            Some("or") => AtomicOp::Or,
            Some(_) => AtomicOp::Xor,
            None => return Err("needs an operation".into()),
        };
        if !matches!(ty, Ty::U32 | Ty::S32 | Ty::B32) {
            return Err(format!("not supported for .{ty:?}"));
        }
        let [d, a, mask] = exactly::<3>(operands)?;
        let d = self.target(d, ty)?;
        let (a, mask) = (self.value(a, ty)?, self.value(mask, Ty::B32)?);
        Ok((Op::Redux { op, ty, d, a, mask }, Class::Shuffle))
    }

    pub(super) fn activemask(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["b32"])?;
        let [d] = exactly::<1>(operands)?;
        Ok((Op::Activemask { d: self.target(d, Ty::B32)? }, Class::Shuffle))
    }

    pub(super) fn mma(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["sync", "aligned", "row", "col"])?;
        let shape = modifiers.take_any(&["m16n8k16", "m16n8k8", "m16n8k4"]);
        let types = [modifiers.first(), modifiers.first(), modifiers.first(), modifiers.first()];
        let [Some("f32"), Some(a), Some(b), Some("f32")] = types else {
            return Err("is known with .f32 accumulation only".into());
        };
        let (kind, a_registers, b_registers) = match (shape, a, b) {
            (Some("m16n8k16"), "bf16", "bf16") => (MmaKind::Bf16K16, 4, 2),
            (Some("m16n8k16"), "f16", "f16") => (MmaKind::F16K16, 4, 2),
            (Some("m16n8k8"), "bf16", "bf16") => (MmaKind::Bf16K8, 2, 1),
            (Some("m16n8k8"), "f16", "f16") => (MmaKind::F16K8, 2, 1),
            (Some("m16n8k8"), "tf32", "tf32") => (MmaKind::Tf32K8, 4, 2),
            (Some("m16n8k4"), "tf32", "tf32") => (MmaKind::Tf32K4, 2, 1),
            _ => return Err("this shape with these types is not supported".into()),
        };
        let [d, a, b, c] = exactly::<4>(operands)?;
        let d = self.targets(d, Ty::F32, 4)?;
        let a = self.values(a, Ty::B32, a_registers)?;
        let [b0, b1, ..] = self.values(b, Ty::B32, b_registers)?;
        let c = self.values(c, Ty::F32, 4)?;
        Ok((Op::Mma { kind, d, a, b: [b0, b1], c }, Class::MatrixMultiply))
    }
}
