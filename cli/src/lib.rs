//! Paddock's command line as a library: files, processes and presentation around the core. The desktop
//! app drives the same functions.

#![warn(missing_docs)]

pub mod error;
pub mod generate;
pub mod model;
pub mod open;
pub mod run;
pub mod storage;
pub mod train;
