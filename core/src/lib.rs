//! The training core of Paddock: LLaMA forward and backward, LoRA, the loss, AdamW and decoding as
//! straight-line code over one trait, [`backend::Backend`]. It knows no file, clock, thread or device.
//!
//! Where to look:
//!
//! * the model, one op a line: [`model::forward`], and the same list upside down: [`model::backward`];
//! * the batch: [`forest`] (what a person thinks of) and [`batch`] (what a kernel reads);
//! * memory: [`slot`], [`plan`]; numbers: [`philox`], [`rope`];
//! * what every op means: [`backend`], and its executable form, [`reference`].
//!
//! Letters of all shapes: see [`backend`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod backend;
pub mod batch;
pub mod checked;
pub mod config;
pub mod decode;
pub mod dropout;
pub mod error;
pub mod forest;
pub mod model;
pub mod null;
pub mod operands;
pub mod philox;
pub mod plan;
pub mod reference;
pub mod rope;
pub mod slot;
pub mod train;
pub mod weights;

pub use error::{Error, Result};
