//! What wgpu asks us to vouch for.

use super::tier::Tier;

/// Leave for a device's experimental features, which the cooperative tier alone needs.
pub fn experiments(tier: Tier) -> wgpu::ExperimentalFeatures {
    match tier {
        Tier::Plain | Tier::Subgroups => wgpu::ExperimentalFeatures::disabled(),
        // SAFETY: wgpu asks for nothing but to know that such a feature may have flaws of its own. The one that
        // is used, matrix instructions, gets tiles in workgroup memory whose sizes are constants, and whole
        // tiles of `out` that the kernel has compared with its size.
        Tier::Cooperative => unsafe { wgpu::ExperimentalFeatures::enabled() },
    }
}
