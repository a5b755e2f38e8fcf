//! `wgmma`: products that a warpgroup's four warps start together and wait for later.
//!
//! Warp w of a warpgroup holds rows 16 w to 16 w + 15 of the 64; inside it the accumulators are
//! those of `mma` side by side: register 4 j + i of lane 4 g + t holds row g (+ 8 for i = 2, 3),
//! column 8 j + 2 t (+ 1 for odd i).
//!
//! Shared memory is read and the sums are made when the instruction is issued; until the group is
//! waited for nobody may touch the accumulators or overwrite what was read. Products are exact;
//! the sixteen of an instruction and the accumulator are summed in double and cut to f32 toward
//! zero, which is near to what the hardware has been found to do; the last bits may differ.

use crate::asynchronous::{Async, LeftSide, Wgmma};
use crate::error::{FaultKind, LaneFault};
use crate::exec::warp::Warp;
use crate::exec::world::World;
use crate::float::{NAN_F32, bf16_to_f32, f16_to_f32};
use crate::ir::{L32, Reg};
use crate::tensor_map::swizzled;
use std::ops::Range;

/// Rows of a warp, k, and the most columns.
const M: usize = 16;
const K: usize = 16;
const N: usize = 256;

/// What all warps of a warpgroup must have in common: instruction, descriptors, addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    at: usize,
    a: u64,
    b: u64,
    adds: bool,
}

/// A warp's groups of products.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    /// The number of the open group, counted from 1.
    open: u32,
    /// Products issued so far.
    issued: usize,
}

impl Default for Groups {
    fn default() -> Self {
        Self { open: 1, issued: 0 }
    }
}

impl Groups {
    pub(crate) fn issued(&self) -> usize {
        self.issued
    }
}

/// Where a multiplicand lies in shared memory.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    start: u64,
    /// Bytes to the next column of chunks (K-major, no swizzle) or to the next span of the matrix
    /// (MN-major).
    leading: u64,
    /// Bytes to the next eight rows (K-major) or to the next eight of k (MN-major).
    stride: u64,
    /// Bytes of the swizzle's span, 0 for none.
    span: u64,
}

impl Descriptor {
    fn parse(bits: u64, by_columns: bool) -> Result<Self, FaultKind> {
        let field = |low: u32| (bits >> low & 0x3FFF) << 4;
        let span = [0, 128, 64, 32][(bits >> 62) as usize];
        let out = Self { start: field(0), leading: field(16), stride: field(32), span };
        let bad = |text: String| {
            Err(FaultKind::BadOperand(format!("wgmma descriptor {bits:#018x}: {text}")))
        };
        if bits >> 49 & 7 != 0 {
            return bad("a base offset is not supported here".to_string());
        }
        if span > 0 {
            let pattern = 8 * span;
            if out.start % pattern >= span {
                return bad(format!("{:#x} is not in the first row of a pattern", out.start));
            }
            let room = if by_columns { 0 } else { span - 32 };
            if out.start % span > room {
                return bad(format!("from {:#x} the matrix does not fit its rows", out.start));
            }
        }
        Ok(out)
    }

    /// The address of eight elements side by side. K-major: row `major`, elements 8 `minor` to
    /// 8 `minor` + 7 of k.
    fn k_major(&self, major: u64, minor: u64) -> u64 {
        let (row, block) = (major % 8, major / 8);
        let offset = match self.span {
            0 => 16 * row + block * self.stride + minor * self.leading,
            span => span * row + block * self.stride + 16 * minor,
        };
        swizzled(self.start + offset, self.span as u32)
    }

    /// MN-major: rows 8 `major` to 8 `major` + 7 of the matrix, at `k`.
    fn mn_major(&self, major: u64, k: u64) -> u64 {
        let (row, block) = (k % 8, k / 8);
        let offset = match self.span {
            0 => major * self.stride + 16 * row + block * self.leading,
            span => {
                let chunks = span / 16;
                16 * (major % chunks)
                    + major / chunks * self.leading
                    + span * row
                    + block * self.stride
            }
        };
        swizzled(self.start + offset, self.span as u32)
    }
}

