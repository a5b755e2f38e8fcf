//! mbarriers, bulk tensor copies, `wgmma`, clusters.

use super::operands::{Modifiers, exactly, parts};
use super::sync::need;
use super::{Decoded, Decoder};
use crate::ast::{Operand, Space};
use crate::asynchronous::{Async, LeftSide, SharedAddr, TensorAddr, Wgmma};
use crate::counters::Class;
use crate::ir::{Op, Reg, Ty};

/// What is known of ordering and scope is that everything is ordered: the checks look for what is
/// missing altogether.
fn drop_scopes(modifiers: &mut Modifiers) {
    let hints = ["acquire", "release", "relaxed", "acq_rel", "cta", "cluster", "gpu", "sys"];
    while modifiers.take_any(&hints).is_some() {}
}

fn number(operand: &Operand, most: u64, what: &str) -> Result<u32, String> {
    match operand {
        Operand::Int(value) if *value <= most => Ok(*value as u32),
        other => Err(format!("{other:?} is no {what}, a constant from 0 to {most}")),
    }
}

impl<'a> Decoder<'a> {
    fn asynchronous(&mut self, op: Async, class: Class) -> Decoded {
        self.code.asynchronous = true;
        Ok((Op::Async(Box::new(op)), class))
    }

    /// `[address]` of shared memory: `shared` tells whether a space was written.
    fn shared_address(
        &mut self,
        operand: &Operand<'a>,
        shared: bool,
    ) -> Result<SharedAddr, String> {
        let space = if shared { Space::Shared } else { Space::Generic };
        Ok(SharedAddr { addr: self.address(operand, space)?, generic: !shared })
    }

    pub(super) fn mbarrier(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let what = modifiers.first().ok_or("needs an operation")?;
        need(modifiers, &["b64"])?;
        let shared = modifiers.take_any(&["shared", "shared::cta", "shared::cluster"]).is_some();
        let expects = modifiers.take("expect_tx");
        let by_parity = modifiers.take("parity");
        drop_scopes(modifiers);
        let op = match (what, operands) {
            ("init", [at, count]) => Async::MbarrierInit {
                at: self.shared_address(at, shared)?,
                count: self.value(count, Ty::U32)?,
            },
            ("inval", [at]) => Async::MbarrierInval { at: self.shared_address(at, shared)? },
            ("arrive" | "arrive_drop", [.., Operand::Address(..)])
            | ("arrive" | "arrive_drop", [.., Operand::Address(..), _]) => {
                let drops_out = what == "arrive_drop";
                self.arrival(operands, shared, expects, drops_out)?
            }
            ("expect_tx", [at, bytes]) => Async::Expect {
                at: self.shared_address(at, shared)?,
                bytes: self.value(bytes, Ty::U32)?,
            },
            ("complete_tx", [at, bytes]) => Async::Complete {
                at: self.shared_address(at, shared)?,
                bytes: self.value(bytes, Ty::U32)?,
            },
            ("test_wait" | "try_wait", [p, at, goal]) => {
                self.wait(what == "try_wait", [p, at, goal], shared, by_parity)?
            }
            // With a hint of how long the thread may be suspended.
            ("try_wait", [p, at, goal, _]) => self.wait(true, [p, at, goal], shared, by_parity)?,
            _ => return Err(format!(".{what} with {} operands", operands.len())),
        };
        self.asynchronous(op, Class::Barrier)
    }

