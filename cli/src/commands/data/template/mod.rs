//! `core-cli data template …`

mod check;
mod list;
mod new;
mod render;
mod show;

use std::path::Path;

use clap::Subcommand;
use paddock_datasets::readers;
use paddock_datasets::record::Record;
use paddock_datasets::template::{Template as Chosen, library};
use paddock_datasets::tokenizer::Tokenizer;

use super::Reading;
use crate::error::bad_input;
use crate::open::model_path;
use crate::train::reader::{CHAT, chat_template};

/// What to do with templates.
#[derive(Debug, Subcommand)]
pub enum Template {
    /// List the templates that come with the program, or those of a file or cluster.
    List(list::Args),
    /// Print a template's source and what it reads.
    Show(show::Args),
    /// Write a template file to begin with, made for a data file's columns.
    New(new::Args),
    /// Refuse templates that read unknown columns, leave answers empty or begin with two BOS tokens.
    Check(check::Args),
    /// Show rows as the model is going to see them, trained tokens apart from the others.
    Render(render::Args),
}

/// Runs the command.
pub fn run(command: Template) -> anyhow::Result<u8> {
    match command {
        Template::List(args) => list::run(args).map(|()| 0),
        Template::Show(args) => show::run(args).map(|()| 0),
        Template::New(args) => new::run(args).map(|()| 0),
        Template::Check(args) => check::run(args),
        Template::Render(args) => render::run(args).map(|()| 0),
    }
}

/// Columns of a data file and its first good rows.
fn first_rows(
    path: &Path,
    reading: &Reading,
    most: usize,
) -> anyhow::Result<(Vec<String>, Vec<Record>)> {
    let options = reading.options();
    let mut rows = readers::open(path, &options)?;
    let detected = rows.detected().clone();
    eprintln!("{}: {} ({}): {}", path.display(), detected.format, detected.layout, detected.why);
    let mut good = Vec::new();
    for item in &mut rows {
        match item {
            Ok(record) => good.push(record),
            Err(bad) if !options.skip_bad => return Err(bad_input(bad.to_string())),
            Err(_) => {}
        }
        if good.len() >= most {
            break;
        }
    }
    if good.is_empty() {
        return Err(bad_input(format!("{}: there is no row in it", path.display())));
    }
    Ok((detected.columns, good))
}

/// All templates that a person names; `chat` is the model's own.
fn templates(
    name: &str,
    tokenizer: Option<&Tokenizer>,
    today: Option<&str>,
) -> anyhow::Result<Vec<Chosen>> {
    if name != CHAT {
        return Ok(library::find(name)?);
    }
    let tokenizer =
        tokenizer.ok_or_else(|| bad_input("the template `chat` is a model's own; give --model"))?;
    Ok(vec![chat_template(tokenizer, today)?])
}

fn tokenizer(model: Option<&String>) -> anyhow::Result<Option<Tokenizer>> {
    model.map(|model| Ok(Tokenizer::load(&model_path(model)?)?)).transpose()
}
