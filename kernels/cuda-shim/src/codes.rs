//! Result codes: which of them cust knows, and texts for the time before a driver is there.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicU32, Ordering};

/// Every value of cust_raw's `CUresult` (CUDA 11.4), ascending. The tests compare it with the
/// bindings.
pub const KNOWN_CODES: &[u32] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 34, 100, 101, 102, 200, 201, 202, 205, 206, 207, 208, 209, 210, 211,
    212, 213, 214, 215, 216, 217, 218, 219, 220, 221, 222, 223, 224, 300, 301, 302, 303, 304, 400,
    401, 500, 600, 700, 701, 702, 703, 704, 705, 708, 709, 710, 711, 712, 713, 714, 715, 716, 717,
    718, 719, 720, 800, 801, 802, 803, 804, 805, 806, 807, 808, 809, 900, 901, 902, 903, 904, 905,
    906, 907, 908, 909, 910, 911, 999,
];

pub(crate) const NO_DEVICE: u32 = 100;
pub(crate) const NOT_FOUND: u32 = 500;
pub(crate) const NOT_SUPPORTED: u32 = 801;
const UNKNOWN: u32 = 999;

static LAST_UNMAPPED: AtomicU32 = AtomicU32::new(0);

/// The last result code that cust does not know and that was therefore reported as 999, if any.
pub fn last_unmapped_code() -> Option<u32> {
    match LAST_UNMAPPED.load(Ordering::Relaxed) {
        0 => None,
        code => Some(code),
    }
}

/// The end of every trampoline: a code that `CUresult` has no variant for must not reach cust.
pub(crate) extern "C" fn map_code(code: u32) -> u32 {
    if code == 0 || KNOWN_CODES.binary_search(&code).is_ok() {
        return code;
    }
    LAST_UNMAPPED.store(code, Ordering::Relaxed);
    UNKNOWN
}

pub(crate) extern "C" fn no_device() -> u32 {
    NO_DEVICE
}

pub(crate) extern "C" fn not_found() -> u32 {
    NOT_FOUND
}

pub(crate) extern "C" fn not_supported() -> u32 {
    NOT_SUPPORTED
}

fn texts(code: u32) -> (&'static CStr, &'static CStr) {
    match code {
        0 => (c"CUDA_SUCCESS", c"no error"),
        1 => (c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
        2 => (c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
        3 => (c"CUDA_ERROR_NOT_INITIALIZED", c"the driver is not initialised"),
        100 => (c"CUDA_ERROR_NO_DEVICE", c"no CUDA driver or no CUDA device on this machine"),
        101 => (c"CUDA_ERROR_INVALID_DEVICE", c"no device with this number"),
        201 => (c"CUDA_ERROR_INVALID_CONTEXT", c"no usable context on this thread"),
        218 => (c"CUDA_ERROR_INVALID_PTX", c"the PTX text has an error"),
        400 => (c"CUDA_ERROR_INVALID_HANDLE", c"invalid handle"),
        500 => (c"CUDA_ERROR_NOT_FOUND", c"not found"),
        700 => (c"CUDA_ERROR_ILLEGAL_ADDRESS", c"a kernel used an address outside its memory"),
        701 => (c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", c"the launch asks for too many resources"),
        716 => (c"CUDA_ERROR_MISALIGNED_ADDRESS", c"a kernel used a misaligned address"),
        719 => (c"CUDA_ERROR_LAUNCH_FAILED", c"a kernel failed"),
        801 => (c"CUDA_ERROR_NOT_SUPPORTED", c"not supported by this driver"),
        _ => (c"CUDA_ERROR_UNKNOWN", c"unknown CUDA error"),
    }
}

/// `cuGetErrorName` for the time before a driver is there.
///
/// # Safety
/// `text` is null or points to a writable pointer, as the driver's own function demands.
pub(crate) unsafe extern "C" fn error_name(code: u32, text: *mut *const c_char) -> u32 {
    if text.is_null() {
        return 1;
    }
    // SAFETY: not null, and writable by the caller's contract.
    unsafe { *text = texts(code).0.as_ptr() };
    0
}

/// `cuGetErrorString` for the time before a driver is there.
///
/// # Safety
/// As [`error_name`].
pub(crate) unsafe extern "C" fn error_string(code: u32, text: *mut *const c_char) -> u32 {
    if text.is_null() {
        return 1;
    }
    // SAFETY: not null, and writable by the caller's contract.
    unsafe { *text = texts(code).1.as_ptr() };
    0
}
