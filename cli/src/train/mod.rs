//! `core-cli train`: from settings to a tuned adapter or model, through a run folder that survives
//! kills and power cuts.

pub mod cache;
pub mod capacity;
pub mod course;
pub mod fits;
pub mod forecast;
pub mod go;
pub mod held_out;
pub mod instead;
pub mod judge;
pub mod launch;
pub mod mixture;
pub mod notices;
pub mod on_the_way;
pub mod outcome;
pub mod outlets;
mod pause;
pub mod plan;
pub mod probe;
pub mod reader;
pub mod recorded;
pub mod replay;
pub mod report;
pub mod rewind;
pub mod rows;
pub mod samples;
pub mod saved;
pub mod session;
pub mod setup;
pub mod spike;
mod tensors;
pub mod test_rows;
pub mod time;
pub mod trust;
pub mod verdict;
pub mod words;

pub use launch::{Ended, Launch, train, train_on};
pub use session::Session;
pub use setup::Setup;
