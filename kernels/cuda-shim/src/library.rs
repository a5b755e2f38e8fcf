//! Finding the machine's own driver at run time.

use crate::codes;
use crate::names::NAMES;
use crate::table::{self, State};
use std::ffi::{CStr, CString, c_void};
use std::sync::OnceLock;

/// What [`load`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The library's name as it was opened.
    pub library: &'static str,
    /// Names that this driver lacks (an older or a newer one); calls to them answer 500.
    pub missing: Vec<&'static str>,
}

/// Why there is no driver.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum LoadError {
    /// The library could not be opened.
    #[error(
        "no CUDA driver: {library} could not be opened ({reason}). \
         If this machine has an NVIDIA GPU, install NVIDIA's driver"
    )]
    NotFound {
        /// The name that was asked for.
        library: &'static str,
        /// The loader's own words.
        reason: String,
    },
    /// The library is there but lacks `cuInit`.
    #[error("{library} is not a CUDA driver: it has no cuInit. Reinstall NVIDIA's driver")]
    NotADriver {
        /// The name that was opened.
        library: &'static str,
    },
    /// A driver was installed by [`crate::install`] before.
    #[error("another driver was installed in this process; it is left in place")]
    Replaced,
}

/// The library stays open for the rest of the program; its address is kept as an integer.
static LIBRARY: OnceLock<Result<usize, LoadError>> = OnceLock::new();

/// Looks for the machine's CUDA driver and, if there is one, lets it answer all calls from now on.
/// The second call repeats the first one's answer.
///
/// # Errors
/// [`LoadError`] in words that can be shown to a person; calls keep answering NO_DEVICE.
pub fn load() -> Result<Loaded, LoadError> {
    let mut state = table::lock();
    if *state == State::Installed {
        return Err(LoadError::Replaced);
    }
    let handle = open()?;
    let mut rows = table::default_rows(codes::not_found as *mut c_void);
    let mut missing = Vec::new();
    for (row, name) in rows.iter_mut().zip(NAMES) {
        match symbol(handle, name) {
            Some(function) => *row = function,
            None => missing.push(*name),
        }
    }
    if missing.contains(&"cuInit") {
        return Err(LoadError::NotADriver { library: library_name() });
    }
    table::store(&rows);
    *state = State::Driver;
    Ok(Loaded { library: library_name(), missing })
}

/// A function of the loaded driver that cust does not declare (`cuLaunchKernelEx`,
/// `cuTensorMapEncodeTiled`, …), or `None` where there is no driver or it lacks the name. A driver
/// given to [`crate::install`] is asked by its `cuGetProcAddress`.
pub fn resolve(name: &str) -> Option<*const c_void> {
    if table::state() == State::Installed {
        return table::ask(name);
    }
    match LIBRARY.get() {
        Some(Ok(handle)) => symbol(*handle, name).map(<*mut c_void>::cast_const),
        _ => None,
    }
}

fn open() -> Result<usize, LoadError> {
    LIBRARY.get_or_init(|| platform::open(library_name())).clone()
}

fn symbol(handle: usize, name: &str) -> Option<*mut c_void> {
    let name = CString::new(name).ok()?;
    platform::symbol(handle, &name)
}

const fn library_name() -> &'static str {
    if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" }
}

#[cfg(unix)]
mod platform {
    use super::{CStr, CString, LoadError, c_void};

    pub(super) fn open(library: &'static str) -> Result<usize, LoadError> {
        let failed = |reason: String| LoadError::NotFound { library, reason };
        let name = CString::new(library).map_err(|error| failed(error.to_string()))?;
        // SAFETY: the name is a C string; the driver's initialisers are trusted as any linked
        // library's.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() { Err(failed(last_error())) } else { Ok(handle as usize) }
    }

    fn last_error() -> String {
        // SAFETY: dlerror returns null or a C string that lives until this thread's next dl call.
        unsafe {
            let text = libc::dlerror();
            if text.is_null() {
                return "no reason given".to_string();
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }

    pub(super) fn symbol(handle: usize, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: the handle came from dlopen and is never closed; the name is a C string.
        let address = unsafe { libc::dlsym(handle as *mut c_void, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }
}

#[cfg(not(unix))]
mod platform {
    use super::{CStr, LoadError, c_void};

    pub(super) fn open(library: &'static str) -> Result<usize, LoadError> {
        let reason = "loading it is not supported on this system yet".to_string();
        Err(LoadError::NotFound { library, reason })
    }

    pub(super) fn symbol(_handle: usize, _name: &CStr) -> Option<*mut c_void> {
        None
    }
}
