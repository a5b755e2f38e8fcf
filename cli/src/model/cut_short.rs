//! A mapped file that another program cuts short: reading the lost part raises SIGBUS, which would end this
//! program without a word. Here it ends with one.

use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// Maps that are watched at the same time; with more, the oldest are forgotten and go unnamed.
const MAPS: usize = 256;

/// One watched map. A signal handler reads these, so they are plain atomics.
struct Watched {
    start: AtomicUsize,
    bytes: AtomicUsize,
    name: AtomicPtr<u8>,
    name_bytes: AtomicUsize,
}

static WATCHED: [Watched; MAPS] = [const {
    Watched {
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        name: AtomicPtr::new(std::ptr::null_mut()),
        name_bytes: AtomicUsize::new(0),
    }
}; MAPS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Every name once. The handler may need one at any time, so that none is ever given back.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

fn kept(name: String) -> &'static str {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = Box::leak(name.into_boxed_str());
    names.insert(name);
    name
}

/// Watches the map of a file for the rest of the program.
pub fn watch(map: &[u8], path: &Path) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(install);
    let place = &WATCHED[NEXT.fetch_add(1, Ordering::Relaxed) % MAPS];
    let name = kept(path.display().to_string());
    place.bytes.store(0, Ordering::Release);
    place.name_bytes.store(name.len(), Ordering::Relaxed);
    place.name.store(name.as_ptr().cast_mut(), Ordering::Relaxed);
    place.start.store(map.as_ptr() as usize, Ordering::Relaxed);
    place.bytes.store(map.len(), Ordering::Release);
}

fn install() {
    // SAFETY: the structure is plain data for which zeros mean "nothing"; the handler has the signature that
    // SA_SIGINFO asks for and calls only functions that a signal handler may call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction =
            handle as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the system gives the handler a valid siginfo_t.
    let address = unsafe { (*info).si_addr() } as usize;
    for place in &WATCHED {
        let bytes = place.bytes.load(Ordering::Acquire);
        let start = place.start.load(Ordering::Relaxed);
        if address.wrapping_sub(start) >= bytes {
            continue;
        }
        let (name, length) =
            (place.name.load(Ordering::Relaxed), place.name_bytes.load(Ordering::Relaxed));
        say(b"error: ".as_ptr(), 7);
        say(name, length);
        let why = b": the file became shorter while it was being read, or its disk failed: another program cut or \
                    replaced it, or the place where it lies is gone. What was saved is safe; put the file back as it \
                    was and go on with --resume\n";
        say(why.as_ptr(), why.len());
        // SAFETY: ends the process without running anything of it.
        unsafe { libc::_exit(1) };
    }
    // Not a map of ours: the signal does what it always did, when the instruction is tried again.
    // SAFETY: sets the default action of this signal.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn say(text: *const u8, length: usize) {
    // SAFETY: the bytes are static or leaked; write may be called by a signal handler.
    let _ = unsafe { libc::write(2, text.cast(), length) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once() {
        let (first, again) =
            (kept("a/model.safetensors".into()), kept("a/model.safetensors".into()));
        assert!(std::ptr::eq(first, again));
        assert_eq!(kept("b".into()), "b");
    }
}
