//! `core-cli compare`: is fine-tuning better than prompting, or than a plain classifier?

use std::path::PathBuf;

use serde_json::json;

use super::Machine;
use super::eval::or_interrupted;
use crate::eval::engine::Device;
use crate::run::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;
use crate::study::spec::{STUDY_VERSION, Study};
use crate::study::table::table;
use crate::study::verdict::verdict;
use crate::study::{course, html, toml, words};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The study: a TOML file (docs/evaluation.md describes it).
    study: PathBuf,
    /// Print the result as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Tokens in memory at once.
    #[arg(long, default_value_t = 2048)]
    micro_batch_tokens: u64,
    #[command(flatten)]
    machine: Machine,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<u8> {
    or_interrupted(compare(&args))
}

fn compare(args: &Args) -> anyhow::Result<()> {
    let study: Study = toml::load(&args.study)?;
    let (name, out) = (course::name(&study, &args.study), course::folder(&study, &args.study));
    let signals = Signals::install()?;
    let device = Device {
        backend: args.machine.backend,
        threads: args.machine.threads,
        micro_batch_tokens: args.micro_batch_tokens,
    };
    let finished = course::run(&study, &out, device, &signals).inspect_err(|_| {
        if out.join("cells").is_dir() {
            eprintln!("finished cells are kept in {}; the same command goes on", out.display());
        }
    })?;
    let table = table(&finished);
    let result = json!({
        "version": STUDY_VERSION,
        "name": name,
        "study": study,
        "model": finished.model,
        "split": finished.frozen,
        "verdict": verdict(&table),
        "best": table.variants[table.best].name,
        "variants": table.variants,
        "against_best": table.against_best,
    });
    let text = serde_json::to_string_pretty(&result)?;
    let (json_file, page) = (out.join("results.json"), out.join("report.html"));
    replace_file(&RealStorage, &json_file, text.as_bytes())?;
    let report = html::report(&name, &study, &finished, &table);
    replace_file(&RealStorage, &page, report.as_bytes())?;
    match args.json {
        true => println!("{text}"),
        false => {
            print!("{}", words::text(&name, &finished, &table));
            println!(
                "\nThe report is {}, all numbers are in {}",
                page.display(),
                json_file.display()
            );
        }
    }
    Ok(())
}
