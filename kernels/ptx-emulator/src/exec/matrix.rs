//! `ldmatrix` and `mma`: what the 32 lanes hold together.
//!
//! In a fragment, lane = 4 g + t holds for row (or column) g the elements 2t and 2t + 1 of eight
//! (16-bit formats) or element t of four (tf32). `a` adds row g + 8 in its odd registers and the
//! upper half of k in registers 2 and 3; `c` and `d` hold (g, 2t), (g, 2t + 1), (g + 8, 2t), (g +
//! 8, 2t + 1).
//!
//! Products are exact. They are summed in double with the accumulator, eight at a time (four for
//! m16n8k4), and each such sum is cut to f32 toward zero, as tensor cores of this family have been
//! found to do; the hardware's own order and guard bits are not documented, so the last bits of a
//! result may differ from a device's.

use crate::banks::count_passes;
use crate::error::{FaultKind, LaneFault};
use crate::exec::access::address_lanes;
use crate::exec::warp::Warp;
use crate::exec::world::World;
use crate::float::{Round, bf16_to_f32, f16_to_f32, f64_to_f32};
use crate::ir::{Addr, MmaKind, Op, Reg};

/// Rows of `a`, columns of `b`, and the largest k.
const M: usize = 16;
const N: usize = 8;
const K: usize = 16;

impl Warp {
    pub(crate) fn matrix(
        &mut self,
        op: &Op,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        if active != !0 {
            let what = match op {
                Op::Mma { .. } => "mma.sync",
                Op::Stmatrix { .. } => "stmatrix",
                _ => "ldmatrix",
            };
            return Err((None, FaultKind::MemberMask { what, mask: !0, here: active }));
        }
        match op {
            Op::Ldmatrix { n, trans, d, addr } => self.load_matrices(*n, *trans, d, addr, world),
            Op::Stmatrix { n, trans, s, addr } => self.store_matrices(*n, *trans, s, addr, world),
            Op::Mma { kind, d, a, b, c } => {
                self.multiply(*kind, *d, [*a, [b[0], b[1], Reg::Sink, Reg::Sink], *c], world)
            }
            _ => Ok(()),
        }
    }

