//! `core-cli chat`: questions from the terminal.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use paddock_datasets::encode::prompt_tokens;
use paddock_datasets::record::Record;
use paddock_datasets::template::{Body, Template};
use serde_json::{Value, json};

use super::{Machine, Sampling};
use crate::error::BadInput;
use crate::generate::{Stop, Voice, conversation_template};
use crate::open::Opened;
use crate::run::signals::Signals;

/// How often a signal is looked for while nobody types.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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

/// What was said so far, where the template knows turns; empty where every question stands alone.
type Turns = Vec<Value>;

fn prompt(
    opened: &Opened,
    template: &Template,
    turns: &Turns,
    line: &str,
) -> anyhow::Result<Vec<u32>> {
    let rendered = if turns.is_empty() {
        template.render_question(line, "")?
    } else {
        template.render_prompt(&Record::from_pairs([("messages", turns.clone().into())]))?
    };
    Ok(prompt_tokens(&opened.tokenizer, &rendered)?)
}

/// Runs the command. A chat template is given the whole conversation; to others every question stands alone,
/// because they teach single answers.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.sampling.generation()?;
    let opened = Opened::open(&args.model, args.adapter.as_deref())?;
    let template =
        conversation_template(&opened, args.adapter.as_deref(), args.template.as_deref())?;
    let keeps = matches!(template.body, Body::Chat(_));
    let mut voice = Voice::new(&opened, &args.machine, None)?;
    let signals = Signals::install()?;
    let mut out = std::io::stdout();
    let asks = std::io::stdin().is_terminal();
    let lines = lines();
    if asks {
        let turns = if keeps {
            "The conversation is kept; /new begins another"
        } else {
            "Each question stands alone"
        };
        eprintln!(
            "Ask something and press Enter; an empty line or Ctrl-C ends. {turns}. Template: {}.",
            template.name
        );
    }
    let mut turns = Turns::new();
    loop {
        if asks {
            eprint!("\n> ");
        }
        let Some(line) = next_line(&lines, &signals)? else { return Ok(()) };
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        if keeps && line == "/new" {
            turns.clear();
            continue;
        }
        if keeps {
            turns.push(json!({"role": "user", "content": line}));
        }
        let prompt = prompt(&opened, &template, &turns, line)?;
        let answer = voice.answer(&prompt, &settings, &mut |piece| {
            write!(out, "{piece}").and_then(|()| out.flush()).is_ok() && !signals.stop_requested()
        });
        match answer {
            Ok(answer) if answer.stop == Stop::Interrupted => return Ok(()),
            Ok(answer) => {
                writeln!(out)?;
                if keeps {
                    turns.push(json!({"role": "assistant", "content": answer.text.trim()}));
                }
            }
            Err(e) if e.is::<BadInput>() => {
                turns.pop();
                let hint = if turns.is_empty() { "" } else { "; /new begins another conversation" };
                eprintln!("{e}{hint}");
            }
            Err(e) => return Err(e),
        }
    }
}

/// The lines of stdin, read by a thread, so that a signal is heeded while nobody types.
fn lines() -> Receiver<std::io::Result<String>> {
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// The next line; none at the end, or when a signal asks to stop.
fn next_line(
    lines: &Receiver<std::io::Result<String>>,
    signals: &Signals,
) -> std::io::Result<Option<String>> {
    loop {
        match lines.recv_timeout(LOOK_EVERY) {
            Ok(line) => return line.map(Some),
            Err(RecvTimeoutError::Timeout) if signals.stop_requested() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}
