//! Which model is trained.

use std::path::PathBuf;
use std::sync::Arc;

use eframe::egui::Context;
use paddock_cli::bundled;
use paddock_cli::model::ModelFolder;
use paddock_cli::open::model_path;
use paddock_datasets::tokenizer::Tokenizer;

use crate::task::Work;

/// The model that is there without anything being fetched.
pub const BUILT_IN: &str = "bundled:tiny";

/// What is known of a model before it is used.
pub struct Facts {
    /// As `--model` takes it.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Parameters.
    pub parameters: u64,
    /// Layers.
    pub layers: u32,
    /// Width.
    pub dim: u32,
    /// Longest text in tokens.
    pub max_seq_len: u32,
    /// Bytes of its weights.
    pub bytes: u64,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Facts of {}", self.name)
    }
}

/// The state of the model screen.
#[derive(Debug)]
pub struct Model {
    /// As `--model` takes it.
    pub name: String,
    /// A folder that was chosen before, to go back to.
    pub folder: Option<PathBuf>,
    /// What is known of it.
    pub facts: Work<Facts>,
}

impl Default for Model {
    fn default() -> Model {
        Model { name: BUILT_IN.to_string(), folder: None, facts: Work::Idle }
    }
}

impl Model {
    /// Chooses a model.
    pub fn choose(&mut self, ctx: &Context, name: &str) {
        if !name.starts_with(bundled::PREFIX) {
            self.folder = Some(PathBuf::from(name));
        }
        self.name = name.to_string();
        let name = self.name.clone();
        self.facts.start(ctx, move |pulse| {
            pulse.note("reading the model's folder");
            let path = model_path(&name)?;
            let folder = ModelFolder::open(&path)?;
            let tokenizer = Tokenizer::load(&path)?;
            tokenizer.check_rows(u64::from(folder.config.vocab_size))?;
            let c = &folder.config;
            Ok(Facts {
                parameters: c.params(),
                layers: c.n_layers,
                dim: c.dim,
                max_seq_len: c.max_seq_len,
                bytes: folder.files.iter().map(|file| file.map.len() as u64).sum(),
                tokenizer: Arc::new(tokenizer),
                name,
                path,
            })
        });
    }

    /// Takes over what the worker has found; looks at the built-in model first of all.
    pub fn poll(&mut self, ctx: &Context) {
        if matches!(self.facts, Work::Idle) {
            let name = self.name.clone();
            self.choose(ctx, &name);
        }
        self.facts.poll();
    }

    /// The tokenizer, once it is read.
    pub fn tokenizer(&self) -> Option<&Arc<Tokenizer>> {
        self.facts.done().map(|facts| &facts.tokenizer)
    }

    /// What is missing before the model can be trained, in words.
    pub fn missing(&self) -> Option<String> {
        match &self.facts {
            Work::Done(_) => None,
            Work::Failed(why) => Some(format!("This model cannot be used: {why}")),
            _ => Some("The model is being looked at.".to_string()),
        }
    }
}
