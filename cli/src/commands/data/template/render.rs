//! `core-cli data template render`

use std::io::Write;

use paddock_datasets::readers;
use paddock_datasets::record::{BadRow, BadRows, Record};
use paddock_datasets::shots::Prompter;
use paddock_datasets::template::{Compiled, Rendered, Template};
use serde_json::json;

use super::{Reading, templates, tokenizer};
use crate::data::rows::files;
use crate::data::shots::{ShotArgs, with_shots};
use crate::data::show::{self, Look};
use crate::error::bad_input;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The template or templates: a built-in name, cluster:NAME, a file, perhaps with #NAME; `chat` is the
    /// model's own [default: what the data's layout calls for].
    #[arg(long)]
    template: Option<String>,
    /// The rows.
    #[arg(long)]
    data: String,
    /// A model: rows are shown as its tokens, with BOS and EOS.
    #[arg(long)]
    model: Option<String>,
    /// The day that a chat template may tell, such as 2026-01-31 [default: the day of today, in UTC].
    #[arg(long, value_name = "DAY")]
    today: Option<String>,
    /// Show so many rows [default: 3; all with --json].
    #[arg(long)]
    rows: Option<u64>,
    /// Print one JSON line a row and template: row, template, input, target.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shots: ShotArgs,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let path = files(std::slice::from_ref(&args.data))?.remove(0);
    let tokenizer = tokenizer(args.model.as_ref())?;
    let mut rows = readers::open(&path, &args.reading.options())?;
    eprintln!("{}: {}", path.display(), rows.detected().why);
    let templates = match args.template.as_deref() {
        Some(name) => templates(name, tokenizer.as_ref(), args.today.as_deref())?,
        None => vec![Template::for_layout(rows.detected()).ok_or_else(|| {
            let columns = rows.detected().columns.join(", ");
            bad_input(format!("no template suits these columns ({columns}); give --template"))
        })?],
    };
    let mut compiled: Vec<One> = Vec::new();
    for template in &templates {
        let (name, template) = (template.name.clone(), template.compile()?);
        let options = args.reading.options();
        let (paths, named) = (std::slice::from_ref(&path), (name.as_str(), &template));
        let prompter = args.shots.prompter(paths, &options, named, &Ok)?;
        compiled.push(One { name, template, prompter });
    }
    let most = args.rows.unwrap_or(if args.json { u64::MAX } else { 3 });
    let look = Look::of_stdout();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if !args.json {
        writeln!(out, "{}", look.legend())?;
    }
    let mut bad = BadRows::default();
    let mut shown = 0;
    while shown < most {
        let Some(item) = rows.next() else { break };
        let record = match item {
            Ok(record) => record,
            Err(broken) => {
                let fatal = broken.fatal;
                bad.push(broken);
                if fatal {
                    break;
                }
                continue;
            }
        };
        shown += 1;
        for one in &compiled {
            let lines = if args.json {
                one.line(&record)
            } else {
                one.rendered(&record).and_then(|rendered| {
                    let text = show::row(look, tokenizer.as_ref(), &rendered)?;
                    Ok(format!("── row {}, template {}\n{text}", record.row, one.name))
                })
            };
            match lines {
                Ok(lines) => writeln!(out, "{lines}")?,
                Err(error) => {
                    bad.push(BadRow::not_rendered(&path, &record, &one.name, error.to_string()));
                }
            }
        }
    }
    out.flush()?;
    if bad.total > 0 && !args.reading.skip_bad {
        return Err(paddock_datasets::Error::BadRows(bad).into());
    }
    Ok(())
}

/// A template ready to render, perhaps with worked examples.
struct One {
    name: String,
    template: Compiled,
    prompter: Option<Prompter>,
}

impl One {
    fn rendered(&self, record: &Record) -> anyhow::Result<Rendered> {
        let rendered = self.template.render(record)?;
        with_shots(self.prompter.as_ref(), rendered, record.row, None)
    }

    fn line(&self, record: &Record) -> anyhow::Result<String> {
        let mut parts = self.template.parts(record)?;
        if self.prompter.is_some() {
            let rendered = self.rendered(record)?;
            parts.input = rendered.prompt_only().text;
        }
        let object = json!({
            "row": record.row, "template": self.name, "input": parts.input, "target": parts.target,
        });
        Ok(object.to_string())
    }
}
