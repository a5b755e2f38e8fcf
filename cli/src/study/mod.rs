//! Studies: several ways to one task compared on the same rows, over several seeds.
//!
//! | file | what it holds |
//! |---|---|
//! | `spec.rs`, `toml.rs` | STUDY.toml, and messages for what is wrong in such files |
//! | `rows.rs`, `frozen.rs` | the labelled rows, and the split that is written down once |
//! | `plan.rs` | the cells: one for each method, number of examples and seed |
//! | `cell.rs` | what is found in a cell; cells are files, so a stopped study goes on |
//! | `methods.rs`, `classify.rs`, `tune.rs` | how each kind of cell is computed |
//! | `course.rs` | the whole study, with progress |
//! | `table.rs`, `paired.rs` | means, spread and paired tests over the cells |
//! | `verdict.rs`, `words.rs`, `html.rs` | the result for people |

pub mod cell;
pub mod classify;
pub mod course;
pub mod frozen;
pub mod html;
pub mod methods;
pub mod paired;
pub mod plan;
pub mod rows;
pub mod spec;
pub mod table;
pub mod toml;
pub mod tune;
pub mod verdict;
pub mod words;