impl Warp {
    pub(crate) fn warpgroup(
        &mut self,
        op: &Async,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        if active != !0 {
            return Err((None, FaultKind::MemberMask { what: "wgmma", mask: !0, here: active }));
        }
        match op {
            Async::WgmmaFence => self.registers.fence_flights(),
            Async::WgmmaCommit => self.products.open += 1,
            Async::WgmmaWait { keep } => {
                let done = (self.products.open - 1).saturating_sub(*keep);
                self.registers.land(done);
                let layout = *world.shared().layout();
                let known = &mut self.clocks.known[layout.group(world.rank, self.id as usize)];
                *known = (*known).max(done);
            }
            Async::Wgmma(product) => return self.multiply_group(product, world),
            _ => {}
        }
        Ok(())
    }

    fn multiply_group(&mut self, product: &Wgmma, world: &mut World) -> Result<(), LaneFault> {
        let whole = |kind| (None, kind);
        let (code, n, group) = (world.code, 2 * product.d.len(), self.products.open);
        let adds = self.registers.predicate(product.adds, !0, code)?;
        if adds != 0 && adds != !0 {
            let text = "wgmma: scale-d differs between lanes".to_string();
            return Err((None, FaultKind::BadOperand(text)));
        }
        let adds = adds != 0;
        let b = self.descriptor(product.b.0, world)?;
        let a = match product.a {
            LeftSide::Shared(reg, _) => self.descriptor(reg, world)?,
            LeftSide::Registers(_) => 0,
        };
        self.in_step(Issue { at: self.at(), a, b, adds }, world)?;
        let mut left = [[0.0_f64; K]; M];
        match product.a {
            LeftSide::Shared(_, by_columns) => {
                let matrix = (Descriptor::parse(a, by_columns).map_err(whole)?, by_columns);
                let first = 16 * (self.id as usize % 4);
                let rows = first..first + M;
                let put = |row: usize, k: usize, x| left[row - first][k] = x;
                self.gather(matrix, product.bf16, rows, world, put)?;
            }
            LeftSide::Registers(regs) => {
                for (place, reg) in regs.into_iter().enumerate() {
                    let held = *self.registers.multiplicand(reg, group, code)?;
                    spread(&held, place, product.bf16, &mut left);
                }
            }
        }
        let mut right = vec![[0.0_f64; N]; K];
        let matrix = (Descriptor::parse(b, product.b.1).map_err(whole)?, product.b.1);
        let put = |column: usize, k: usize, x| right[k][column] = x;
        self.gather(matrix, product.bf16, 0..n, world, put)?;
        let mut sums = vec![[0.0_f64; N]; M];
        for (place, &reg) in product.d.iter().enumerate() {
            let held = self.registers.accumulator(reg, n, adds, code)?;
            if adds {
                for (lane, &bits) in held.iter().enumerate() {
                    let (row, column) = position(lane, place);
                    sums[row][column] = f64::from(f32::from_bits(bits));
                }
            }
        }
        accumulate(&left, &right, &mut sums, n, product.negative);
        for (place, &reg) in product.d.iter().enumerate() {
            let held = std::array::from_fn(|lane| {
                let (row, column) = position(lane, place);
                cut(sums[row][column])
            });
            self.registers.set_accumulator(reg, &held, group, n);
        }
        self.products.issued += 1;
        self.count(matches!(product.a, LeftSide::Shared(..)), n, world);
        Ok(())
    }

    /// A descriptor, the same in all lanes.
    fn descriptor(&self, reg: Reg, world: &World) -> Result<u64, LaneFault> {
        self.registers.ready(reg, !0, world.code)?;
        let lanes = self.registers.wide(reg);
        if lanes.iter().any(|lane| *lane != lanes[0]) {
            let text = "wgmma: a descriptor differs between lanes".to_string();
            return Err((None, FaultKind::BadOperand(text)));
        }
        Ok(lanes[0])
    }

