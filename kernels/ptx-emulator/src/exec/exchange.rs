//! Values that travel between the lanes of a warp.

use crate::error::{FaultKind, LaneFault};
use crate::exec::warp::Warp;
use crate::ir::{AtomicOp, Code, L32, Op, PredSrc, Reg, ShflMode, Ty, VoteMode};

impl Warp {
    pub(crate) fn exchange(&mut self, op: &Op, active: u32, code: &Code) -> Result<(), LaneFault> {
        match op {
            Op::Shfl { mode, d, p, a, b, c, mask } => {
                let mask = self.uniform(*mask, active, code, "the member mask")?;
                self.members("shfl.sync", mask, active)?;
                self.shuffle(*mode, [*d, *p], [*a, *b, *c], active, code)
            }
            Op::Vote { mode, d, a, mask } => {
                let mask = self.uniform(*mask, active, code, "the member mask")?;
                self.members("vote.sync", mask, active)?;
                self.vote(*mode, *d, *a, active, code)
            }
            Op::Redux { op, ty, d, a, mask } => {
                let mask = self.uniform(*mask, active, code, "the member mask")?;
                self.members("redux.sync", mask, active)?;
                self.registers.ready(*a, active, code)?;
                let value = reduce(*op, *ty, self.registers.narrow(*a), active);
                self.registers.set_narrow(*d, &[value; 32], active);
                Ok(())
            }
            Op::Elect { d, p, mask } => {
                let mask = self.uniform(*mask, active, code, "the member mask")?;
                self.members("elect.sync", mask, active)?;
                let leader = active.trailing_zeros();
                self.registers.set_narrow(*d, &[leader; 32], active);
                self.registers.set_predicate(*p, 1 << leader, active);
                Ok(())
            }
            Op::Activemask { d } => {
                self.registers.set_narrow(*d, &[active; 32], active);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `shfl.sync`: c holds the clamp in bits 0..5 and the segment mask in bits 8..13.
    fn shuffle(
        &mut self,
        mode: ShflMode,
        [d, p]: [Reg; 2],
        sources: [Reg; 3],
        active: u32,
        code: &Code,
    ) -> Result<(), LaneFault> {
        for reg in sources {
            self.registers.ready(reg, active, code)?;
        }
        let [a, b, c] = sources.map(|reg| *self.registers.narrow(reg));
        let mut value = [0; 32];
        let mut inside = 0;
        for lane in (0..32_u32).filter(|lane| active >> lane & 1 == 1) {
            let at = lane as usize;
            let (from, valid) = source_lane(mode, lane, b[at], c[at]);
            if valid && active >> from & 1 == 0 {
                let text = format!("shfl.sync reads from lane {from}, which does not take part");
                return Err((Some(lane), FaultKind::BadOperand(text)));
            }
            value[at] = a[from as usize];
            inside |= u32::from(valid) << lane;
        }
        self.registers.set_narrow(d, &value, active);
        self.registers.set_predicate(p, inside, active);
        Ok(())
    }

    fn vote(
        &mut self,
        mode: VoteMode,
        d: Reg,
        a: PredSrc,
        active: u32,
        code: &Code,
    ) -> Result<(), LaneFault> {
        let votes = self.registers.predicate(a, active, code)? & active;
        let everywhere = |truth: bool| if truth { !0 } else { 0 };
        match mode {
            VoteMode::Ballot => self.registers.set_narrow(d, &[votes; 32], active),
            VoteMode::All => self.registers.set_predicate(d, everywhere(votes == active), active),
            VoteMode::Any => self.registers.set_predicate(d, everywhere(votes != 0), active),
            VoteMode::Uni => {
                let same = votes == active || votes == 0;
                self.registers.set_predicate(d, everywhere(same), active);
            }
        }
        Ok(())
    }
}

/// The lane to read, and whether it lies inside the segment; if not, a lane reads itself.
fn source_lane(mode: ShflMode, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let most = (lane & segment) | (clamp & !segment);
    let least = lane & segment;
    let (from, valid) = match mode {
        ShflMode::Up => (lane.wrapping_sub(b), lane as i32 - b as i32 >= most as i32),
        ShflMode::Down => (lane + b, lane + b <= most),
        ShflMode::Bfly => (lane ^ b, lane ^ b <= most),
        ShflMode::Idx => {
            let from = least | (b & !segment);
            (from, from <= most)
        }
    };
    (if valid { from & 31 } else { lane }, valid)
}

fn reduce(op: AtomicOp, ty: Ty, lanes: &L32, active: u32) -> u32 {
    let values = (0..32).filter(|lane| active >> lane & 1 == 1).map(|lane| lanes[lane]);
    let joined = match (op, ty) {
        (AtomicOp::Add, _) => values.reduce(u32::wrapping_add),
        (AtomicOp::Min, Ty::S32) => values.reduce(|a, b| (a as i32).min(b as i32) as u32),
        (AtomicOp::Max, Ty::S32) => values.reduce(|a, b| (a as i32).max(b as i32) as u32),
        (AtomicOp::Min, _) => values.reduce(u32::min),
        (AtomicOp::Max, _) => values.reduce(u32::max),
        (AtomicOp::And, _) => values.reduce(|a, b| a & b),
        (AtomicOp::Or, _) => values.reduce(|a, b| a | b),
        _ => values.reduce(|a, b| a ^ b),
    };
    joined.unwrap_or(0)
}
