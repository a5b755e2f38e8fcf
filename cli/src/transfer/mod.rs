//! Zero-shot transfer: a cluster of tasks is held out, the model is tuned on others, and asked what it was
//! never taught; against the number of clusters and of templates.
//!
//! | file | what it holds |
//! |---|---|
//! | `spec.rs` | STUDY.toml with kind = "transfer" |
//! | `mix.rs` | the rows of several clusters as one mixture |
//! | `course.rs` | the tunings, one after another; what is done is not done again |
//! | `words.rs` | the result for people |

pub mod course;
pub mod mix;
pub mod spec;
pub mod words;
