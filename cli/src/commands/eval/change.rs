//! `core-cli eval --before BASE --after TUNED --suite probes`: what tuning has gained and lost.

use std::path::Path;

use super::{Args, chosen_columns, device, must_be_free, pairs, request};
use crate::error::bad_input;
use crate::eval::change::changes;
use crate::eval::rows::Selection;
use crate::eval::run::{Metric, Run};
use crate::eval::suite::{Scored, Suite, load};
use crate::eval::templates;
use crate::open::Opened;
use crate::run::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;

/// Asks both models and shows the change.
pub(super) fn run(args: &Args, before: &str, after: &str) -> anyhow::Result<()> {
    must_be_free(args.json.as_ref())?;
    must_be_free(args.html.as_ref())?;
    if args.template.len() > 1 {
        return Err(bad_input("--before and --after take one --template, for both sides"));
    }
    let template = match args.template.first() {
        Some(name) => {
            let mut found = chosen_columns(args, templates::named(name)?)?;
            match (found.pop(), found.len()) {
                (Some(template), 0) => Some(template),
                _ => return Err(bad_input(format!("--template {name} names several; name one"))),
            }
        }
        None => None,
    };
    let signals = Signals::install()?;
    let selection = Selection {
        rows: None,
        only: pairs("--where", &args.only)?,
        limit: args.limit,
        skip_bad: args.skip_bad,
    };
    let suites = load(&args.suite, &selection)?;
    let share = share(&suites, &args.metric)?;
    let request = request(args);
    let ask = |opened: &Opened| -> anyhow::Result<Vec<Scored>> {
        let run = Run { opened, device: device(args), request: &request, signals: &signals };
        let mut all = Vec::new();
        for suite in &suites {
            all.extend(Suite::ask(suite, &run, template.as_ref())?);
        }
        Ok(all)
    };
    let first = ask(&Opened::open(before, args.adapter.as_deref())?)?;
    let second = ask(&tuned(before, after)?)?;
    let mut found = changes(&first, &second, share);
    if found.all.rows == 0 {
        return Err(bad_input(
            "the two models were asked no row in common: all others are too long",
        ));
    }
    (found.before, found.after) = (before.to_string(), after.to_string());
    found.suites.clone_from(&args.suite);
    print!("{}", found.text());
    if let Some(path) = &args.json {
        replace_file(&RealStorage, path, serde_json::to_string_pretty(&found)?.as_bytes())?;
        println!("\nEverything is in {}", path.display());
    }
    if let Some(path) = &args.html {
        replace_file(&RealStorage, path, found.html().as_bytes())?;
        println!("The report is in {}", path.display());
    }
    Ok(())
}

/// Whether all suites are measured in shares, or all in losses.
fn share(suites: &[Suite], metrics: &[Metric]) -> anyhow::Result<bool> {
    let mut all = Vec::new();
    for suite in suites {
        all.push(suite.share(metrics)?);
    }
    let first = all.first().copied().unwrap_or(true);
    match all.iter().position(|share| *share != first) {
        None => Ok(first),
        Some(other) => Err(bad_input(format!(
            "of the suites {} and {} one is measured in right answers and the other in loss; ask them one at \
             a time",
            suites[0].name, suites[other].name
        ))),
    }
}

/// The tuned model: a run's folder, an adapter's (then `before` is its base), or a model's.
fn tuned(before: &str, after: &str) -> anyhow::Result<Opened> {
    let dir = Path::new(after);
    let is_adapter = |dir: &Path| dir.join("adapter_config.json").is_file();
    if is_adapter(dir) {
        return Opened::open(before, Some(dir));
    }
    if dir.join("run.toml").is_file() {
        let (adapter, model) = (dir.join("adapter"), dir.join("model"));
        if is_adapter(&adapter) {
            return Opened::open(before, Some(&adapter));
        }
        if model.is_dir() {
            return Opened::open(&model.display().to_string(), None);
        }
        return Err(bad_input(format!(
            "{after}: this run has no adapter and no model yet; go on with it by core-cli train --resume"
        )));
    }
    Opened::open(after, None)
}
