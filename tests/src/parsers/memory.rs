//! Allocators for tests: one that counts what a parser holds while it reads an input, for each thread by itself, and
//! one that refuses the n-th large piece.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

use paddock_cli::guard::Guarded;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, counting. A program of tests states it once:
/// `#[global_allocator] static MEMORY: Counted = Counted;`
pub struct Counted;

fn count(bytes: i64) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

/// The most bytes that this thread held at a time during `work`, beyond those before it.
pub fn most_held(work: impl FnOnce()) -> i64 {
    let before = HELD.get();
    MOST.set(before);
    work();
    MOST.get() - before
}

// SAFETY: every call goes to the system's allocator unchanged; counting takes no memory and never unwinds.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps this function's contract, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Pieces from this size on count as large.
const LARGE: usize = 256 << 10;

/// Large pieces that are still given; negative: all are.
static GIVEN: AtomicI64 = AtomicI64::new(-1);

/// The program's own allocator, which has no memory for one large piece. A program of tests states it once:
/// `#[global_allocator] static MEMORY: Scarce = Scarce;`
pub struct Scarce;

/// From now on so many large pieces are given, and the one after them is not.
pub fn refuse_after(pieces: u64) {
    GIVEN.store(pieces as i64, Ordering::SeqCst);
}

/// The layout asked for, or one that no system has memory for.
fn or_absurd(layout: Layout) -> Layout {
    let large = layout.size() >= LARGE && GIVEN.load(Ordering::Relaxed) >= 0;
    if large && GIVEN.fetch_sub(1, Ordering::SeqCst) == 0 {
        return Layout::from_size_align(isize::MAX as usize - (1 << 20), 1).unwrap_or(layout);
    }
    layout
}

// SAFETY: every call goes to the program's allocator, with the same layout or, where no memory is to be had, with one
// of which that allocator cannot return anything; `realloc` is the default one, of these.
unsafe impl GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps this function's contract, which is that of `Guarded`.
        unsafe { Guarded.alloc(or_absurd(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { Guarded.alloc_zeroed(or_absurd(layout)) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { Guarded.dealloc(pointer, layout) }
    }
}
