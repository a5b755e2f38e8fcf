//! Little children's stories, and instructions about them whose answers a program can check.
//!
//! Everything comes from one seed: [`corpus`] tells stories without end for pretraining,
//! [`generate`] makes instruction rows with a training, a validation and a test split, [`check`]
//! says which wishes an answer fulfils. Heroes and objects that meet in test rows never meet in the
//! training rows or in the corpus ([`split_of`]).
//!
//! | file | what it holds |
//! |---|---|
//! | `grammar/` | names, things, places, plots with several ways of telling each beat |
//! | `cast.rs` | who and what one story is about |
//! | `tell.rs` | choosing beats and filling in the cast |
//! | `sentences.rs` | sentence splitter and word matcher |
//! | `wishes.rs` | what answers are checked for |
//! | `rows.rs`, `kinds.rs` | instruction rows |
//! | `apart.rs` | keeping near-duplicates out |
//! | `corpus.rs`, `books.rs` | stories for pretraining |
//! | `bundled.rs` | the rows that are built in |

mod apart;
mod books;
pub mod bundled;
mod cast;
mod corpus;
mod draws;
mod grammar;
mod kinds;
mod polish;
mod rows;
mod sentences;
mod tell;
mod wishes;

pub use apart::Apart;
pub use cast::split_of;
pub use corpus::{books, corpus, story};
pub use grammar::{GrammarError, Mood, plot_names};
pub use rows::{Kind, Row, Split, StoriesError, generate, read_jsonl, write_jsonl};
pub use sentences::{has_name, has_word, is_finished, sentences, words};
pub use wishes::{
    HAPPY_CUES, MOST_ANSWER_WORDS, MOST_ENDING_WORDS, MOST_SENTENCES, SAD_CUES, Wish, check,
    ending, is_whole_story,
};
