//! `core-cli data convert`

use std::path::PathBuf;

use paddock_datasets::record::{BadRow, BadRows, Record};
use paddock_datasets::shots::Prompter;
use paddock_datasets::template::{Compiled, Template, library};
use serde_json::{Map, Value, json};

use super::{Reading, Writing};
use crate::data::output::{Manifest, Output};
use crate::data::rows::{Teller, each_row, files};
use crate::data::shots::{ShotArgs, with_shots};
use crate::error::bad_input;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files.
    #[arg(required = true)]
    files: Vec<String>,
    /// Give a column another name.
    #[arg(long, value_name = "OLD=NEW")]
    rename: Vec<String>,
    /// Keep only these columns (their new names), in this order.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave a column out.
    #[arg(long, value_delimiter = ',')]
    drop: Vec<String>,
    /// Write the text of a column as a number.
    #[arg(long, value_delimiter = ',')]
    number: Vec<String>,
    /// Write another value where a column has this text: label:positive=1. May come often.
    #[arg(long, value_name = "COLUMN:OLD=NEW")]
    replace: Vec<String>,
    /// Add a column with the same text in each row.
    #[arg(long, value_name = "NAME=TEXT")]
    add: Vec<String>,
    /// Write prompt and completion as these templates render the row, one row for each template.
    #[arg(long)]
    template: Option<String>,
    #[command(flatten)]
    shots: ShotArgs,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    writing: Writing,
}

/// A template with its name, and the worked examples for it.
type Named = (String, Compiled, Option<Prompter>);

impl Args {
    fn templates(&self, paths: &[PathBuf], shape: &Shape<'_>) -> anyhow::Result<Vec<Named>> {
        let options = self.reading.options();
        let found = self.template.as_deref().map(library::find).transpose()?.unwrap_or_default();
        let ready = |template: Template| {
            let compiled = template.compile()?;
            let named = (template.name.as_str(), &compiled);
            // Worked examples are rows like those that they stand before.
            let prompter = self.shots.prompter(paths, &options, named, &|row| shape.record(row))?;
            Ok((template.name, compiled, prompter))
        };
        found.into_iter().map(ready).collect()
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let paths = files(&args.files)?;
    let shape = Shape::new(&args)?;
    let templates = args.templates(&paths, &shape)?;
    let mut out = Output::create(&args.writing.out, args.writing.force, &paths)?;
    let mut bad = BadRows::default();
    let mut without_answer = 0u64;
    let mut teller = Teller::new("converted");
    let mut number = 0;
    let mut unseen = Unseen::new(&shape);
    each_row(&paths, &args.reading.options(), &mut teller, &mut |file, record| {
        number += 1;
        unseen.look(&record);
        let record = shape.record(record)?;
        if templates.is_empty() {
            return out.row(&record.columns);
        }
        for (name, template, prompter) in &templates {
            match template.render(&record) {
                Ok(rendered) if rendered.has_empty_answer() => without_answer += 1,
                Ok(rendered) if rendered.answers().len() > 1 => {
                    return Err(bad_input(format!(
                        "row {}: there are several answers in it, and a pair holds one; train on \
                         the file itself, with --template {name}",
                        record.row
                    )));
                }
                Ok(rendered) => {
                    let rendered = with_shots(prompter.as_ref(), rendered, number - 1, None)?;
                    let answer = rendered.last_answer().to_string();
                    out.row(&pair(name, rendered.prompt_only().text, answer))?;
                }
                Err(error) => {
                    let error = error.to_string();
                    bad.push(BadRow::not_rendered(&paths[file], &record, name, error));
                }
            }
        }
        Ok(())
    })?;
    if bad.total > 0 && !args.reading.skip_bad {
        return Err(paddock_datasets::Error::BadRows(bad).into());
    }
    unseen.refuse()?;
    let written = out.finish()?;
    let manifest = Manifest {
        command: "data convert",
        inputs: &paths,
        settings: json!({
            "rename": args.rename, "only": args.only, "drop": args.drop, "number": args.number,
            "replace": args.replace,
            "add": args.add, "template": args.template, "shots": args.shots.settings(),
        }),
        seed: None,
        found: json!({"without_answer": without_answer, "not_rendered": bad.total}),
    };
    manifest.write(&args.writing.out, std::slice::from_ref(&written))?;
    println!("{}: {} rows", args.writing.out.display(), written["rows"]);
    if without_answer > 0 {
        println!("left out: {without_answer} rendered rows with an empty answer");
    }
    if bad.total > 0 {
        println!("left out: {bad}");
    }
    Ok(())
}

fn pair(template: &str, prompt: String, completion: String) -> Map<String, Value> {
    let pairs = [("prompt", prompt), ("completion", completion), ("template", template.into())];
    pairs.into_iter().map(|(name, text)| (name.to_string(), Value::from(text))).collect()
}

/// What becomes of the columns.
struct Shape<'a> {
    args: &'a Args,
    rename: Vec<(&'a str, &'a str)>,
    add: Vec<(&'a str, &'a str)>,
    replace: Vec<(&'a str, &'a str, &'a str)>,
}

impl Shape<'_> {
    fn new(args: &Args) -> anyhow::Result<Shape<'_>> {
        let pairs = |flag: &str, list: &'_ [String]| -> anyhow::Result<()> {
            match list.iter().find(|text| !text.contains('=')) {
                None => Ok(()),
                Some(text) => Err(bad_input(format!("--{flag} {text}: expected NAME=NAME"))),
            }
        };
        pairs("rename", &args.rename)?;
        pairs("add", &args.add)?;
        let rename = args.rename.iter().filter_map(|text| text.split_once('=')).collect();
        let add = args.add.iter().filter_map(|text| text.split_once('=')).collect();
        let mut replace = Vec::new();
        for text in &args.replace {
            let cut = text.split_once(':').and_then(|(column, rest)| {
                rest.split_once('=').map(|(old, new)| (column, old, new))
            });
            replace.push(
                cut.ok_or_else(|| bad_input(format!("--replace {text}: expected COLUMN:OLD=NEW")))?,
            );
        }
        Ok(Shape { args, rename, add, replace })
    }

    /// Whether a row has the column that a flag names: by its old name to drop it, by its new one otherwise.
    fn has(&self, record: &Record, flag: &str, name: &str) -> bool {
        if flag == "drop" {
            return record.get(name).is_some();
        }
        self.add.iter().any(|(new, _)| *new == name)
            || record.names().any(|old| self.new_name(old) == name)
    }

    fn new_name<'a>(&'a self, old: &'a str) -> &'a str {
        self.rename.iter().find(|(name, _)| *name == old).map_or(old, |(_, new)| new)
    }

    fn record(&self, record: Record) -> anyhow::Result<Record> {
        Ok(Record { columns: self.apply(&record)?, ..record })
    }

    fn apply(&self, record: &Record) -> anyhow::Result<Map<String, Value>> {
        let missing = |name: &str| {
            let known: Vec<&str> = record.names().collect();
            let (row, known) = (record.row, known.join(", "));
            bad_input(format!("row {row}: there is no column {name:?}; there are {known}"))
        };
        if let Some((old, _)) = self.rename.iter().find(|(old, _)| record.get(old).is_none()) {
            return Err(missing(old));
        }
        let mut columns = Map::new();
        for (name, value) in &record.columns {
            if self.args.drop.contains(name) {
                continue;
            }
            let new = self.new_name(name);
            let other = value.as_str().and_then(|text| {
                self.replace.iter().find(|(column, old, _)| *column == new && *old == text)
            });
            let value = &other.map_or_else(|| value.clone(), |(_, _, text)| Value::from(*text));
            let value = match value {
                Value::String(text) if self.args.number.iter().any(|n| n == new) => number(text)
                    .map_err(|why| {
                        let row = record.row;
                        bad_input(format!("row {row}: column {new:?} is {text:?}, {why}"))
                    })?,
                value => value.clone(),
            };
            if columns.insert(new.to_string(), value).is_some() {
                let row = record.row;
                return Err(bad_input(format!("row {row}: two columns would be called {new:?}")));
            }
        }
        for (name, text) in &self.add {
            columns.insert((*name).to_string(), Value::from(*text));
        }
        if self.args.only.is_empty() {
            return Ok(columns);
        }
        let pick = |name: &String| {
            let value = columns.get(name).cloned().ok_or_else(|| missing(name))?;
            Ok((name.clone(), value))
        };
        self.args.only.iter().map(pick).collect()
    }
}

