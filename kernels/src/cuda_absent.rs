//! The CUDA back-end on systems that it is not built for.

use paddock_core::backend::Backend;
use paddock_core::error::{Error, Result};
use paddock_core::weights::Weights;

const WHY: &str = "the CUDA back-end is built for Linux on x86-64 alone; use --backend wgpu for a \
                   graphics card, or --backend cpu";

/// Says that there is none.
///
/// # Errors
/// Always.
pub fn open<'w>(_: Weights<'w>, _: Option<&str>) -> Result<Box<dyn Backend + 'w>> {
    Err(Error::Device(String::from(WHY)))
}

/// Says that there is none.
///
/// # Errors
/// Always.
pub fn available() -> std::result::Result<(), String> {
    Err(String::from(WHY))
}

/// Why there is none.
pub fn describe_devices() -> Vec<String> {
    vec![String::from(WHY)]
}
