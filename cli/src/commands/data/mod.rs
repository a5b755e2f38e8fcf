//! `core-cli data …`: looking at data files, templates, and making files of files.

mod convert;
mod dedupe;
mod filter;
mod inspect;
mod mix;
mod sample;
mod split;
mod stats;
mod template;

use std::path::PathBuf;

use clap::Subcommand;
use paddock_datasets::readers::{Format, Layout, ReadOptions};

/// What to do with data.
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Say what is in a file: format, columns, lengths, duplicates, empty answers, bad rows.
    Inspect(inspect::Args),
    /// See, write, check and try templates.
    #[command(subcommand)]
    Template(template::Template),
    /// Cut rows into training, validation and test files.
    Split(split::Args),
    /// Draw rows from several files at stated rates.
    Mix(mix::Args),
    /// Find equal and nearly equal rows; leave them out with --out.
    Dedupe(dedupe::Args),
    /// Find rows that are too short, too long, repetitive or in another language; leave them out with --out.
    Filter(filter::Args),
    /// Draw some rows, evenly over sources, without near twins.
    Sample(sample::Args),
    /// Write rows in another format, with other columns, or rendered by a template.
    Convert(convert::Args),
    /// Count rows, lengths and labels of files.
    Stats(stats::Args),
}

/// Runs the command.
pub fn run(command: Data) -> anyhow::Result<u8> {
    match command {
        Data::Inspect(args) => inspect::run(args).map(|()| 0),
        Data::Template(command) => template::run(command),
        Data::Split(args) => split::run(args).map(|()| 0),
        Data::Mix(args) => mix::run(args).map(|()| 0),
        Data::Dedupe(args) => dedupe::run(args).map(|()| 0),
        Data::Filter(args) => filter::run(args).map(|()| 0),
        Data::Sample(args) => sample::run(args).map(|()| 0),
        Data::Convert(args) => convert::run(args).map(|()| 0),
        Data::Stats(args) => stats::run(args).map(|()| 0),
    }
}

/// How files are read.
#[derive(Clone, Debug, clap::Args)]
struct Reading {
    /// State the format instead of having it recognised.
    #[arg(long)]
    format: Option<Format>,
    /// State what the columns mean instead of having it recognised.
    #[arg(long)]
    layout: Option<Layout>,
    /// Leave unreadable rows out (they are counted and named) instead of stopping.
    #[arg(long)]
    skip_bad: bool,
}

impl Reading {
    fn options(&self) -> ReadOptions {
        let Reading { format, layout, skip_bad } = *self;
        ReadOptions { format, layout, skip_bad, ..ReadOptions::default() }
    }
}

/// Where rows go.
#[derive(Clone, Debug, clap::Args)]
struct Writing {
    /// The file to write: .jsonl, .json, .csv or .tsv, with .gz behind it to pack it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
}
