//! Working with data files, for `core-cli data …`: rows shown, counted, and written anew.

pub mod day;
pub mod held;
pub mod output;
pub mod rows;
pub mod shelf;
pub mod shots;
pub mod show;
pub mod sides;
pub mod spill;
pub mod splits;
pub mod table;
