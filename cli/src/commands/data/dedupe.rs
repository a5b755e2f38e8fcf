//! `core-cli data dedupe`

use std::path::PathBuf;

use clap::ValueEnum;
use paddock_datasets::curate::too_similar;
use paddock_datasets::dedupe::{exact, near};
use paddock_datasets::inspect::{all_text, text_of};
use paddock_datasets::record::Record;
use serde_json::json;

use super::Reading;
use crate::data::output::{Manifest, Output};
use crate::data::rows::{Teller, all_rows, files};
use crate::data::show::short;
use crate::error::bad_input;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files; of equal rows the first one stays.
    #[arg(required = true)]
    files: Vec<String>,
    /// What counts as equal: the same text (exact), most three-word pieces in common (minhash), or a common
    /// order of words (rouge, slow: each row is compared with all kept ones).
    #[arg(long, default_value = "exact")]
    by: By,
    /// How alike rows must be, from 0 to 1 [default: 0.8 for minhash, 0.7 for rouge].
    #[arg(long)]
    threshold: Option<f64>,
    /// Compare these columns only [default: all].
    #[arg(long, value_delimiter = ',')]
    on: Vec<String>,
    /// Write the rows that stay to this file; without it nothing is written.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
    /// How many pairs to show.
    #[arg(long, default_value_t = 10)]
    show: usize,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum By {
    Exact,
    Minhash,
    Rouge,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let threshold = args.threshold.unwrap_or(if args.by == By::Rouge { 0.7 } else { 0.8 });
    if !(threshold > 0.0 && threshold <= 1.0) {
        return Err(bad_input(format!(
            "--threshold is {threshold}; it must be above 0, at most 1"
        )));
    }
    let paths = files(&args.files)?;
    // Refused before the work, not after it.
    let out = match &args.out {
        Some(path) => Some(Output::create(path, args.force, &paths)?),
        None => None,
    };
    let rows = all_rows(&paths, &args.reading.options(), &mut Teller::new("read"))?;
    let texts = texts(&rows, &args.on)?;
    let slices: Vec<&str> = texts.iter().map(String::as_str).collect();
    eprintln!("comparing {} rows", rows.len());
    let twins = match args.by {
        By::Exact => exact(&slices),
        By::Minhash => near(&slices, threshold),
        By::Rouge => too_similar(&[], &slices, threshold),
    };
    let gone = twins.iter().filter(|twin| twin.is_some()).count();
    let place = |i: usize| format!("{} row {}", paths[rows[i].0].display(), rows[i].1.row);
    for (i, twin) in twins.iter().enumerate().filter_map(|(i, t)| t.map(|t| (i, t))).take(args.show)
    {
        println!("{}\n  is like {}", place(i), place(twin));
        println!("    {}\n    {}", short(&texts[i], 90), short(&texts[twin], 90));
    }
    if gone > args.show {
        println!("… and {} more", gone - args.show);
    }
    println!("{gone} of {} rows would go, {} would stay", rows.len(), rows.len() - gone);
    let (Some(mut out), Some(path)) = (out, &args.out) else {
        println!("nothing was written; give --out FILE to write the rows that stay");
        return Ok(());
    };
    for ((_, record), twin) in rows.iter().zip(&twins) {
        if twin.is_none() {
            out.row(&record.columns)?;
        }
    }
    let written = out.finish()?;
    let manifest = Manifest {
        command: "data dedupe",
        inputs: &paths,
        settings: json!({
            "by": format!("{:?}", args.by).to_lowercase(), "threshold": threshold, "on": args.on,
        }),
        seed: None,
        found: json!({"rows": rows.len(), "gone": gone}),
    };
    manifest.write(path, std::slice::from_ref(&written))?;
    println!("{}: {} rows", path.display(), written["rows"]);
    Ok(())
}

/// The text that rows are judged by.
pub(super) fn texts(rows: &[(usize, Record)], on: &[String]) -> anyhow::Result<Vec<String>> {
    for name in on {
        if let Some((_, record)) = rows.iter().find(|(_, record)| record.get(name).is_none()) {
            let known: Vec<&str> = record.names().collect();
            let (row, known) = (record.row, known.join(", "));
            return Err(bad_input(format!(
                "row {row}: there is no column {name:?}; there are {known}"
            )));
        }
    }
    let text = |(_, record): &(usize, Record)| {
        if on.is_empty() { all_text(record) } else { text_of(record, on) }
    };
    Ok(rows.iter().map(text).collect())
}
