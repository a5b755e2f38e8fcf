//! What the driver remembers, and how a call gets at it.

use super::Launch;
use crate::error::Fault;
use crate::machine::{Kernel, Machine, Module};
use std::alloc::Layout;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Result codes, as `CUresult` numbers them.
pub(super) mod code {
    pub(crate) const INVALID_VALUE: u32 = 1;
    pub(crate) const OUT_OF_MEMORY: u32 = 2;
    pub(crate) const NOT_INITIALIZED: u32 = 3;
    pub(crate) const INVALID_DEVICE: u32 = 101;
    pub(crate) const INVALID_CONTEXT: u32 = 201;
    pub(crate) const NO_BINARY_FOR_GPU: u32 = 209;
    pub(crate) const INVALID_PTX: u32 = 218;
    pub(crate) const INVALID_HANDLE: u32 = 400;
    pub(crate) const NOT_FOUND: u32 = 500;
    pub(crate) const NOT_READY: u32 = 600;
    pub(crate) const ILLEGAL_ADDRESS: u32 = 700;
    pub(crate) const MISALIGNED_ADDRESS: u32 = 716;
    pub(crate) const LAUNCH_FAILED: u32 = 719;
}

/// A function handle's meaning.
pub(super) struct Function {
    pub(super) module: usize,
    pub(super) kernel: Kernel,
    /// Dynamic shared memory that it may be launched with, in bytes.
    pub(super) dynamic_limit: u32,
}

/// Everything behind the handles.
pub(super) struct State {
    pub(super) machine: Machine,
    pub(super) initialised: bool,
    /// How often the primary context is retained.
    pub(super) retained: u32,
    pub(super) modules: HashMap<usize, Module>,
    pub(super) functions: HashMap<usize, Function>,
    pub(super) streams: HashMap<usize, u32>,
    /// When each event was recorded.
    pub(super) events: HashMap<usize, Option<Instant>>,
    /// Pinned host memory.
    pub(super) host: HashMap<usize, Layout>,
    /// The result code that every call of the context gives after a fault.
    pub(super) broken: Option<u32>,
    /// Nothing queued ever finishes.
    pub(super) hung: bool,
    /// What `cuDriverGetVersion` says.
    pub(super) version: i32,
    pub(super) faults: Vec<Fault>,
    pub(super) launches: Vec<Launch>,
    next: usize,
}

impl State {
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            machine,
            initialised: false,
            retained: 0,
            modules: HashMap::new(),
            functions: HashMap::new(),
            streams: HashMap::new(),
            events: HashMap::new(),
            host: HashMap::new(),
            broken: None,
            hung: false,
            version: super::DRIVER_VERSION,
            faults: Vec::new(),
            launches: Vec::new(),
            // Handles are numbers: above the special streams 1 and 2, and never null.
            next: 0x1000,
        }
    }

    /// A number that no other handle has.
    pub(super) fn handle(&mut self) -> usize {
        self.next += 16;
        self.next
    }

    /// Whether `stream` is the default one or one that was created.
    pub(super) fn knows_stream(&self, stream: usize) -> bool {
        stream <= 2 || self.streams.contains_key(&stream)
    }
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

thread_local! {
    /// The stack of contexts current to this thread.
    static CONTEXTS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// What a call gives: nothing, or a result code.
pub(super) type Answer = Result<(), u32>;

fn lock() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins or ends a emulation.
pub(super) fn replace(state: Option<State>) {
    *lock() = state;
    contexts(Vec::clear);
}

/// Looks at the state of the running emulation.
pub(super) fn look<T: Default>(f: impl FnOnce(&State) -> T) -> T {
    lock().as_ref().map(f).unwrap_or_default()
}

/// Changes the state of the running emulation.
pub(super) fn change(f: impl FnOnce(&mut State)) {
    lock().as_mut().map(f).unwrap_or_default();
}

/// The current thread's contexts.
pub(super) fn contexts<T>(f: impl FnOnce(&mut Vec<usize>) -> T) -> T {
    CONTEXTS.with_borrow_mut(f)
}

/// A call that works before `cuInit`.
pub(super) fn anytime(f: impl FnOnce(&mut State) -> Answer) -> u32 {
    match lock().as_mut() {
        None => code::NOT_INITIALIZED,
        Some(state) => f(state).err().unwrap_or(0),
    }
}

/// A call that needs `cuInit`.
pub(super) fn initialised(f: impl FnOnce(&mut State) -> Answer) -> u32 {
    anytime(|state| if state.initialised { f(state) } else { Err(code::NOT_INITIALIZED) })
}

/// A call that needs a context on this thread, and none of whose kernels has failed.
pub(super) fn in_context(f: impl FnOnce(&mut State) -> Answer) -> u32 {
    initialised(|state| match (contexts(|stack| stack.last().copied()), state.broken) {
        (None | Some(0), _) => Err(code::INVALID_CONTEXT),
        (_, Some(broken)) => Err(broken),
        _ => f(state),
    })
}

/// `*to = value`, or INVALID_VALUE for a null pointer.
///
/// # Safety
/// `to` is null or may be written.
pub(super) unsafe fn give<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: not null, and writable by the caller's contract.
    unsafe { to.write(value) };
    Ok(())
}
