//! The rules of the house, as tests: who may know whom, sizes, where `unsafe` may stand, what no file
//! may contain. ARCHITECTURE.md names the test of each of its invariants.

mod crates;
mod invariants;
mod licences;
mod reliability;
mod sizes;
mod source;
mod words;
