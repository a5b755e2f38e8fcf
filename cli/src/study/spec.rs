//! STUDY.toml: everything that a study is, in one place.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::bad_input;
use crate::eval::rank::LengthNorm;
use crate::run::config::{ConfigError, Layers, Problem};

/// The version of STUDY.toml that this program reads and writes.
pub const STUDY_VERSION: u32 = 1;

/// A study: one task, one frozen split, several methods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Version of this layout.
    #[serde(default = "version")]
    pub version: u32,
    /// `compare`, or nothing; studies of transfer have another layout.
    #[serde(default)]
    pub kind: StudyKind,
    /// What the study is called; the file's name without it.
    #[serde(default)]
    pub name: Option<String>,
    /// The folder of its results; results/NAME without it.
    #[serde(default)]
    pub out: Option<String>,
    /// The model: a folder, or bundled:tiny.
    pub model: String,
    /// Labelled rows: files, or bundled:NAME.
    pub data: Vec<String>,
    /// Files of validation rows, where the split is not made here.
    #[serde(default)]
    pub validation_data: Vec<String>,
    /// Files of test rows, where the split is not made here.
    #[serde(default)]
    pub test_data: Vec<String>,
    /// How the rows of `data` are divided, where there are no files for each side.
    #[serde(default)]
    pub split: Option<Split>,
    /// At most so many rows of a side, evenly spread.
    #[serde(default)]
    pub most_rows: MostRows,
    /// What is asked.
    pub task: Task,
    /// How a row becomes a prompt.
    #[serde(default = "alpaca")]
    pub template: String,
    /// What the likelihood of an answer is divided by.
    #[serde(default)]
    pub length_norm: LengthNorm,
    /// One repetition for each: another choice of examples, another course of training.
    #[serde(default = "seeds")]
    pub seeds: Vec<u64>,
    /// Keep the run folders of the tuned models.
    #[serde(default)]
    pub keep_runs: bool,
    /// The ways to be compared.
    pub method: Vec<Method>,
}

/// Kinds of studies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudyKind {
    /// Several ways to one task.
    #[default]
    Compare,
    /// Tuned on some clusters of tasks, asked another.
    Transfer,
}

/// How rows are divided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The column that says `train`, `validation` or `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Share of the rows that becomes validation rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// Share of the rows that becomes test rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<f64>,
    /// Seed of the division.
    #[serde(default = "one")]
    pub seed: u64,
}

/// Limits of the sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MostRows {
    /// Of the rows to learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Of the rows by which variants are chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
    /// Of the rows that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
}

/// What is asked of every row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The instruction: it should state the labels and say what they mean.
    pub instruction: String,
    /// The column with the text.
    pub input: String,
    /// The column with the label.
    pub label: String,
    /// What the model is to answer for a value of that column; a value that is not here is the answer itself.
    #[serde(default)]
    pub answers: BTreeMap<String, String>,
    /// Longer texts are cut after so many words for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_words: Option<usize>,
}

/// A way to the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Which.
    pub kind: Kind,
    /// Numbers of labelled examples, balanced over the labels, or "all".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Rows>,
    /// Of prompting: numbers of worked examples in the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shots: Vec<usize>,
    /// Of tuning: which state is used, the last one or that with the least loss on the validation rows.
    #[serde(default)]
    pub pick: Pick,
    /// Of tuning: keys of RUN.toml.
    #[serde(default, skip_serializing_if = "::toml::Table::is_empty")]
    pub settings: ::toml::Table,
}

/// Kinds of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The label that most training rows have.
    Majority,
    /// A linear support vector machine on TF-IDF.
    Svm,
    /// The model asked as it is, with or without worked examples.
    Prompt,
    /// LoRA fine-tuning.
    Lora,
    /// Full fine-tuning.
    Full,
}

impl Kind {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Majority => "majority label",
            Kind::Svm => "linear SVM on TF-IDF",
            Kind::Prompt => "prompting",
            Kind::Lora => "LoRA fine-tuning",
            Kind::Full => "full fine-tuning",
        }
    }

    /// Whether the model is trained.
    pub fn tunes(self) -> bool {
        matches!(self, Kind::Lora | Kind::Full)
    }
}

/// Which state of a run is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pick {
    /// The last one: no validation row is looked at.
    #[default]
    Last,
    /// That with the least loss on the validation rows.
    Best,
}

