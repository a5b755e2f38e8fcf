//! Paddock's command line as a library: files, processes and presentation around the core. The desktop
//! app drives the same functions.

pub mod error;
pub mod model;
