//! All tests of this crate in one program: linking is what takes time.

mod common;
mod forest;
mod order;
mod prepare;
mod readers;
mod split;
mod tokenizers;
