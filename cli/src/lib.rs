//! Paddock's command line as a library: files, processes and presentation around the core. The desktop
//! app drives the same functions.

#![warn(missing_docs)]

// First, because what it defines holds from here on.
#[macro_use]
mod say;

pub mod answers;
pub mod bundled;
pub mod commands;
pub mod data;
pub mod devices;
pub mod error;
pub mod eval;
pub mod generate;
pub mod group;
pub mod guard;
pub mod judge;
pub mod machine;
pub mod model;
pub mod open;
pub mod prepare_device;
pub mod pretrain;
pub mod report;
pub mod run;
pub mod score;
pub mod storage;
pub mod study;
pub mod sweep;
pub mod train;
pub mod transfer;
pub mod wrap;
