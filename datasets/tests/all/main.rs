//! All tests of this crate in one program: linking is what takes time.

mod answers;
mod classic;
mod common;
mod curate;
mod fewshot;
mod forest;
mod library;
mod metrics;
mod order;
mod parquet_claims;
mod prepare;
mod readers;
mod sets;
mod split;
mod tables;
mod templates;
mod tokenizers;
mod tokens;
