//! core-cli
fn main() {}