    /// Lane 8 i + r gives the address of row r of matrix i: eight values of 16 bits.
    fn load_matrices(
        &mut self,
        n: u8,
        trans: bool,
        d: &[Reg; 4],
        addr: &Addr,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        let givers = if n == 4 { !0 } else { (1_u32 << (8 * n)) - 1 };
        let rows = address_lanes(&self.registers, addr, givers, world.code)?;
        for (matrix, &reg) in d.iter().enumerate().take(n as usize) {
            let mut elements = [[0_u16; 8]; 8];
            for (row, values) in elements.iter_mut().enumerate() {
                let lane = (8 * matrix + row) as u32;
                let bytes = world
                    .shared()
                    .read(rows[lane as usize], 16, &self.who(lane))
                    .map_err(|kind| (Some(lane), kind))?;
                for (value, pair) in values.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = u16::from_le_bytes([pair[0], pair[1]]);
                }
            }
            let held = std::array::from_fn(|lane| {
                let (g, t) = (lane / 4, lane % 4);
                let [low, high] = if trans {
                    [elements[2 * t][g], elements[2 * t + 1][g]]
                } else {
                    [elements[g][2 * t], elements[g][2 * t + 1]]
                };
                u32::from(high) << 16 | u32::from(low)
            });
            self.registers.set_narrow(reg, &held, !0);
        }
        world.counters.shared_read += 128 * u64::from(n);
        count_passes(&rows, givers, 16, world.counters);
        Ok(())
    }

    /// The other way round: lane 8 i + r gives where row r of matrix i goes.
    fn store_matrices(
        &mut self,
        n: u8,
        trans: bool,
        s: &[Reg; 4],
        addr: &Addr,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        let givers = if n == 4 { !0 } else { (1_u32 << (8 * n)) - 1 };
        let rows = address_lanes(&self.registers, addr, givers, world.code)?;
        for (matrix, &reg) in s.iter().enumerate().take(n as usize) {
            self.registers.ready(reg, !0, world.code)?;
            let held = self.registers.narrow(reg);
            let mut elements = [[0_u8; 16]; 8];
            for (lane, bits) in held.iter().enumerate() {
                let (g, t) = (lane / 4, lane % 4);
                for (half, value) in [*bits as u16, (bits >> 16) as u16].into_iter().enumerate() {
                    let (row, column) = if trans { (2 * t + half, g) } else { (g, 2 * t + half) };
                    elements[row][2 * column..2 * column + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
            for (row, bytes) in elements.iter().enumerate() {
                let lane = (8 * matrix + row) as u32;
                world
                    .shared()
                    .write(rows[lane as usize], bytes, &self.who(lane))
                    .map_err(|kind| (Some(lane), kind))?;
            }
        }
        world.counters.shared_written += 128 * u64::from(n);
        count_passes(&rows, givers, 16, world.counters);
        Ok(())
    }

    fn multiply(
        &mut self,
        kind: MmaKind,
        d: [Reg; 4],
        [a, b, c]: [[Reg; 4]; 3],
        world: &mut World,
    ) -> Result<(), LaneFault> {
        for reg in a.into_iter().chain(b).chain(c) {
            self.registers.ready(reg, !0, world.code)?;
        }
        let k = depth(kind);
        let mut left = [[0.0_f64; K]; M];
        let mut right = [[0.0_f64; N]; K];
        let mut sum = [[0.0_f64; N]; M];
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4);
            for (place, &reg) in a.iter().enumerate().filter(|(_, reg)| **reg != Reg::Sink) {
                let bits = self.registers.narrow(reg)[lane];
                for (offset, value) in elements(kind, bits) {
                    left[g + 8 * (place % 2)][column(kind, t, place / 2) + offset] = value;
                }
            }
            for (place, &reg) in b.iter().enumerate().filter(|(_, reg)| **reg != Reg::Sink) {
                let bits = self.registers.narrow(reg)[lane];
                for (offset, value) in elements(kind, bits) {
                    right[column(kind, t, place) + offset][g] = value;
                }
            }
            for (place, &reg) in c.iter().enumerate() {
                let value = f32::from_bits(self.registers.narrow(reg)[lane]);
                sum[g + 8 * (place / 2)][2 * t + place % 2] = f64::from(value);
            }
        }
        accumulate(&left, &right, &mut sum, k);
        for (place, &reg) in d.iter().enumerate() {
            let held = std::array::from_fn(|lane| {
                let (g, t) = (lane / 4, lane % 4);
                (sum[g + 8 * (place / 2)][2 * t + place % 2] as f32).to_bits()
            });
            self.registers.set_narrow(reg, &held, !0);
        }
        world.counters.mma_flops += (2 * M * N * k) as u64;
        Ok(())
    }
}

fn depth(kind: MmaKind) -> usize {
    match kind {
        MmaKind::Bf16K16 | MmaKind::F16K16 => 16,
        MmaKind::Bf16K8 | MmaKind::F16K8 | MmaKind::Tf32K8 => 8,
        MmaKind::Tf32K4 => 4,
    }
}

/// First k that a lane's register `half` (0 or 1 along k) covers.
fn column(kind: MmaKind, t: usize, half: usize) -> usize {
    match kind {
        MmaKind::Tf32K8 | MmaKind::Tf32K4 => t + 4 * half,
        _ => 2 * t + 8 * half,
    }
}

/// The values in one register: two of 16 bits or one tf32.
fn elements(kind: MmaKind, bits: u32) -> impl Iterator<Item = (usize, f64)> {
    let (low, high) = (bits as u16, (bits >> 16) as u16);
    let values = match kind {
        MmaKind::Bf16K16 | MmaKind::Bf16K8 => [bf16_to_f32(low), bf16_to_f32(high)],
        MmaKind::F16K16 | MmaKind::F16K8 => [f16_to_f32(low), f16_to_f32(high)],
        // The lower 13 bits of a tf32 operand are ignored.
        MmaKind::Tf32K8 | MmaKind::Tf32K4 => [f32::from_bits(bits & !0x1FFF), 0.0],
    };
    let count = if matches!(kind, MmaKind::Tf32K8 | MmaKind::Tf32K4) { 1 } else { 2 };
    values.into_iter().map(f64::from).enumerate().take(count)
}

fn accumulate(left: &[[f64; K]; M], right: &[[f64; N]; K], sum: &mut [[f64; N]; M], depth: usize) {
    for (row, sums) in left.iter().zip(sum.iter_mut()) {
        for block in (0..depth).step_by(8) {
            for k in block..(block + 8).min(depth) {
                for (total, value) in sums.iter_mut().zip(&right[k]) {
                    *total += row[k] * value;
                }
            }
            for total in sums.iter_mut() {
                *total = f64::from(f32::from_bits(f64_to_f32(*total, Round::Zero)));
            }
        }
    }
}
