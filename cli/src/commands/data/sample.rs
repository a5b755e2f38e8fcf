//! `core-cli data sample`

use std::collections::BTreeMap;

use paddock_datasets::dedupe::near;
use paddock_datasets::order::Order;
use paddock_datasets::record::scalar_text;
use serde_json::json;

use super::dedupe::texts;
use super::{Reading, Writing};
use crate::data::output::{Manifest, Output};
use crate::data::rows::{Teller, all_rows, files};
use crate::error::bad_input;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files.
    #[arg(required = true)]
    files: Vec<String>,
    /// How many rows to draw.
    #[arg(long)]
    rows: usize,
    /// The column that names a row's source [default: each file is a source].
    #[arg(long)]
    source: Option<String>,
    /// Rows at least this alike (three-word pieces in common) are not drawn twice; 1 for equal rows only.
    #[arg(long, default_value_t = 0.7)]
    threshold: f64,
    /// Seed of the choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    writing: Writing,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.rows == 0 || !(args.threshold > 0.0 && args.threshold <= 1.0) {
        return Err(bad_input("--rows must be 1 or more, --threshold above 0 and at most 1"));
    }
    let paths = files(&args.files)?;
    let mut out = Output::create(&args.writing.out, args.writing.force, &paths)?;
    let rows = all_rows(&paths, &args.reading.options(), &mut Teller::new("read"))?;
    let texts = texts(&rows, &[])?;
    // The seed's order first, so that it decides which of two twins stays.
    let order = Order::new(rows.len(), args.seed, true)?.rows(0, rows.len(), true);
    let shuffled: Vec<&str> = order.iter().map(|i| texts[*i].as_str()).collect();
    let twins = near(&shuffled, args.threshold);
    let mut sources: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (row, twin) in order.iter().zip(&twins) {
        let (file, record) = &rows[*row];
        let source = match &args.source {
            None => paths[*file].display().to_string(),
            Some(column) => record.get(column).and_then(scalar_text).ok_or_else(|| {
                let row = record.row;
                bad_input(format!("row {row}: column {column:?} is absent or no text"))
            })?,
        };
        let queue = sources.entry(source).or_default();
        if twin.is_none() {
            queue.push(*row);
        }
    }
    let chosen = round_robin(&sources, args.rows);
    let mut drawn: BTreeMap<&str, usize> = BTreeMap::new();
    for (source, row) in &chosen {
        out.row(&rows[*row].1.columns)?;
        *drawn.entry(source).or_default() += 1;
    }
    let gone = twins.iter().flatten().count();
    let found = json!({"rows": rows.len(), "near_twins": gone, "drawn": drawn});
    let written = out.finish()?;
    let manifest = Manifest {
        command: "data sample",
        inputs: &paths,
        settings: json!({
            "rows": args.rows, "source": args.source, "threshold": args.threshold,
        }),
        seed: Some(args.seed),
        found,
    };
    manifest.write(&args.writing.out, std::slice::from_ref(&written))?;
    println!("{}: {} rows", args.writing.out.display(), chosen.len());
    drawn.iter().for_each(|(source, count)| println!("{count:>9} of {source}"));
    if gone > 0 {
        println!("{gone} rows were passed over as near twins of others");
    }
    if chosen.len() < args.rows {
        println!("there are no more; {} were asked for", args.rows);
    }
    Ok(())
}

/// One of each source in turn until there are enough or none is left.
fn round_robin(sources: &BTreeMap<String, Vec<usize>>, rows: usize) -> Vec<(&str, usize)> {
    let longest = sources.values().map(Vec::len).max().unwrap_or(0);
    let turn = |place: usize| {
        let one = move |(name, queue): (&'_ String, &Vec<usize>)| {
            queue.get(place).map(|row| (name.clone(), *row))
        };
        sources.iter().filter_map(one).collect::<Vec<_>>()
    };
    let all = (0..longest).flat_map(turn).take(rows);
    all.filter_map(|(name, row)| sources.get_key_value(&name).map(|(key, _)| (key.as_str(), row)))
        .collect()
}
