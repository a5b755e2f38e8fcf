//! `core-cli bench data`: how fast rows become tokens here, and near twins are found.

use std::path::PathBuf;
use std::time::Instant;

use paddock_datasets::dedupe::Near;
use paddock_datasets::encode::{EncodeOptions, OverLength};
use paddock_datasets::inspect::all_text;
use paddock_datasets::prepare::{PrepareOptions, Quiet, prepare};
use paddock_datasets::readers::{self, ReadOptions};
use paddock_datasets::template::{Template, library};
use paddock_datasets::tokenizer::Tokenizer;
use serde_json::json;

use crate::error::bad_input;
use crate::train::forecast::peak_bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rows.
    #[arg(long)]
    data: PathBuf,
    /// A folder with a tokenizer.
    #[arg(long)]
    tokenizer: PathBuf,
    /// How rows are rendered [default: what the layout calls for].
    #[arg(long)]
    template: Option<String>,
    /// Look for near twins among the rows, too.
    #[arg(long)]
    near: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let read = ReadOptions::default();
    let detected = readers::open(&args.data, &read)?.detected().clone();
    let template = match &args.template {
        Some(name) => library::find_one(name)?,
        None => Template::for_layout(&detected)
            .ok_or_else(|| bad_input("no template suits these columns; give --template"))?,
    };
    let options = PrepareOptions {
        read: read.clone(),
        template: template.clone(),
        encode: EncodeOptions { max_tokens: usize::MAX, over_length: OverLength::Drop },
        keep_empty_answers: true,
        limit_rows: None,
        shots: None,
        sample: None,
    };
    let begun = Instant::now();
    let (mut examples, mut tokens) = (0usize, 0usize);
    let paths = [args.data.clone()];
    prepare(&paths, &options, &tokenizer, &mut Quiet, &mut |part| {
        examples += part.len();
        tokens += part.iter().map(|(example, _)| example.tokens.len()).sum::<usize>();
        Ok(())
    })?;
    let all_s = begun.elapsed().as_secs_f64();
    // The same without the tokenizer: what is left of the time above is the tokenizer's.
    let begun = Instant::now();
    let compiled = template.compile()?;
    let mut bytes = 0usize;
    let mut near = Near::default();
    let mut texts: Vec<String> = Vec::new();
    for record in readers::open(&args.data, &read)?.flatten() {
        bytes += compiled.render(&record)?.text.len();
        if args.near {
            texts.push(all_text(&record));
        }
    }
    let outside_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let mut twins = 0;
    if args.near {
        near.push(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        twins = near.find(0.8).iter().flatten().count();
    }
    let near_s = begun.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "rows": examples, "tokens": tokens, "text_bytes": bytes, "all_s": all_s,
            "outside_tokenizer_s": outside_s, "near_s": args.near.then_some(near_s),
            "near_twins": args.near.then_some(twins), "peak_rss_bytes": peak_bytes(),
        })
    );
    Ok(())
}
