//! The desktop app as a person uses it.

mod common;
mod judge;
mod rough;
mod runs;
mod screens;
mod visit;
mod window;
