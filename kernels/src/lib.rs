//! Back-ends of Paddock: the machines that the core's ops run on.
//!
//! [`open`] picks one by name; each is an implementation of [`paddock_core::backend::Backend`] that
//! is compared with the core's reference by the op table in [`ops`].

use paddock_core::backend::Backend;
use paddock_core::error::{Error, Result};
use paddock_core::reference::Reference;
use paddock_core::weights::Weights;

pub mod cpu;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod cuda;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[path = "cuda_absent.rs"]
pub mod cuda;
pub mod ops;
pub mod wgpu;

/// Which back-end to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The best there is.
    Auto,
    /// SIMD kernels on the processor's cores.
    Cpu,
    /// WGSL kernels on a graphics card (Vulkan, Metal or Direct3D 12).
    Wgpu,
    /// PTX kernels on an NVIDIA card.
    Cuda,
    /// The executable specification in f32: slow, for comparison.
    Reference,
    /// The executable specification in f64.
    Reference64,
}

impl std::str::FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Kind> {
        match name {
            "auto" => Ok(Kind::Auto),
            "cpu" => Ok(Kind::Cpu),
            "wgpu" => Ok(Kind::Wgpu),
            "cuda" => Ok(Kind::Cuda),
            "reference" => Ok(Kind::Reference),
            "reference64" => Ok(Kind::Reference64),
            _ => Err(Error::Device(format!(
                "unknown back-end \"{name}\"; expected auto, cpu, wgpu, cuda, reference or \
                 reference64"
            ))),
        }
    }
}

/// How to open it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Worker threads; 0: one for each core.
    pub threads: usize,
    /// SIMD level; none: the environment variable PADDOCK_SIMD, else the best of the processor.
    pub level: Option<cpu::simd::Level>,
}

/// Opens a back-end over the checkpoint's bytes, which it reads in place.
pub fn open<'w>(
    kind: Kind,
    weights: Weights<'w>,
    options: Options,
) -> Result<Box<dyn Backend + 'w>> {
    match kind {
        Kind::Auto | Kind::Cpu => {
            Ok(Box::new(cpu::Cpu::new(weights, options.threads, options.level)?))
        }
        Kind::Wgpu => Ok(Box::new(wgpu::Wgpu::open(weights)?)),
        Kind::Cuda => cuda::open(weights, None),
        Kind::Reference => Ok(Box::new(Reference::<f32>::new(weights))),
        Kind::Reference64 => Ok(Box::new(Reference::<f64>::new(weights))),
    }
}

/// The machine as a person would want it in a report: processor, cores, SIMD levels.
pub fn describe_machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let levels: Vec<String> =
        cpu::simd::Level::available().iter().map(ToString::to_string).collect();
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{processor}, {cores} cores, SIMD {}", levels.join(" "))
}