    /// All four warps of a warpgroup must issue the same.
    fn in_step(&mut self, issue: Issue, world: &mut World) -> Result<(), LaneFault> {
        let warps = world.shared().layout().warps;
        let (groups, group) = (warps.div_ceil(4), self.id as usize / 4);
        let bad = |text: String| Err((None, FaultKind::BadOperand(text)));
        if 4 * (group + 1) > warps {
            return bad(format!("wgmma needs four warps; this is one of {}", warps - 4 * group));
        }
        let log = &mut world.issues[world.rank * groups + group];
        match log.get(self.products.issued) {
            None => log.push(issue),
            Some(other) if *other == issue => {}
            Some(other) => {
                return bad(format!(
                    "the warps of a warpgroup issue different wgmma: {other:x?} and {issue:x?}"
                ));
            }
        }
        Ok(())
    }

    /// Reads `rows` of a multiplicand from shared memory, all of k, chunk by chunk.
    fn gather(
        &self,
        (descriptor, by_columns): (Descriptor, bool),
        bf16: bool,
        rows: Range<usize>,
        world: &mut World,
        mut put: impl FnMut(usize, usize, f64),
    ) -> Result<(), LaneFault> {
        let (who, shared) = (self.who(0), world.shared());
        let mut read = |address: u64| {
            let bytes = shared.read_asynchronously(address, &who, Some(self.products.open));
            let bytes = bytes.map_err(|kind| (None, kind))?;
            let pair = |at: usize| u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]);
            Ok::<[f64; 8], LaneFault>(std::array::from_fn(|at| value(pair(at), bf16)))
        };
        if by_columns {
            for k in 0..K {
                for major in rows.start / 8..rows.end / 8 {
                    let values = read(descriptor.mn_major(major as u64, k as u64))?;
                    values.into_iter().enumerate().for_each(|(at, x)| put(8 * major + at, k, x));
                }
            }
        } else {
            for row in rows {
                for minor in 0..K / 8 {
                    let values = read(descriptor.k_major(row as u64, minor as u64))?;
                    values.into_iter().enumerate().for_each(|(at, x)| put(row, 8 * minor + at, x));
                }
            }
        }
        Ok(())
    }

    /// What the tensor cores read; the warps of a warpgroup share B.
    fn count(&self, from_shared: bool, n: usize, world: &mut World) {
        let left = if from_shared { 2 * K * M } else { 0 };
        let right = if self.id.is_multiple_of(4) { 2 * K * n } else { 0 };
        let bytes = (left + right) as u64;
        world.counters.shared_read += bytes;
        world.counters.shared_passes += bytes / 128;
        world.counters.mma_flops += (2 * M * n * K) as u64;
    }
}

fn value(bits: u16, bf16: bool) -> f64 {
    f64::from(if bf16 { bf16_to_f32(bits) } else { f16_to_f32(bits) })
}

/// Row and column of accumulator `place` of a lane, inside its warp.
fn position(lane: usize, place: usize) -> (usize, usize) {
    (lane / 4 + 8 * (place / 2 % 2), 8 * (place / 4) + 2 * (lane % 4) + place % 2)
}

/// Register `place` (of four) of A: the lower row or the upper, the first half of k or the second.
fn spread(held: &L32, place: usize, bf16: bool, left: &mut [[f64; K]; M]) {
    for (lane, &bits) in held.iter().enumerate() {
        let row = lane / 4 + 8 * (place % 2);
        let k = 2 * (lane % 4) + 8 * (place / 2);
        left[row][k] = value(bits as u16, bf16);
        left[row][k + 1] = value((bits >> 16) as u16, bf16);
    }
}

fn accumulate(
    left: &[[f64; K]; M],
    right: &[[f64; N]],
    sums: &mut [[f64; N]],
    n: usize,
    negative: bool,
) {
    for (row, sums) in left.iter().zip(sums) {
        for (&factor, right) in row.iter().zip(right) {
            let factor = if negative { -factor } else { factor };
            for (sum, value) in sums[..n].iter_mut().zip(&right[..n]) {
                *sum += factor * value;
            }
        }
    }
}

