//! Sweeps: the same run with other settings, chosen by the validation rows, tested once.
//!
//! | file | what it holds |
//! |---|---|
//! | `spec.rs` | SWEEP.toml |
//! | `rows.rs` | validation rows that are the same for all, and smaller parts of the training rows |
//! | `cell.rs` | one run, and the name that it goes by |
//! | `course.rs` | the runs, one after another; what is done is not done again |
//! | `test.rs` | the test rows, looked at once |
//! | `words.rs` | the result for people |

mod cell;
pub mod course;
pub mod rows;
pub mod spec;
pub mod test;
pub mod words;
