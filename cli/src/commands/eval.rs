//! `core-cli eval`: how good a model's answers are.

mod change;

use std::path::PathBuf;

use paddock_datasets::fewshot::Choice;
use paddock_datasets::template::Template;

use super::Machine;
use crate::bundled;
use crate::error::{bad_input, is_interruption};
use crate::eval::engine::Device;
use crate::eval::outcome::Outcome;
use crate::eval::rank::LengthNorm;
use crate::eval::rows::{self, Selection};
use crate::eval::run::{Classify, Metric, Request, Run};
use crate::eval::suite::judged_by;
use crate::eval::{html, templates, words};
use crate::generate::conversation_template;
use crate::open::Opened;
use crate::run::signals::{EXIT_INTERRUPTED, Signals};
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;
use crate::train::held_out;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model folder, or bundled:tiny.
    #[arg(long, required_unless_present = "before")]
    model: Option<String>,
    /// An adapter folder.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Rows with known answers: files, or bundled:NAME.
    #[arg(long, required_unless_present_any = ["before", "held_out_by"])]
    data: Vec<String>,
    /// Instead of --data: the very rows that this run held out and never trained on. Its folder.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "before"])]
    held_out_by: Option<PathBuf>,
    /// Compare two models: this one before tuning, and the one of --after. Both are asked the rows of --suite.
    #[arg(long, value_name = "MODEL", requires = "after", conflicts_with_all = ["model", "data", "shots"])]
    before: Option<String>,
    /// The tuned one: a run's folder, an adapter's or a model's.
    #[arg(long, value_name = "FOLDER", requires = "before")]
    after: Option<String>,
    /// What --before and --after are asked: probes (440 short questions of eleven kinds), or data files.
    #[arg(long, default_value = "probes", requires = "before")]
    suite: Vec<String>,
    /// How a row becomes a question: alpaca, prompt, a template.json, FILE.yaml, FILE.yaml#NAME, or
    /// "jinja:QUESTION ||| ANSWER"; several are compared [default: the one that the adapter or model was trained with].
    #[arg(long)]
    template: Vec<String>,
    /// Which column fills which field: prompt=NAME, input=NAME, answer=NAME.
    #[arg(long, value_name = "FIELD=COLUMN")]
    columns: Vec<String>,
    /// Only rows that have this value there.
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    only: Vec<String>,
    /// At most so many rows, evenly spread.
    #[arg(long, value_name = "ROWS")]
    limit: Option<usize>,
    /// Leave unreadable rows out instead of stopping.
    #[arg(long)]
    skip_bad: bool,
    /// Leave rows out that are longer than the model takes, instead of stopping.
    #[arg(long)]
    drop_long: bool,
    /// What to measure; may be given several times [default: what the rows call for].
    #[arg(long, value_enum)]
    metric: Vec<Metric>,
    /// How labels are got: the likeliest of the answers, or read from a generated answer.
    #[arg(long, value_enum, default_value = "rank")]
    classify: Classify,
    /// What an answer's log-likelihood is divided by.
    #[arg(long, value_enum, default_value = "none")]
    length_norm: LengthNorm,
    /// The answers to choose from, separated by ||| [default: the template's, or those found in the rows].
    #[arg(long, value_name = "A|||B")]
    choices: Option<String>,
    /// Most new tokens of an answer [default: a quarter more than the longest answer in the rows].
    #[arg(long)]
    max_new_tokens: Option<u64>,
    /// What stands before the final answer of a text that reasons [default: ####, the answer is, or answer:].
    #[arg(long, value_name = "TEXT")]
    answer_after: Option<String>,
    /// With --metric final-answer: draw so many answers for each row and take the final answer that most give.
    #[arg(long, default_value_t = 1)]
    votes: usize,
    /// How varied the drawn answers are.
    #[arg(long, default_value_t = 0.7)]
    temperature: f32,
    /// Worked examples before each question.
    #[arg(long, default_value_t = 0, requires = "shots_from")]
    shots: usize,
    /// Rows that worked examples are chosen from; never the asked row itself.
    #[arg(long, value_name = "DATA")]
    shots_from: Option<String>,
    /// Only rows that have this value there become worked examples.
    #[arg(long, value_name = "COLUMN=VALUE")]
    shots_where: Vec<String>,
    /// How they are chosen: random, balanced (over labels) or nearest (by BM25).
    #[arg(long, default_value = "balanced", value_parser = parse_choice)]
    shots_choice: Choice,
    /// How many of the worst rows are shown.
    #[arg(long, default_value_t = 3)]
    worst: usize,
    /// Seed of the intervals and of the choice of worked examples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write everything that was found, row by row.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with tables and plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Tokens in memory at once.
    #[arg(long, default_value_t = 2048)]
    micro_batch_tokens: u64,
    #[command(flatten)]
    machine: Machine,
}

fn parse_choice(text: &str) -> Result<Choice, String> {
    serde_json::from_value(serde_json::Value::String(text.into()))
        .map_err(|_| "expected random, balanced or nearest".to_string())
}

/// NAME=VALUE pairs.
pub(super) fn pairs(flag: &str, texts: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| bad_input(format!("{flag} {text}: expected COLUMN=VALUE")))?;
        Ok((name.to_string(), value.to_string()))
    };
    texts.iter().map(pair).collect()
}

/// Refuses to write where something is already.
pub(super) fn must_be_free(path: Option<&PathBuf>) -> anyhow::Result<()> {
    match path.filter(|p| p.exists()) {
        Some(path) => {
            Err(bad_input(format!("{} is there already; choose another name", path.display())))
        }
        None => Ok(()),
    }
}

