//! `core-cli data template check`

use paddock_datasets::template::{check, clusters, library};

use super::{Reading, first_rows, templates, tokenizer};
use crate::data::rows::files;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The template or templates: a built-in name, cluster:NAME, a file, perhaps with #NAME, or chat for
    /// the model's own.
    template: String,
    /// Data to try them on: the first rows are rendered.
    #[arg(long)]
    data: Option<String>,
    /// A model whose tokenizer shows how the rows look as tokens.
    #[arg(long)]
    model: Option<String>,
    /// How many rows to try.
    #[arg(long, default_value_t = 200)]
    rows: usize,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the command: exit code 2 if anything is wrong.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let tokenizer = tokenizer(args.model.as_ref())?;
    let templates = templates(&args.template, tokenizer.as_ref(), None)?;
    let (columns, rows) = match &args.data {
        Some(name) => {
            let path = files(std::slice::from_ref(name))?.remove(0);
            first_rows(&path, &args.reading, args.rows.max(1))?
        }
        None => examples(&args.template)?,
    };
    let mut wrong = 0;
    for template in &templates {
        let faults = check::check(template, &columns, &rows, tokenizer.as_ref());
        for fault in &faults {
            println!("{fault}");
        }
        wrong += usize::from(!faults.is_empty());
    }
    let tried = match rows.len() {
        0 => "no rows were tried (give --data)".to_string(),
        n => format!("{n} rows tried"),
    };
    println!("{} of {} templates are good; {tried}", templates.len() - wrong, templates.len());
    Ok(if wrong == 0 { 0 } else { 2 })
}

/// A cluster that comes with the program has rows of its own to try.
fn examples(name: &str) -> anyhow::Result<(Vec<String>, Vec<paddock_datasets::record::Record>)> {
    let cluster = name.strip_prefix(library::CLUSTER).and_then(|n| n.split('/').next());
    let Some(cluster) = cluster.and_then(clusters::bundled).transpose()? else {
        return Ok((Vec::new(), Vec::new()));
    };
    let columns = cluster.columns.keys().chain(cluster.optional_columns.keys()).cloned().collect();
    Ok((columns, cluster.examples))
}