    fn arrival(
        &mut self,
        operands: &[Operand<'a>],
        shared: bool,
        expects: bool,
        drops_out: bool,
    ) -> Result<Async, String> {
        let (d, rest) = match operands {
            [Operand::Address(..), ..] => (Reg::Sink, operands),
            [d, rest @ ..] => (self.target(d, Ty::B64)?, rest),
            [] => return Err("needs operands".into()),
        };
        let (at, number) = match rest {
            [at] if !expects => (at, None),
            [at, number] => (at, Some(self.value(number, Ty::U32)?)),
            _ => return Err(format!("has {} operands", operands.len())),
        };
        let at = self.shared_address(at, shared)?;
        let (count, expect) = if expects { (None, number) } else { (number, None) };
        Ok(Async::Arrive { d, at, count, expect, drops_out })
    }

    fn wait(
        &mut self,
        patient: bool,
        [p, at, goal]: [&Operand<'a>; 3],
        shared: bool,
        by_parity: bool,
    ) -> Result<Async, String> {
        let ty = if by_parity { Ty::B32 } else { Ty::B64 };
        let (p, goal) = (self.target(p, Ty::Pred)?, self.value(goal, ty)?);
        Ok(Async::Wait { p, at: self.shared_address(at, shared)?, goal, patient })
    }

    pub(super) fn mapa(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["u32", "shared::cluster"])?;
        let [d, a, rank] = exactly::<3>(operands)?;
        let d = self.target(d, Ty::U32)?;
        let (a, rank) = (self.value(a, Ty::U32)?, self.value(rank, Ty::U32)?);
        self.asynchronous(Async::Mapa { d, a, rank }, Class::Integer)
    }

    pub(super) fn cluster_barrier(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let arrives = modifiers.take("arrive");
        if !arrives {
            need(modifiers, &["wait"])?;
        }
        modifiers.take("aligned");
        drop_scopes(modifiers);
        exactly::<0>(operands)?;
        let op = if arrives { Async::ClusterArrive } else { Async::ClusterWait };
        self.asynchronous(op, Class::Barrier)
    }

    pub(super) fn proxy_fence(&mut self, modifiers: &mut Modifiers<'a>) -> Decoded {
        if modifiers.take("mbarrier_init") {
            need(modifiers, &["release", "cluster"])?;
            return self.asynchronous(Async::FenceMbarrierInit, Class::Barrier);
        }
        need(modifiers, &["proxy", "async"])?;
        while modifiers.take_any(&["global", "shared::cta", "shared::cluster"]).is_some() {}
        self.asynchronous(Async::FenceProxy, Class::Barrier)
    }

    /// `cp.async.bulk…` and `cp.reduce.async.bulk…`, of which `cp` and `async` are taken.
    pub(super) fn bulk(
        &mut self,
        reduces: bool,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["bulk"])?;
        if modifiers.take("commit_group") {
            exactly::<0>(operands)?;
            return self.asynchronous(Async::BulkCommit, Class::AsyncCopy);
        }
        if modifiers.take("wait_group") {
            // Without .read it also waits for the writes, which are done at once here.
            modifiers.take("read");
            let [keep] = exactly::<1>(operands)?;
            let keep = number(keep, u64::from(u32::MAX), "number of groups")?;
            return self.asynchronous(Async::BulkWait { keep }, Class::AsyncCopy);
        }
        need(modifiers, &["tensor"])?;
        let rank = match modifiers.take_any(&["1d", "2d", "3d", "4d", "5d"]) {
            Some(rank) => rank.as_bytes()[0] - b'0',
            None => return Err("needs .1d to .5d".into()),
        };
        modifiers.take("tile");
        if modifiers.take("bulk_group") {
            return self.tensor_store(rank, reduces, modifiers, operands);
        }
        need(modifiers, &["global", "mbarrier::complete_tx::bytes"])?;
        if modifiers.take_any(&["shared::cluster", "shared::cta"]).is_none() {
            return Err("copies to .shared::cluster or .shared::cta".into());
        }
        let multicast = modifiers.take("multicast::cluster");
        let hinted = modifiers.take("L2::cache_hint");
        let (to, from, mbarrier, mask) = match (operands, multicast, hinted) {
            ([to, from, mbarrier], false, false) | ([to, from, mbarrier, _], false, true) => {
                (to, from, mbarrier, None)
            }
            ([to, from, mbarrier, mask], true, false)
            | ([to, from, mbarrier, mask, _], true, true) => {
                (to, from, mbarrier, Some(self.value(mask, Ty::U16)?))
            }
            _ => return Err(format!("has {} operands", operands.len())),
        };
        let op = Async::TensorLoad {
            to: self.shared_address(to, true)?,
            from: self.tensor_address(from, rank)?,
            mbarrier: self.shared_address(mbarrier, true)?,
            mask,
        };
        self.asynchronous(op, Class::AsyncCopy)
    }

