//! Answers judged: by a model on this machine, an endpoint that speaks OpenAI's protocol, or a person.
//!
//! | file | what it holds |
//! |---|---|
//! | `rubric.rs` | what is asked of a judge: grades with their meaning, or which of two is better |
//! | `read.rs` | which grade a reply names |
//! | `rows.rs` | questions with answers |
//! | `judges.rs`, `http.rs` | whoever judges |
//! | `course.rs` | row after row, each kept as soon as it is judged |
//! | `published.rs` | judgements of other programs' formats |
//! | `agreement.rs`, `summary.rs` | win rates, means, and how far judges agree |

pub mod agreement;
pub mod course;
pub mod http;
pub mod judges;
pub mod published;
pub mod read;
pub mod rows;
pub mod rubric;
pub mod summary;
