//! Functions and launches.

use super::state::{State, code, give, in_context};
use super::{Launch, entries};
use crate::error::{Fault, FaultKind};
use crate::machine::{Kernel, LaunchError, Shape};
use std::ffi::{c_int, c_uint, c_void};

entries! {
    cuLaunchKernel => launch,
    cuFuncGetAttribute => get_attribute,
    cuFuncSetAttribute => set_attribute,
    cuFuncSetCacheConfig => set_preference,
    cuFuncSetSharedMemConfig => set_preference,
}

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const MAX_DYNAMIC: c_uint = 8;

unsafe extern "C" fn launch(
    function: usize,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: usize,
    parameters: *const *const c_void,
    extra: *const *const c_void,
) -> u32 {
    in_context(|state| {
        if !extra.is_null() {
            return Err(code::INVALID_VALUE);
        }
        let kernel = prepare(state, function, stream, shared)?;
        // SAFETY: the caller promises one pointer a parameter, each to as many bytes as it has.
        let block = unsafe { parameter_block(&kernel, parameters)? };
        let shape =
            Shape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], shared };
        run(state, &kernel, shape, None, &block)
    })
}

/// The kernel of a function, if it may be launched so.
pub(super) fn prepare(
    state: &State,
    function: usize,
    stream: usize,
    shared: u32,
) -> Result<Kernel, u32> {
    if !state.knows_stream(stream) {
        return Err(code::INVALID_VALUE);
    }
    let found = state.functions.get(&function).ok_or(code::INVALID_HANDLE)?;
    let kernel = found.kernel.clone();
    let most = found.dynamic_limit.saturating_sub(kernel.code().static_shared);
    if shared > most {
        eprintln!(
            "kernel {}: {shared} bytes of dynamic shared memory, {most} allowed \
             (cuFuncSetAttribute raises the limit)",
            kernel.code().name
        );
        return Err(code::INVALID_VALUE);
    }
    Ok(kernel)
}

/// # Safety
/// `parameters` is null or holds a pointer to each of the kernel's parameters.
pub(super) unsafe fn parameter_block(
    kernel: &Kernel,
    parameters: *const *const c_void,
) -> Result<Vec<u8>, u32> {
    let mut block = vec![0; kernel.code().parameter_bytes as usize];
    for (at, parameter) in kernel.code().parameters.iter().enumerate() {
        if parameters.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the list is not null and holds one pointer a parameter.
        let from = unsafe { *parameters.add(at) };
        if from.is_null() {
            return Err(code::INVALID_VALUE);
        }
        let (offset, size) = (parameter.offset as usize, parameter.size as usize);
        let target = &mut block[offset..offset + size];
        // SAFETY: the pointer leads to `size` readable bytes by the caller's contract.
        unsafe { from.cast::<u8>().copy_to_nonoverlapping(target.as_mut_ptr(), size) };
    }
    Ok(block)
}

/// A launch that faults has succeeded as a launch: the fault shows at the context's next call.
pub(super) fn run(
    state: &mut State,
    kernel: &Kernel,
    shape: Shape,
    cluster: Option<[u32; 3]>,
    block: &[u8],
) -> Result<(), u32> {
    match state.machine.launch_in_clusters(kernel, shape, cluster, block) {
        Ok(report) => {
            let kernel = kernel.code().name.clone();
            state.launches.push(Launch { kernel, shape, report });
            Ok(())
        }
        Err(LaunchError::Refused { kernel, reason }) => {
            eprintln!("kernel {kernel} cannot be launched: {reason}");
            Err(code::INVALID_VALUE)
        }
        Err(LaunchError::Fault(fault)) => {
            eprintln!("{fault}");
            state.broken = Some(result_code(&fault));
            state.faults.push(*fault);
            Ok(())
        }
    }
}

fn result_code(fault: &Fault) -> u32 {
    match fault.kind {
        FaultKind::OutOfBounds { .. } => code::ILLEGAL_ADDRESS,
        FaultKind::Misaligned { .. } => code::MISALIGNED_ADDRESS,
        _ => code::LAUNCH_FAILED,
    }
}

unsafe extern "C" fn get_attribute(value: *mut c_int, attribute: c_uint, function: usize) -> u32 {
    in_context(|state| {
        let found = state.functions.get(&function).ok_or(code::INVALID_HANDLE)?;
        let kernel = found.kernel.code();
        let number = match attribute {
            0 => kernel.max_threads.unwrap_or(1024),
            1 => kernel.static_shared,
            3 => kernel.local_bytes,
            // Registers are ptxas's business; nothing here limits a launch by them.
            MAX_DYNAMIC => found.dynamic_limit,
            _ => return Err(code::INVALID_VALUE),
        };
        // SAFETY: the pointer is the caller's promise, as for the driver's function of this name.
        unsafe { give(value, number as c_int) }
    })
}

extern "C" fn set_attribute(function: usize, attribute: c_uint, value: c_int) -> u32 {
    in_context(|state| {
        let most = state.machine.config().shared_bytes_opt_in;
        let found = state.functions.get_mut(&function).ok_or(code::INVALID_HANDLE)?;
        match (attribute, u32::try_from(value)) {
            (MAX_DYNAMIC, Ok(value)) if value <= most - found.kernel.code().static_shared => {
                found.dynamic_limit = value + found.kernel.code().static_shared;
                Ok(())
            }
            // The share of shared memory in the cache, and large clusters: no difference here.
            (9 | 14, _) => Ok(()),
            _ => Err(code::INVALID_VALUE),
        }
    })
}

/// Cache and bank preferences change nothing here.
extern "C" fn set_preference(function: usize, _preference: c_uint) -> u32 {
    in_context(|state| {
        let known = state.functions.contains_key(&function);
        if known { Ok(()) } else { Err(code::INVALID_HANDLE) }
    })
}
