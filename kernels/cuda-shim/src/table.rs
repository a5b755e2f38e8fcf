//! The table that every trampoline jumps through, and who has filled it.

use crate::codes;
use crate::names::NAMES;
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One row a name, in the order of [`NAMES`]. Never null.
pub(crate) static TABLE: [AtomicPtr<c_void>; NAMES.len()] =
    [const { AtomicPtr::new(codes::no_device as *mut c_void) }; NAMES.len()];

/// Who answers the calls at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody: each call answers `CUDA_ERROR_NO_DEVICE`.
    Empty,
    /// The machine's own driver, found by [`crate::load`].
    Driver,
    /// A driver given to [`install`].
    Installed,
}

/// Why a table was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InstallError {
    /// The name is none of cust's.
    #[error("no CUDA driver function is called `{0}`: cust does not declare it")]
    UnknownName(String),
    /// The entry for this name is a null pointer.
    #[error("the entry for `{0}` is null")]
    Null(String),
}

/// The version of the interface that names are asked for in: CUDA 12.0, the first with Hopper's.
const DRIVER_VERSION: c_int = 12_000;

static STATE: Mutex<State> = Mutex::new(State::Empty);

/// The table is valid at every moment, so a panic elsewhere does not spoil it.
pub(crate) fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who answers the calls at present.
pub fn state() -> State {
    *lock()
}

/// Lets `entries` (name, function) take the driver's place. Every name that is not given answers
/// `CUDA_ERROR_NOT_SUPPORTED`, except the two error-text functions, which keep working.
///
/// # Errors
/// A name that cust does not declare, or a null pointer. The table is unchanged then.
///
/// # Safety
/// Each pointer is a function with the C signature that cust_raw declares for that name, and stays
/// callable for the rest of the program. No CUDA call may be under way on another thread.
pub unsafe fn install(entries: &[(&str, *const c_void)]) -> Result<(), InstallError> {
    let mut rows = default_rows(codes::not_supported as *mut c_void);
    for (name, function) in entries {
        let row = NAMES
            .binary_search(name)
            .map_err(|_| InstallError::UnknownName((*name).to_string()))?;
        if function.is_null() {
            return Err(InstallError::Null((*name).to_string()));
        }
        rows[row] = function.cast_mut();
    }
    let mut state = lock();
    store(&rows);
    *state = State::Installed;
    Ok(())
}

/// Empties the table: each call answers `CUDA_ERROR_NO_DEVICE` again, as at the program's start.
pub fn reset() {
    let mut state = lock();
    store(&default_rows(codes::no_device as *mut c_void));
    *state = State::Empty;
}

/// What the table's `cuGetProcAddress` knows of `name`.
pub(crate) fn ask(name: &str) -> Option<*const c_void> {
    type Find = unsafe extern "C" fn(*const c_char, *mut *const c_void, c_int, u64) -> u32;
    let row = NAMES.binary_search(&"cuGetProcAddress").ok()?;
    let name = CString::new(name).ok()?;
    let mut function = std::ptr::null();
    // SAFETY: every row holds a function with the signature of its name; the result codes of those
    // that stand for a missing driver are functions of no arguments, which ignore these.
    let code = unsafe {
        let find: Find = std::mem::transmute(TABLE[row].load(Ordering::Acquire));
        find(name.as_ptr(), &mut function, DRIVER_VERSION, 0)
    };
    (code == 0 && !function.is_null()).then_some(function)
}

pub(crate) fn default_rows(answer: *mut c_void) -> Vec<*mut c_void> {
    let texts = |name: &str| match name {
        "cuGetErrorName" => codes::error_name as *mut c_void,
        "cuGetErrorString" => codes::error_string as *mut c_void,
        _ => answer,
    };
    NAMES.iter().map(|name| texts(name)).collect()
}

pub(crate) fn store(rows: &[*mut c_void]) {
    for (row, function) in TABLE.iter().zip(rows) {
        row.store(*function, Ordering::Release);
    }
}
