//! A model tuned for a cell: an ordinary training run in a folder beside the cell's file. A stopped study
//! goes on within the run.

use std::path::{Path, PathBuf};

use super::cell::{Settings, Store};
use super::frozen::{lines, side_path};
use super::rows::Row;
use super::spec::{Kind, Pick, Study};
use crate::eval::engine::Device;
use crate::eval::progress::{Interrupted, Progress};
use crate::run::events::{Event, Reason};
use crate::run::metrics::{self, Line};
use crate::run::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;
use crate::train::report::Listener;
use crate::train::{Launch, train};

/// The template's file in the folder of a study.
pub const TEMPLATE: &str = "template.json";

/// A finished run.
pub struct Tuned {
    /// Its folder.
    pub folder: PathBuf,
    /// Seconds of training.
    pub seconds: f64,
    /// Tokens of all steps.
    pub tokens: u64,
    /// Memory planned.
    pub memory_bytes: u64,
}

impl Tuned {
    /// The adapter that it wrote, if it is a LoRA.
    pub fn adapter(&self) -> Option<PathBuf> {
        Some(self.folder.join("adapter")).filter(|dir| dir.is_dir())
    }

    /// The model that it wrote, if everything was trained.
    pub fn model(&self) -> Option<String> {
        let dir = self.folder.join("model");
        dir.is_dir().then(|| dir.display().to_string())
    }
}

/// Shows the steps of a run and keeps what the study wants to know.
pub(crate) struct Quiet<'a> {
    what: String,
    signals: &'a Signals,
    progress: Option<Progress>,
    pub(crate) memory_bytes: u64,
}

impl<'a> Quiet<'a> {
    pub(crate) fn new(what: &str, signals: &'a Signals) -> Quiet<'a> {
        Quiet { what: what.to_string(), signals, progress: None, memory_bytes: 0 }
    }
}

impl Listener for Quiet<'_> {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Plan(plan) => {
                self.memory_bytes = plan.memory_bytes;
                let steps = plan.steps as usize;
                self.progress = Some(Progress::new(&self.what, steps, self.signals));
            }
            Event::Step(_) => {
                // A signal is heard by the run itself, which saves before it stops.
                if let Some(progress) = &mut self.progress {
                    let _ = progress.step(1);
                }
            }
            Event::Pause(pause) => eprintln!("{}", pause.message),
            Event::Warning(warning) => eprintln!("{}: {}", self.what, warning.message),
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, _: &str) {}

    fn busy(&mut self, _: &str) {}
}

/// Trains on the rows, or goes on where a stopped study was.
pub fn tune(
    study: &Study,
    out: &Path,
    store: &Store,
    cell: &Settings,
    rows: &[&Row],
    device: &Device,
    signals: &Signals,
) -> anyhow::Result<Tuned> {
    let data = store.path(cell, "rows.jsonl");
    let folder = store.path(cell, "run");
    replace_file(&RealStorage, &data, lines(rows.iter().copied()).as_bytes())?;
    let method = study
        .method
        .iter()
        .find(|m| m.kind == cell.kind && ::toml::to_string(&m.settings).ok() == cell.training);
    let mut table = method.map(|m| m.settings.clone()).unwrap_or_default();
    let text = |path: &Path| ::toml::Value::String(path.display().to_string());
    let validation = match cell.pick {
        Some(Pick::Best) => text(&side_path(out, "validation")),
        _ => "none".into(),
    };
    let kind = if cell.kind == Kind::Full { "full" } else { "lora" };
    let seed = i64::try_from(cell.seed.unwrap_or(1)).unwrap_or(i64::MAX);
    let decided: [(&str, ::toml::Value); 10] = [
        ("model", study.model.as_str().into()),
        ("data", ::toml::Value::Array(vec![text(&data)])),
        ("template", text(&out.join(TEMPLATE))),
        ("method", kind.into()),
        ("out", text(&folder)),
        ("seed", seed.into()),
        ("validation", validation),
        ("samples", 0.into()),
        ("test_rows", 0.into()),
        ("keep_checkpoints", 1.into()),
    ];
    table.extend(decided.map(|(key, value)| (key.to_string(), value)));
    computed_with(&mut table, device);
    let launch = Launch {
        file: Some((format!("settings of {}", cell.kind.words()), ::toml::to_string(&table)?)),
        resume: folder.join("run.toml").is_file(),
        ..Launch::default()
    };
    let mut listener = Quiet::new(&cell.words(), signals);
    let ended = train(&launch, &mut listener, signals)?;
    if ended.reason == Reason::Interrupted {
        return Err(Interrupted.into());
    }
    let (tokens, seconds) = trained(&folder)?;
    Ok(Tuned { folder, seconds, tokens, memory_bytes: listener.memory_bytes })
}

/// Says in a RUN.toml what computes, where it does not say so itself.
pub fn computed_with(table: &mut ::toml::Table, device: &Device) {
    let number = |n: u64| ::toml::Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let machine = &device.machine;
    let said: [(&str, Option<::toml::Value>); 4] = [
        ("backend", Some(machine.backend.to_string().into())),
        ("device", machine.device.clone().map(Into::into)),
        ("threads", machine.threads.map(number)),
        ("micro_batch_tokens", Some(number(device.micro_batch_tokens))),
    ];
    for (key, value) in said {
        if let Some(value) = value {
            table.entry(key).or_insert(value);
        }
    }
}

/// Tokens of all steps of a run, and its seconds.
pub fn trained(folder: &Path) -> anyhow::Result<(u64, f64)> {
    let lines = metrics::read(&RealStorage, &folder.join("metrics.jsonl"))?.lines;
    let steps = lines.iter().filter_map(|line| match line {
        Line::Step(step) => Some(step),
        Line::Eval(_) | Line::Rewind(_) => None,
    });
    Ok(steps.fold((0, 0.0), |(tokens, _), step| (tokens + step.tokens, step.elapsed_s)))
}

/// Removes what a cell needed only while it was computed.
pub fn clear(store: &Store, cell: &Settings, keep_run: bool) -> anyhow::Result<()> {
    let (run, rows) = (store.path(cell, "run"), store.path(cell, "rows.jsonl"));
    if run.is_dir() && !keep_run {
        std::fs::remove_dir_all(run)?;
        std::fs::remove_file(rows)?;
    }
    Ok(())
}
