//! A tuned model handed on: the adapter, or a merged model with a check.

use std::path::PathBuf;

use eframe::egui::Context;
use paddock_cli::run::command::line;
use paddock_cli::run::overview::Tuned;

use crate::engine::Engine;
use crate::task::Work;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The new folder.
    pub path: PathBuf,
    /// What the check found, in words.
    pub words: String,
}

/// The state of the export screen.
#[derive(Debug, Default)]
pub struct Export {
    /// The new folder, as typed.
    pub path: String,
    /// Element type: as in the model, or one of f32, bf16, f16.
    pub dtype: Option<&'static str>,
    /// The export.
    pub work: Work<Exported>,
}

/// Element types that can be chosen, with a word for each.
pub const DTYPES: [(Option<&str>, &str); 4] = [
    (None, "as in the model"),
    (Some("f32"), "f32: exact, largest"),
    (Some("bf16"), "bf16: half the size"),
    (Some("f16"), "f16: half the size, for older tools"),
];

impl Export {
    /// What core-cli is asked to do.
    pub fn arguments(&self, tuned: &Tuned) -> Vec<String> {
        let mut list = vec!["export".to_string(), "--model".to_string(), tuned.model.clone()];
        if let Some(adapter) = &tuned.adapter {
            list.extend(["--adapter".to_string(), adapter.display().to_string()]);
            list.push("--merge".to_string());
        }
        list.extend(["--out".to_string(), self.path.trim().to_string()]);
        if let Some(dtype) = self.dtype {
            list.extend(["--dtype".to_string(), dtype.to_string()]);
        }
        list
    }

    /// The same as a line for a terminal.
    pub fn command(&self, tuned: &Tuned) -> String {
        line("core-cli", &self.arguments(tuned))
    }

    /// Writes the model and checks that it answers the same.
    pub fn start(&mut self, ctx: &Context, engine: &Engine, tuned: &Tuned) {
        let (engine, list) = (engine.clone(), self.arguments(tuned));
        let path = PathBuf::from(self.path.trim());
        self.work.start(ctx, move |pulse| {
            pulse.note("writing the model");
            let words = engine.ask(&list, pulse)?.trim().to_string();
            Ok(Exported { path, words })
        });
    }

    /// What is missing before it can start, in words.
    pub fn missing(&self) -> Option<String> {
        if self.work.busy() {
            return Some("The export is going on.".to_string());
        }
        if self.path.trim().is_empty() {
            return Some("Name a new folder first.".to_string());
        }
        let path = PathBuf::from(self.path.trim());
        path.exists().then(|| format!("{} is there already; name a new folder.", path.display()))
    }
}
