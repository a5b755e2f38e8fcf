//! `core-cli score`: the sum of token losses of each row.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Machine;
use crate::open::Opened;
use crate::run::config::RunConfig;
use crate::score::scores;
use crate::train::setup::Reader;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model folder.
    #[arg(long)]
    model: String,
    /// An adapter folder.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// The rows.
    #[arg(long, required = true)]
    data: Vec<PathBuf>,
    /// How a row becomes prompt and answer [default: what the data's layout calls for].
    #[arg(long)]
    template: Option<String>,
    /// Which column fills which field: prompt=NAME, input=NAME, answer=NAME.
    #[arg(long, value_name = "FIELD=COLUMN")]
    columns: Vec<String>,
    /// Leave unreadable rows out instead of stopping.
    #[arg(long)]
    skip_bad: bool,
    /// Tokens in memory at once.
    #[arg(long, default_value_t = 2048)]
    micro_batch_tokens: u64,
    #[command(flatten)]
    machine: Machine,
}

/// Says what was recognised, on stderr.
pub(super) struct Say;

impl paddock_datasets::prepare::Progress for Say {
    fn rows(&mut self, _: &Path, _: u64) -> bool {
        true
    }
    fn opened(
        &mut self,
        path: &Path,
        detected: &paddock_datasets::readers::Detected,
        notes: &[String],
    ) {
        eprintln!("{}: {}", path.display(), detected.why);
        notes.iter().for_each(|note| eprintln!("{note}"));
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let opened = Opened::open(&args.model, args.adapter.as_deref())?;
    let mut config = RunConfig { skip_bad: args.skip_bad, ..RunConfig::default() };
    for pair in &args.columns {
        let (field, column) = pair.split_once('=').ok_or_else(|| {
            crate::error::bad_input(format!("--columns {pair}: expected FIELD=COLUMN"))
        })?;
        config.columns.insert(field.to_string(), column.to_string());
    }
    let max_seq_len = u64::from(opened.folder.config.max_seq_len);
    let reader = Reader { config: &config, tokenizer: &opened.tokenizer, max_seq_len };
    let template = args.template.as_deref().map(|name| reader.template(name)).transpose()?;
    let (_, prepared) = reader.read(&args.data, template, &mut Say)?;
    let mut out = std::io::stdout().lock();
    let rows = &prepared.examples;
    let nll = scores(&opened, rows, args.micro_batch_tokens, &args.machine)?;
    for (example, nll) in rows.iter().zip(nll) {
        let trained = example.trained_tokens();
        writeln!(out, "{}", json!({"row": example.row, "trained_tokens": trained, "nll": nll}))?;
    }
    let dropped = prepared.report.dropped_words();
    if !dropped.is_empty() {
        eprintln!("left out: {dropped}");
    }
    Ok(())
}
