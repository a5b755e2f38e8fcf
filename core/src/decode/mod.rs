//! Generation: a cache shared by prefixes, samplers, and one step for many sequences.

pub mod cache;
pub mod sample;
pub mod step;

pub use cache::{Cache, NodeId};
pub use sample::{Sampler, sample};
pub use step::extend;
