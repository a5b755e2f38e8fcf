//! `core-cli data dedupe`

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use clap::ValueEnum;
use paddock_datasets::curate::too_similar;
use paddock_datasets::dedupe::Near;
use paddock_datasets::readers;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Reading;
use crate::data::output::{Manifest, Output};
use crate::data::rows::{Teller, each_row, files, judged_text};
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
    let twins = args.twins(&paths, threshold)?;
    let gone = twins.iter().flatten().count();
    show(&args, &paths, &twins)?;
    let (rows, stay) = (twins.len(), twins.len() - gone);
    println!("{gone} of {rows} rows would go, {stay} would stay");
    let (Some(mut out), Some(path)) = (out, &args.out) else {
        println!("nothing was written; give --out FILE to write the rows that stay");
        return Ok(());
    };
    let mut next = 0;
    each_row(&paths, &args.reading.options(), &mut Teller::new("written"), &mut |_, record| {
        let stays = twins.get(next).is_some_and(Option::is_none);
        next += 1;
        if stays { out.row(&record.columns) } else { Ok(()) }
    })?;
    if next != rows {
        return Err(bad_input("a file changed while it was read; try again"));
    }
    let written = out.finish()?;
    let manifest = Manifest {
        command: "data dedupe",
        inputs: &paths,
        settings: json!({
            "by": format!("{:?}", args.by).to_lowercase(), "threshold": threshold, "on": args.on,
        }),
        seed: None,
        found: json!({"rows": rows, "gone": gone}),
    };
    manifest.write(path, std::slice::from_ref(&written))?;
    println!("{}: {} rows", path.display(), written["rows"]);
    Ok(())
}

impl Args {
    /// For each row the first one that it is like. Of the rows themselves only what is compared is held: a hash
    /// (exact), hashes of three-word pieces (minhash), or the text (rouge).
    fn twins(&self, paths: &[PathBuf], threshold: f64) -> anyhow::Result<Vec<Option<usize>>> {
        let mut first: HashMap<u64, usize> = HashMap::new();
        let mut found: Vec<Option<usize>> = Vec::new();
        let mut near = Near::default();
        let mut texts: Vec<String> = Vec::new();
        let mut teller = Teller::new("read");
        each_row(paths, &self.reading.options(), &mut teller, &mut |_, record| {
            let text = judged_text(&record, &self.on)?;
            match self.by {
                By::Exact => {
                    let row = found.len();
                    let known = *first.entry(hash(&text)).or_insert(row);
                    found.push((known != row).then_some(known));
                }
                By::Rouge => texts.push(text),
                By::Minhash => {
                    texts.push(text);
                    if texts.len() == TEXTS {
                        near.push(&slices(&texts));
                        texts.clear();
                    }
                }
            }
            Ok(())
        })?;
        if self.by == By::Minhash {
            near.push(&slices(&texts));
        }
        let rows = found.len() + near.len() + if self.by == By::Rouge { texts.len() } else { 0 };
        if rows == 0 {
            return Err(bad_input("there is no row in these files"));
        }
        eprintln!("comparing {rows} rows");
        Ok(match self.by {
            By::Exact => found,
            By::Minhash => near.find(threshold),
            By::Rouge => too_similar(&[], &slices(&texts), threshold),
        })
    }
}

/// Texts that wait to be cut into pieces.
const TEXTS: usize = 4096;

fn slices(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// 64 bits of SHA-256: two texts of twenty million share them with a chance of one in a hundred thousand.
fn hash(text: &str) -> u64 {
    Sha256::digest(text.as_bytes()).iter().take(8).fold(0, |key, b| (key << 8) | u64::from(*b))
}

/// Prints the first rows that would go beside those that they are like.
fn show(args: &Args, paths: &[PathBuf], twins: &[Option<usize>]) -> anyhow::Result<()> {
    let pairs: Vec<(usize, usize)> =
        twins.iter().enumerate().filter_map(|(i, t)| t.map(|t| (i, t))).take(args.show).collect();
    let wanted: BTreeSet<usize> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let Some(last) = wanted.last() else { return Ok(()) };
    let mut found: HashMap<usize, (String, String)> = HashMap::new();
    let mut next = 0;
    'files: for path in paths {
        for record in readers::open(path, &args.reading.options())?.flatten() {
            if wanted.contains(&next) {
                let place = format!("{} row {}", path.display(), record.row);
                found.insert(next, (place, short(&judged_text(&record, &args.on)?, 90)));
            }
            next += 1;
            if next > *last {
                break 'files;
            }
        }
    }
    for (row, twin) in &pairs {
        if let (Some(own), Some(other)) = (found.get(row), found.get(twin)) {
            println!("{}\n  is like {}\n    {}\n    {}", own.0, other.0, own.1, other.1);
        }
    }
    let gone = twins.iter().flatten().count();
    if gone > args.show {
        println!("… and {} more", gone - args.show);
    }
    Ok(())
}
