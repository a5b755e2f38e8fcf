//! Runs PTX without a GPU, for tests.
//!
//! The text is parsed and decoded once into a compact form ([`Machine::load`]), then executed CTA
//! by CTA and warp by warp with 32 lanes in lockstep ([`Machine::launch`]). Every access is
//! checked: bounds, alignment, registers and shared memory read before they are written, races in
//! shared memory, barriers that part of a warp misses, data of `cp.async` touched before it was
//! waited for. [`Counters`] tell what a launch cost in instructions, bytes and bank conflicts.
//!
//! [`driver`] puts such a device behind the CUDA driver's own calls, so that host code written with
//! cust runs unchanged.
//!
//! What it does not do: CTAs run one after the other in ascending order, so a race between CTAs in
//! device memory goes unseen; approximate instructions are more exact than on a device; clocks,
//! textures, function calls, clusters and whatever is not sm_80 are not there. Text that asks for
//! something unknown is refused with its line.

mod ast;
mod asynchronous;
mod banks;
mod clock;
mod counters;
mod decode;
pub mod driver;
mod error;
mod exec;
mod float;
mod grid;
mod ir;
mod lexer;
mod machine;
mod mbarrier;
mod memory;
mod parser;
mod shared;
mod tensor_map;
mod ty;

pub use counters::{CLASS_NAMES, Class, Counters};
pub use error::{Fault, FaultKind, SourceError};
pub use ir::{Code, Parameter};
pub use machine::{DeviceConfig, Kernel, LaunchError, Machine, Module, Report, Shape};
pub use memory::DeviceMemory;
pub use tensor_map::{Element, TensorMap};
