//! The five functions that compiled code expects of every machine, and two that the precompiled core
//! library names although nothing here unwinds.

use core::ffi::c_int;

/// # Safety
/// As C's memcpy: `n` bytes to write at `to` and to read at `from`, which do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    for i in 0..n {
        // SAFETY: i < n.
        unsafe { *to.add(i) = *from.add(i) };
    }
    to
}

/// # Safety
/// As C's memmove: as memcpy, but the two may overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    if (to as usize) < from as usize {
        // SAFETY: copied front to back, so no byte is overwritten before it is read.
        return unsafe { memcpy(to, from, n) };
    }
    for i in (0..n).rev() {
        // SAFETY: i < n; back to front for the same reason.
        unsafe { *to.add(i) = *from.add(i) };
    }
    to
}

/// # Safety
/// As C's memset: `n` bytes to write at `to`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: c_int, n: usize) -> *mut u8 {
    for i in 0..n {
        // SAFETY: i < n.
        unsafe { *to.add(i) = byte as u8 };
    }
    to
}

/// # Safety
/// As C's memcmp: `n` bytes to read at `a` and at `b`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> c_int {
    for i in 0..n {
        // SAFETY: i < n.
        let (a, b) = unsafe { (*a.add(i), *b.add(i)) };
        if a != b {
            return c_int::from(a) - c_int::from(b);
        }
    }
    0
}

/// # Safety
/// As memcmp.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, n) }
}

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}
