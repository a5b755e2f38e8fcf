//! `core-cli judge`: answers graded or compared by a model, an endpoint or a person.

use std::path::PathBuf;
use std::time::Duration;

use paddock_datasets::template::Template;

use super::eval::or_interrupted;
use crate::answers::not_an_input;
use crate::error::bad_input;
use crate::eval::engine::Device;
use crate::eval::progress::Progress;
use crate::eval::templates;
use crate::judge::course::Course;
use crate::judge::http::Endpoint;
use crate::judge::judges::{ModelJudge, Person, fits};
use crate::judge::rubric::Rubric;
use crate::judge::summary::{agreement, summary};
use crate::judge::{published, rows};
use crate::open::{Machine, Opened};
use crate::run::signals::Signals;

#[derive(Debug, clap::Subcommand)]
pub enum Judge {
    /// Have answers judged, row by row; what is judged already is not judged again.
    Rate(Rate),
    /// Sum up files of judgements: win rates, mean grades. Reads AlpacaEval's annotations and Vicuna's reviews, too.
    Show(Show),
    /// How far two judges agree on the same rows.
    Agree(Agree),
}

#[derive(Debug, clap::Args)]
pub struct Rate {
    /// Rows with a question and an answer: JSONL, JSON, CSV; or chats in `messages`.
    #[arg(long)]
    answers: String,
    /// Other answers to the same questions, to be compared with.
    #[arg(long)]
    against: Option<String>,
    /// likert (1 to 6), absolute (fail, pass, excellent), safety (unsafe, refuses, helpful), pairwise, or a TOML file.
    #[arg(long)]
    rubric: Option<String>,
    /// Who judges: person, http://HOST:PORT/v1 (OpenAI's protocol), or a model folder.
    #[arg(long)]
    judge: String,
    /// The model's name at the endpoint.
    #[arg(long, default_value = "default")]
    judge_model: String,
    /// How the question is put to a model folder: a template's name [default: as it is].
    #[arg(long)]
    judge_template: Option<String>,
    /// Seconds to wait for the endpoint.
    #[arg(long, default_value_t = 60.0)]
    timeout: f64,
    /// The file of judgements; it is added to.
    #[arg(long)]
    out: PathBuf,
    /// At most so many rows, evenly spread.
    #[arg(long)]
    limit: Option<usize>,
    /// Seed of the order in which a person sees rows and answers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    machine: Machine,
}

#[derive(Debug, clap::Args)]
pub struct Show {
    /// Files of judgements.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Agree {
    /// Judgements of one judge.
    first: PathBuf,
    /// Judgements of the other.
    second: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(command: Judge) -> anyhow::Result<u8> {
    match command {
        Judge::Rate(args) => or_interrupted(rate(&args)),
        Judge::Show(args) => show(&args).map(|()| 0),
        Judge::Agree(args) => agree(&args).map(|()| 0),
    }
}

fn rate(args: &Rate) -> anyhow::Result<()> {
    let usual = if args.against.is_some() { "pairwise" } else { "likert" };
    let rubric = Rubric::named(args.rubric.as_deref().unwrap_or(usual))?;
    fits(&rubric, args.against.is_some())?;
    if !(args.timeout > 0.0 && args.timeout <= 86_400.0) {
        return Err(bad_input("--timeout must be above 0 and at most 86400 seconds"));
    }
    let inputs: Vec<&String> = std::iter::once(&args.answers).chain(&args.against).collect();
    not_an_input(&args.out, &inputs)?;
    let rows = rows::load(&args.answers, args.against.as_deref(), args.limit)?;
    let signals = Signals::install()?;
    let blind = args.judge == "person";
    let judge = match args.judge.starts_with("http") {
        true => format!("{} {}", args.judge, args.judge_model),
        false => args.judge.clone(),
    };
    let by_model = !blind && !args.judge.starts_with("http");
    let template = match args.judge_template.as_ref().filter(|_| by_model) {
        Some(name) => templates::named(name)?.into_iter().next(),
        None => None,
    };
    let course = Course {
        rubric: &rubric,
        judge,
        template: template.as_ref().map(Template::hash),
        blind,
        seed: args.seed,
        out: &args.out,
    };
    let result = if blind {
        let (mut from, mut to) = (std::io::stdin().lock(), std::io::stderr());
        let mut person = Person { from: &mut from, to: &mut to };
        course.run(&rows, &mut person, &mut Progress::quiet(&signals))
    } else if args.judge.starts_with("http") {
        let patience = Duration::from_secs_f64(args.timeout);
        let mut endpoint = Endpoint::new(&args.judge, &args.judge_model, patience)?;
        course.run(&rows, &mut endpoint, &mut Progress::new("judging", rows.len(), &signals))
    } else {
        let opened = Opened::open(&args.judge, None)?;
        let device = Device { machine: args.machine.clone(), micro_batch_tokens: 2048 };
        let mut model = ModelJudge { opened: &opened, template, device, signals: &signals };
        course.run(&rows, &mut model, &mut Progress::new("judging", rows.len(), &signals))
    };
    let before = result.inspect_err(|_| {
        eprintln!("what is judged is kept in {}; the same command goes on", args.out.display());
    })?;
    if before > 0 {
        eprintln!("{before} of {} rows were judged already", rows.len());
    }
    tell(&course, &rows)
}

/// Sums up the judgements of these rows; what else the file holds is only counted.
fn tell(course: &Course, rows: &[rows::Asked]) -> anyhow::Result<()> {
    let (own, others) = course.own(rows)?;
    if others > 0 {
        eprintln!(
            "{others} other judgements in {} are passed over: of other answers, by another judge or with \
             another rubric",
            course.out.display()
        );
    }
    if own.is_empty() {
        println!("  no row is judged yet");
        return Ok(());
    }
    print!("{}", summary(&published::of(&own)).text());
    Ok(())
}

fn show(args: &Show) -> anyhow::Result<()> {
    for file in &args.files {
        let found = summary(&published::load(file)?);
        match args.json {
            true => println!("{}", serde_json::to_string(&found)?),
            false => print!("{}\n{}", file.display(), found.text()),
        }
    }
    Ok(())
}

fn agree(args: &Agree) -> anyhow::Result<()> {
    let found = agreement(&published::load(&args.first)?, &published::load(&args.second)?)?;
    match args.json {
        true => println!("{}", serde_json::to_string(&found)?),
        false => print!("{}", found.text()),
    }
    Ok(())
}
