//! Modules: PTX text in, kernels and device variables out.

use super::entries;
use super::state::{Answer, Function, State, code, give, in_context};
use crate::error::SourceError;
use std::ffi::{CStr, c_char, c_uint};

entries! {
    cuModuleLoadData => load,
    cuModuleLoadDataEx => load_with,
    cuModuleLoad => load_file,
    cuModuleUnload => unload,
    cuModuleGetFunction => function,
    cuModuleGetGlobal_v2 => global,
}

/// `CU_JIT_ERROR_LOG_BUFFER` and its size.
const ERROR_LOG: c_uint = 5;
const ERROR_LOG_BYTES: c_uint = 6;

unsafe extern "C" fn load(module: *mut usize, image: *const c_char) -> u32 {
    // SAFETY: `load_with` asks the same of its caller; without options nothing else is read.
    unsafe { load_with(module, image, 0, std::ptr::null(), std::ptr::null_mut()) }
}

unsafe extern "C" fn load_with(
    module: *mut usize,
    image: *const c_char,
    count: c_uint,
    options: *const c_uint,
    values: *mut usize,
) -> u32 {
    in_context(|state| {
        if image.is_null() || (count > 0 && (options.is_null() || values.is_null())) {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the caller promises a C string (PTX) or an image that begins with its mark.
        let text = unsafe { CStr::from_ptr(image) };
        if text.to_bytes().starts_with(b"\x7fELF") {
            return Err(code::NO_BINARY_FOR_GPU);
        }
        let text = text.to_str().map_err(|_| code::INVALID_PTX)?;
        match place(state, text) {
            // SAFETY: the pointer is the caller's promise, as for the driver's function of this
            // name.
            Ok(handle) => unsafe { give(module, handle) },
            Err(error) => {
                // SAFETY: `count` options and values are readable, and the buffer is as long as
                // told.
                unsafe { log(&error.to_string(), count as usize, options, values) };
                Err(code::INVALID_PTX)
            }
        }
    })
}

/// Writes the message into the caller's error log, if there is one, and its length back.
///
/// # Safety
/// `options` and `values` hold `count` entries; the log buffer has as many bytes as its size says.
unsafe fn log(message: &str, count: usize, options: *const c_uint, values: *mut usize) {
    let find = |wanted: c_uint| {
        // SAFETY: `at` is below `count`.
        (0..count).find(|&at| unsafe { *options.add(at) } == wanted)
    };
    let (Some(buffer), Some(size)) = (find(ERROR_LOG), find(ERROR_LOG_BYTES)) else { return };
    // SAFETY: both places are below `count`; the buffer has `room` bytes.
    unsafe {
        let (buffer, room) = (*values.add(buffer) as *mut u8, *values.add(size) as u32 as usize);
        if buffer.is_null() || room == 0 {
            return;
        }
        let kept = message.len().min(room - 1);
        buffer.copy_from_nonoverlapping(message.as_ptr(), kept);
        buffer.add(kept).write(0);
        *values.add(size) = kept + 1;
    }
}

fn place(state: &mut State, text: &str) -> Result<usize, SourceError> {
    let module = state.machine.load(text)?;
    let handle = state.handle();
    state.modules.insert(handle, module);
    Ok(handle)
}

unsafe extern "C" fn load_file(module: *mut usize, path: *const c_char) -> u32 {
    in_context(|state| {
        if path.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the caller promises a C string.
        let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).map_err(|_| code::NOT_FOUND)?;
        let handle = place(state, &text).map_err(|_| code::INVALID_PTX)?;
        // SAFETY: as in `load_with`.
        unsafe { give(module, handle) }
    })
}

extern "C" fn unload(module: usize) -> u32 {
    in_context(|state| {
        let found = state.modules.remove(&module).ok_or(code::INVALID_HANDLE)?;
        for address in found.addresses() {
            state.machine.memory.free(address);
        }
        state.functions.retain(|_, function| function.module != module);
        Ok(())
    })
}

/// The module of a handle and the name of a C string.
///
/// # Safety
/// `name` is null or a C string.
unsafe fn named(
    module: usize,
    name: *const c_char,
    f: impl FnOnce(&mut State, &str) -> Answer,
) -> u32 {
    in_context(|state| {
        if !state.modules.contains_key(&module) {
            return Err(code::INVALID_HANDLE);
        }
        if name.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: not null, and a C string by the caller's contract.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        f(state, &name)
    })
}

unsafe extern "C" fn function(function: *mut usize, module: usize, name: *const c_char) -> u32 {
    let find = |state: &mut State, name: &str| {
        let kernel = state.modules.get(&module).and_then(|found| found.kernel(name));
        let kernel = kernel.ok_or(code::NOT_FOUND)?;
        let handle = state.handle();
        let dynamic_limit = state.machine.config().shared_bytes;
        state.functions.insert(handle, Function { module, kernel, dynamic_limit });
        // SAFETY: as in `load_with`.
        unsafe { give(function, handle) }
    };
    // SAFETY: the name is the caller's promise.
    unsafe { named(module, name, find) }
}

unsafe extern "C" fn global(
    address: *mut u64,
    bytes: *mut usize,
    module: usize,
    name: *const c_char,
) -> u32 {
    let find = |state: &mut State, name: &str| {
        let found = state.modules.get(&module).and_then(|found| found.global(name));
        let (at, size) = found.ok_or(code::NOT_FOUND)?;
        // SAFETY: both pointers are the caller's promise; each may be null.
        unsafe {
            if !address.is_null() {
                give(address, at)?;
            }
            if !bytes.is_null() {
                give(bytes, size as usize)?;
            }
        }
        Ok(())
    };
    // SAFETY: the name is the caller's promise.
    unsafe { named(module, name, find) }
}
