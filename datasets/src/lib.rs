//! Data.
#![forbid(unsafe_code)]
pub mod error;
pub mod readers;
pub mod record;
pub use error::{Error, Result};
