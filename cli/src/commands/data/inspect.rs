//! `core-cli data inspect`

use std::path::Path;

use paddock_datasets::inspect::{DUPLICATE_ROWS, Inspection, Lens, inspect};
use paddock_datasets::readers::{self, Detected};
use paddock_datasets::report::Counted;
use paddock_datasets::template::{Template, library};
use paddock_datasets::tokenizer::Tokenizer;
use serde_json::json;

use super::Reading;
use crate::data::rows::{Teller, files};
use crate::data::show::{histogram, short};
use crate::open::model_path;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file.
    file: String,
    /// A model whose tokenizer counts lengths [default: lengths are counted in words].
    #[arg(long)]
    model: Option<String>,
    /// The template that makes rows of text [default: what the layout calls for].
    #[arg(long)]
    template: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let path = files(std::slice::from_ref(&args.file))?.remove(0);
    let options = args.reading.options();
    let tokenizer = match &args.model {
        Some(model) => Some(Tokenizer::load(&model_path(model)?)?),
        None => None,
    };
    let detected = readers::open(&path, &options)?.detected().clone();
    let template = match &args.template {
        Some(name) => Some(library::find_one(name)?),
        None => Template::for_layout(&detected),
    };
    let compiled = template.as_ref().map(Template::compile).transpose()?;
    let lens = Lens { template: compiled.as_ref(), tokenizer: tokenizer.as_ref() };
    let (detected, found) = inspect(&path, &options, lens, &mut Teller::new("inspected"))?;
    if args.json {
        let bad: Vec<String> = found.bad.first.iter().map(ToString::to_string).collect();
        let object = json!({
            "file": path.display().to_string(), "format": detected.format,
            "compression": detected.compression, "layout": detected.layout, "why": detected.why,
            "template": template.as_ref().map(|t| &t.name),
            "unit": if tokenizer.is_some() { "tokens" } else { "words" },
            "bad_rows": found.bad.total, "first_bad_rows": bad,
            "label_column": found.label_column().map(|c| &c.name), "found": found,
        });
        println!("{object}");
        return Ok(());
    }
    let unit = if tokenizer.is_some() { "tokens" } else { "words" };
    print(&path, &detected, template.as_ref(), &found, unit);
    Ok(())
}

fn print(
    path: &Path,
    detected: &Detected,
    template: Option<&Template>,
    found: &Inspection,
    unit: &str,
) {
    println!("{}", path.display());
    println!("format    {} (packing: {})", detected.format, detected.compression);
    println!("layout    {}", detected.layout);
    println!("because   {}", detected.why);
    println!("rows      {} good, {} bad", found.rows, found.bad.total);
    println!("\ncolumns");
    columns(found);
    if let Some(column) = found.label_column() {
        let values = column.values.iter().flatten();
        let list: Vec<String> =
            values.map(|(value, count)| format!("{} ({count} rows)", short(value, 30))).collect();
        println!("\nlikely labels: column {} with {}", column.name, list.join(", "));
    }
    println!();
    counted(&found.duplicates, "equal to an earlier row");
    if found.rows > DUPLICATE_ROWS {
        println!("  (looked for in the first {DUPLICATE_ROWS} rows)");
    }
    match template {
        Some(template) => {
            counted(&found.empty_answers, "with an empty answer");
            if found.unrendered.total > 0 {
                counted(&found.unrendered, "that the template cannot render");
            }
            println!("\nlengths in {unit}, rendered by template {}", template.name);
        }
        None => {
            println!("empty answers: not told, since no template suits these columns by itself");
            println!("\nlengths in {unit}, all text of a row");
        }
    }
    print!("{}", histogram(&found.lengths));
    let rendered = found.lengths.values().sum::<u64>().max(1);
    println!("  mean {:.1}, longest {}", found.length_sum as f64 / rendered as f64, found.longest);
    if found.bad.total > 0 {
        println!("\n{}", found.bad);
    }
}

fn columns(found: &Inspection) {
    for column in &found.columns {
        let types: Vec<String> =
            column
                .types
                .iter()
                .map(|(name, count)| {
                    if *count == found.rows {
                        (*name).to_string()
                    } else {
                        format!("{count} {name}")
                    }
                })
                .collect();
        let missing = found.rows - column.types.values().sum::<u64>();
        let blank = found.rows - missing - column.filled;
        let mut facts = vec![types.join(", "), format!("{} filled", column.filled)];
        if blank > 0 {
            facts.push(format!("{blank} blank or null"));
        }
        if missing > 0 {
            facts.push(format!("absent in {missing} rows"));
        }
        if let Some(shortest) = column.shortest {
            facts.push(format!("{shortest} to {} characters", column.longest));
        }
        println!("  {}: {}", short(&column.name, 60), facts.join("; "));
        column.samples.iter().for_each(|text| println!("      {}", short(text, 90)));
    }
}

fn counted(rows: &Counted, what: &str) {
    let first: Vec<String> = rows.first.iter().map(u64::to_string).collect();
    let more = if rows.total > first.len() as u64 { ", …" } else { "" };
    let list =
        if rows.total == 0 { String::new() } else { format!(": rows {}{more}", first.join(", ")) };
    println!("{} rows {what}{list}", rows.total);
}
