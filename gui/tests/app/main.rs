//! The desktop app as a person uses it.

mod common;
mod files;
mod judge;
mod rough;
mod runs;
mod safe;
mod screens;
mod sides;
mod visit;
mod window;
