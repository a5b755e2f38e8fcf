//! A run: its folder, configuration, checkpoints, metrics, events and signals.

pub mod checkpoint;
pub mod config;
pub mod events;
pub mod fingerprint;
pub mod folder;
pub mod lock;
pub mod metrics;
mod number;
pub mod publish;
pub mod signals;
pub mod tensorboard;
