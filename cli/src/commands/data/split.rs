//! `core-cli data split`

mod old;
mod plan;
mod report;

use std::path::PathBuf;

use clap::ValueEnum;
use paddock_datasets::dedupe::Near;
use paddock_datasets::inspect::all_text;
use paddock_datasets::record::{Record, scalar_text};
use paddock_datasets::split::group_keys;

use self::old::{remove_old, stale_sides};
use self::plan::{refuse_too_many, same_kind};
use self::report::{SHOWN, report, texts_of};
use super::Reading;
use crate::data::output::Output;
use crate::data::rows::{Teller, each_row, files};
use crate::data::sides::Places;
use crate::error::bad_input;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files.
    #[arg(required = true)]
    files: Vec<String>,
    /// The folder for train.jsonl, validation.jsonl and test.jsonl.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// How rows are told apart: by seed, with the same shares of each label, with no group on two sides, or
    /// the last ones by order.
    #[arg(long, default_value = "random")]
    by: By,
    /// The column of labels, groups or order.
    #[arg(long)]
    column: Option<String>,
    /// Share of the validation rows.
    #[arg(long, default_value_t = 0.1)]
    validation: f64,
    /// Share of the test rows.
    #[arg(long, default_value_t = 0.0)]
    test: f64,
    /// Seed of the choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rows at least this alike on two sides are reported as leaks; 0 looks for none. What more than 100 rows
    /// and a tenth of them have in common, such as a system prompt, does not count.
    #[arg(long, default_value_t = 0.8)]
    leak_threshold: f64,
    /// Keep near twins on one side, so that nothing leaks (not with --by order or stratified).
    #[arg(long)]
    keep_twins_together: bool,
    /// Look for leaks in the first rows, up to this many: about 5 bytes a word of them are held in memory.
    #[arg(long, default_value_t = 200_000)]
    leak_rows: usize,
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum By {
    Random,
    Stratified,
    Group,
    Order,
}

/// Up to so many rows the shares are exact; of more, each row is told its side by itself, so that memory does
/// not grow with the file.
const EXACT_ROWS: usize = 1_000_000;
/// Most three-word pieces that are held while near twins are looked for (160 MB).
const MOST_SHINGLES: usize = 40_000_000;

/// What is known of the rows after the first reading.
#[derive(Default)]
struct Known {
    rows: u64,
    keys: Vec<u128>,
    values: Vec<String>,
    /// Whether the values are numbers.
    numbers: Option<bool>,
    places: Places,
    near: Near,
}

const SIDES: [&str; 3] = ["train", "validation", "test"];

impl Args {
    /// Whether rows go to a side: 0 train, 1 validation, 2 test.
    fn uses(&self, side: usize) -> bool {
        side == 0 || [0.0, self.validation, self.test][side] > 0.0
    }

    fn check(&self) -> anyhow::Result<()> {
        let share = |share: f64| (0.0..=0.5).contains(&share);
        if !share(self.validation) || !share(self.test) || self.validation + self.test <= 0.0 {
            return Err(bad_input(
                "--validation and --test are shares from 0 to 0.5, and one must be above 0",
            ));
        }
        if !(0.0..=1.0).contains(&self.leak_threshold) {
            return Err(bad_input("--leak-threshold must be from 0 to 1"));
        }
        if self.by != By::Random && self.column.is_none() {
            let by = format!("{:?}", self.by).to_lowercase();
            return Err(bad_input(format!("--by {by} needs --column NAME")));
        }
        if self.keep_twins_together && !(self.by == By::Random && self.leak_threshold > 0.0) {
            return Err(bad_input("--keep-twins-together goes with --by random and a threshold"));
        }
        Ok(())
    }

