//! `core-cli data split`

use std::path::PathBuf;

use clap::ValueEnum;
use paddock_datasets::dedupe::near;
use paddock_datasets::inspect::all_text;
use paddock_datasets::record::{Record, scalar_text};
use paddock_datasets::split::{SplitOptions, group_keys, split, split_by_order, split_stratified};
use serde_json::{Value, json};

use super::Reading;
use crate::data::output::{Manifest, Output};
use crate::data::rows::{Teller, each_row, files};
use crate::data::show::short;
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
    /// Look for leaks in files up to this many rows: their text is held in memory.
    #[arg(long, default_value_t = 500_000)]
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

/// What is known of the rows after the first reading.
#[derive(Default)]
struct Known {
    keys: Vec<u128>,
    values: Vec<String>,
    texts: Vec<String>,
    too_many: bool,
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
        let mut teller = Teller::new("read");
        each_row(paths, &self.reading.options(), &mut teller, &mut |_, record| {
            let text = serde_json::to_string(&record.columns)?;
            known.keys.extend(group_keys(&[&text]));
            if let (Some(column), true) = (&self.column, self.by != By::Random) {
                known.values.push(value(&record, column)?);
            }
            known.too_many |= known.keys.len() > self.leak_rows;
            if known.too_many || self.leak_threshold == 0.0 {
                known.texts = Vec::new();
            } else {
                known.texts.push(all_text(&record));
            }
            Ok(())
        })?;
        if known.keys.len() < 2 {
            return Err(bad_input(format!(
                "there are {} rows, too few to split",
                known.keys.len()
            )));
        }
        if known.too_many && self.keep_twins_together {
            return Err(bad_input(format!(
                "--keep-twins-together compares all rows in memory, and there are more than {}; \
                 raise --leak-rows",
                self.leak_rows
            )));
        }
        Ok(known)
    }

    /// The side of each row: 0 train, 1 validation, 2 test.
    fn sides(&self, known: &Known, twins: &[Option<usize>]) -> anyhow::Result<Vec<usize>> {
        let mut keys = known.keys.clone();
        if self.keep_twins_together {
            for (row, twin) in twins.iter().enumerate() {
                keys[row] = known.keys[twin.unwrap_or(row)];
            }
        }
        let mut sides = vec![0; keys.len()];
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
    let slices: Vec<&str> = known.texts.iter().map(String::as_str).collect();
    let looked = !slices.is_empty();
    if looked {
        eprintln!("looking for near twins among {} rows", slices.len());
    }
    let twins = if looked { near(&slices, args.leak_threshold) } else { Vec::new() };
    let sides = args.sides(&known, &twins)?;
    let leaks: Vec<(usize, usize)> = twins
        .iter()
        .enumerate()
        .filter_map(|(row, twin)| twin.map(|twin| (row, twin)))
        .filter(|(row, twin)| sides[*row] != sides[*twin])
        .collect();
    let mut next = 0;
    each_row(&paths, &args.reading.options(), &mut Teller::new("written"), &mut |_, record| {
        let side = sides.get(next).copied();
        next += 1;
        let out = side.and_then(|side| outputs[side].as_mut());
        out.ok_or_else(|| bad_input("a file changed while it was read"))?.row(&record.columns)
    })?;
    if next != sides.len() {
        return Err(bad_input("a file changed while it was read; try again"));
    }
    let mut written = Vec::new();
    for out in outputs.into_iter().flatten() {
        written.push(out.finish()?);
    }
    report(&args, &paths, &written, looked, &leaks, &sides, &known.texts)
}

fn report(
    args: &Args,
    paths: &[PathBuf],
    written: &[Value],
    looked: bool,
    leaks: &[(usize, usize)],
    sides: &[usize],
    texts: &[String],
) -> anyhow::Result<()> {
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
        found: json!({"leaks": looked.then_some(leaks.len())}),
    };
    manifest.write(&args.out.join("split"), written)?;
    for file in written {
        let name = file["file"].as_str().unwrap_or_default();
        println!("{:>9} rows  {}", file["rows"], args.out.join(name).display());
    }
    if !looked {
        println!("near twins on two sides were not looked for");
        return Ok(());
    }
    println!("{} rows have a near twin on another side", leaks.len());
    for (row, twin) in leaks.iter().take(20) {
        println!("  {} row {row}: {}", SIDES[sides[*row]], short(&texts[*row], 80));
        println!("  {} row {twin}: {}", SIDES[sides[*twin]], short(&texts[*twin], 80));
    }
    if !leaks.is_empty() && args.by == By::Random {
        println!("--keep-twins-together puts them on one side");
    }
    Ok(())
}
