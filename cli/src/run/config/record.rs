//! A run folder's run.toml: the whole configuration with every default written out, and a record of
//! what was found when the run started. It is a RUN.toml itself, so that `core-cli train
//! runs/NAME/run.toml` repeats the run.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::layers::Layers;
use super::{CONFIG_VERSION, ConfigError, KEYS, RunConfig};

/// What was found when the run started, and what was changed on the way. Fields that a later
/// version adds are passed over by an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Programs and machine.
    pub versions: Versions,
    /// Every weight file of the model, in the order of their names. Adapters know their base by these.
    pub model: Vec<RecordedFile>,
    /// The small files that the result depends on: those of the model's folder from which its shape, its
    /// tokens and its chat template are read, and the settings of the adapter that the run begins from.
    /// Empty in records of earlier versions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model_settings: Vec<RecordedFile>,
    /// Every data file, in the order of `data`.
    pub data: Vec<RecordedFile>,
    /// Hash of the template object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_sha256: Option<String>,
    /// Each resume, with what it changed.
    pub continuations: Vec<Continuation>,
    /// Each time the run went back because its loss jumped, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewinds: Vec<String>,
}

/// Programs and machine: what the bits of a result may depend on beside the settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Versions {
    /// Version of Paddock.
    pub paddock: String,
    /// Operating system and processor, such as `linux x86_64`.
    pub platform: String,
    /// The back-end that ran, after `auto` was decided, and its device.
    pub backend: String,
    /// The level of processor instructions, such as `avx2`.
    pub simd: String,
    /// Processor threads.
    pub threads: u64,
}

/// A file and what was in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedFile {
    /// The path as the user gave it, or the file's name in the model's folder.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// One resume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Continuation {
    /// The step from which the run went on.
    pub step: u64,
    /// Changed settings (`lr was 0.1, is now 0.2`) and other reasons why the result may not be bit
    /// for bit that of an uninterrupted run.
    pub notes: Vec<String>,
}

/// The contents of a run folder's run.toml.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFile {
    /// The settings.
    pub config: RunConfig,
    /// What was found.
    pub record: Record,
}

impl RunFile {
    /// The text of run.toml: each key with its explanation, then the record.
    pub fn to_text(&self) -> Result<String, ConfigError> {
        let problem = |error: toml::ser::Error| ConfigError::one("run.toml", error.to_string());
        let mut text = self.config.to_text()?;
        let record = Value::try_from(&self.record).map_err(problem)?;
        let record = toml::to_string(&Table::from_iter([("record".to_string(), record)]));
        text.push_str("\n# What was found when the run started; not a setting.\n");
        text.push_str(&record.map_err(problem)?);
        Ok(text)
    }

    /// Reads a run.toml. `name` is how messages call it.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let (config, record) = Layers::new().file(name, text)?.build()?;
        let record = record.ok_or_else(|| {
            ConfigError::one(name, "it has no [record] section, so it is not a run's run.toml")
        })?;
        Ok(Self { config, record })
    }
}

impl RunConfig {
    /// The text of a RUN.toml: each key with its explanation.
    pub fn to_text(&self) -> Result<String, ConfigError> {
        let problem = |error: toml::ser::Error| ConfigError::one("RUN.toml", error.to_string());
        let values = Table::try_from(self).map_err(problem)?;
        let mut text = "# A training run. `core-cli train` with this file starts it.\n".to_string();
        text.push_str(&format!("version = {CONFIG_VERSION}\n"));
        let (tables, plain): (Vec<_>, Vec<_>) = KEYS
            .iter()
            .filter_map(|key| values.get(key.name).map(|value| (key, value)))
            .partition(|(_, value)| value.is_table());
        for (key, value) in plain {
            text.push_str(&format!("\n# {}\n{} = {value}\n", key.help(), key.name));
        }
        for (key, value) in tables {
            let fields = Table::from_iter([(key.name.to_string(), value.clone())]);
            let fields = toml::to_string(&fields).map_err(problem)?;
            text.push_str(&format!("\n# {}\n{fields}", key.help()));
        }
        Ok(text)
    }
}

impl Versions {
    /// Why a run that goes on here may not end in the bits that it would have ended in there; empty
    /// if nothing speaks against it. The number of threads and the release of the system do not
    /// matter, and what was not recorded is not compared.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let pairs = [
            ("Paddock", &self.paddock, &now.paddock),
            ("the platform", &self.platform, &now.platform),
            ("the back-end", &self.backend, &now.backend),
            ("the processor's level", &self.simd, &now.simd),
        ];
        // A back-end's name holds the processor's level already.
        let pairs = if self.backend == now.backend { &pairs[..] } else { &pairs[..3] };
        let differs = |(_, was, is): &&(&str, &String, &String)| !was.is_empty() && was != is;
        let words = |(what, was, is): &(&str, &String, &String)| {
            format!("not bit for bit the same from here on, because {what} was {was}, is now {is}")
        };
        pairs.iter().filter(differs).map(words).collect()
    }
}
