//! `core-cli train`: from settings to a tuned adapter or model, through a run folder that survives
//! kills and power cuts.

pub mod report;
pub mod samples;
pub mod session;
pub mod setup;
pub mod verdict;

pub use session::Session;
pub use setup::Setup;
