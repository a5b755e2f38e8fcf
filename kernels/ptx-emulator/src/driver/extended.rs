//! Calls that are newer than cust: found by `cuGetProcAddress`.

use super::launch::{parameter_block, prepare, run};
use super::state::{anytime, code, give, in_context};
use super::{Address, Entry, entries};
use crate::machine::Shape;
use crate::tensor_map::{Element, TensorMap};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

entries! {
    cuGetProcAddress => find,
}

/// Names that cust does not declare.
static MORE: &[Entry] = &[
    ("cuTensorMapEncodeTiled", Address(encode_tiled as *const c_void)),
    ("cuLaunchKernelEx", Address(launch_with as *const c_void)),
];

unsafe extern "C" fn find(
    name: *const c_char,
    function: *mut *const c_void,
    _version: c_int,
    _flags: u64,
) -> u32 {
    anytime(|_| {
        if name.is_null() || function.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: not null, and a C string by the caller's promise.
        let name = unsafe { CStr::from_ptr(name) }.to_bytes();
        // The driver gives the newest version of a name that it was asked for without one.
        let stem = |entry: &str| {
            let stem = entry.strip_suffix("_v2").unwrap_or(entry);
            stem.as_bytes() == name || entry.as_bytes() == name
        };
        let found = super::all().find(|entry| stem(entry.0));
        let found = found.or_else(|| MORE.iter().find(|entry| stem(entry.0)));
        let address = found.map(|entry| entry.1.0).ok_or(code::NOT_FOUND)?;
        // SAFETY: the pointer is the caller's promise, as for the driver's function of this name.
        unsafe { give(function, address) }
    })
}

/// Reads `count` values.
///
/// # Safety
/// `from` is null or leads to `count` readable values.
unsafe fn list<T: Copy>(from: *const T, count: usize) -> Result<Vec<T>, u32> {
    if from.is_null() {
        return if count == 0 { Ok(Vec::new()) } else { Err(code::INVALID_VALUE) };
    }
    // SAFETY: not null; `at` is below `count`.
    Ok((0..count).map(|at| unsafe { from.add(at).read() }).collect())
}

/// The emulator's own encoding of a tensor map, after the driver's own checks.
unsafe extern "C" fn encode_tiled(
    map: *mut [u8; 128],
    element: c_uint,
    rank: c_uint,
    address: u64,
    sizes: *const u64,
    strides: *const u64,
    boxes: *const u32,
    steps: *const u32,
    interleave: c_uint,
    swizzle: c_uint,
    _promotion: c_uint,
    fill: c_uint,
) -> u32 {
    anytime(|_| {
        let refuse = |text: String| {
            eprintln!("cuTensorMapEncodeTiled: {text}");
            Err(code::INVALID_VALUE)
        };
        let axes = rank as usize;
        if !(1..=5).contains(&axes) || map.is_null() || !(map as usize).is_multiple_of(64) {
            return refuse(format!("{rank} axes, or a map that is not aligned to 64 bytes"));
        }
        // SAFETY: the lists have as many values as the caller promises by `rank`.
        let (sizes, strides, boxes, steps) = unsafe {
            (list(sizes, axes)?, list(strides, axes - 1)?, list(boxes, axes)?, list(steps, axes)?)
        };
        let Some(element) = Element::from_number(element) else {
            return refuse(format!("element type {element} is not supported here"));
        };
        if interleave != 0 || fill != 0 || steps.iter().any(|&step| step != 1) {
            return refuse("interleaving, NaN filling and steps are not supported here".into());
        }
        let Some(&span) = [0, 32, 64, 128].get(swizzle as usize) else {
            return refuse(format!("swizzle {swizzle} is not supported here"));
        };
        match TensorMap::new(element, address, &sizes, &strides, &boxes, span) {
            // SAFETY: the pointer is the caller's promise.
            Ok(found) => unsafe { give(map, found.to_bytes()) },
            Err(text) => refuse(text),
        }
    })
}

/// `CUlaunchConfig`.
#[repr(C)]
struct Config {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    stream: usize,
    attributes: *const Attribute,
    count: c_uint,
}

/// `CUlaunchAttribute`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attribute {
    id: c_uint,
    _pad: c_uint,
    value: [u32; 16],
}

/// `CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION`.
const CLUSTER: c_uint = 4;
/// Attributes that change nothing here: ignore, the order of clusters, dependent launches.
const WITHOUT_EFFECT: [c_uint; 3] = [0, 5, 6];

unsafe extern "C" fn launch_with(
    config: *const Config,
    function: usize,
    parameters: *const *const c_void,
    extra: *const *const c_void,
) -> u32 {
    in_context(|state| {
        if config.is_null() || !extra.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: not null, and a configuration by the caller's promise.
        let config = unsafe { &*config };
        // SAFETY: the list has as many attributes as the configuration says.
        let attributes = unsafe { list(config.attributes, config.count as usize)? };
        let mut cluster = None;
        for attribute in attributes {
            match attribute.id {
                CLUSTER => {
                    let [x, y, z, ..] = attribute.value;
                    cluster = Some([x, y, z]);
                }
                id if WITHOUT_EFFECT.contains(&id) => {}
                id => {
                    eprintln!("cuLaunchKernelEx: attribute {id} is not supported here");
                    return Err(code::INVALID_VALUE);
                }
            }
        }
        let kernel = prepare(state, function, config.stream, config.shared)?;
        // SAFETY: the caller promises one pointer a parameter, each to as many bytes as it has.
        let block = unsafe { parameter_block(&kernel, parameters)? };
        let shape = Shape { grid: config.grid, block: config.block, shared: config.shared };
        run(state, &kernel, shape, cluster, &block)
    })
}
