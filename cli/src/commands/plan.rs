//! `core-cli plan`: what a run would need.

use std::path::PathBuf;

use crate::run::config::ConfigFlags;
use crate::run::events::Event;
use crate::run::signals::Signals;
use crate::train::report::{Listener, plan_text};
use crate::train::{Launch, train};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A RUN.toml with settings; flags win over it.
    run_toml: Option<PathBuf>,
    /// Do a little of the run, in memory alone, to tell how long it will take.
    #[arg(long)]
    measure: bool,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

/// Keeps the plan; everything else is said on stderr.
#[derive(Default)]
struct Keeper(Option<crate::run::events::Plan>);

impl Listener for Keeper {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Plan(plan) => self.0 = Some(plan.clone()),
            Event::Warning(warning) => eprintln!("warning: {}", warning.message),
            _ => {}
        }
        Ok(())
    }
    fn note(&mut self, what: &str) {
        eprintln!("{what}");
    }
    fn busy(&mut self, what: &str) {
        eprintln!("{what}");
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let launch = Launch {
        file: super::train::read_file(args.run_toml.as_ref())?,
        flags: args.config.flags,
        set: args.config.set,
        plan_only: true,
        measure: args.measure,
        ..Launch::default()
    };
    let mut keeper = Keeper::default();
    train(&launch, &mut keeper, &Signals::default())?;
    let Some(plan) = keeper.0 else { return Ok(()) };
    if args.json {
        println!("{}", serde_json::to_string(&plan)?);
    } else {
        println!("{}", plan_text(&plan));
    }
    Ok(())
}
