//! `core-cli data mix`

use std::path::PathBuf;

use paddock_datasets::mixture::{Mixture, Rates};
use paddock_datasets::readers::ReadOptions;
use serde_json::{Value, json};

use super::{Reading, Writing};
use crate::data::held::{is_of, known_clusters};
use crate::data::output::{Manifest, Output};
use crate::data::rows::{Teller, each_row, files};
use crate::data::spill::Spill;
use crate::error::bad_input;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files; FILE=WEIGHT states how often rows of a file are drawn.
    #[arg(required = true)]
    files: Vec<String>,
    /// How many rows to draw; rows of small files come again [default: as many as there are].
    #[arg(long)]
    rows: Option<u64>,
    /// Without weights rows are drawn by size; a file with more rows than this counts as if it had this
    /// many (FLAN's mixing-rate maximum).
    #[arg(long, default_value_t = 3000)]
    cap: u64,
    /// Above 1: small files are drawn more often than their size says.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Refuse rows of this cluster of tasks, which is kept for judging: those whose column `cluster` says so,
    /// or that `data convert --template cluster:NAME` wrote. May come often.
    #[arg(long, value_name = "CLUSTER")]
    hold_out: Vec<String>,
    /// Seed of the order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    writing: Writing,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (paths, weights) = weights(&args.files)?;
    known_clusters("--hold-out", &args.hold_out, &[])?;
    let mut out = Output::create(&args.writing.out, args.writing.force, &paths)?;
    let options = args.reading.options();
    let sizes = sizes(&args, &paths, &options)?;
    let rates = match weights {
        Some(weights) => Rates::Weights(weights),
        None if args.temperature == 1.0 => Rates::Proportional { cap: args.cap },
        None => Rates::Temperature { temperature: args.temperature, cap: args.cap },
    };
    let rows = args.rows.unwrap_or(sizes.iter().sum());
    if rows == 0 {
        return Err(bad_input("there is no row to draw"));
    }
    let mut mixture = Mixture::new(&sizes, &rates, args.seed)?;
    let drawn: Vec<(u32, usize)> =
        (0..rows).map(|_| mixture.draw()).map(|(file, row)| (file as u32, row)).collect();
    let different = write(&paths, &options, &sizes, &drawn, &mut out)?;
    let written = out.finish()?;
    let counts: Vec<Value> = (0..paths.len())
        .map(|file| {
            let count = drawn.iter().filter(|(f, _)| *f as usize == file).count();
            json!({"file": paths[file].display().to_string(), "rows": sizes[file], "drawn": count,
                "different": different[file]})
        })
        .collect();
    let manifest = Manifest {
        command: "data mix",
        inputs: &paths,
        settings: json!({"files": args.files, "rates": rates, "rows": rows, "hold_out": args.hold_out}),
        seed: Some(args.seed),
        found: Value::from(counts.clone()),
    };
    manifest.write(&args.writing.out, std::slice::from_ref(&written))?;
    println!("{}: {rows} rows", args.writing.out.display());
    for count in &counts {
        let file = count["file"].as_str().unwrap_or_default();
        println!("{:>9} of {} rows of {file}", count["drawn"], count["rows"]);
    }
    Ok(())
}

/// Rows of each file; refuses rows of held-out clusters.
fn sizes(args: &Args, paths: &[PathBuf], options: &ReadOptions) -> anyhow::Result<Vec<u64>> {
    let mut sizes = vec![0u64; paths.len()];
    each_row(paths, options, &mut Teller::new("counted"), &mut |file, record| {
        sizes[file] += 1;
        if let Some(held) = args.hold_out.iter().find(|held| is_of(&record, held)) {
            let (path, row) = (paths[file].display(), record.row);
            return Err(bad_input(format!(
                "{path}: row {row} is of the cluster {held}, which is held out; leave the file out \
                 of the mixture"
            )));
        }
        Ok(())
    })?;
    Ok(sizes)
}

/// Writes the drawn rows in their order; how many different ones each file gives. Rows wait in a file: in
/// memory there are some 40 bytes for each.
fn write(
    paths: &[PathBuf],
    options: &ReadOptions,
    sizes: &[u64],
    drawn: &[(u32, usize)],
    out: &mut Output,
) -> anyhow::Result<Vec<usize>> {
    let mut spill = Spill::create(out.path())?;
    let mut places: Vec<Vec<u64>> = sizes.iter().map(|n| vec![UNUSED; *n as usize]).collect();
    drawn.iter().for_each(|(file, row)| places[*file as usize][*row] = 0);
    let mut next = vec![0usize; paths.len()];
    each_row(paths, options, &mut Teller::new("read"), &mut |file, record| {
        if let Some(place) = places[file].get_mut(next[file]).filter(|p| **p != UNUSED) {
            *place = spill.push(&record.columns)?;
        }
        next[file] += 1;
        Ok(())
    })?;
    if next.iter().zip(sizes).any(|(now, before)| *now as u64 != *before) {
        return Err(bad_input("a file changed while it was read; try again"));
    }
    let mut waiting = spill.finish()?;
    for (file, row) in drawn {
        out.row(&waiting.get(places[*file as usize][*row])?)?;
    }
    Ok(places.iter().map(|list| list.iter().filter(|p| **p != UNUSED).count()).collect())
}

/// A row that is not drawn.
const UNUSED: u64 = u64::MAX;

/// Paths, and the weights if they are stated: for all files or none.
fn weights(names: &[String]) -> anyhow::Result<(Vec<PathBuf>, Option<Vec<f64>>)> {
    let cut = |name: &String| match name.rsplit_once('=') {
        Some((file, weight)) => match weight.parse::<f64>() {
            Ok(weight) => (file.to_string(), Some(weight)),
            Err(_) => (name.clone(), None),
        },
        None => (name.clone(), None),
    };
    let (names, weights): (Vec<String>, Vec<Option<f64>>) = names.iter().map(cut).unzip();
    let stated = weights.iter().flatten().count();
    if stated > 0 && stated < names.len() {
        return Err(bad_input("give a weight to every file (FILE=WEIGHT) or to none"));
    }
    let weights: Vec<f64> = weights.into_iter().flatten().collect();
    Ok((files(&names)?, (stated > 0).then_some(weights)))
}
