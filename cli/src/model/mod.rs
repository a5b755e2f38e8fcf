//! Models in and out: Hugging Face folders, memory-mapped; PEFT adapters; merged exports.

pub mod adapter;
pub mod config_json;
#[cfg(unix)]
mod cut_short;
pub mod export;
pub mod folder;
mod layout;
pub mod mmap;
pub mod safetensors;
pub mod verify;
pub mod weights;

pub use adapter::Adapter;
pub use folder::ModelFolder;
