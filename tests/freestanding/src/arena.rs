//! Memory: one static array, given out from the front. Freeing the newest block gives it back; older
//! ones wait for [`restart`]. It counts what is alive, which is what a real allocator would need.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of the array.
const SIZE: usize = 4 << 20;

#[repr(align(64))]
struct Arena {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
    live: AtomicUsize,
    peak: AtomicUsize,
}

// SAFETY: the program has one thread; the array is reached only through blocks given out below.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena {
    bytes: UnsafeCell::new([0; SIZE]),
    used: AtomicUsize::new(0),
    live: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
};

// SAFETY: blocks are aligned, lie inside the array and never overlap: `used` only falls back to the
// start of the newest block, when that one is freed.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let start = (base as usize + self.used.load(Relaxed)).next_multiple_of(layout.align());
        let offset = start - base as usize;
        let Some(end) = offset.checked_add(layout.size()).filter(|&end| end <= SIZE) else {
            return core::ptr::null_mut();
        };
        self.used.store(end, Relaxed);
        let live = self.live.load(Relaxed) + layout.size();
        self.live.store(live, Relaxed);
        self.peak.store(self.peak.load(Relaxed).max(live), Relaxed);
        // SAFETY: offset <= end <= SIZE.
        unsafe { base.add(offset) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let offset = block as usize - self.bytes.get() as usize;
        if offset + layout.size() == self.used.load(Relaxed) {
            self.used.store(offset, Relaxed);
        }
        self.live.store(self.live.load(Relaxed) - layout.size(), Relaxed);
    }
}

/// Begins anew, if everything has been freed.
pub fn restart() {
    if ARENA.live.load(Relaxed) == 0 {
        ARENA.used.store(0, Relaxed);
        ARENA.peak.store(0, Relaxed);
    }
}

/// The most bytes that were alive at once since [`restart`].
pub fn peak_bytes() -> usize {
    ARENA.peak.load(Relaxed)
}
