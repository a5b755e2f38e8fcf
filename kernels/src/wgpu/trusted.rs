//! What wgpu asks us to vouch for.

use super::tier::Tier;

/// Leave for a device's experimental features, which the cooperative tier alone needs.
pub fn experiments(tier: Tier) -> wgpu::ExperimentalFeatures {
    match tier {
        Tier::Plain | Tier::Subgroups => wgpu::ExperimentalFeatures::disabled(),
        // SAFETY: wgpu asks for nothing but to know that such a feature may have flaws of its own. The one that
        // is used, matrix instructions, reads and writes whole tiles of workgroup memory, whose sizes are
        // constants.
        Tier::Cooperative => unsafe { wgpu::ExperimentalFeatures::enabled() },
    }
}

/// A module without the checks that wgpu would add to every index and loop: large matrix products lose a fifth
/// of their speed to them (an H200: 35 instead of 41 TFLOP/s).
///
/// Only for kernels of which the comment within is true.
pub fn unchecked(
    device: &wgpu::Device,
    text: wgpu::ShaderModuleDescriptor<'_>,
) -> wgpu::ShaderModule {
    // SAFETY: these kernels (`matmul_quads`, `matmul_cooperative`, `matmul_range`, `matmul_thin`, `attention_tiles*`,
    // `attention_cooperative*`, `rms_norm_quads`) end: every loop counts up to a number that it does not change. They
    // divide by constants, by counts of heads, tiles and slices, none of which is 0. Indices into workgroup memory are
    // below constants. Of an operand they read rows below its count (a
    // row beyond the edge becomes the last one), or those that the batch's tables name, and numbers below K or
    // the head's width; they write rows and columns below the result's. The host has compared every operand
    // with its region before (`Memory::check`), and tables are made from a batch that the core has checked.
    unsafe { device.create_shader_module_trusted(text, wgpu::ShaderRuntimeChecks::unchecked()) }
}
