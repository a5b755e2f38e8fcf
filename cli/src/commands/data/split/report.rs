//! What a split has to say: its manifest, how many rows each side has, and near twins on two sides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use paddock_datasets::inspect::all_text;
use paddock_datasets::readers;
use serde_json::{Value, json};

use super::{Args, By, EXACT_ROWS};
use crate::data::output::Manifest;
use crate::data::show::short;

/// Leaks that are shown in full.
pub(super) const SHOWN: usize = 20;

/// The beginnings of some rows, read again.
pub(super) fn texts_of(
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

/// Writes the manifest and says what came of it.
pub(super) fn report(
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
