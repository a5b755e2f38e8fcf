//! `core-cli train`: from settings to a tuned adapter or model, through a run folder that survives
//! kills and power cuts.

pub mod capacity;
pub mod forecast;
pub mod go;
pub mod judge;
pub mod launch;
pub mod outcome;
pub mod probe;
pub mod report;
pub mod samples;
pub mod session;
pub mod setup;
pub mod spike;
pub mod test_rows;
pub mod verdict;

pub use launch::{Ended, Launch, train};
pub use session::Session;
pub use setup::Setup;
