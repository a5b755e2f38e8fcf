//! The CUDA driver's symbols without the CUDA driver.
//!
//! `cust` links against libcuda, which most machines lack: such a program would not even start.
//! This crate defines every `cu*` symbol that cust declares as a trampoline into a table. A program
//! therefore links and starts everywhere, and each call has an honest answer:
//!
//! | state of the table | a call answers |
//! |---|---|
//! | at start | `CUDA_ERROR_NO_DEVICE` (100) |
//! | after [`load`] found the driver | what the driver says; 500 (not found) for a name it lacks |
//! | after [`install`] | what the given driver says; 801 (not supported) for a name it lacks |
//!
//! `cuGetErrorName` and `cuGetErrorString` work in every state, because cust panics when it prints
//! an error whose text the driver does not give.
//!
//! Result codes newer than cust's closed `CUresult` enum would be undefined behaviour if they
//! reached it. The trampoline turns them into `CUDA_ERROR_UNKNOWN` (999); [`last_unmapped_code`]
//! tells which code it was.
//!
//! A binary that uses cust must name this crate somewhere (`paddock_cuda_shim::load()` is enough),
//! or the linker drops it and reports undefined `cu*` symbols.

mod codes;
mod library;
mod names;
mod table;
mod trampoline;

pub use codes::{KNOWN_CODES, last_unmapped_code};
pub use library::{LoadError, Loaded, load, resolve};
pub use names::NAMES;
pub use table::{InstallError, State, install, reset, state};
