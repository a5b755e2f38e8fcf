//! A CUDA device for tests: the machine's own if it has one, else the emulator.
#![allow(dead_code)]

use std::rc::Rc;

use paddock_kernels::Options;
use paddock_kernels::cuda::Gpu;
use paddock_ptx_emulator::DeviceConfig;
use paddock_ptx_emulator::driver::Emulation;

/// The oldest device that the kernels serve, in f16.
pub const TURING: (u32, u32) = (7, 5);
/// The oldest device with bf16.
pub const AMPERE: (u32, u32) = (8, 0);
/// A device with kernels of its own.
pub const HOPPER: (u32, u32) = (9, 0);

/// An open device. The emulation, if it is one, ends after everything made on it.
pub struct Device {
    pub gpu: Rc<Gpu>,
    pub emulation: Option<Emulation>,
}

impl Device {
    /// Whether large shapes take no time.
    pub fn is_real(&self) -> bool {
        self.emulation.is_none()
    }
}

/// The machine's device, or in its place the emulator, as a device of this compute capability.
pub fn device(capability: (u32, u32)) -> Device {
    device_with(capability, &Options::default())
}

/// The same, opened with these options.
pub fn device_with(capability: (u32, u32), options: &Options) -> Device {
    if !emulated() {
        let gpu = Gpu::open(options).expect("the machine's own device");
        return Device { gpu, emulation: None };
    }
    let mut config = DeviceConfig { capability, ..DeviceConfig::default() };
    if capability == TURING {
        config.shared_bytes_opt_in = 64 << 10;
    }
    if capability == HOPPER {
        config.shared_bytes_opt_in = 227 << 10;
    }
    let emulation = Emulation::begin(config).expect("the emulator's driver");
    let gpu = Gpu::open(options).expect("the emulated device");
    Device { gpu, emulation: Some(emulation) }
}

/// Whether tests run on the emulator: PADDOCK_EMULATE=1 asks for it, and so does a machine without a
/// driver, unless PADDOCK_REQUIRE names cuda.
pub fn emulated() -> bool {
    if std::env::var("PADDOCK_EMULATE").is_ok_and(|x| x == "1") {
        return true;
    }
    // The answer is asked for once: afterwards an emulation may have taken the driver's place.
    static FOUND: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    match FOUND.get_or_init(paddock_kernels::cuda::available) {
        Ok(()) => false,
        Err(why) => {
            let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
            assert!(!required.contains("cuda"), "PADDOCK_REQUIRE names cuda, but {why}");
            println!(
                "SKIPPED: larger shapes on a CUDA device, the emulator ran the small ones ({why})"
            );
            true
        }
    }
}
