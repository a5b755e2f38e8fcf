//! From a raw file to a training batch: readers, templates, tokenizers, masks, splits, forests.
//!
//! This crate is about text and rows. It knows nothing of models and uses no threads but rayon's.
//! Each step is one type, and each type says what it did:
//!
//! ```text
//! file ─ readers ─> Record ─ Template ─> Rendered ─ encode ─> Example ─ forest ─> MicroBatch
//!        Detected            hash        spans      rules     EncodeReport        saving
//! ```
//!
//! From a file to a forest:
//!
//! ```
//! use paddock_datasets::encode::{EncodeOptions, OverLength};
//! use paddock_datasets::forest::{Limits, micro_batches};
//! use paddock_datasets::order::Order;
//! use paddock_datasets::prepare::{PrepareOptions, Quiet, load_examples};
//! use paddock_datasets::readers::ReadOptions;
//! use paddock_datasets::split::{SplitOptions, split};
//! use paddock_datasets::template::Template;
//! use paddock_datasets::tokenizer::Tokenizer;
//! use std::path::{Path, PathBuf};
//!
//! fn batches(model: &Path, data: &Path) -> paddock_datasets::Result<()> {
//!     let tokenizer = Tokenizer::load(model)?;
//!     let options = PrepareOptions {
//!         read: ReadOptions::default(),
//!         template: Template::alpaca(),
//!         encode: EncodeOptions { max_tokens: 512, over_length: OverLength::Drop },
//!         keep_empty_answers: false,
//!         limit_rows: None,
//!         shots: None,
//!         sample: None,
//!     };
//!     let paths = [PathBuf::from(data)];
//!     let prepared = load_examples(&paths, &options, &tokenizer, &mut Quiet)?;
//!     let sides = split(&prepared.keys(), &SplitOptions::default());
//!     let mut order = Order::new(sides.train.len(), 1, true)?;
//!     // The rows of the first optimizer step, then as forests of at most 2,048 computed tokens.
//!     let step = order.rows(0, 16, true);
//!     let rows: Vec<_> = step.iter().map(|i| &prepared.examples[sides.train[*i]]).collect();
//!     for batch in micro_batches(&rows, &Limits::tokens(2048))? {
//!         println!("{} tokens computed for {}", batch.computed_tokens(), batch.row_tokens);
//!     }
//!     Ok(())
//! }
//! ```

#![forbid(unsafe_code)]

pub mod classic;
pub mod curate;
pub mod dedupe;
pub mod encode;
pub mod error;
pub mod fewshot;
pub mod fingerprint;
pub mod forest;
pub mod inspect;
pub mod language;
pub mod metrics;
pub mod mixture;
pub mod order;
pub mod prepare;
pub mod readers;
pub mod record;
pub mod report;
pub mod sample;
pub mod shots;
pub mod split;
pub mod stories;
pub mod template;
pub mod tokenizer;
pub mod tokens;
pub mod writers;

pub use error::{Error, Result};