    fn tensor_store(
        &mut self,
        rank: u8,
        reduces: bool,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["global", "shared::cta"])?;
        if reduces {
            need(modifiers, &["add"])?;
        }
        let hinted = modifiers.take("L2::cache_hint");
        let (to, from) = match (operands, hinted) {
            ([to, from], false) | ([to, from, _], true) => (to, from),
            _ => return Err(format!("has {} operands", operands.len())),
        };
        let op = Async::TensorStore {
            to: self.tensor_address(to, rank)?,
            from: self.shared_address(from, true)?,
            adds: reduces,
        };
        self.asynchronous(op, Class::AsyncCopy)
    }

    fn tensor_address(&mut self, operand: &Operand<'a>, rank: u8) -> Result<TensorAddr, String> {
        let Operand::Tensor(base, offset, coordinates) = operand else {
            return Err(format!("{operand:?} is not [tensor map, {{coordinates}}]"));
        };
        if coordinates.len() != usize::from(rank) {
            return Err(format!("{rank} coordinates are needed, found {}", coordinates.len()));
        }
        let mut at = [Reg::Sink; 5];
        for (slot, coordinate) in at.iter_mut().zip(coordinates) {
            *slot = self.value(coordinate, Ty::S32)?;
        }
        let address = Operand::Address(base.clone(), *offset);
        let (map, space) = match self.address(&address, Space::Generic) {
            Ok(map) => (map, Space::Generic),
            Err(_) => (self.address(&address, Space::Param)?, Space::Param),
        };
        Ok(TensorAddr { map, space, rank, at })
    }

    pub(super) fn wgmma(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        let what = modifiers.first().ok_or("needs an operation")?;
        need(modifiers, &["sync", "aligned"])?;
        let op = match (what, operands) {
            ("fence", []) => Async::WgmmaFence,
            ("commit_group", []) => Async::WgmmaCommit,
            ("wait_group", [keep]) => {
                Async::WgmmaWait { keep: number(keep, 7, "number of groups")? }
            }
            ("mma_async", _) => {
                let op = Async::Wgmma(self.product(modifiers, operands)?);
                return self.asynchronous(op, Class::MatrixMultiply);
            }
            _ => return Err(format!(".{what} with {} operands", operands.len())),
        };
        self.asynchronous(op, Class::Barrier)
    }

    fn product(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Result<Wgmma, String> {
        let shape = modifiers.first().unwrap_or("");
        let n = shape.strip_prefix("m64n").and_then(|rest| rest.strip_suffix("k16"));
        let n = n.and_then(|n| n.parse::<usize>().ok());
        let n = n.filter(|n| (8..=256).contains(n) && n % 8 == 0);
        let n = n.ok_or_else(|| format!("shape .{shape} is not m64nNk16, N a multiple of 8"))?;
        let types = [modifiers.first(), modifiers.first(), modifiers.first()];
        let bf16 = match types {
            [Some("f32"), Some("bf16"), Some("bf16")] => true,
            [Some("f32"), Some("f16"), Some("f16")] => false,
            _ => return Err("is known as .f32.bf16.bf16 and .f32.f16.f16".into()),
        };
        let from_registers = matches!(operands.get(1), Some(Operand::List(_)));
        if operands.len() != if from_registers { 7 } else { 8 } {
            return Err(format!("has {} operands", operands.len()));
        }
        let mut d = Vec::with_capacity(n / 2);
        for register in parts(&operands[0], n / 2)? {
            d.push(self.target(register, Ty::F32)?);
        }
        let a = if from_registers {
            LeftSide::Registers(self.values(&operands[1], Ty::B32, 4)?)
        } else {
            let by_columns = number(&operands[6], 1, "transposition")? == 1;
            LeftSide::Shared(self.value(&operands[1], Ty::B64)?, by_columns)
        };
        let n_major = number(&operands[operands.len() - 1], 1, "transposition")? == 1;
        let b = (self.value(&operands[2], Ty::B64)?, n_major);
        let sign = |operand: &Operand| match operand {
            Operand::Int(1) => Ok(false),
            Operand::Int(value) if *value == u64::MAX => Ok(true),
            other => Err(format!("scale {other:?} is neither 1 nor -1")),
        };
        let negative = sign(&operands[4])? != sign(&operands[5])?;
        Ok(Wgmma { bf16, d, a, b, adds: self.predicate(&operands[3])?, negative })
    }

    pub(super) fn elect(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["sync"])?;
        let [Operand::Pair(d, p), mask] = operands else {
            return Err("needs d|p and a mask".into());
        };
        let (d, p) = (self.target(d, Ty::B32)?, self.target(p, Ty::Pred)?);
        Ok((Op::Elect { d, p, mask: self.value(mask, Ty::B32)? }, Class::Shuffle))
    }

    pub(super) fn set_registers(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &[Operand<'a>],
    ) -> Decoded {
        need(modifiers, &["sync", "aligned", "u32"])?;
        let more = modifiers.take("inc");
        if !more {
            need(modifiers, &["dec"])?;
        }
        let [count] = exactly::<1>(operands)?;
        let count = number(count, 256, "number of registers")?;
        if count < 24 || count % 8 != 0 {
            return Err(format!("{count} registers: a multiple of 8 from 24 to 256 is needed"));
        }
        self.asynchronous(Async::SetRegisters { count, more }, Class::Control)
    }
}
