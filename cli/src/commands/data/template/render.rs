//! `core-cli data template render`

use std::io::Write;

use paddock_datasets::readers;
use paddock_datasets::record::{BadRow, BadRows};
use paddock_datasets::template::{Compiled, Template, library};
use serde_json::json;

use super::{Reading, tokenizer};
use crate::data::rows::files;
use crate::data::show::{self, Look};
use crate::error::bad_input;
use crate::train::reader::{CHAT, chat_template};

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
    reading: Reading,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let path = files(std::slice::from_ref(&args.data))?.remove(0);
    let tokenizer = tokenizer(args.model.as_ref())?;
    let mut rows = readers::open(&path, &args.reading.options())?;
    eprintln!("{}: {}", path.display(), rows.detected().why);
    let templates = match args.template.as_deref() {
        Some(CHAT) => {
            let tokenizer = tokenizer
                .as_ref()
                .ok_or_else(|| bad_input("the template `chat` is a model's own; give --model"))?;
            vec![chat_template(tokenizer, args.today.as_deref())?]
        }
        Some(name) => library::find(name)?,
        None => vec![Template::for_layout(rows.detected()).ok_or_else(|| {
            let columns = rows.detected().columns.join(", ");
            bad_input(format!("no template suits these columns ({columns}); give --template"))
        })?],
    };
    let compiled: Vec<(String, Compiled)> = templates
        .iter()
        .map(|t| Ok((t.name.clone(), t.compile()?)))
        .collect::<paddock_datasets::Result<_>>()?;
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
        for (name, template) in &compiled {
            let lines = if args.json {
                line(name, template, &record)
            } else {
                template.render(&record).map_err(anyhow::Error::from).and_then(|rendered| {
                    let text = show::row(look, tokenizer.as_ref(), &rendered)?;
                    Ok(format!("── row {}, template {name}\n{text}", record.row))
                })
            };
            match lines {
                Ok(lines) => writeln!(out, "{lines}")?,
                Err(error) => {
                    bad.push(BadRow::not_rendered(&path, &record, name, error.to_string()));
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

fn line(
    name: &str,
    template: &Compiled,
    record: &paddock_datasets::record::Record,
) -> anyhow::Result<String> {
    let parts = template.parts(record)?;
    let object = json!({
        "row": record.row, "template": name, "input": parts.input, "target": parts.target,
    });
    Ok(object.to_string())
}
