//! `core-cli data sample`

use std::collections::BTreeMap;
use std::path::PathBuf;

use paddock_core::philox::{Philox, Stream};
use paddock_datasets::dedupe::near;
use paddock_datasets::inspect::all_text;
use paddock_datasets::record::{Record, scalar_text};
use paddock_datasets::split::group_keys;
use serde_json::{Map, Value, json};

use super::{Reading, Writing};
use crate::data::output::{Manifest, Output};
use crate::data::rows::{Teller, each_row, files};
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
    /// A column of numbers: rows with a higher one go first (quality before chance).
    #[arg(long, value_name = "COLUMN")]
    best: Option<String>,
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

/// Candidates of one source, the first in the order of the draw first: (least quality first, chance).
type Queue = BTreeMap<(u64, u64), Map<String, Value>>;

/// A source: its place among the sources, by seed, and its name.
type Source = (u64, String);

/// Rows that may be drawn: of each source as many as its part and some more.
#[derive(Default)]
struct Candidates {
    sources: BTreeMap<Source, Queue>,
    kept: usize,
    rows: u64,
    /// Whether any row had to be let go.
    full: bool,
    /// Sources from this one on are left out: there are too many before it.
    end: Option<Source>,
}

impl Candidates {
    /// Keeps at most twice `most` rows.
    fn push(&mut self, source: Source, place: (u64, u64), row: Map<String, Value>, most: usize) {
        self.rows += 1;
        if self.end.as_ref().is_some_and(|end| source >= *end) {
            return;
        }
        self.sources.entry(source).or_default().insert(place, row);
        self.kept += 1;
        if self.kept <= most.saturating_mul(2) {
            return;
        }
        self.full = true;
        // A draw does not come to sources behind so many others.
        while self.sources.len() > most {
            self.end = self.sources.pop_last().map(|(source, _)| source);
        }
        // The longest queues are cut: even sources need the same number of each.
        let mut lengths: Vec<usize> = self.sources.values().map(Queue::len).collect();
        lengths.sort_unstable();
        let (mut left, mut part) = (most, 1);
        for (i, length) in lengths.iter().enumerate() {
            part = (left / (lengths.len() - i)).max(1);
            if *length > part {
                break;
            }
            left = left.saturating_sub(*length);
        }
        for queue in self.sources.values_mut() {
            while queue.len() > part {
                queue.pop_last();
            }
        }
        self.kept = self.sources.values().map(Queue::len).sum();
    }
}

impl Args {
    /// The place of a row in the order of the draw.
    fn place(&self, number: u64, record: &Record) -> anyhow::Result<(u64, u64)> {
        let chance = Philox::new(self.seed, Stream::MIX).below(1 << 28, number, u64::MAX);
        let Some(column) = &self.best else { return Ok((0, chance)) };
        let text = record.get(column).and_then(scalar_text);
        let number = text.and_then(|text| text.trim().parse::<f64>().ok());
        let number = number.filter(|n| n.is_finite()).ok_or_else(|| {
            let row = record.row;
            bad_input(format!("row {row}: column {column:?} is absent or no number"))
        })?;
        // Descending: the sign bit and the order of floats below zero turned round.
        let bits = number.to_bits();
        let ascending = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
        Ok((!ascending, chance))
    }

    /// The source of a row. Sources take turns in an order by seed: by name the same ones would go first always.
    fn source(&self, path: &std::path::Path, record: &Record) -> anyhow::Result<Source> {
        let name = match &self.source {
            None => path.display().to_string(),
            Some(column) => record.get(column).and_then(scalar_text).ok_or_else(|| {
                let row = record.row;
                bad_input(format!("row {row}: column {column:?} is absent or no text"))
            })?,
        };
        let key = group_keys(&[&name]).first().copied().unwrap_or_default();
        let random = Philox::new(self.seed, Stream::MIX);
        Ok((random.below((key >> 96) as u32, key as u64, u64::MAX), name))
    }

