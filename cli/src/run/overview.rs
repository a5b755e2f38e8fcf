//! Runs as a list: what each folder under runs/ holds and whether its run goes on.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::config::{RunConfig, RunFile};
use super::control::{Wish, asked};
use super::ending::Ending;
use super::events::Reason;
use super::folder::RUN_TOML;
use super::lock::{Holder, holder};
use crate::storage::RealStorage;

/// Whether a run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A process works on it.
    Running(Holder),
    /// It came to its end.
    Finished,
    /// It was stopped or killed, and can go on from its last checkpoint.
    Stopped,
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Overview {
    /// Its folder.
    pub path: PathBuf,
    /// Its settings.
    pub config: RunConfig,
    /// Whether it goes on.
    pub state: State,
    /// Whether it goes on but waits, because somebody asked it to.
    pub paused: bool,
    /// How it ended, if it did.
    pub ending: Option<Ending>,
    /// When something was last written about it.
    pub changed: SystemTime,
}

impl Overview {
    /// Looks at one folder; `None` if it holds no run.
    pub fn of(path: &Path) -> Option<Overview> {
        let text = std::fs::read_to_string(path.join(RUN_TOML)).ok()?;
        let file = RunFile::parse(RUN_TOML, &text).ok()?;
        let ending = Ending::read(&RealStorage, path);
        let finished = ending.as_ref().is_some_and(|e| e.done.reason != Reason::Interrupted);
        let state = match holder(path) {
            Some(holder) => State::Running(holder),
            None if finished => State::Finished,
            None => State::Stopped,
        };
        let running = matches!(state, State::Running(_));
        let paused = running && asked(path) == Some(Wish::Pause);
        let changed = |name: &str| std::fs::metadata(path.join(name)).ok()?.modified().ok();
        let changed = changed("metrics.jsonl").or_else(|| changed(RUN_TOML));
        Some(Overview {
            path: path.to_path_buf(),
            config: file.config,
            state,
            paused,
            ending,
            changed: changed.unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }

    /// The folder's own name.
    pub fn name(&self) -> String {
        let name = self.path.file_name().map(|name| name.to_string_lossy().to_string());
        name.unwrap_or_else(|| self.path.display().to_string())
    }

    /// Where the tuned model is: the folder of the adapter, or of the whole model.
    pub fn result(&self) -> Option<Tuned> {
        let (adapter, model) = (self.path.join("adapter"), self.path.join("model"));
        if adapter.join("adapter_model.safetensors").is_file() {
            return Some(Tuned { model: self.config.model.clone()?, adapter: Some(adapter) });
        }
        let whole = model.join("config.json").is_file();
        whole.then(|| Tuned { model: model.display().to_string(), adapter: None })
    }
}

/// A tuned model: a base with an adapter, or a model of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuned {
    /// The model, as `--model` takes it.
    pub model: String,
    /// The adapter, as `--adapter` takes it.
    pub adapter: Option<PathBuf>,
}

/// All runs in the folders of `runs`, the latest first. A folder that cannot be read has none.
pub fn list(runs: &Path) -> Vec<Overview> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let mut found: Vec<Overview> =
        entries.filter_map(|entry| Overview::of(&entry.path())).collect();
    found.sort_by(|a, b| b.changed.cmp(&a.changed).then_with(|| a.path.cmp(&b.path)));
    found
}
