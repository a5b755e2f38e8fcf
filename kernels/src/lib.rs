//! Back-ends of Paddock: the machines that the core's ops run on.
//!
//! [`open`] picks one by name; each is an implementation of [`paddock_core::backend::Backend`] that
//! is compared with the core's reference by the op table in [`ops`].

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use paddock_core::backend::Backend;
use paddock_core::error::{Error, Result};
use paddock_core::reference::Reference;
use paddock_core::weights::Weights;

mod attention_tiles;
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

/// What a graphics card keeps activations in, and the processor multiplies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// With CUDA bf16 where the device has it, else f16; with wgpu and on the processor f32.
    #[default]
    Auto,
    /// bf16: the range of f32, eight bits of precision. With CUDA; on processors with matrix instructions what
    /// products round their operands to, while everything stays f32.
    Bf16,
    /// f16: eleven bits of precision, but gradients need a scale to stay in range.
    F16,
}

/// How far the preparation of a device has come.
#[derive(Clone, Copy, Debug)]
pub struct Preparing<'a> {
    /// What is being prepared: "compiling kernels".
    pub what: &'a str,
    /// How much is ready.
    pub done: u64,
    /// How much there is, about, where that is known.
    pub total: Option<u64>,
    /// Time spent on it so far.
    pub spent: Duration,
    /// Whether the next piece is being prepared now; else it has just become ready.
    pub goes_on: bool,
}

/// Who is told how far the preparation of a device has come.
pub type Progress = Arc<dyn Fn(Preparing<'_>) + Send + Sync>;

/// How to open it.
#[derive(Clone, Default)]
pub struct Options {
    /// Worker threads of the CPU; 0: one for each core.
    pub threads: usize,
    /// SIMD level of the CPU; none: the environment variable PADDOCK_SIMD, else the best of the processor.
    pub level: Option<cpu::simd::Level>,
    /// Which device of a back-end that knows several: its number or a part of its name; none: the
    /// environment variable PADDOCK_DEVICE, else the best.
    pub device: Option<String>,
    /// Where kernels are kept that a device's driver has compiled; none: nowhere.
    pub kernel_cache: Option<PathBuf>,
    /// Who is told how far the device's preparation has come.
    pub progress: Option<Progress>,
    /// How long a CUDA device may take for what is waited for before it counts as hung; none: the
    /// environment variable PADDOCK_DEVICE_WAIT in seconds, else ten minutes.
    pub wait_limit: Option<Duration>,
    /// What a graphics card keeps activations in, and the processor multiplies in.
    pub precision: Precision,
    /// Trained parameters of a CUDA device are bf16 and rounded at random, not f32 with a copy in bf16.
    pub narrow_parameters: bool,
}

/// An opened device. Back-ends are made on it, one for each checkpoint, and share what it has compiled.
pub enum Device {
    /// The processor.
    Cpu {
        /// As [`Options::threads`].
        threads: usize,
        /// As [`Options::level`].
        level: Option<cpu::simd::Level>,
        /// `Auto` or `Bf16`.
        precision: Precision,
    },
    /// A graphics adapter.
    Wgpu(Arc<wgpu::Gpu>),
    /// An NVIDIA card.
    Cuda(Rc<cuda::Gpu>),
    /// The reference in f32.
    Reference,
    /// The reference in f64.
    Reference64,
}

impl Device {
    /// Opens a device of a kind. Fails in words where there is none.
    pub fn open(kind: Kind, options: &Options) -> Result<Device> {
        match kind {
            Kind::Auto => Device::open(automatic().0, options),
            Kind::Cpu => Device::processor(options),
            Kind::Wgpu => Ok(Device::Wgpu(wgpu::Gpu::open(options)?)),
            Kind::Cuda => Ok(Device::Cuda(cuda::Gpu::open(options)?)),
            Kind::Reference => Ok(Device::Reference),
            Kind::Reference64 => Ok(Device::Reference64),
        }
    }

    fn processor(options: &Options) -> Result<Device> {
        let &Options { threads, level, precision, .. } = options;
        let device = Device::Cpu { threads, level, precision };
        match precision {
            Precision::Auto => {}
            // Fails at once, not when the first checkpoint is there.
            Precision::Bf16 => drop(device.backend(Weights::default())?),
            Precision::F16 => {
                let words = "f16 is for graphics cards; the processor computes in f32, and multiplies in bf16 where it \
                             has matrix instructions for that (--precision bf16). Leave --precision out for f32";
                return Err(Error::Device(words.into()));
            }
        }
        Ok(device)
    }

    /// Its name, as back-ends on it have it: "cpu avx512", "wgpu llvmpipe (vulkan)".
    pub fn name(&self) -> String {
        match self.backend(Weights::default()) {
            Ok(backend) => backend.name().to_owned(),
            Err(why) => why.to_string(),
        }
    }

    /// A back-end over the checkpoint's bytes, which it reads in place.
    pub fn backend<'w>(&self, weights: Weights<'w>) -> Result<Box<dyn Backend + 'w>> {
        Ok(match self {
            Device::Cpu { threads, level, precision } => {
                let cpu = cpu::Cpu::new(weights, *threads, *level)?;
                match precision {
                    Precision::Bf16 => Box::new(cpu.with_products_in_bf16()?),
                    _ => Box::new(cpu),
                }
            }
            Device::Wgpu(gpu) => Box::new(wgpu::Wgpu::on(gpu.clone(), weights)?),
            Device::Cuda(gpu) => Box::new(cuda::Cuda::on(gpu.clone(), weights)),
            Device::Reference => Box::new(Reference::<f32>::new(weights)),
            Device::Reference64 => Box::new(Reference::<f64>::new(weights)),
        })
    }
}

/// Opens a device and a back-end on it.
pub fn open<'w>(
    kind: Kind,
    weights: Weights<'w>,
    options: &Options,
) -> Result<Box<dyn Backend + 'w>> {
    Device::open(kind, options)?.backend(weights)
}

/// Which back-end [`Kind::Auto`] stands for on this machine, and why.
pub fn automatic() -> (Kind, String) {
    let why = "graphics cards are used on request (--backend cuda or wgpu), not by themselves";
    (Kind::Cpu, String::from(why))
}

/// An NVIDIA card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its number, as [`Options::device`] takes it.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// What it lacks for training, if anything.
    pub unusable: Option<String>,
}

/// The NVIDIA cards of this machine.
///
/// # Errors
/// Why there is none, in words.
pub fn cards() -> std::result::Result<Vec<Card>, String> {
    cuda::cards()
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
    let amx = if cpu::simd::amx::Amx::detect().is_some() { " amx" } else { "" };
    format!("{processor}, {cores} cores, SIMD {}{amx}", levels.join(" "))
}
