//! A cell of a study: one method with one number of examples and one seed. What was found is a file whose
//! name carries the hash of everything that it depends on; a cell whose file is there is not done again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spec::{Kind, Pick, Rows};
use crate::eval::rank::LengthNorm;
use crate::storage::RealStorage;
use crate::storage::whole::{read_file, replace_file, sha256_hex};

/// Version of the files.
pub const CELL_VERSION: u32 = 1;

/// Everything that a cell's result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Version of the files.
    pub version: u32,
    /// The method.
    pub kind: Kind,
    /// Labelled examples that it learns from, or that stand in the prompt; none for zero-shot.
    pub examples: Option<Rows>,
    /// The seed; none where nothing is random.
    pub seed: Option<u64>,
    /// Hash of the split.
    pub split: String,
    /// Hash of the model's weights, where there is one.
    pub model: Option<String>,
    /// Hash of the template.
    pub template: Option<String>,
    /// What likelihoods are divided by.
    pub length_norm: Option<LengthNorm>,
    /// Which state of a run is used.
    pub pick: Option<Pick>,
    /// Keys of RUN.toml.
    pub training: Option<String>,
}

impl Settings {
    /// Hash of the settings.
    pub fn key(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        sha256_hex(text.as_bytes()).chars().take(16).collect()
    }

    /// The same without the seed: what is averaged over seeds.
    pub fn variant(&self) -> String {
        Settings { seed: None, ..self.clone() }.key()
    }

    /// For people: `LoRA fine-tuning on 16 rows, seed 2`.
    pub fn words(&self) -> String {
        let with = match (self.kind, self.examples) {
            (Kind::Majority, _) => String::new(),
            (Kind::Prompt, None) => ", no example".to_string(),
            (Kind::Prompt, Some(k)) => format!(", {k} examples"),
            (_, Some(Rows::All)) => " on all rows".to_string(),
            (_, Some(n)) => format!(" on {n} rows"),
            (_, None) => String::new(),
        };
        let seed = self.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        format!("{}{with}{seed}", self.kind.words())
    }

    /// The stem of the cell's files: readable, and with the hash.
    pub fn stem(&self) -> String {
        let kind = format!("{:?}", self.kind).to_lowercase();
        let examples = self.examples.map_or("0".to_string(), |k| k.to_string());
        let seed = self.seed.map_or(String::new(), |seed| format!("-seed{seed}"));
        format!("{kind}-{examples}{seed}-{}", self.key())
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Chosen label of each validation row.
    pub validation: Vec<usize>,
    /// Chosen label of each test row.
    pub test: Vec<usize>,
    /// Seconds of learning.
    pub learn_s: f64,
    /// Seconds of answering, test and validation rows together.
    pub answer_s: f64,
    /// Tokens that went through the model while learning.
    pub learn_tokens: u64,
    /// Tokens of prompts and answers that were asked about.
    pub answer_tokens: u64,
    /// Memory planned, in bytes.
    pub memory_bytes: u64,
    /// Labelled examples that were used.
    pub examples: usize,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// A cell's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct File {
    settings: Settings,
    outcome: Outcome,
}

/// Largest file of a cell.
const MOST_BYTES: u64 = 1 << 30;

/// Where cells are.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Below the folder of a study.
    pub fn new(out: &Path) -> anyhow::Result<Store> {
        let dir = out.join("cells");
        std::fs::create_dir_all(&dir)?;
        Ok(Store { dir })
    }

    /// A file of a cell.
    pub fn path(&self, settings: &Settings, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", settings.stem()))
    }

    /// What was found before. A file that cannot be read, or of other settings, counts as not there.
    pub fn load(&self, settings: &Settings) -> Option<Outcome> {
        let bytes = read_file(&RealStorage, &self.path(settings, "json"), MOST_BYTES).ok()?;
        let file: File = serde_json::from_slice(&bytes).ok()?;
        (file.settings == *settings).then_some(file.outcome)
    }

    /// Keeps what was found.
    pub fn save(&self, settings: &Settings, outcome: &Outcome) -> anyhow::Result<()> {
        let file = File { settings: settings.clone(), outcome: outcome.clone() };
        let text = serde_json::to_string(&file)?;
        Ok(replace_file(&RealStorage, &self.path(settings, "json"), text.as_bytes())?)
    }
}
