//! `core-cli data split`

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::ValueEnum;
use paddock_datasets::dedupe::Near;
use paddock_datasets::inspect::all_text;
use paddock_datasets::readers;
use paddock_datasets::record::{Record, scalar_text};
use paddock_datasets::split::{SplitOptions, group_keys, split, split_by_order, split_stratified};
use serde_json::{Value, json};

use super::Reading;
use crate::data::output::{Manifest, Output};
use crate::data::rows::{Teller, each_row, files};
use crate::data::show::short;
use crate::data::sides::{Cuts, Places, Shares};
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
    /// Rows at least this alike on two sides are reported as leaks; 0 looks for none.
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
    places: Places,
    near: Near,
}

/// How rows are told their side.
enum Plan {
    /// The side of each row: 0 train, 1 validation, 2 test.
    Exact(Vec<u8>),
    /// By the row's own text or group.
    ByKey(Shares),
    /// By its place in an order.
    ByOrder(Cuts),
}

const SIDES: [&str; 3] = ["train", "validation", "test"];

impl Args {
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
        each_row(paths, &self.reading.options(), &mut teller, &mut |_, record| {
            let row = known.rows as usize;
            known.rows += 1;
            if row < EXACT_ROWS {
                known.keys.push(row_key(&record)?);
            } else {
                known.keys = Vec::new();
                known.values = Vec::new();
            }
            if self.by != By::Random {
                let own = value(&record, self.column.as_deref().unwrap_or_default())?;
                if self.by == By::Order {
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
        if self.keep_twins_together && (known.near.len() as u64) < known.rows {
            return Err(bad_input(format!(
                "--keep-twins-together compares all rows in memory, and there are too many for that: \
                 {} of {} were compared. Split without it and look at what it reports",
                known.near.len(),
                known.rows
            )));
        }
        Ok(known)
    }

    fn plan(&self, known: Known, twins: &[Option<usize>]) -> anyhow::Result<Plan> {
        if known.rows <= EXACT_ROWS as u64 {
            return Ok(Plan::Exact(self.sides(&known, twins)?));
        }
        let Args { test, validation, seed, .. } = *self;
        let shares = Shares { test, validation, seed };
        Ok(match self.by {
            By::Order => Plan::ByOrder(known.places.cuts(&shares)),
            _ => Plan::ByKey(shares),
        })
    }

    /// The side of a row by its number and content.
    fn side(&self, plan: &Plan, row: usize, record: &Record) -> anyhow::Result<Option<usize>> {
        let own = || value(record, self.column.as_deref().unwrap_or_default());
        Ok(match plan {
            Plan::Exact(sides) => sides.get(row).map(|side| usize::from(*side)),
            Plan::ByKey(shares) if self.by == By::Group => {
                let keys = group_keys(&[own()?.as_str()]);
                keys.first().map(|key| shares.by_key(*key))
            }
            Plan::ByKey(shares) => Some(shares.by_key(row_key(record)?)),
            Plan::ByOrder(cuts) => Some(cuts.side(&own()?)),
        })
    }

    /// The side of each row: 0 train, 1 validation, 2 test.
    fn sides(&self, known: &Known, twins: &[Option<usize>]) -> anyhow::Result<Vec<u8>> {
        let mut keys = known.keys.clone();
        if self.keep_twins_together {
            for (row, twin) in twins.iter().enumerate() {
                keys[row] = known.keys[twin.unwrap_or(row)];
            }
        }
        let mut sides = vec![0u8; keys.len()];
        let mut left: Vec<usize> = (0..keys.len()).collect();
        for (side, share) in [(2, self.test), (1, self.validation)] {
            if share == 0.0 {
                continue;
            }
            // Shares are of all rows; what is left after the test rows is fewer.
            let share = (share * keys.len() as f64 / left.len() as f64).min(0.5);
            let options = SplitOptions { share, min_rows: 1, seed: self.seed };
            let held = self.held(&left, &keys, &known.values, &options)?;
            held.iter().for_each(|i| sides[left[*i]] = side);
            left.retain(|row| sides[*row] == 0);
        }
        Ok(sides)
    }

    fn held(
        &self,
        rows: &[usize],
        keys: &[u128],
        values: &[String],
        options: &SplitOptions,
    ) -> anyhow::Result<Vec<usize>> {
        let own: Vec<u128> = rows.iter().map(|row| keys[*row]).collect();
        let texts = || rows.iter().map(|row| values[*row].as_str()).collect::<Vec<&str>>();
        let parts = match self.by {
            By::Random => split(&own, options),
            By::Stratified => split_stratified(&own, &texts(), options)?,
            By::Group => split(&group_keys(&texts()), options),
            By::Order => {
                let texts = texts();
                let numbers: Option<Vec<f64>> = texts.iter().map(|t| t.parse().ok()).collect();
                match numbers {
                    Some(numbers) => {
                        let places: Vec<i64> = numbers.iter().map(|n| ordered(*n)).collect();
                        split_by_order(&places, options)
                    }
                    None => split_by_order(&texts, options),
                }
            }
        };
        Ok(parts.validation)
    }
}

/// A number as an integer that sorts the same way.
fn ordered(number: f64) -> i64 {
    let bits = number.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
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
    let used = |side: &usize| *side == 0 || [0.0, args.validation, args.test][*side] > 0.0;
    let mut outputs: Vec<Option<Output>> = Vec::new();
    for (side, name) in SIDES.iter().enumerate() {
        let path = args.out.join(format!("{name}.jsonl"));
        let begin = || Output::create(&path, args.force, &paths);
        outputs.push(used(&side).then(begin).transpose()?);
    }
    let known = args.read(&paths)?;
    let (rows, compared) = (known.rows, known.near.len());
    if compared > 0 {
        eprintln!("looking for near twins among {compared} rows");
    }
    let twins = known.near.find(args.leak_threshold);
    let plan = args.plan(known, &twins)?;
    // The sides of the rows that were compared.
    let mut sides: Vec<u8> = Vec::with_capacity(compared);
    let mut next = 0;
    each_row(&paths, &args.reading.options(), &mut Teller::new("written"), &mut |_, record| {
        let side = args.side(&plan, next, &record)?;
        if let (true, Some(side)) = (next < compared, side) {
            sides.push(side as u8);
        }
        next += 1;
        let out = side.and_then(|side| outputs[side].as_mut());
        out.ok_or_else(|| bad_input("a file changed while it was read"))?.row(&record.columns)
    })?;
    if next as u64 != rows {
        return Err(bad_input("a file changed while it was read; try again"));
    }
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

/// Leaks that are shown in full.
const SHOWN: usize = 20;

/// The beginnings of some rows, read again.
fn texts_of(
    args: &Args,
    paths: &[PathBuf],
    rows: &BTreeSet<usize>,
) -> anyhow::Result<BTreeMap<usize, String>> {
    let mut found = BTreeMap::new();
    let Some(last) = rows.last() else { return Ok(found) };
    let all = paths.iter().map(|path| readers::open(path, &args.reading.options()));
    let good = all.flat_map(|rows| rows.into_iter().flatten().flatten());
    for (row, record) in good.take(last + 1).enumerate() {
        if rows.contains(&row) {
            found.insert(row, short(&all_text(&record), 80));
        }
    }
    Ok(found)
}

fn report(
    args: &Args,
    paths: &[PathBuf],
    written: &[Value],
    (rows, compared): (u64, usize),
    leaks: &[(usize, usize)],
    line: impl Fn(usize) -> String,
) -> anyhow::Result<()> {
    let looked = compared > 0;
    let manifest = Manifest {
        command: "data split",
        inputs: paths,
        settings: json!({
            "by": format!("{:?}", args.by).to_lowercase(), "column": args.column,
            "validation": args.validation, "test": args.test,
            "leak_threshold": args.leak_threshold,
            "keep_twins_together": args.keep_twins_together,
        }),
        seed: Some(args.seed),
        found: json!({"rows": rows, "compared": compared, "leaks": looked.then_some(leaks.len())}),
    };
    manifest.write(&args.out.join("split"), written)?;
    for file in written {
        let name = file["file"].as_str().unwrap_or_default();
        println!("{:>9} rows  {}", file["rows"], args.out.join(name).display());
    }
    if rows > EXACT_ROWS as u64 {
        println!(
            "above {EXACT_ROWS} rows each is told its side by itself, so shares are about right"
        );
    }
    if !looked {
        println!("near twins on two sides were not looked for");
        return Ok(());
    }
    println!("{} rows have a near twin on another side", leaks.len());
    if (compared as u64) < rows {
        println!("  (looked for in the first {compared} rows)");
    }
    for (row, twin) in leaks.iter().take(SHOWN) {
        println!("  {}\n  {}", line(*row), line(*twin));
    }
    if !leaks.is_empty() && args.by == By::Random {
        println!("--keep-twins-together puts them on one side");
    }
    Ok(())
}
