//! `core-cli generate`

use std::io::Write;
use std::path::PathBuf;

use paddock_datasets::encode::{prompt_tokens, raw_tokens};
use serde_json::json;

use super::{Machine, Sampling};
use crate::generate::{Voice, conversation_template};
use crate::open::Opened;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model folder.
    #[arg(long)]
    model: String,
    /// An adapter folder.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// What to answer.
    #[arg(long)]
    prompt: String,
    /// Give the prompt to the model as it is, without a template.
    #[arg(long)]
    raw: bool,
    /// The template around the prompt [default: the one the adapter was trained with,
    /// else the model's own chat template].
    #[arg(long)]
    template: Option<String>,
    /// Print text, tokens and why it stopped as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    machine: Machine,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.sampling.generation()?;
    let opened = Opened::open(&args.model, args.adapter.as_deref())?;
    let prompt = if args.raw {
        raw_tokens(&opened.tokenizer, &args.prompt)?
    } else {
        let template =
            conversation_template(&opened, args.adapter.as_deref(), args.template.as_deref())?;
        prompt_tokens(&opened.tokenizer, &template.render_question(&args.prompt, "")?)?
    };
    let longest = prompt.len() as u64 + u64::from(settings.max_new_tokens) + 1;
    let mut voice = Voice::new(&opened, &args.machine, Some(longest))?;
    let mut out = std::io::stdout().lock();
    let mut written = Ok(());
    let answer = voice.answer(&prompt, &settings, &mut |piece| {
        if args.json {
            return true;
        }
        written = write!(out, "{piece}").and_then(|()| out.flush());
        written.is_ok()
    })?;
    written?;
    if args.json {
        let stop = answer.stop.word();
        writeln!(out, "{}", json!({"text": answer.text, "tokens": answer.tokens, "stop": stop}))?;
    } else {
        writeln!(out)?;
    }
    Ok(())
}