    /// Reads all rows and keeps at most about `most` of them.
    fn read(&self, paths: &[PathBuf], most: usize) -> anyhow::Result<Candidates> {
        let mut found = Candidates::default();
        let mut teller = Teller::new("read");
        each_row(paths, &self.reading.options(), &mut teller, &mut |file, record| {
            let place = self.place(found.rows, &record)?;
            let source = self.source(&paths[file], &record)?;
            found.push(source, place, record.columns, most);
            Ok(())
        })?;
        if found.rows == 0 {
            return Err(bad_input("there is no row in these files"));
        }
        Ok(found)
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.rows == 0 || !(args.threshold > 0.0 && args.threshold <= 1.0) {
        return Err(bad_input("--rows must be 1 or more, --threshold above 0 and at most 1"));
    }
    let paths = files(&args.files)?;
    let mut out = Output::create(&args.writing.out, args.writing.force, &paths)?;
    let mut most = args.rows.saturating_mul(4).max(4096);
    let (rows, chosen, gone) = loop {
        let candidates = args.read(&paths, most)?;
        let (chosen, gone) = draw(&args, &candidates);
        if chosen.len() >= args.rows || !candidates.full {
            break (candidates.rows, chosen, gone);
        }
        eprintln!("too many of the rows are near twins of others; reading again for more");
        most = most.saturating_mul(4);
    };
    let mut drawn: BTreeMap<&str, usize> = BTreeMap::new();
    for (source, row) in &chosen {
        out.row(row)?;
        *drawn.entry(source).or_default() += 1;
    }
    let written = out.finish()?;
    let manifest = Manifest {
        command: "data sample",
        inputs: &paths,
        settings: json!({
            "rows": args.rows, "source": args.source, "best": args.best,
            "threshold": args.threshold,
        }),
        seed: Some(args.seed),
        found: json!({"rows": rows, "near_twins": gone, "drawn": drawn}),
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

/// Rows with their sources.
type Chosen = Vec<(String, Map<String, Value>)>;

/// One of each source in turn until there are enough or none is left; of near twins the one that comes first
/// in the order of the draw. Also how many were passed over.
fn draw(args: &Args, candidates: &Candidates) -> (Chosen, usize) {
    type Place<'a> = ((u64, u64), &'a Source, &'a Map<String, Value>);
    let mut order: Vec<Place<'_>> = Vec::new();
    for (source, queue) in &candidates.sources {
        order.extend(queue.iter().map(|(place, row)| (*place, source, row)));
    }
    order.sort_by_key(|(place, source, _)| (*place, *source));
    let texts: Vec<String> = order
        .iter()
        .map(|(_, _, row)| {
            all_text(&Record { row: 0, byte: None, line: None, columns: (*row).clone() })
        })
        .collect();
    let slices: Vec<&str> = texts.iter().map(String::as_str).collect();
    let twins = near(&slices, args.threshold);
    let mut queues: BTreeMap<&Source, Vec<&Map<String, Value>>> = BTreeMap::new();
    for ((_, source, row), twin) in order.iter().zip(&twins) {
        let queue = queues.entry(source).or_default();
        if twin.is_none() {
            queue.push(row);
        }
    }
    let mut chosen = Vec::new();
    for place in 0.. {
        queues.retain(|_, queue| queue.len() > place);
        if queues.is_empty() || chosen.len() >= args.rows {
            break;
        }
        for ((_, source), queue) in queues.iter().take(args.rows - chosen.len()) {
            chosen.push((source.clone(), queue[place].clone()));
        }
    }
    (chosen, twins.iter().flatten().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sources_than_are_drawn_take_no_more_memory() {
        let mut found = Candidates::default();
        // Each source comes three times, with a better row each time, in an order of no kind.
        for n in (0..3000u64).map(|n| n * 7 % 1000) {
            let (source, place) = ((n, n.to_string()), (0, 3000 - found.rows));
            found.push(source, place, Map::new(), 8);
            assert!(found.kept <= 16 && found.sources.len() <= 16, "{}", found.kept);
        }
        assert!(found.full && found.rows == 3000);
        let first: Vec<u64> = found.sources.keys().take(8).map(|(n, _)| *n).collect();
        assert_eq!(first, (0..8).collect::<Vec<u64>>(), "the first of all in the order by seed");
        // One long source among short ones is cut, and they are not.
        let mut found = Candidates::default();
        for n in 0..100u64 {
            let source = if n % 20 == 0 { n } else { 1000 };
            found.push((source, String::new()), (0, n), Map::new(), 16);
        }
        let lengths: Vec<usize> = found.sources.values().map(Queue::len).collect();
        assert!(found.kept <= 32 && lengths[..5] == [1; 5] && lengths[5] >= 11, "{lengths:?}");
    }
}
