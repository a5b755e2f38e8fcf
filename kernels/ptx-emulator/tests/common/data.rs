//! Random bf16 matrices, and comparison with the exact result.
#![allow(dead_code)]

use half::bf16;

/// A small generator; the same numbers in every run.
pub struct Numbers(pub u64);

impl Numbers {
    /// Uniform in [-1, 1).
    pub fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / f64::from(1 << 23) - 1.0
    }

    pub fn bf16s(&mut self, count: usize) -> Vec<u16> {
        (0..count).map(|_| bf16::from_f64(self.next()).to_bits()).collect()
    }

    pub fn f32s(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next() as f32).collect()
    }
}

pub fn exact(bits: &[u16]) -> Vec<f64> {
    bits.iter().map(|&bits| bf16::from_bits(bits).to_f64()).collect()
}

/// Each result is the exact value rounded to bf16 (8 significant bits: at most half a unit in the
/// last place), but for `slack`, the error of the f32 arithmetic before it.
pub fn assert_bf16(found: &[u16], expected: &[f64], slack: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (at, (&bits, &value)) in found.iter().zip(expected).enumerate() {
        let found = bf16::from_bits(bits).to_f64();
        let binade = if value == 0.0 { 0.0 } else { value.abs().log2().floor().exp2() };
        let bound = binade / 256.0 + slack;
        assert!((found - value).abs() <= bound, "{what}: element {at} is {found}, exact {value}");
    }
}

pub fn assert_f32(found: &[f32], expected: &[f64], relative: f64, slack: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (at, (&found, &value)) in found.iter().zip(expected).enumerate() {
        let bound = value.abs() * relative + slack;
        let error = (f64::from(found) - value).abs();
        assert!(error <= bound, "{what}: element {at} is {found}, exact {value}");
    }
}
