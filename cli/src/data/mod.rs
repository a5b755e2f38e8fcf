//! Working with data files, for `core-cli data …`: rows shown, counted, and written anew.

pub mod output;
pub mod rows;
pub mod shelf;
pub mod show;
pub mod table;
