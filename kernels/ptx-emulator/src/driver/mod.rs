//! A CUDA driver of our own: the calls that Paddock makes, answered by a [`Machine`].
//!
//! [`Emulation::begin`] puts it into the shim's table, so that cust talks to it. As with the real
//! driver a launch returns at once and its fault shows at the next call of the context, as a result
//! code that sticks; what happened is in [`Emulation::faults`] and on stderr. What is not here
//! (graphs, stream capture, occupancy, textures, managed memory, …) answers
//! `CUDA_ERROR_NOT_SUPPORTED`.

mod context;
mod device;
mod extended;
mod launch;
mod memory;
mod module;
mod state;
mod stream;

use crate::counters::Counters;
use crate::error::Fault;
use crate::machine::{DeviceConfig, Machine, Report, Shape};
use state::State;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `cuDriverGetVersion`: CUDA 12.4.
pub const DRIVER_VERSION: i32 = 12_040;

/// Emulations take turns: the shim's table belongs to the whole process.
static TURN: Mutex<()> = Mutex::new(());

/// A launch that ended well.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel.
    pub kernel: String,
    /// Grid, block, dynamic shared memory.
    pub shape: Shape,
    /// What it did.
    pub report: Report,
}

/// As long as it lives, CUDA calls of this process reach the emulator. Drop everything made through
/// cust before it.
pub struct Emulation {
    _turn: MutexGuard<'static, ()>,
}

impl Emulation {
    /// Starts a device and lets it answer all CUDA calls. Waits for other emulations to end.
    ///
    /// # Errors
    /// The shim refuses the table: a name here is none of cust's.
    pub fn begin(config: DeviceConfig) -> Result<Self, paddock_cuda_shim::InstallError> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        state::replace(Some(State::new(Machine::new(config))));
        // SAFETY: each function has the C signature of its name (`tests/driver.rs` calls them
        // through cust), lives as long as the program, and no other emulation is under way.
        unsafe { paddock_cuda_shim::install(&table())? };
        Ok(Self { _turn: turn })
    }

    /// Faults of launches so far.
    pub fn faults(&self) -> Vec<Fault> {
        state::look(|state| state.faults.clone())
    }

    /// Launches that ended well, in order.
    pub fn launches(&self) -> Vec<Launch> {
        state::look(|state| state.launches.clone())
    }

    /// The figures of all launches, added up.
    pub fn counters(&self) -> Counters {
        state::look(|state| {
            let mut sum = Counters::default();
            state.launches.iter().for_each(|launch| sum += &launch.report.counters);
            sum
        })
    }

    /// From now on nothing that is queued ever finishes.
    pub fn hang(&self) {
        state::change(|state| state.hung = true);
    }

    /// From now on every call of a context gives this result code, as after a fault of the device.
    pub fn fail_with(&self, code: u32) {
        state::change(|state| state.broken = Some(code));
    }

    /// What the driver says its version is: 11 040 for CUDA 11.4.
    pub fn set_driver_version(&self, version: i32) {
        state::change(|state| state.version = version);
    }

    /// Device memory in use, in bytes.
    pub fn memory_used(&self) -> u64 {
        state::look(|state| state.machine.memory.used())
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        paddock_cuda_shim::reset();
        state::replace(None);
    }
}

/// Every call of cust's that the emulator answers.
fn all() -> impl Iterator<Item = &'static Entry> {
    let parts = [
        device::TABLE,
        context::TABLE,
        memory::TABLE,
        module::TABLE,
        launch::TABLE,
        stream::TABLE,
        extended::TABLE,
    ];
    parts.into_iter().flatten()
}

fn table() -> Vec<(&'static str, *const c_void)> {
    all().map(|entry| (entry.0, entry.1.0)).collect()
}

/// A function's address that may stand in a static table.
struct Address(*const c_void);

// SAFETY: the addresses of functions do not change and are only read.
unsafe impl Sync for Address {}

/// Name and function.
type Entry = (&'static str, Address);

macro_rules! entries {
    ($($name:ident => $function:path),* $(,)?) => {
        pub(super) static TABLE: &[super::Entry] = &[
            $((stringify!($name), super::Address($function as *const std::ffi::c_void))),*
        ];
    };
}
use entries;