/// Columns that a flag names, and that no row has had so far.
struct Unseen<'a> {
    shape: &'a Shape<'a>,
    left: Vec<(&'static str, &'a str)>,
    /// The columns of the first row.
    known: Option<String>,
}

impl<'a> Unseen<'a> {
    fn new(shape: &'a Shape<'a>) -> Unseen<'a> {
        let drop = shape.args.drop.iter().map(|name| ("drop", name.as_str()));
        let replace = shape.replace.iter().map(|(name, ..)| ("replace", *name));
        let number = shape.args.number.iter().map(|name| ("number", name.as_str()));
        Unseen { shape, left: drop.chain(replace).chain(number).collect(), known: None }
    }

    fn look(&mut self, record: &Record) {
        self.left.retain(|(flag, name)| !self.shape.has(record, flag, name));
        self.known.get_or_insert_with(|| record.names().collect::<Vec<_>>().join(", "));
    }

    /// Refuses a name that no row has: it is misspelt, and its flag has changed nothing.
    fn refuse(&self) -> anyhow::Result<()> {
        match (self.left.first(), &self.known) {
            (Some((flag, name)), Some(known)) => Err(bad_input(format!(
                "--{flag} {name}: no row has a column of that name; the first row has {known}"
            ))),
            _ => Ok(()),
        }
    }
}

/// The number that a text says, or why it is none.
fn number(text: &str) -> Result<Value, &'static str> {
    let text = text.trim();
    if let Ok(whole) = text.parse::<i64>() {
        return Ok(whole.into());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Ok(whole.into());
    }
    let number: f64 = text.parse().map_err(|_| NO_NUMBER)?;
    let digits = text.trim_start_matches(['+', '-']);
    // Beyond 64 bits only some whole numbers can be kept, and another one would be written silently.
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_whole && format!("{:.0}", number.abs()) != digits.trim_start_matches('0') {
        return Err("a whole number too long to be kept as it is; leave the column as text");
    }
    if number.is_finite() { Ok(number.into()) } else { Err(NO_NUMBER) }
}

const NO_NUMBER: &str = "not a number";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_kept_to_the_last_digit_or_refused() {
        let max = u64::MAX.to_string();
        assert_eq!(number(&max), Ok(json!(u64::MAX)));
        assert_eq!(number("-9223372036854775808"), Ok(json!(i64::MIN)));
        assert_eq!(number(" +007 "), Ok(json!(7)));
        // 2^64 is a float, and the number after it is none.
        assert_eq!(number("018446744073709551616"), Ok(json!(18_446_744_073_709_551_616.0)));
        for text in ["18446744073709551617", "-9223372036854775809", &"9".repeat(400)] {
            assert!(number(text).is_err_and(|why| why.starts_with("a whole number too long")));
        }
        assert_eq!(number("1e300"), Ok(json!(1e300)));
        for text in ["", "one", "NaN", "1e999", "--5"] {
            assert_eq!(number(text), Err(NO_NUMBER), "{text}");
        }
    }
}
