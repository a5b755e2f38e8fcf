//! STUDY.toml with kind = "transfer".

use std::collections::BTreeMap;
use std::fmt;

use paddock_datasets::template::Template;
use serde::{Deserialize, Serialize};

use crate::error::bad_input;
use crate::eval::rank::LengthNorm;
use crate::eval::templates::named;
use crate::study::spec::{DECIDED_HERE, Rows, STUDY_VERSION, StudyKind, check_settings};

/// A study of transfer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Version of this layout.
    #[serde(default = "version")]
    pub version: u32,
    /// `transfer`.
    pub kind: StudyKind,
    /// What the study is called; the file's name without it.
    #[serde(default)]
    pub name: Option<String>,
    /// The folder of its results; results/NAME without it.
    #[serde(default)]
    pub out: Option<String>,
    /// The model: a folder, or bundled:tiny.
    pub model: String,
    /// The cluster that is never trained on.
    pub held_out: String,
    /// Numbers of other clusters to tune on; 0, the untuned model, is always there.
    pub numbers: Vec<usize>,
    /// Numbers of templates of each cluster.
    #[serde(default = "all")]
    pub templates: Vec<Count>,
    /// Worked examples before the held-out questions.
    #[serde(default = "none")]
    pub shots: Vec<usize>,
    /// Most rows of a cluster in the mixture.
    #[serde(default = "cap")]
    pub most_rows: usize,
    /// Most held-out rows that are asked.
    #[serde(default)]
    pub test_rows: Option<usize>,
    /// What the likelihood of an answer is divided by.
    #[serde(default)]
    pub length_norm: LengthNorm,
    /// One repetition for each: other clusters, templates, order.
    #[serde(default = "seeds")]
    pub seeds: Vec<u64>,
    /// Keep the run folders.
    #[serde(default)]
    pub keep_runs: bool,
    /// Keys of RUN.toml.
    #[serde(default)]
    pub settings: toml::Table,
    /// The clusters by name.
    pub cluster: BTreeMap<String, Cluster>,
}

/// A cluster of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Rows to tune on; of the held-out cluster those that worked examples come from.
    #[serde(default)]
    pub data: Vec<String>,
    /// Rows that are asked, of the held-out cluster.
    #[serde(default)]
    pub test_data: Vec<String>,
    /// How rows become questions: cluster:NAME, FILE.yaml, FILE.yaml#NAME.
    pub templates: Vec<String>,
}

impl Cluster {
    /// All its templates.
    pub fn all_templates(&self) -> anyhow::Result<Vec<Template>> {
        let mut all = Vec::new();
        for name in &self.templates {
            all.extend(library(name)?);
        }
        if all.is_empty() {
            return Err(bad_input("a cluster needs one template at least"));
        }
        Ok(all)
    }
}

/// Several templates by one name, turned-round ones (which ask for the input) left out.
fn library(name: &str) -> anyhow::Result<Vec<Template>> {
    let Some(cluster) = name.strip_prefix("cluster:") else { return named(name) };
    match paddock_datasets::template::clusters::bundled(cluster) {
        Some(found) => {
            let straight = found?.templates.into_iter().filter(|t| !t.inverted);
            Ok(straight.map(|t| t.template).collect())
        }
        None => Ok(paddock_datasets::template::library::find(name)?),
    }
}

/// A number of templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Rows", into = "Rows")]
pub struct Count(pub Rows);

impl From<Rows> for Count {
    fn from(rows: Rows) -> Count {
        Count(rows)
    }
}

impl From<Count> for Rows {
    fn from(count: Count) -> Rows {
        count.0
    }
}

impl Count {
    /// Of so many.
    pub fn of(self, there: usize) -> usize {
        match self.0 {
            Rows::Some(n) => n.min(there),
            Rows::All => there,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn version() -> u32 {
    STUDY_VERSION
}

fn all() -> Vec<Count> {
    vec![Count(Rows::All)]
}

fn none() -> Vec<usize> {
    vec![0]
}

fn cap() -> usize {
    3_000
}

fn seeds() -> Vec<u64> {
    vec![1, 2, 3]
}

impl Transfer {
    /// Refuses what does not go together.
    pub fn check(&self) -> anyhow::Result<()> {
        let fail = |what: String| Err(bad_input(format!("the study: {what}")));
        if self.version == 0 || self.version > STUDY_VERSION {
            let newest = STUDY_VERSION;
            return fail(format!("version is {}, this program reads up to {newest}", self.version));
        }
        let Some(held) = self.cluster.get(&self.held_out) else {
            let known: Vec<&str> = self.cluster.keys().map(String::as_str).collect();
            return fail(format!(
                "held_out is {:?}, which is no cluster here ({})",
                self.held_out,
                known.join(", ")
            ));
        };
        let others = self.cluster.len() - 1;
        if let Some(n) = self.numbers.iter().find(|n| **n > others) {
            return fail(format!("numbers has {n}, but there are {others} other clusters"));
        }
        if self.numbers.is_empty() || self.seeds.is_empty() || self.templates.is_empty() {
            return fail("numbers, templates and seeds must each name one at least".to_string());
        }
        if held.test_data.is_empty() {
            return fail(format!("cluster.{}: it needs test_data", self.held_out));
        }
        if self.shots.iter().any(|k| *k > 0) && held.data.is_empty() {
            return fail(format!(
                "cluster.{}: worked examples need rows to come from; give it data",
                self.held_out
            ));
        }
        for (name, cluster) in self.cluster.iter().filter(|(n, _)| **n != self.held_out) {
            if cluster.data.is_empty() {
                return fail(format!("cluster.{name}: it needs data to tune on"));
            }
            // Nothing of the held-out cluster may be trained on, under whatever name.
            let shared = cluster
                .data
                .iter()
                .find(|file| held.test_data.contains(file) || held.data.contains(file));
            if let Some(file) = shared {
                return fail(format!(
                    "{file} is data of cluster.{name} and of the held-out cluster.{}",
                    self.held_out
                ));
            }
        }
        let mut decided = DECIDED_HERE.iter().filter(|key| **key != "method");
        if let Some(key) = decided.find(|key| self.settings.contains_key(**key)) {
            return fail(format!("settings.{key} is decided by the study; leave it out"));
        }
        check_settings(&self.settings).or_else(fail)
    }
}
