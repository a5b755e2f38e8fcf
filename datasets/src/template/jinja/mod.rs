//! Jinja, the language of promptsource and of chat templates.

pub mod engine;
pub mod lists;
pub mod python;

pub use self::engine::{Engine, Style};
