//! `core-cli`: the command line of Paddock.

use std::process::ExitCode;

use clap::Parser;
use paddock_cli::commands::Cli;
use paddock_cli::guard::{Guarded, watch_templates};

/// With limits for templates, which may be a stranger's.
#[global_allocator]
static MEMORY: Guarded = Guarded;

fn main() -> ExitCode {
    watch_templates();
    paddock_cli::commands::run(Cli::parse())
}
