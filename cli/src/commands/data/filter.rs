//! `core-cli data filter`

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use paddock_datasets::curate::{Filters, Verdict};
use paddock_datasets::language::{codes, language};
use serde_json::json;

use super::Reading;
use crate::data::output::{Manifest, Output};
use crate::data::rows::{Teller, each_row, files, judged_text};
use crate::data::show::short;
use crate::error::bad_input;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files.
    #[arg(required = true)]
    files: Vec<String>,
    /// Fewest words.
    #[arg(long)]
    min_words: Option<usize>,
    /// Most words.
    #[arg(long)]
    max_words: Option<usize>,
    /// Largest share of three-word pieces that repeat an earlier one, from 0 to 1.
    #[arg(long)]
    max_repetition: Option<f64>,
    /// Smallest share of letters among the characters that are no blanks, from 0 to 1.
    #[arg(long)]
    min_letters: Option<f64>,
    /// A file with a word or phrase a line; rows that hold one would go.
    #[arg(long, value_name = "FILE")]
    blocklist: Option<PathBuf>,
    /// Keep rows in this language only (a code such as en); rows too short to tell stay.
    #[arg(long)]
    language: Option<String>,
    /// Judge these columns only [default: all].
    #[arg(long, value_delimiter = ',')]
    on: Vec<String>,
    /// Write the rows that stay to this file; without it nothing is written.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
    /// How many rows to show.
    #[arg(long, default_value_t = 10)]
    show: usize,
    #[command(flatten)]
    reading: Reading,
}

impl Args {
    fn filters(&self) -> anyhow::Result<Filters> {
        for (flag, share) in
            [("max-repetition", self.max_repetition), ("min-letters", self.min_letters)]
        {
            if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return Err(bad_input(format!("--{flag} must be from 0 to 1")));
            }
        }
        if let Some(code) = self.language.as_deref().filter(|code| !codes().any(|c| c == *code)) {
            let known: Vec<&str> = codes().collect();
            let known = known.join(", ");
            return Err(bad_input(format!("--language {code}: expected one of {known}")));
        }
        let blocklist = match &self.blocklist {
            None => Vec::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| bad_input(format!("{}: {e}", path.display())))
                .context("--blocklist")?
                .lines()
                .map(|line| line.trim().to_string())
                .filter(|line| line.chars().any(char::is_alphanumeric))
                .collect(),
        };
        let filters = Filters {
            min_words: self.min_words,
            max_words: self.max_words,
            max_repetition: self.max_repetition,
            min_letters: self.min_letters,
            blocklist,
        };
        if filters == Filters::default() && self.language.is_none() {
            return Err(bad_input(
                "no filter is given; see core-cli data filter --help, such as --min-words 3",
            ));
        }
        Ok(filters)
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let filters = args.filters()?;
    let paths = files(&args.files)?;
    let mut out = match &args.out {
        Some(path) => Some(Output::create(path, args.force, &paths)?),
        None => None,
    };
    let mut gone: BTreeMap<String, u64> = BTreeMap::new();
    let (mut all, mut shown) = (0u64, 0);
    let mut teller = Teller::new("judged");
    each_row(&paths, &args.reading.options(), &mut teller, &mut |file, record| {
        all += 1;
        let text = judged_text(&record, &args.on)?;
        let reason = filters.verdict(&text).map(|verdict| words(&verdict));
        let reason = reason.or_else(|| {
            let (wanted, found) = (args.language.as_deref()?, language(&text)?);
            (wanted != found).then(|| (format!("in language {found}"), String::new()))
        });
        let Some((reason, detail)) = reason else {
            return out.as_mut().map_or(Ok(()), |out| out.row(&record.columns));
        };
        if shown < args.show {
            shown += 1;
            let (path, row) = (paths[file].display(), record.row);
            println!("{path} row {row}: {reason}{detail}\n    {}", short(&text, 90));
        }
        *gone.entry(reason).or_default() += 1;
        Ok(())
    })?;
    let total: u64 = gone.values().sum();
    if total > shown as u64 {
        println!("… and {} more", total - shown as u64);
    }
    for (reason, count) in &gone {
        println!("{count:>9} {reason}");
    }
    println!("{total} of {all} rows would go, {} would stay", all - total);
    let (Some(out), Some(path)) = (out, &args.out) else {
        println!("nothing was written; give --out FILE to write the rows that stay");
        return Ok(());
    };
    let written = out.finish()?;
    let manifest = Manifest {
        command: "data filter",
        inputs: &paths,
        settings: json!({"filters": filters, "language": args.language, "on": args.on}),
        seed: None,
        found: json!({"rows": all, "gone": gone}),
    };
    manifest.write(path, std::slice::from_ref(&written))?;
    println!("{}: {} rows", path.display(), written["rows"]);
    Ok(())
}

/// The reason, and what was found.
fn words(verdict: &Verdict) -> (String, String) {
    let (reason, detail) = match verdict {
        Verdict::TooShort(words) => ("too few words", format!(" ({words})")),
        Verdict::TooLong(words) => ("too many words", format!(" ({words})")),
        Verdict::Repeats(share) => ("repeats itself", format!(" ({:.0}%)", share * 100.0)),
        Verdict::FewLetters(share) => ("few letters", format!(" ({:.0}%)", share * 100.0)),
        Verdict::Blocked(phrase) => ("holds a blocked phrase", format!(" ({phrase})")),
    };
    (reason.to_string(), detail)
}
