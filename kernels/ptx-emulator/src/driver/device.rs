//! Initialisation and questions about the device.

use super::entries;
use super::state::{Answer, State, anytime, code, give, initialised};
use std::ffi::{c_char, c_int, c_uint};

entries! {
    cuInit => init,
    cuDriverGetVersion => version,
    cuDeviceGet => get,
    cuDeviceGetCount => count,
    cuDeviceGetName => name,
    cuDeviceTotalMem_v2 => total_memory,
    cuDeviceGetAttribute => attribute,
    cuDeviceGetUuid => uuid,
}

extern "C" fn init(flags: c_uint) -> u32 {
    anytime(|state| {
        if flags != 0 {
            return Err(code::INVALID_VALUE);
        }
        state.initialised = true;
        Ok(())
    })
}

unsafe extern "C" fn version(version: *mut c_int) -> u32 {
    // SAFETY: the pointer is the caller's promise, as for the driver's function of this name.
    anytime(|state| unsafe { give(version, state.version) })
}

/// A call about device 0, the only one.
pub(super) fn on_device(device: c_int, f: impl FnOnce(&mut State) -> Answer) -> u32 {
    initialised(|state| if device == 0 { f(state) } else { Err(code::INVALID_DEVICE) })
}

unsafe extern "C" fn get(device: *mut c_int, ordinal: c_int) -> u32 {
    // SAFETY: as in `version`.
    on_device(ordinal, |_| unsafe { give(device, 0) })
}

unsafe extern "C" fn count(count: *mut c_int) -> u32 {
    // SAFETY: as in `version`.
    initialised(|_| unsafe { give(count, 1) })
}

unsafe extern "C" fn name(text: *mut c_char, length: c_int, device: c_int) -> u32 {
    on_device(device, |state| {
        let Ok(room) = usize::try_from(length) else { return Err(code::INVALID_VALUE) };
        if text.is_null() || room == 0 {
            return Err(code::INVALID_VALUE);
        }
        let name = state.machine.config().name.as_bytes();
        let kept = &name[..name.len().min(room - 1)];
        // SAFETY: the caller promises `length` writable bytes; at most that many are written.
        unsafe {
            text.cast::<u8>().copy_from_nonoverlapping(kept.as_ptr(), kept.len());
            text.add(kept.len()).write(0);
        }
        Ok(())
    })
}

unsafe extern "C" fn total_memory(bytes: *mut usize, device: c_int) -> u32 {
    on_device(device, |state| {
        let total = state.machine.memory.capacity() as usize;
        // SAFETY: as in `version`.
        unsafe { give(bytes, total) }
    })
}

unsafe extern "C" fn attribute(value: *mut c_int, attribute: c_uint, device: c_int) -> u32 {
    on_device(device, |state| {
        let config = state.machine.config();
        let found = match attribute {
            // Threads of a CTA, its axes, the grid's axes.
            1..=3 => 1024,
            4 => 64,
            5 => i32::MAX,
            6 | 7 => 65_535,
            8 => config.shared_bytes as c_int,
            9 => 65_536,
            10 => 32,
            // Registers of a CTA and of a processor.
            12 | 82 => 65_536,
            // Clocks in kHz, bus width in bits, L2 in bytes: of an imagined card.
            13 | 36 => 1_000_000,
            37 => 5120,
            38 => 4 << 20,
            16 => config.processors as c_int,
            // Concurrent kernels, unified addressing, memory pools, stream priorities: yes.
            31 | 41 | 78 | 115 => 1,
            // Run time limit, integrated, compute mode, ECC, managed memory: no.
            17 | 18 | 20 | 32 | 83 => 0,
            39 => 2048,
            75 => config.capability.0 as c_int,
            76 => config.capability.1 as c_int,
            81 => config.shared_bytes_opt_in as c_int + 1024,
            // Launches of clusters.
            120 => c_int::from(config.capability.0 >= 9),
            97 => config.shared_bytes_opt_in as c_int,
            _ => return Err(code::INVALID_VALUE),
        };
        // SAFETY: as in `version`.
        unsafe { give(value, found) }
    })
}

unsafe extern "C" fn uuid(uuid: *mut [u8; 16], device: c_int) -> u32 {
    // SAFETY: as in `version`.
    on_device(device, |_| unsafe { give(uuid, *b"paddock-emulator") })
}
