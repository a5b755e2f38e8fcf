//! Contexts: the device's primary one and those created beside it, all the same device.

use super::device::on_device;
use super::entries;
use super::state::{code, contexts, give, in_context, initialised};
use std::ffi::{c_int, c_uint};

entries! {
    cuDevicePrimaryCtxRetain => retain,
    cuDevicePrimaryCtxRelease_v2 => release,
    cuDevicePrimaryCtxSetFlags_v2 => set_flags,
    cuDevicePrimaryCtxReset_v2 => release_all,
    cuCtxCreate_v2 => create,
    cuCtxDestroy_v2 => destroy,
    cuCtxPushCurrent_v2 => push,
    cuCtxPopCurrent_v2 => pop,
    cuCtxSetCurrent => set_current,
    cuCtxGetCurrent => get_current,
    cuCtxGetDevice => get_device,
    cuCtxGetApiVersion => api_version,
    cuCtxGetFlags => get_flags,
    cuCtxSynchronize => synchronize,
    cuCtxGetStreamPriorityRange => priorities,
}

/// The primary context's handle.
const PRIMARY: usize = 0x100;
/// The handle of contexts made by `cuCtxCreate`.
const CREATED: usize = 0x200;

unsafe extern "C" fn retain(context: *mut usize, device: c_int) -> u32 {
    on_device(device, |state| {
        state.retained += 1;
        // SAFETY: the pointer is the caller's promise, as for the driver's function of this name.
        unsafe { give(context, PRIMARY) }
    })
}

extern "C" fn release(device: c_int) -> u32 {
    on_device(device, |state| match state.retained {
        0 => Err(code::INVALID_CONTEXT),
        _ => {
            state.retained -= 1;
            Ok(())
        }
    })
}

extern "C" fn set_flags(device: c_int, _flags: c_uint) -> u32 {
    on_device(device, |_| Ok(()))
}

extern "C" fn release_all(device: c_int) -> u32 {
    on_device(device, |state| {
        state.retained = 0;
        Ok(())
    })
}

unsafe extern "C" fn create(context: *mut usize, _flags: c_uint, device: c_int) -> u32 {
    on_device(device, |_| {
        contexts(|stack| stack.push(CREATED));
        // SAFETY: as in `retain`.
        unsafe { give(context, CREATED) }
    })
}

extern "C" fn destroy(context: usize) -> u32 {
    initialised(|_| {
        contexts(|stack| stack.retain(|&other| other != context));
        if context == CREATED { Ok(()) } else { Err(code::INVALID_CONTEXT) }
    })
}

extern "C" fn push(context: usize) -> u32 {
    initialised(|_| {
        if context != PRIMARY && context != CREATED {
            return Err(code::INVALID_CONTEXT);
        }
        contexts(|stack| stack.push(context));
        Ok(())
    })
}

unsafe extern "C" fn pop(context: *mut usize) -> u32 {
    initialised(|_| {
        let top = contexts(Vec::pop).ok_or(code::INVALID_CONTEXT)?;
        if context.is_null() {
            return Ok(());
        }
        // SAFETY: as in `retain`.
        unsafe { give(context, top) }
    })
}

extern "C" fn set_current(context: usize) -> u32 {
    initialised(|_| {
        if ![0, PRIMARY, CREATED].contains(&context) {
            return Err(code::INVALID_CONTEXT);
        }
        contexts(|stack| {
            stack.pop();
            if context != 0 {
                stack.push(context);
            }
        });
        Ok(())
    })
}

unsafe extern "C" fn get_current(context: *mut usize) -> u32 {
    initialised(|_| {
        let top = contexts(|stack| stack.last().copied().unwrap_or(0));
        // SAFETY: as in `retain`.
        unsafe { give(context, top) }
    })
}

unsafe extern "C" fn get_device(device: *mut c_int) -> u32 {
    // SAFETY: as in `retain`.
    in_context(|_| unsafe { give(device, 0) })
}

unsafe extern "C" fn api_version(_context: usize, version: *mut c_uint) -> u32 {
    // SAFETY: as in `retain`. 3020 is what contexts of today's interface report.
    initialised(|_| unsafe { give(version, 3020) })
}

unsafe extern "C" fn get_flags(flags: *mut c_uint) -> u32 {
    // SAFETY: as in `retain`.
    in_context(|_| unsafe { give(flags, 0) })
}

extern "C" fn synchronize() -> u32 {
    in_context(|_| Ok(()))
}

unsafe extern "C" fn priorities(least: *mut c_int, greatest: *mut c_int) -> u32 {
    in_context(|_| {
        for pointer in [least, greatest].into_iter().filter(|pointer| !pointer.is_null()) {
            // SAFETY: as in `retain`.
            unsafe { give(pointer, 0)? };
        }
        Ok(())
    })
}
