//! A run: its folder, configuration, checkpoints, metrics, events and signals.

pub mod checkpoint;
pub mod config;
pub mod events;
pub mod metrics;
mod number;
