//! `core-cli train`

use std::path::PathBuf;

use clap::ValueEnum;

use crate::error::{bad_input, is_interruption};
use crate::run::config::ConfigFlags;
use crate::run::events::{Event, Failure, Reason};
use crate::run::signals::{EXIT_INTERRUPTED, Signals};
use crate::train::report::{Listener, Stream, Terminal};
use crate::train::{Launch, train};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A RUN.toml with settings; flags win over it.
    run_toml: Option<PathBuf>,
    /// Go on with the run in the folder that --out names.
    #[arg(long)]
    resume: bool,
    /// With --resume: go on although settings changed that change the result (recorded in run.toml).
    #[arg(long)]
    allow_changes: bool,
    /// Print what happens as versioned JSON lines on stdout, for programs.
    #[arg(long, value_name = "FORMAT")]
    events: Option<Events>,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Events {
    Jsonl,
}

/// RUN.toml's name and text.
pub(super) fn read_file(path: Option<&PathBuf>) -> anyhow::Result<Option<(String, String)>> {
    let Some(path) = path else { return Ok(None) };
    let text =
        std::fs::read_to_string(path).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
    Ok(Some((path.display().to_string(), text)))
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let launch = Launch {
        file: read_file(args.run_toml.as_ref())?,
        flags: args.config.flags,
        set: args.config.set,
        resume: args.resume,
        allow_changes: args.allow_changes,
    };
    let signals = Signals::install()?;
    let mut listener: Box<dyn Listener> = match args.events {
        Some(Events::Jsonl) => Box::new(Stream),
        None => Box::new(Terminal::default()),
    };
    match train(&launch, &mut *listener, &signals) {
        Ok(ended) if ended.reason == Reason::Interrupted => Ok(EXIT_INTERRUPTED as u8),
        Ok(_) => Ok(0),
        // It stopped before there was anything to save. Any other error after a signal is told like every error.
        Err(error) if is_interruption(&error) => Ok(EXIT_INTERRUPTED as u8),
        Err(error) => {
            if args.events.is_some() {
                let message = super::sentence(&error);
                let exit_code = i32::from(crate::error::exit_code(&error));
                listener.event(&Event::Error(Failure { message, exit_code }))?;
            }
            Err(error)
        }
    }
}
