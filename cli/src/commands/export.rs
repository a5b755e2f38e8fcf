//! `core-cli export`: a whole model as a Hugging Face folder, checked before it says done.

use std::path::PathBuf;

use anyhow::Context;
use paddock_core::weights::Dtype;

use super::Machine;
use crate::error::bad_input;
use crate::model::export::{Export, Source};
use crate::model::verify::compare;
use crate::open::Opened;
use crate::run::fingerprint::Trust;
use crate::run::publish::IfTaken;
use crate::storage::RealStorage;
use crate::wrap::{folded, of_stdout};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model folder.
    #[arg(long)]
    model: String,
    /// The adapter to merge into it.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Merge the adapter's numbers into the weights (the only form of export so far).
    #[arg(long)]
    merge: bool,
    /// The new folder.
    #[arg(long)]
    out: PathBuf,
    /// Element type of the new weights: f32, bf16 or f16 [default: as in the model].
    #[arg(long, value_parser = parse_dtype)]
    dtype: Option<Dtype>,
    /// Give the model a row for every token of its tokenizer: each new row is the mean of the others.
    #[arg(long)]
    fit_tokenizer: bool,
    #[command(flatten)]
    machine: Machine,
}

fn parse_dtype(text: &str) -> Result<Dtype, String> {
    match text {
        "f32" => Ok(Dtype::F32),
        "bf16" => Ok(Dtype::Bf16),
        "f16" => Ok(Dtype::F16),
        _ => Err("expected f32, bf16 or f16".to_string()),
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.adapter.is_some() && !args.merge {
        return Err(bad_input(
            "say --merge to merge the adapter into the model; the adapter folder itself is already in \
             PEFT's layout",
        ));
    }
    let open = if args.fit_tokenizer { Opened::open_to_widen } else { Opened::open };
    let opened = open(&args.model, args.adapter.as_deref())?;
    let rows = opened.folder.config.vocab_size;
    let new_rows = if args.fit_tokenizer { new_rows(&opened)? } else { 0 };
    if let Some(dir) = &args.adapter {
        // A merge is there to stay: the weights are read, whatever is kept of them.
        opened.check_base(dir, Trust::Nothing)?;
    }
    let weights = opened.weights()?;
    let export = Export {
        from: &opened.folder.path,
        to: &args.out,
        config: &opened.folder.config,
        dtype: args.dtype,
        new_rows,
        template: args.adapter.as_ref().map(|dir| dir.join("template.json")),
    };
    let source = Source::Merged { weights: &weights, adapter: opened.adapter.as_ref() };
    eprintln!("writing {}", args.out.display());
    if let Some(parent) = args.out.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    export.write(&RealStorage, &source, IfTaken::Refuse, &mut |new| {
        eprintln!("checking that it answers the same");
        let check = compare(&opened, new, &args.machine)?;
        check.judge()?;
        // The weights were read in place, from before the first of them was written until now.
        opened.folder.check_untouched()?;
        println!("{}", folded(&check.words(&args.out), of_stdout(), 0));
        if new_rows > 0 {
            println!("{}", folded(&widened(rows, new_rows), of_stdout(), 0));
        }
        Ok(())
    })
}

/// How many tokens have no row.
fn new_rows(opened: &Opened) -> anyhow::Result<u32> {
    let (tokens, rows) = (opened.tokenizer.vocab_size() as u64, opened.folder.config.vocab_size);
    let new = tokens.saturating_sub(rows.into());
    if new == 0 {
        eprintln!("note: every token of the tokenizer has its row already");
    }
    // A few tokens were added; more than there were makes another model.
    u32::try_from(new).ok().filter(|&new| new <= rows).ok_or_else(|| {
        bad_input(format!(
            "{}: the tokenizer has {tokens} tokens and the model {rows} rows, so it is of another model: take the \
             tokenizer that came with the model",
            opened.folder.path.display()
        ))
    })
}

fn widened(rows: u32, new: u32) -> String {
    let now = rows + new;
    format!(
        "It has {now} tokens now, {new} more than before. The new rows hold the mean of \
         the others until training changes them: full training does, LoRA leaves them as they are."
    )
}
