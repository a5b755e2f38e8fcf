//! Streams and events. Work is done when it is asked for, so everything is always finished, unless the
//! device was told to hang: then nothing is, and a wait, which would last for ever, says so at once.

use super::entries;
use super::state::{code, give, in_context};
use std::ffi::{c_int, c_uint, c_void};
use std::time::Instant;

entries! {
    cuStreamCreate => create,
    cuStreamCreateWithPriority => create_with_priority,
    cuStreamDestroy_v2 => destroy,
    cuStreamSynchronize => synchronize,
    cuStreamQuery => synchronize,
    cuStreamWaitEvent => wait_event,
    cuStreamGetFlags => flags,
    cuStreamGetPriority => priority,
    cuLaunchHostFunc => host_function,
    cuEventCreate => create_event,
    cuEventDestroy_v2 => destroy_event,
    cuEventRecord => record,
    cuEventQuery => query_event,
    cuEventSynchronize => query_event,
    cuEventElapsedTime => elapsed,
}

unsafe extern "C" fn create(stream: *mut usize, flags: c_uint) -> u32 {
    // SAFETY: `create_with_priority` asks the same of its caller.
    unsafe { create_with_priority(stream, flags, 0) }
}

unsafe extern "C" fn create_with_priority(
    stream: *mut usize,
    flags: c_uint,
    _priority: c_int,
) -> u32 {
    in_context(|state| {
        let handle = state.handle();
        state.streams.insert(handle, flags);
        // SAFETY: the pointer is the caller's promise, as for the driver's function of this name.
        unsafe { give(stream, handle) }
    })
}

extern "C" fn destroy(stream: usize) -> u32 {
    in_context(|state| state.streams.remove(&stream).map(drop).ok_or(code::INVALID_HANDLE))
}

extern "C" fn synchronize(stream: usize) -> u32 {
    in_context(|state| match state.knows_stream(stream) {
        true if state.hung => Err(code::NOT_READY),
        true => Ok(()),
        false => Err(code::INVALID_HANDLE),
    })
}

extern "C" fn wait_event(stream: usize, event: usize, _flags: c_uint) -> u32 {
    in_context(|state| {
        let known = state.knows_stream(stream) && state.events.contains_key(&event);
        if known { Ok(()) } else { Err(code::INVALID_HANDLE) }
    })
}

unsafe extern "C" fn flags(stream: usize, flags: *mut c_uint) -> u32 {
    in_context(|state| {
        let found = state.streams.get(&stream).copied().ok_or(code::INVALID_HANDLE)?;
        // SAFETY: as in `create_with_priority`.
        unsafe { give(flags, found) }
    })
}

unsafe extern "C" fn priority(_stream: usize, priority: *mut c_int) -> u32 {
    // SAFETY: as in `create_with_priority`.
    in_context(|_| unsafe { give(priority, 0) })
}

unsafe extern "C" fn host_function(
    stream: usize,
    function: Option<unsafe extern "C" fn(*mut c_void)>,
    data: *mut c_void,
) -> u32 {
    let code = synchronize(stream);
    if let (0, Some(function)) = (code, function) {
        // SAFETY: function and data are the caller's promise. The driver's lock is not held.
        unsafe { function(data) };
    }
    code
}

unsafe extern "C" fn create_event(event: *mut usize, _flags: c_uint) -> u32 {
    in_context(|state| {
        let handle = state.handle();
        state.events.insert(handle, None);
        // SAFETY: as in `create_with_priority`.
        unsafe { give(event, handle) }
    })
}

extern "C" fn destroy_event(event: usize) -> u32 {
    in_context(|state| state.events.remove(&event).map(drop).ok_or(code::INVALID_HANDLE))
}

extern "C" fn record(event: usize, stream: usize) -> u32 {
    in_context(|state| {
        let known = state.knows_stream(stream);
        match state.events.get_mut(&event) {
            Some(time) if known => {
                *time = Some(Instant::now());
                Ok(())
            }
            _ => Err(code::INVALID_HANDLE),
        }
    })
}

extern "C" fn query_event(event: usize) -> u32 {
    in_context(|state| match state.events.contains_key(&event) {
        true if state.hung => Err(code::NOT_READY),
        true => Ok(()),
        false => Err(code::INVALID_HANDLE),
    })
}

unsafe extern "C" fn elapsed(milliseconds: *mut f32, start: usize, end: usize) -> u32 {
    in_context(|state| {
        let find = |event| state.events.get(&event).copied().ok_or(code::INVALID_HANDLE);
        let (Some(start), Some(end)) = (find(start)?, find(end)?) else {
            return Err(code::NOT_READY);
        };
        let time = end.saturating_duration_since(start).as_secs_f32() * 1000.0;
        // SAFETY: as in `create_with_priority`.
        unsafe { give(milliseconds, time) }
    })
}
