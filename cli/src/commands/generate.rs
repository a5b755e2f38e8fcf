//! `core-cli generate`

use std::io::Write;
use std::path::{Path, PathBuf};

use paddock_datasets::encode::{prompt_tokens, raw_tokens};
use paddock_datasets::template::Template;
use serde_json::json;

use super::eval::or_interrupted;
use super::{Machine, Sampling};
use crate::error::bad_input;
use crate::eval::progress::Progress;
use crate::eval::rows::{Selection, read};
use crate::generate::{Voice, conversation_template};
use crate::open::Opened;
use crate::run::signals::Signals;
use crate::{answers, bundled};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model folder.
    #[arg(long)]
    model: String,
    /// An adapter folder.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// What to answer.
    #[arg(long, required_unless_present = "data")]
    prompt: Option<String>,
    /// Answer every row of these files, or of bundled:NAME, instead: questions, or conversations in `messages`.
    #[arg(long, requires = "out", conflicts_with_all = ["prompt", "raw", "json"])]
    data: Vec<String>,
    /// With --data: the file of answers, a JSON line a row, as `judge` reads it. It is added to.
    #[arg(long, value_name = "FILE", requires = "data")]
    out: Option<PathBuf>,
    /// With --data: at most so many rows, evenly spread.
    #[arg(long, value_name = "ROWS", requires = "data")]
    limit: Option<usize>,
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
pub fn run(args: Args) -> anyhow::Result<u8> {
    match (&args.prompt, &args.out) {
        (Some(prompt), _) => one(&args, prompt).map(|()| 0),
        (None, Some(out)) => or_interrupted(many(&args, out)),
        (None, None) => {
            Err(bad_input("name a question with --prompt, or files with --data and --out"))
        }
    }
}

fn one(args: &Args, prompt: &str) -> anyhow::Result<()> {
    let settings = args.sampling.generation()?;
    let opened = Opened::open(&args.model, args.adapter.as_deref())?;
    let prompt = if args.raw {
        raw_tokens(&opened.tokenizer, prompt)?
    } else {
        let template = template(args, &opened)?;
        prompt_tokens(&opened.tokenizer, &template.render_question(prompt, "")?)?
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

fn template(args: &Args, opened: &Opened) -> anyhow::Result<Template> {
    conversation_template(opened, args.adapter.as_deref(), args.template.as_deref())
}

fn many(args: &Args, out: &Path) -> anyhow::Result<()> {
    let settings = args.sampling.generation()?;
    let paths: anyhow::Result<Vec<PathBuf>> =
        args.data.iter().map(|name| bundled::data_path(name)).collect();
    let paths = paths?;
    answers::not_an_input(out, &paths)?;
    let opened = Opened::open(&args.model, args.adapter.as_deref())?;
    let template = template(args, &opened)?;
    let records = read(&paths, &Selection { limit: args.limit, ..Selection::default() })?.records;
    let questions = answers::questions(records, &template, &opened)?;
    let longest = questions.iter().map(|q| q.tokens.len()).max().unwrap_or(0) as u64;
    let room = longest + u64::from(settings.max_new_tokens) + 1;
    let mut voice = Voice::new(&opened, &args.machine, Some(room))?;
    let sampling = &args.sampling;
    let by = json!({
        "model": args.model, "adapter": args.adapter, "template": template.hash(),
        "max_new_tokens": sampling.max_new_tokens, "temperature": sampling.temperature,
        "top_p": sampling.top_p, "top_k": sampling.top_k, "seed": sampling.seed,
        "repetition_penalty": sampling.repetition_penalty,
    });
    let signals = Signals::install()?;
    let mut progress = Progress::new("answering", questions.len(), &signals);
    let before =
        answers::run(&questions, &mut voice, &settings, &by, out, &mut progress, &signals)?;
    drop(progress);
    let earlier = if before > 0 { format!(", {before} of them earlier") } else { String::new() };
    eprintln!("{} answers{earlier}: {}", questions.len(), out.display());
    eprintln!("have them judged: core-cli judge rate --answers {} --judge person", out.display());
    Ok(())
}
