//! The CUDA back-end on systems that it is not built for: it cannot be opened.

use std::rc::Rc;

use paddock_core::error::{Error, Result};
use paddock_core::reference::Reference;
use paddock_core::weights::Weights;

use crate::Options;

const WHY: &str = "the CUDA back-end is built for Linux on x86-64 alone; use --backend wgpu for a \
                   graphics card, or --backend cpu";

/// A device that nobody has.
pub enum Gpu {}

impl Gpu {
    /// Says that there is none.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: &Options) -> Result<Rc<Gpu>> {
        Err(Error::Device(String::from(WHY)))
    }
}

/// A back-end on that device, which is never made.
pub struct Cuda;

impl Cuda {
    /// There is no device to make one on.
    pub fn on(gpu: Rc<Gpu>, _: Weights<'_>) -> Reference<'_, f32> {
        match *gpu {}
    }
}

/// Says that there is none.
///
/// # Errors
/// Always.
pub fn available() -> std::result::Result<(), String> {
    Err(String::from(WHY))
}

/// Says that there is none.
///
/// # Errors
/// Always.
pub fn cards() -> std::result::Result<Vec<crate::Card>, String> {
    Err(String::from(WHY))
}

/// Why there is none.
pub fn describe_devices() -> Vec<String> {
    vec![String::from(WHY)]
}
