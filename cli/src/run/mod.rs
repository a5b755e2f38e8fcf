//! A run: its folder, configuration, checkpoints, metrics, events and signals.

pub mod checkpoint;
pub mod command;
pub mod config;
pub mod control;
pub mod ending;
pub mod events;
pub mod fingerprint;
pub mod folder;
pub mod loading;
pub mod lock;
pub mod metrics;
mod number;
pub mod overview;
pub mod process;
pub mod publish;
pub mod signals;
pub mod tensorboard;
