//! `core-cli sweep`: which settings are best?

use std::path::{Path, PathBuf};

use super::Machine;
use super::eval::or_interrupted;
use crate::eval::engine::Device;
use crate::run::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;
use crate::study::toml;
use crate::sweep::spec::Sweep;
use crate::sweep::{course, words};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep: a TOML file (docs/evaluation.md describes it).
    sweep: PathBuf,
    /// Print the result as JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<u8> {
    or_interrupted(sweep(&args))
}

fn sweep(args: &Args) -> anyhow::Result<()> {
    let sweep: Sweep = toml::load(&args.sweep)?;
    let stem = args.sweep.file_stem().map(|s| s.to_string_lossy().to_string());
    let name = sweep.name.clone().or(stem).unwrap_or_else(|| "sweep".to_string());
    let out = sweep.out.as_ref().map_or_else(|| Path::new("results").join(&name), PathBuf::from);
    let signals = Signals::install()?;
    let device = Device { machine: args.machine.clone(), micro_batch_tokens: 2048 };
    let swept = course::run(&sweep, &out, &device, &signals).inspect_err(|_| {
        if out.join("cells").is_dir() {
            eprintln!("finished runs are kept in {}; the same command goes on", out.display());
        }
    })?;
    let text = serde_json::to_string_pretty(&words::json(&sweep, &swept))?;
    let (json_file, page) = (out.join("results.json"), out.join("report.html"));
    replace_file(&RealStorage, &json_file, text.as_bytes())?;
    replace_file(&RealStorage, &page, words::html(&name, &sweep, &swept).as_bytes())?;
    match args.json {
        true => println!("{text}"),
        false => {
            print!("{}", words::text(&sweep, &swept));
            println!(
                "The report is {}, all numbers are in {}",
                page.display(),
                json_file.display()
            );
        }
    }
    Ok(())
}
