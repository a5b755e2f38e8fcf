//! `core-cli data stats`

use paddock_datasets::inspect::{Lens, inspect};
use paddock_datasets::tokenizer::Tokenizer;
use serde_json::json;

use super::Reading;
use crate::data::rows::{Teller, files};
use crate::data::show::short;
use crate::open::model_path;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files.
    #[arg(required = true)]
    files: Vec<String>,
    /// A model whose tokenizer counts lengths [default: lengths are counted in words].
    #[arg(long)]
    model: Option<String>,
    /// Print one JSON line a file.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let paths = files(&args.files)?;
    let tokenizer = match &args.model {
        Some(model) => Some(Tokenizer::load(&model_path(model)?)?),
        None => None,
    };
    let unit = if tokenizer.is_some() { "tokens" } else { "words" };
    let lens = Lens { template: None, tokenizer: tokenizer.as_ref() };
    if !args.json {
        println!(
            "{:>10} {:>8} {:>8} {:>12} {:>8} {:>8}  file",
            "rows", "bad", "equal", unit, "mean", "longest"
        );
    }
    for path in &paths {
        let options = args.reading.options();
        let (_, found) = inspect(path, &options, lens, &mut Teller::new("counted"))?;
        let label = found.label_column();
        let labels = label.and_then(|column| column.values.as_ref());
        if args.json {
            println!(
                "{}",
                json!({
                    "file": path.display().to_string(), "rows": found.rows, "bad": found.bad.total,
                    "equal": found.duplicates.total, "unit": unit, "total": found.length_sum,
                    "longest": found.longest, "label_column": label.map(|c| &c.name), "labels": labels,
                })
            );
            continue;
        }
        let mean = found.length_sum as f64 / found.rows.max(1) as f64;
        println!(
            "{:>10} {:>8} {:>8} {:>12} {mean:>8.1} {:>8}  {}",
            found.rows,
            found.bad.total,
            found.duplicates.total,
            found.length_sum,
            found.longest,
            path.display()
        );
        if let (Some(column), Some(labels)) = (label, labels) {
            let list: Vec<String> =
                labels.iter().map(|(value, n)| format!("{} {n}", short(value, 30))).collect();
            println!("{:>10} {}: {}", "", column.name, list.join(", "));
        }
    }
    Ok(())
}
