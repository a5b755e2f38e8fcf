//! Device memory, pinned host memory, copies and fills. The asynchronous forms are done at once,
//! which is one of the times at which the real driver may do them.

use super::entries;
use super::state::{Answer, State, code, give, in_context};
use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{c_uchar, c_uint, c_ushort};

entries! {
    cuMemAlloc_v2 => allocate,
    cuMemAllocAsync => allocate_async,
    cuMemFree_v2 => free,
    cuMemFreeAsync => free_async,
    cuMemAllocHost_v2 => allocate_host,
    cuMemHostAlloc => allocate_host_with,
    cuMemFreeHost => free_host,
    cuMemGetInfo_v2 => info,
    cuMemcpyHtoD_v2 => to_device,
    cuMemcpyHtoDAsync_v2 => to_device_async,
    cuMemcpyDtoH_v2 => to_host,
    cuMemcpyDtoHAsync_v2 => to_host_async,
    cuMemcpyDtoD_v2 => on_device,
    cuMemcpyDtoDAsync_v2 => on_device_async,
    cuMemsetD8_v2 => fill8,
    cuMemsetD8Async => fill8_async,
    cuMemsetD16_v2 => fill16,
    cuMemsetD16Async => fill16_async,
    cuMemsetD32_v2 => fill32,
    cuMemsetD32Async => fill32_async,
}

/// Pinned memory is aligned as a page.
const PAGE: usize = 4096;

/// A call that names a stream.
fn on_stream(stream: usize, f: impl FnOnce(&mut State) -> Answer) -> u32 {
    in_context(
        |state| {
            if state.knows_stream(stream) { f(state) } else { Err(code::INVALID_HANDLE) }
        },
    )
}

unsafe extern "C" fn allocate(pointer: *mut u64, bytes: usize) -> u32 {
    // SAFETY: `allocate_async` asks the same of its caller.
    unsafe { allocate_async(pointer, bytes, 0) }
}

unsafe extern "C" fn allocate_async(pointer: *mut u64, bytes: usize, stream: usize) -> u32 {
    on_stream(stream, |state| {
        if bytes == 0 {
            return Err(code::INVALID_VALUE);
        }
        let address = state.machine.memory.allocate(bytes as u64).ok_or(code::OUT_OF_MEMORY)?;
        // SAFETY: the pointer is the caller's promise, as for the driver's function of this name.
        unsafe { give(pointer, address) }
    })
}

extern "C" fn free(address: u64) -> u32 {
    free_async(address, 0)
}

extern "C" fn free_async(address: u64, stream: usize) -> u32 {
    on_stream(stream, |state| {
        let known = address == 0 || state.machine.memory.free(address);
        if known { Ok(()) } else { Err(code::INVALID_VALUE) }
    })
}

unsafe extern "C" fn allocate_host(pointer: *mut usize, bytes: usize) -> u32 {
    in_context(|state| {
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| code::INVALID_VALUE)?;
        if bytes == 0 {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the size is not zero.
        let address = unsafe { alloc(layout) } as usize;
        if address == 0 {
            return Err(code::OUT_OF_MEMORY);
        }
        state.host.insert(address, layout);
        // SAFETY: as in `allocate_async`.
        unsafe { give(pointer, address) }
    })
}

unsafe extern "C" fn allocate_host_with(pointer: *mut usize, bytes: usize, _flags: c_uint) -> u32 {
    // SAFETY: `allocate_host` asks the same of its caller.
    unsafe { allocate_host(pointer, bytes) }
}

extern "C" fn free_host(address: usize) -> u32 {
    in_context(|state| {
        let layout = state.host.remove(&address).ok_or(code::INVALID_VALUE)?;
        // SAFETY: the address came from `alloc` with this layout and is forgotten now.
        unsafe { dealloc(address as *mut u8, layout) };
        Ok(())
    })
}

unsafe extern "C" fn info(free: *mut usize, total: *mut usize) -> u32 {
    in_context(|state| {
        let memory = &state.machine.memory;
        // SAFETY: as in `allocate_async`.
        unsafe {
            give(free, (memory.capacity() - memory.used()) as usize)?;
            give(total, memory.capacity() as usize)
        }
    })
}

unsafe extern "C" fn to_device(to: u64, from: *const u8, bytes: usize) -> u32 {
    // SAFETY: `to_device_async` asks the same of its caller.
    unsafe { to_device_async(to, from, bytes, 0) }
}

unsafe extern "C" fn to_device_async(to: u64, from: *const u8, bytes: usize, stream: usize) -> u32 {
    on_stream(stream, |state| {
        if bytes == 0 {
            return Ok(());
        }
        let target = state.machine.memory.get_mut(to, bytes).ok_or(code::INVALID_VALUE)?;
        if from.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the caller promises `bytes` readable bytes; the target is the emulator's own.
        unsafe { from.copy_to_nonoverlapping(target.as_mut_ptr(), bytes) };
        Ok(())
    })
}

unsafe extern "C" fn to_host(to: *mut u8, from: u64, bytes: usize) -> u32 {
    // SAFETY: `to_host_async` asks the same of its caller.
    unsafe { to_host_async(to, from, bytes, 0) }
}

unsafe extern "C" fn to_host_async(to: *mut u8, from: u64, bytes: usize, stream: usize) -> u32 {
    on_stream(stream, |state| {
        if bytes == 0 {
            return Ok(());
        }
        let source = state.machine.memory.get(from, bytes).ok_or(code::INVALID_VALUE)?;
        if to.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the caller promises `bytes` writable bytes; the source is the emulator's own.
        unsafe { to.copy_from_nonoverlapping(source.as_ptr(), bytes) };
        Ok(())
    })
}

extern "C" fn on_device(to: u64, from: u64, bytes: usize) -> u32 {
    on_device_async(to, from, bytes, 0)
}

extern "C" fn on_device_async(to: u64, from: u64, bytes: usize, stream: usize) -> u32 {
    on_stream(stream, |state| {
        let done = bytes == 0 || state.machine.memory.copy(to, from, bytes);
        if done { Ok(()) } else { Err(code::INVALID_VALUE) }
    })
}

fn fill<const B: usize>(to: u64, value: [u8; B], count: usize, stream: usize) -> u32 {
    on_stream(stream, |state| {
        let bytes = count.checked_mul(B).ok_or(code::INVALID_VALUE)?;
        if bytes == 0 {
            return Ok(());
        }
        if !to.is_multiple_of(B as u64) {
            return Err(code::INVALID_VALUE);
        }
        let target = state.machine.memory.get_mut(to, bytes).ok_or(code::INVALID_VALUE)?;
        target.chunks_exact_mut(B).for_each(|slot| slot.copy_from_slice(&value));
        Ok(())
    })
}

extern "C" fn fill8(to: u64, value: c_uchar, count: usize) -> u32 {
    fill(to, [value], count, 0)
}

extern "C" fn fill8_async(to: u64, value: c_uchar, count: usize, stream: usize) -> u32 {
    fill(to, [value], count, stream)
}

extern "C" fn fill16(to: u64, value: c_ushort, count: usize) -> u32 {
    fill(to, value.to_le_bytes(), count, 0)
}

extern "C" fn fill16_async(to: u64, value: c_ushort, count: usize, stream: usize) -> u32 {
    fill(to, value.to_le_bytes(), count, stream)
}

extern "C" fn fill32(to: u64, value: c_uint, count: usize) -> u32 {
    fill(to, value.to_le_bytes(), count, 0)
}

extern "C" fn fill32_async(to: u64, value: c_uint, count: usize, stream: usize) -> u32 {
    fill(to, value.to_le_bytes(), count, stream)
}
