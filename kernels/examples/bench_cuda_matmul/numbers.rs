//! Random numbers, and the product as a plain loop.

use half::bf16;

use crate::matmul_sm90::{Operands, Product};

/// Counts up and mixes: the same numbers for the same seed.
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// About normal, variance one: the sum of four uniform numbers.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
        (sum as f32 / 65_536.0 - 2.0) * 3.0_f32.sqrt()
    }

    pub fn bf16s(&mut self, count: usize) -> Vec<u16> {
        (0..count).map(|_| bf16::from_f32(self.normal()).to_bits()).collect()
    }

    pub fn f32s(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

pub fn wide(bits: u16) -> f64 {
    bf16::from_bits(bits).to_f64()
}

/// alpha * A B in f64, without what was in out.
pub fn product(kind: Product, o: &Operands, a: &[u16], b: &[u16]) -> Vec<f64> {
    let (m, n, k) = (o.m as usize, o.n as usize, o.k as usize);
    let a: Vec<f64> = a.iter().copied().map(wide).collect();
    let b: Vec<f64> = b.iter().copied().map(wide).collect();
    let (a_row, a_k) = if kind == Product::BackwardWeight { (1, m) } else { (k, 1) };
    let (b_column, b_k) = if kind == Product::Forward { (k, 1) } else { (1, n) };
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|t| a[i * a_row + t * a_k] * b[j * b_column + t * b_k]).sum();
            out.push(f64::from(o.alpha) * sum);
        }
    }
    out
}