/// 130 for an interruption, the error itself otherwise.
pub(super) fn or_interrupted(result: anyhow::Result<()>) -> anyhow::Result<u8> {
    match result {
        Ok(()) => Ok(0),
        Err(error) if is_interruption(&error) => {
            eprintln!("{error}");
            Ok(EXIT_INTERRUPTED as u8)
        }
        Err(error) => Err(error),
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<u8> {
    or_interrupted(evaluate(&args))
}

fn evaluate(args: &Args) -> anyhow::Result<()> {
    if args.max_new_tokens == Some(0) {
        return Err(bad_input("--max-new-tokens 0: an answer needs at least 1"));
    }
    match (&args.before, &args.after, &args.model) {
        (Some(before), Some(after), _) => change::run(args, before, after),
        (_, _, Some(model)) => of_one(args, model),
        _ => Err(bad_input("name a model with --model, or two with --before and --after")),
    }
}

fn device(args: &Args) -> Device {
    Device { machine: args.machine.clone(), micro_batch_tokens: args.micro_batch_tokens }
}

fn of_one(args: &Args, model: &str) -> anyhow::Result<()> {
    must_be_free(args.json.as_ref())?;
    must_be_free(args.html.as_ref())?;
    let signals = Signals::install()?;
    let opened = Opened::open(model, args.adapter.as_deref())?;
    let (paths, rows) = match &args.held_out_by {
        Some(run) => held_out::of_run(run)?,
        None => (args.data.iter().map(|d| judged_by(d)).collect::<anyhow::Result<_>>()?, None),
    };
    let selection = Selection {
        rows,
        only: pairs("--where", &args.only)?,
        limit: args.limit,
        skip_bad: args.skip_bad,
    };
    let data = rows::read(&paths, &selection)?;
    let templates = chosen_templates(args, &opened)?;
    let request = request(args);
    let device = device(args);
    let pool = match args.shots_from.as_ref().filter(|_| args.shots > 0) {
        Some(from) => {
            let only = pairs("--shots-where", &args.shots_where)?;
            let selection = Selection { only, skip_bad: args.skip_bad, ..Selection::default() };
            Some(rows::read(&[bundled::data_path(from)?], &selection)?)
        }
        None => None,
    };
    let shots = pool.as_ref().map(|pool| (pool, args.shots, args.shots_choice));
    let run = Run { opened: &opened, device, request: &request, signals: &signals };
    let mut outcome = run.all(&data, &templates, shots)?;
    outcome.model = model.to_string();
    outcome.adapter = args.adapter.as_ref().map(|a| a.display().to_string());
    outcome.data = match &args.held_out_by {
        Some(run) => vec![format!("the rows that {} held out", run.display())],
        None => args.data.clone(),
    };
    if args.shots > 0 {
        outcome.how.push_str(&format!(", after {} worked examples", args.shots));
    }
    print!("{}", words::text(&outcome, args.worst));
    write(args, &outcome)
}

fn chosen_templates(args: &Args, opened: &Opened) -> anyhow::Result<Vec<Template>> {
    let mut list = Vec::new();
    for name in &args.template {
        list.extend(templates::named(name)?);
    }
    if list.is_empty() {
        list.push(conversation_template(opened, args.adapter.as_deref(), None)?);
    }
    chosen_columns(args, list)
}

fn chosen_columns(args: &Args, list: Vec<Template>) -> anyhow::Result<Vec<Template>> {
    let columns = pairs("--columns", &args.columns)?;
    if let Some((field, _)) =
        columns.iter().find(|(f, _)| !["prompt", "input", "answer"].contains(&f.as_str()))
    {
        return Err(bad_input(format!(
            "--columns {field}: there is no such field; a template reads prompt, input and answer"
        )));
    }
    let get = |field: &str| columns.iter().find(|(f, _)| f == field).map(|(_, c)| c.as_str());
    let with = |t: Template| t.with_columns(get("prompt"), get("input"), get("answer"));
    Ok(list.into_iter().map(with).collect())
}

fn request(args: &Args) -> Request {
    let choices = args.choices.as_deref().unwrap_or("").split("|||").map(str::trim);
    Request {
        metrics: args.metric.clone(),
        classify: args.classify,
        norm: args.length_norm,
        choices: choices.filter(|c| !c.is_empty()).map(str::to_string).collect(),
        max_new_tokens: args.max_new_tokens,
        answer_after: args.answer_after.clone(),
        votes: args.votes,
        temperature: args.temperature,
        drop_long: args.drop_long,
        seed: args.seed,
    }
}

fn write(args: &Args, outcome: &Outcome) -> anyhow::Result<()> {
    let storage = RealStorage;
    if let Some(path) = &args.json {
        replace_file(&storage, path, serde_json::to_string_pretty(outcome)?.as_bytes())?;
        println!("\nEverything, row by row, is in {}", path.display());
    }
    if let Some(path) = &args.html {
        replace_file(&storage, path, html::report(outcome, 20.max(args.worst)).as_bytes())?;
        println!("The report is in {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_stop_while_rows_are_read_is_an_interruption() {
        let stopped = Err::<(), _>(paddock_datasets::Error::Interrupted).context("reading rows");
        assert_eq!(or_interrupted(stopped).expect("a code"), EXIT_INTERRUPTED as u8);
        assert!(or_interrupted(Err(bad_input("no"))).is_err());
    }
}
