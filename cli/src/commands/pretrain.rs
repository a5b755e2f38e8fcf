//! `core-cli pretrain`: a model from raw text.

use std::path::PathBuf;

use crate::error::is_interruption;
use crate::pretrain::prepare;
use crate::pretrain::recipe::Recipe;
use crate::run::events::Reason;
use crate::run::signals::{EXIT_INTERRUPTED, Signals};
use crate::train::report::Terminal;
use crate::train::train;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recipe: shape or model, vocabulary, texts, settings (docs/pretrain.md).
    recipe: PathBuf,
    /// The folder for corpus, run and model.
    #[arg(long)]
    out: PathBuf,
    /// Go on with the pretraining in that folder.
    #[arg(long)]
    resume: bool,
    /// Set a key of the run, such as threads=1.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<u8> {
    match pretrain(args) {
        Err(error) if is_interruption(&error) => {
            eprintln!("{error}");
            Ok(EXIT_INTERRUPTED as u8)
        }
        other => other,
    }
}

fn pretrain(args: Args) -> anyhow::Result<u8> {
    let Some((name, text)) = super::train::read_file(Some(&args.recipe))? else { return Ok(2) };
    let recipe = Recipe::parse(&name, &text)?;
    let mut said = |what: &str| eprintln!("{what}");
    let mut launch = prepare(&text, &recipe, &args.out, args.resume, &mut said)?;
    launch.set = args.set;
    let ended = train(&launch, &mut Terminal::default(), &Signals::install()?)?;
    if ended.reason == Reason::Interrupted {
        return Ok(EXIT_INTERRUPTED as u8);
    }
    println!("The model is in {}.", ended.folder.join("model").display());
    Ok(0)
}
