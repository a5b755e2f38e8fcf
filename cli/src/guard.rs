//! Memory at its limits: words when the system has none left, and limits on what one rendering of a template may take,
//! in memory and in time. The interpreter limits steps, nesting and output, but a text that doubles itself forty times
//! in forty steps lies between; only the allocator sees it.
//!
//! A template may come from a model folder or a data set of a stranger, so it must not be able to fill the
//! machine, or to keep it busy. Nothing sensible comes near these limits.

mod time;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use paddock_datasets::template::jinja::engine;

/// Bytes that a rendering may hold at a time.
const LIVE: i64 = 512 << 20;
/// Bytes that it may take in all: copying a growing text for ever holds little, but takes without end.
const TAKEN: i64 = 4 << 30;

/// Said when a limit is passed; there is no memory to make a better text.
const WORDS: &[u8] =
    b"error: a template was stopped, because one row of it took more than 512 MiB of memory, or \
4 GiB one after the other. Look at the template named last, or do not use it.\n";

/// Said when the system has no memory left.
const FULL: &[u8] =
    b"error: this machine has no memory left for what was asked. What was saved is safe: core-cli plan \
says what a run needs and what would need less, --resume goes on with one.\n";

thread_local! {
    /// Whether a template is being rendered here, and what it may still hold and take.
    static LEFT: Cell<Option<(i64, i64)>> = const { Cell::new(None) };
}

/// The system's allocator with the limits. A program states it once:
/// `#[global_allocator] static MEMORY: Guarded = Guarded;`
pub struct Guarded;

/// Makes the limits hold from now on; that of memory only beside the allocator above.
pub fn watch_templates() {
    engine::watch(|begins| {
        if begins {
            time::begin();
            LEFT.set(Some((LIVE, TAKEN)));
        } else {
            LEFT.set(None);
            time::end();
        }
    });
}

fn account(bytes: i64) {
    let Some((live, taken)) = LEFT.get() else { return };
    let left = (live - bytes, taken - bytes.max(0));
    if left.0 < 0 || left.1 < 0 {
        stop(WORDS, 2);
    }
    LEFT.set(Some(left));
}

/// A pointer as the system gave it. Without one the program ends with words: what a failed allocation does
/// otherwise, an abort, leaves nothing that a person could act on.
fn given(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        stop(FULL, 1);
    }
    pointer
}

/// Ends the program at once: an allocator can neither return an error nor unwind.
fn stop(words: &[u8], code: i32) -> ! {
    // SAFETY: both calls are allowed anywhere, take no memory, and the pointer and length are those of a
    // slice.
    unsafe {
        let _ = libc::write(2, words.as_ptr().cast(), words.len() as _);
        libc::_exit(code)
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting before it takes no memory and never
// unwinds.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        account(layout.size() as i64);
        // SAFETY: the caller keeps this function's contract, which is that of `System`.
        given(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        account(layout.size() as i64);
        // SAFETY: as above.
        given(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        account(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        given(unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        account(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
