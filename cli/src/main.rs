//! `core-cli`: the command line of Paddock.

use std::process::ExitCode;

use clap::Parser;
use paddock_cli::commands::Cli;

fn main() -> ExitCode {
    paddock_cli::commands::run(Cli::parse())
}
