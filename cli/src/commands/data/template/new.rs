//! `core-cli data template new`

use std::path::PathBuf;

use anyhow::Context;
use paddock_datasets::inspect::{Lens, inspect};

use super::Reading;
use crate::data::rows::{Teller, files};
use crate::error::bad_input;
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write, ending in .yaml.
    file: PathBuf,
    /// The data that it is for.
    #[arg(long)]
    data: String,
    /// The column that holds the answer [default: the likely label column, else the last one].
    #[arg(long)]
    answer: Option<String>,
    /// Replace a file that is there already.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let path = &args.file;
    if !path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
        return Err(bad_input(format!("{}: a template file's name ends in .yaml", path.display())));
    }
    if path.exists() && !args.force {
        return Err(bad_input(format!(
            "{} is there already; give --force to replace it, or another name",
            path.display()
        )));
    }
    let data = files(std::slice::from_ref(&args.data))?.remove(0);
    let options = args.reading.options();
    let teller = &mut Teller::new("read");
    let (_, found) = inspect(&data, &options, Lens::default(), teller)?;
    let names: Vec<&str> = found.columns.iter().map(|c| c.name.as_str()).collect();
    let fits = |name: &&str| {
        !name.starts_with(|c: char| c.is_numeric())
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let named: Vec<&str> = names.iter().copied().filter(fits).collect();
    let label = found.label_column().map(|c| c.name.as_str());
    let answer = match &args.answer {
        Some(name) if names.contains(&name.as_str()) => name.as_str(),
        Some(name) => {
            let known = names.join(", ");
            return Err(bad_input(format!("there is no column {name:?}; there are {known}")));
        }
        None => label.or(named.last().copied()).ok_or_else(|| {
            bad_input("no column of this file has a name that a template can use")
        })?,
    };
    let values = found.columns.iter().find(|c| c.name == answer).and_then(|c| c.values.as_ref());
    // Whole numbers from 0 up are places in a list of words; anything else is the answer itself.
    let words = values.filter(|values| {
        values.len() >= 2 && (0..values.len()).all(|place| values.contains_key(&place.to_string()))
    });
    let text = source(&named, answer, words.map(|w| w.len()));
    replace_file(&RealStorage, path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}: written for {} of columns {}", path.display(), data.display(), names.join(", "));
    println!(
        "try it: core-cli data template render --template {} --data {}",
        path.display(),
        args.data
    );
    Ok(())
}

fn source(columns: &[&str], answer: &str, choices: Option<usize>) -> String {
    let mut jinja = String::new();
    for name in columns.iter().filter(|name| **name != answer) {
        jinja.push_str(&format!("      {name}: {{{{ {name} }}}}\n"));
    }
    let (target, words) = match choices {
        Some(count) => {
            let words: Vec<String> = (0..count).map(|n| format!("word for {n}")).collect();
            (format!("answer_choices[{answer}]"), words.join(" ||| "))
        }
        None => (answer.to_string(), String::new()),
    };
    let choices =
        if words.is_empty() { String::new() } else { format!("    answer_choices: {words}\n") };
    format!(
        "# Jinja: what is given, then |||, then the answer. {{{{ name }}}} is a column.\n\
         templates:\n  first:\n    name: first\n{choices}    jinja: |-\n{jinja}      {answer}: \
         ||| {{{{ {target} }}}}\n    metadata:\n      original_task: true\n      metrics: []\n"
    )
}
