//! The subcommands, one small file each.

mod bench;
mod bench_data;
mod bench_generate;
mod bench_model;
mod bench_train;
mod bench_work;
mod chat;
mod compare;
mod data;
mod doctor;
mod eval;
mod export;
mod generate;
mod judge;
mod plan;
mod pretrain;
mod score;
mod sweep;
mod train;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use paddock_core::decode::Sampler;

use crate::error::exit_code;
use crate::open::Machine;
use crate::run::process::orderly;
use crate::wrap::{folded, of_stderr};

/// What stands above all commands.
const ABOUT: &str =
    "Paddock teaches a language model (a LLaMA) to answer as your examples do, on this machine.

Begin with these two; the first needs nothing but this program and takes about two minutes:
  core-cli train --model bundled:tiny --data bundled:stories
  core-cli train --model MODEL_FOLDER --data rows.csv";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "core-cli", version, about = ABOUT, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fine-tune a model on your rows.
    Train(train::Args),
    /// Say what a training run would need, without starting it.
    Plan(plan::Args),
    /// Make a model from raw text, or let one read more of it.
    Pretrain(pretrain::Args),
    /// Print how well a model predicts the answers of your rows, a JSON line a row.
    Score(score::Args),
    /// Measure how good a model's answers are.
    Eval(Box<eval::Args>),
    /// Compare prompting, fine-tuning and a plain classifier on your labelled rows.
    Compare(compare::Args),
    /// Try settings of a run, choose by the validation rows, test once.
    Sweep(sweep::Args),
    /// Have answers graded or compared by a model, an endpoint or a person.
    #[command(subcommand)]
    Judge(judge::Judge),
    /// Answer one prompt, or every row of a file.
    Generate(generate::Args),
    /// Talk with a model.
    Chat(chat::Args),
    /// Write a model as a Hugging Face folder, with an adapter merged into it.
    Export(export::Args),
    /// Look at data files and templates; split, mix, clean and convert rows.
    #[command(subcommand)]
    Data(data::Data),
    /// Measure the speed of this machine.
    Bench(bench::Args),
    /// Compute random cases of every op on a device and say whether they are right.
    Verify(verify::Args),
    /// Say what this machine can do.
    Doctor(doctor::Args),
}

/// Runs a command and turns its end into an exit code: 0 done, 1 failed, 2 bad usage or input, 3 the
/// device is lost or hangs, 130 interrupted after saving.
pub fn run(cli: Cli) -> ExitCode {
    orderly(|| answer(cli))
}

fn answer(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Train(args) => train::run(args),
        Command::Plan(args) => plan::run(args).map(|()| 0),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Score(args) => score::run(args).map(|()| 0),
        Command::Eval(args) => eval::run(*args),
        Command::Compare(args) => compare::run(args),
        Command::Sweep(args) => sweep::run(args),
        Command::Judge(command) => judge::run(command),
        Command::Generate(args) => generate::run(args),
        Command::Chat(args) => chat::run(args).map(|()| 0),
        Command::Export(args) => export::run(args).map(|()| 0),
        Command::Data(command) => data::run(command),
        Command::Bench(args) => bench::run(args).map(|()| 0),
        Command::Verify(args) => verify::run(args).map(|()| 0),
        Command::Doctor(args) => doctor::run(args).map(|()| 0),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // A reader that has gone away must not hide the reason.
            let text = folded(&format!("error: {}", sentence(&error)), of_stderr(), 0);
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Each cause once: some errors already tell their source.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// How new tokens are chosen.
#[derive(Clone, Debug, clap::Args)]
struct Sampling {
    /// Most new tokens.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: u32,
    /// 0 always takes the likeliest token; more is more varied.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Choose among the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Choose among so many of the likeliest tokens (0: all).
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    /// Above 1: repeat less.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Seed of the choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Sampling {
    fn generation(&self) -> anyhow::Result<crate::generate::Generation> {
        let bad = |what: &str| Err(crate::error::bad_input(what.to_string()));
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return bad("--temperature must be 0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("--top-p must be above 0 and at most 1");
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return bad("--repetition-penalty must be above 0");
        }
        Ok(crate::generate::Generation {
            max_new_tokens: self.max_new_tokens,
            sampler: Sampler {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                repetition_penalty: self.repetition_penalty,
            },
            seed: self.seed,
        })
    }
}
