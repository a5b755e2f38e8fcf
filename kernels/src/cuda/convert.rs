//! Conversions between element types.

use paddock_core::error::Result;

use super::args;
use super::device::Gpu;

/// out bf16 (count) = inp f32 (count)
pub fn narrow(gpu: &Gpu, out: u64, inp: u64, count: u64) -> Result<()> {
    gpu.launch("f32_to_bf16", [count.div_ceil(256), 1, 1], 256, 0, args!(out, inp, count))
}

/// out bf16 (count) = inp f16 (count)
pub fn half_to_narrow(gpu: &Gpu, out: u64, inp: u64, count: u64) -> Result<()> {
    gpu.launch("f16_to_bf16", [count.div_ceil(256), 1, 1], 256, 0, args!(out, inp, count))
}

/// out f32 (count) = inp bf16 (count)
pub fn widen(gpu: &Gpu, out: u64, inp: u64, count: u64) -> Result<()> {
    gpu.launch("bf16_to_f32", [count.div_ceil(256), 1, 1], 256, 0, args!(out, inp, count))
}
