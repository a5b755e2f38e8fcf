//! `core-cli chat`: questions from the terminal, one at a time.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use paddock_datasets::encode::prompt_tokens;

use super::{Machine, Sampling};
use crate::error::BadInput;
use crate::generate::{Stop, Voice, conversation_template};
use crate::open::Opened;
use crate::run::signals::Signals;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model folder.
    #[arg(long)]
    model: String,
    /// An adapter folder.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// The template around each question [default: the one the adapter was trained with,
    /// else the model's own chat template].
    #[arg(long)]
    template: Option<String>,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    machine: Machine,
}

/// Runs the command. Every question stands alone: the templates here teach single answers.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.sampling.generation()?;
    let opened = Opened::open(&args.model, args.adapter.as_deref())?;
    let template =
        conversation_template(&opened, args.adapter.as_deref(), args.template.as_deref())?;
    let mut voice = Voice::new(&opened, &args.machine, None)?;
    let signals = Signals::install()?;
    let (input, mut out) = (std::io::stdin(), std::io::stdout());
    let asks = input.is_terminal();
    if asks {
        eprintln!(
            "Ask something and press Enter; an empty line or Ctrl-D ends. Each question stands alone. \
             Template: {}.",
            template.name
        );
    }
    loop {
        if asks {
            eprint!("\n> ");
        }
        let mut line = String::new();
        if input.lock().read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(());
        }
        let prompt = prompt_tokens(&opened.tokenizer, &template.render_question(line.trim(), "")?)?;
        let answer = voice.answer(&prompt, &settings, &mut |piece| {
            write!(out, "{piece}").and_then(|()| out.flush()).is_ok() && !signals.stop_requested()
        });
        match answer {
            Ok(answer) if answer.stop == Stop::Interrupted => return Ok(()),
            Ok(_) => writeln!(out)?,
            Err(e) if e.is::<BadInput>() => eprintln!("{e}"),
            Err(e) => return Err(e),
        }
    }
}
