//! Conversions between element types.

use half::{bf16, f16};
use paddock_core::error::Result;

use super::args;
use super::device::Gpu;

/// What 16-bit numbers are on a device. Kernels for f16 have the names of those for bf16: see `spelling.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// bf16.
    Bf16,
    /// f16.
    F16,
}

impl Half {
    /// The nearest number's bits.
    pub fn bits(self, x: f32) -> u16 {
        match self {
            Half::Bf16 => bf16::from_f32(x).to_bits(),
            Half::F16 => f16::from_f32(x).to_bits(),
        }
    }

    /// What the bits mean.
    pub fn value(self, bits: u16) -> f32 {
        match self {
            Half::Bf16 => bf16::from_bits(bits).to_f32(),
            Half::F16 => f16::from_bits(bits).to_f32(),
        }
    }
}

/// out half (count) = inp f32 (count)
pub fn narrow(gpu: &Gpu, out: u64, inp: u64, count: u64) -> Result<()> {
    gpu.launch("f32_to_bf16", [count.div_ceil(256), 1, 1], 256, 0, args!(out, inp, count))
}

/// out bf16 (count) = inp f16 (count)
pub fn half_to_narrow(gpu: &Gpu, out: u64, inp: u64, count: u64) -> Result<()> {
    gpu.launch("f16_to_bf16", [count.div_ceil(256), 1, 1], 256, 0, args!(out, inp, count))
}

/// out f16 (count) = inp bf16 (count)
pub fn narrow_to_half(gpu: &Gpu, out: u64, inp: u64, count: u64) -> Result<()> {
    gpu.launch("bf16_to_f16", [count.div_ceil(256), 1, 1], 256, 0, args!(out, inp, count))
}

/// out f32 (count) = inp half (count)
pub fn widen(gpu: &Gpu, out: u64, inp: u64, count: u64) -> Result<()> {
    gpu.launch("bf16_to_f32", [count.div_ceil(256), 1, 1], 256, 0, args!(out, inp, count))
}