/// A number of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rows {
    /// So many.
    Some(usize),
    /// All there are.
    All,
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rows::Some(n) => write!(f, "{n}"),
            Rows::All => f.write_str("all"),
        }
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Rows::Some(n) => serializer.serialize_u64(*n as u64),
            Rows::All => serializer.serialize_str("all"),
        }
    }
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rows, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        match (value.as_u64(), value.as_str()) {
            (Some(n), _) if n > 0 => Ok(Rows::Some(n as usize)),
            (_, Some("all")) => Ok(Rows::All),
            _ => Err(serde::de::Error::custom(format!(
                "{value} is no number of rows; write a whole number from 1, or \"all\""
            ))),
        }
    }
}

fn version() -> u32 {
    STUDY_VERSION
}

fn alpaca() -> String {
    "alpaca".to_string()
}

fn seeds() -> Vec<u64> {
    vec![1, 2, 3]
}

fn one() -> u64 {
    1
}

/// Keys of RUN.toml that the study itself decides.
pub const DECIDED_HERE: [&str; 10] = [
    "model",
    "data",
    "template",
    "method",
    "out",
    "init_adapter",
    "seed",
    "validation",
    "test",
    "columns",
];

/// Refuses keys that RUN.toml does not have, and values of another kind, before anything is done. What goes together
/// is known only when a run is started.
pub fn check_settings(settings: &::toml::Table) -> Result<(), String> {
    let text = ::toml::to_string(settings).map_err(|error| error.to_string())?;
    // The lines that messages count would be those of this text, which nobody wrote.
    let words = |problem: Problem| format!("settings: {}", problem.what);
    let told = |error: ConfigError| error.problems.into_iter().map(words).collect::<Vec<_>>();
    Layers::new().file("settings", &text).map(drop).map_err(|error| told(error).join("; "))
}

impl Study {
    /// Refuses what does not go together.
    pub fn check(&self) -> anyhow::Result<()> {
        let fail = |what: String| Err(bad_input(format!("the study: {what}")));
        if self.version == 0 || self.version > STUDY_VERSION {
            let newest = STUDY_VERSION;
            return fail(format!("version is {}, this program reads up to {newest}", self.version));
        }
        if self.data.is_empty() || self.method.is_empty() || self.seeds.is_empty() {
            return fail("data, method and seeds must each name at least one".to_string());
        }
        let mut seeds = self.seeds.clone();
        seeds.sort_unstable();
        seeds.dedup();
        if seeds.len() < self.seeds.len() {
            return fail("a seed stands there twice; equal seeds repeat, they add nothing".into());
        }
        match (&self.split, self.test_data.is_empty()) {
            (None, true) => {
                return fail(
                    "it is not said how rows are divided; give test_data, or a [split] with a \
                     column, or with shares (validation = 0.1, test = 0.2)"
                        .to_string(),
                );
            }
            (Some(_), false) => {
                return fail("give [split] or test_data, not both".to_string());
            }
            _ => {}
        }
        if let Some(split) = &self.split {
            let shares = split.validation.unwrap_or(0.0) + split.test.unwrap_or(0.0);
            let by_share = split.test.is_some();
            if by_share == split.column.is_some()
                || shares.is_nan()
                || !(0.0..0.95).contains(&shares)
            {
                return fail(
                    "split needs either column, or test (and validation) as shares that sum to less \
                     than 0.95"
                        .to_string(),
                );
            }
        }
        self.method.iter().enumerate().try_for_each(|(i, method)| {
            method.check().map_err(|what| bad_input(format!("method {}: {what}", i + 1)))
        })
    }
}

impl Method {
    fn check(&self) -> Result<(), String> {
        let kind = self.kind.words();
        let has = |what: &str, there: bool, may: bool| match there && !may {
            true => Err(format!("{kind} has no {what}")),
            false => Ok(()),
        };
        has("shots", !self.shots.is_empty(), self.kind == Kind::Prompt)?;
        let learns = self.kind.tunes() || self.kind == Kind::Svm;
        has("rows", !self.rows.is_empty(), learns)?;
        has("settings", !self.settings.is_empty(), self.kind.tunes())?;
        has("pick", self.pick == Pick::Best, self.kind.tunes())?;
        if let Some(key) = DECIDED_HERE.iter().find(|key| self.settings.contains_key(**key)) {
            return Err(format!("settings.{key} is decided by the study; leave it out there"));
        }
        check_settings(&self.settings)
    }

    /// Its numbers of examples; all where none are stated.
    pub fn rows(&self) -> Vec<Rows> {
        if self.rows.is_empty() { vec![Rows::All] } else { self.rows.clone() }
    }

    /// Its numbers of worked examples; none where none are stated.
    pub fn shots(&self) -> Vec<usize> {
        if self.shots.is_empty() { vec![0] } else { self.shots.clone() }
    }
}
