//! datasets
pub mod stories;
