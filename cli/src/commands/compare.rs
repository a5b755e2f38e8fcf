//! `core-cli compare`: is fine-tuning better than prompting, or than a plain classifier?

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Machine;
use super::eval::or_interrupted;
use crate::eval::engine::Device;
use crate::run::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;
use crate::study::spec::{STUDY_VERSION, Study, StudyKind};
use crate::study::table::table;
use crate::study::verdict::verdict;
use crate::study::{course, html, toml, words};
use crate::transfer;
use crate::transfer::spec::Transfer;

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

/// What a study is, whatever its kind.
#[derive(serde::Deserialize)]
struct Any {
    #[serde(default)]
    kind: StudyKind,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    out: Option<String>,
}

fn compare(args: &Args) -> anyhow::Result<()> {
    let any: Any = toml::load(&args.study)?;
    let name = course::name(any.name.as_deref(), &args.study);
    let out = any.out.map_or_else(|| Path::new("results").join(&name), PathBuf::from);
    let device =
        Device { machine: args.machine.clone(), micro_batch_tokens: args.micro_batch_tokens };
    let result = match any.kind {
        StudyKind::Compare => methods(args, &name, &out, device),
        StudyKind::Transfer => transferred(args, &name, &out, device),
    };
    result.inspect_err(|_| {
        if out.join("cells").is_dir() {
            eprintln!("finished cells are kept in {}; the same command goes on", out.display());
        }
    })
}

fn methods(args: &Args, name: &str, out: &Path, device: Device) -> anyhow::Result<()> {
    let study: Study = toml::load(&args.study)?;
    let finished = course::run(&study, out, device, &Signals::install()?)?;
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
    let page = html::report(name, &study, &finished, &table);
    show(args, out, &result, &page, &words::text(name, &finished, &table))
}

fn transferred(args: &Args, name: &str, out: &Path, device: Device) -> anyhow::Result<()> {
    let study: Transfer = toml::load(&args.study)?;
    let found = transfer::course::run(&study, out, device, &Signals::install()?)?;
    let points = transfer::words::points(&study, &found);
    let result = json!({
        "version": STUDY_VERSION,
        "name": name,
        "study": study,
        "verdict": transfer::words::verdict(&study, &points),
        "points": points,
        "runs": found,
    });
    let page = transfer::words::html(name, &study, &points);
    show(args, out, &result, &page, &transfer::words::text(&study, &points))
}

/// Writes the page and the numbers, prints the table or the numbers.
fn show(args: &Args, out: &Path, result: &Value, page: &str, text: &str) -> anyhow::Result<()> {
    let numbers = serde_json::to_string_pretty(result)?;
    let (json_file, html_file) = (out.join("results.json"), out.join("report.html"));
    replace_file(&RealStorage, &json_file, numbers.as_bytes())?;
    replace_file(&RealStorage, &html_file, page.as_bytes())?;
    if args.json {
        println!("{numbers}");
    } else {
        print!("{text}");
        let (page, numbers) = (html_file.display(), json_file.display());
        println!("\nThe report is {page}, all numbers are in {numbers}");
    }
    Ok(())
}
