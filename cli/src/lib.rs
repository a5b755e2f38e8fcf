//! The library behind `core-cli` and the desktop app: files, processes and presentation around the
//! training core.

#![warn(missing_docs)]

pub mod run;
pub mod storage;
