//! Did it work? A model asked about rows with known answers, and measured with intervals.
//!
//! | file | what it holds |
//! |---|---|
//! | `run.rs` | the course of an evaluation |
//! | `rows.rs`, `templates.rs`, `shots.rs` | rows, prompts, worked examples before them |
//! | `engine.rs` | a model that gives likelihoods and answers |
//! | `rank.rs`, `parse.rs` | a label by likelihood, a label read from an answer |
//! | `extract.rs` | the final answer after reasoning, votes |
//! | `answers.rs`, `confusion.rs`, `calibration.rs` | what is right, row by row and in tables |
//! | `measure.rs`, `statistics.rs` | measures with intervals, tests |
//! | `outcome.rs`, `tell.rs` | what was found, as JSON |
//! | `words.rs`, `html.rs` | the same for the terminal and as a page |
//! | `votes.rs`, `grades.rs` | judgements of a person who does not know whose an answer is |
//! | `suite.rs`, `change.rs` | the same questions before and after tuning, and what changed |
//! | `progress.rs` | how far it has come |

pub mod answers;
pub mod calibration;
pub mod change;
pub mod confusion;
pub mod engine;
pub mod extract;
pub mod grades;
pub mod html;
pub mod measure;
pub mod outcome;
pub mod parse;
pub mod progress;
pub mod rank;
pub mod rows;
pub mod run;
pub mod shots;
pub mod statistics;
pub mod suite;
mod tell;
pub mod templates;
pub mod votes;
pub mod words;