    fn read(&self, paths: &[PathBuf]) -> anyhow::Result<Known> {
        let mut known = Known::default();
        let mut texts: Vec<String> = Vec::new();
        let mut teller = Teller::new("read");
        each_row(paths, &self.reading.options(), &mut teller, &mut |file, record| {
            let row = known.rows as usize;
            known.rows += 1;
            if row < EXACT_ROWS {
                known.keys.push(row_key(&record)?);
            } else {
                known.keys = Vec::new();
                known.values = Vec::new();
            }
            if self.by != By::Random {
                let column = self.column.as_deref().unwrap_or_default();
                let own = value(&record, column)?;
                if self.by == By::Order {
                    let place = (paths[file].as_path(), record.row);
                    same_kind(&mut known.numbers, &own, column, place)?;
                    known.places.push(&own, self.seed);
                }
                if row < EXACT_ROWS {
                    known.values.push(own);
                }
            }
            let more = row < self.leak_rows && known.near.shingles() < MOST_SHINGLES;
            if self.leak_threshold > 0.0 && more {
                texts.push(all_text(&record));
                if texts.len() >= TEXTS {
                    add(&mut known.near, &mut texts);
                }
            }
            Ok(())
        })?;
        add(&mut known.near, &mut texts);
        if known.rows < 2 {
            return Err(bad_input(format!("there are {} rows, too few to split", known.rows)));
        }
        if self.keep_twins_together {
            refuse_too_many(known.rows, known.near.len() as u64)?;
        }
        Ok(known)
    }
}

fn value(record: &Record, column: &str) -> anyhow::Result<String> {
    record.get(column).and_then(scalar_text).ok_or_else(|| {
        let known: Vec<&str> = record.names().collect();
        let (row, known) = (record.row, known.join(", "));
        bad_input(format!("row {row}: column {column:?} is absent or no text; there are {known}"))
    })
}

/// Rows whose text waits to be cut into shingles.
const TEXTS: usize = 4096;

fn add(near: &mut Near, texts: &mut Vec<String>) {
    near.push(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    texts.clear();
}

/// What keeps equal rows on one side.
fn row_key(record: &Record) -> anyhow::Result<u128> {
    let text = serde_json::to_string(&record.columns)?;
    Ok(group_keys(&[&text]).first().copied().unwrap_or_default())
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    args.check()?;
    let paths = files(&args.files)?;
    let stale = stale_sides(&args, &paths)?;
    let mut outputs: Vec<Option<Output>> = Vec::new();
    for (side, name) in SIDES.iter().enumerate() {
        let path = args.out.join(format!("{name}.jsonl"));
        let begin = || Output::create(&path, args.force, &paths);
        outputs.push(args.uses(side).then(begin).transpose()?);
    }
    let mut known = args.read(&paths)?;
    let (rows, compared) = (known.rows, known.near.len());
    if compared > 0 {
        eprintln!("looking for near twins among {compared} rows");
    }
    let twins = std::mem::take(&mut known.near).find(args.leak_threshold);
    let plan = args.plan(&known, &twins)?;
    drop(known);
    // The sides of the rows that were compared.
    let mut sides: Vec<u8> = Vec::with_capacity(compared);
    let mut next = 0;
    let mut counts = [0; 3];
    each_row(&paths, &args.reading.options(), &mut Teller::new("written"), &mut |_, record| {
        let side = args.side(&plan, next, &record)?;
        if let (true, Some(side)) = (next < compared, side) {
            sides.push(side as u8);
        }
        next += 1;
        side.into_iter().for_each(|side| counts[side] += 1);
        let out = side.and_then(|side| outputs[side].as_mut());
        out.ok_or_else(|| bad_input("a file changed while it was read"))?.row(&record.columns)
    })?;
    if next as u64 != rows {
        return Err(bad_input("a file changed while it was read; try again"));
    }
    args.refuse_empty(counts, None)?;
    remove_old(&args.out, &stale)?;
    let mut written = Vec::new();
    for out in outputs.into_iter().flatten() {
        written.push(out.finish()?);
    }
    let leaks: Vec<(usize, usize)> = twins
        .iter()
        .enumerate()
        .filter_map(|(row, twin)| twin.map(|twin| (row, twin)))
        .filter(|(row, twin)| sides[*row] != sides[*twin])
        .collect();
    let shown = leaks.iter().take(SHOWN).flat_map(|(row, twin)| [*row, *twin]).collect();
    let texts = texts_of(&args, &paths, &shown)?;
    report(&args, &paths, &written, (rows, compared), &leaks, |row| {
        let text = texts.get(&row).map_or("", String::as_str);
        format!("{} row {row}: {text}", SIDES[usize::from(sides[row])])
    })
}