/// A double to f32 bits, toward zero.
fn cut(x: f64) -> u32 {
    let near = x as f32;
    if near.is_nan() {
        return NAN_F32;
    }
    // An infinity of the sum stays one; a sum that is too large becomes the largest number.
    let beyond = f64::from(near).abs() > x.abs();
    near.to_bits() - u32::from(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::{Round, f64_to_f32};

    #[test]
    fn cutting_is_rounding_toward_zero() {
        let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Exponents around those of f32, subnormal results and overflows included.
            let x = f64::from_bits(bits & !(0x7FF << 52) | (850 + (bits >> 40) % 330) << 52);
            assert_eq!(cut(x), f64_to_f32(x, Round::Zero), "{x:e}");
        }
        assert_eq!(cut(f64::INFINITY), 0x7F80_0000);
        assert_eq!(cut(f64::NAN), NAN_F32);
    }

    fn descriptor(start: u64, leading: u64, stride: u64, mode: u64) -> Descriptor {
        let bits = start >> 4 | (leading >> 4) << 16 | (stride >> 4) << 32 | mode << 62;
        Descriptor::parse(bits, false).unwrap()
    }

    /// The PTX ISA's own examples, in bf16 elements from the start.
    #[test]
    fn the_layouts_of_the_isa() {
        // MN-major, no swizzle: ((8,1,2),(8,2)):((1,8,64),(8,128)), LBO 128, SBO 64 elements.
        let plain = descriptor(0, 256, 128, 0);
        for (m, k) in [(0, 0), (1, 0), (0, 7), (0, 8), (1, 15)] {
            assert_eq!(plain.mn_major(m, k), 2 * (64 * m + 8 * (k % 8) + 128 * (k / 8)));
        }
        // MN-major, 32 bytes: ((8,2,2),(8,2)):((1,8,128),(16,256)) before the swizzle.
        let narrow = descriptor(0, 256, 512, 3);
        for (m, k) in [(1, 0), (2, 0), (3, 5), (0, 9)] {
            let element = 8 * (m % 2) + 128 * (m / 2) + 16 * (k % 8) + 256 * (k / 8);
            assert_eq!(narrow.mn_major(m, k), swizzled(2 * element, 32));
        }
        // MN-major, 64 bytes: ((8,4,2),(8,2)):((1,8,256),(32,512)).
        let middle = descriptor(0, 512, 1024, 2);
        for (m, k) in [(3, 0), (4, 1), (7, 5), (2, 9)] {
            let element = 8 * (m % 4) + 256 * (m / 4) + 32 * (k % 8) + 512 * (k / 8);
            assert_eq!(middle.mn_major(m, k), swizzled(2 * element, 64));
        }
        // K-major, 128 bytes: ((8,m),(T,2k)):((8T,SBO),(1,T)); row 9, second half of k.
        let wide = descriptor(0x800, 16, 1024, 1);
        assert_eq!(wide.k_major(9, 1), 0x800 + 1024 + 128, "chunk 1 of row 1 goes to 0");
        assert_eq!(wide.k_major(10, 1), 0x800 + 1024 + 256 + (16 ^ 32));
        // K-major, no swizzle: ((8,m),(T,2k)):((1T,SBO),(1,LBO)).
        let plain = descriptor(0, 128, 256, 0);
        assert_eq!(plain.k_major(9, 1), 256 + 16 + 128);
    }

    #[test]
    fn bad_descriptors_are_refused() {
        let parse = |start: u64, by_columns| Descriptor::parse(start >> 4 | 1 << 62, by_columns);
        assert!(parse(0x460, false).is_ok(), "the last sixteen of a row's 64");
        assert!(parse(0x470, false).is_err(), "they go beyond the row");
        assert!(parse(0x480, false).is_err(), "row 1 of a pattern");
        assert!(parse(0x420, true).is_err(), "not at a row's beginning");
        assert!(Descriptor::parse(1 << 49 | 1 << 62, false).is_err(), "a base offset");
    }
}
