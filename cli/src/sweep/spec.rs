//! SWEEP.toml: what stays, what varies, by what it is chosen.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::bad_input;
use crate::run::config::{Key, nearest};
use crate::study::spec::Rows;

/// The version of SWEEP.toml that this program reads.
pub const SWEEP_VERSION: u32 = 1;

/// More runs than this are a slip of the pen.
const MOST_RUNS: usize = 10_000;

/// A sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Version of this layout.
    #[serde(default = "version")]
    pub version: u32,
    /// What the sweep is called; the file's name without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The folder of its results; results/NAME without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
    /// By what a setting is chosen, on the validation rows.
    #[serde(default)]
    pub choose_by: Measure,
    /// Runs of each setting.
    #[serde(default = "seeds")]
    pub seeds: Vec<u64>,
    /// Rows by which the chosen setting is judged, once: a file. Built-in data have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Keep the run folders of settings that were not chosen.
    #[serde(default)]
    pub keep_runs: bool,
    /// Keys of RUN.toml that all runs share.
    pub run: Table,
    /// Keys of RUN.toml with a list of values each, and `rows`: numbers of training rows.
    pub vary: Table,
}

/// What validation rows are judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The least loss.
    #[default]
    Loss,
    /// Most tokens right.
    TokenAccuracy,
    /// Most answers exactly right (short answers only).
    ExactMatch,
}

impl Measure {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Measure::Loss => "validation loss",
            Measure::TokenAccuracy => "validation tokens right",
            Measure::ExactMatch => "validation answers right",
        }
    }

    /// Whether the first is better.
    pub fn better(self, a: f64, b: f64) -> bool {
        if self == Measure::Loss { a < b } else { a > b }
    }
}

/// One choice of the varied keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Keys and values, in the order of the file.
    pub keys: Vec<(String, Value)>,
    /// Training rows.
    pub rows: Rows,
}

impl Setting {
    /// `lr = 0.001, rows = 64`.
    pub fn words(&self) -> String {
        let mut parts: Vec<String> = self.keys.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        if self.rows != Rows::All {
            parts.push(format!("rows = {}", self.rows));
        }
        if parts.is_empty() { "the settings".to_string() } else { parts.join(", ") }
    }
}

fn version() -> u32 {
    SWEEP_VERSION
}

fn seeds() -> Vec<u64> {
    vec![1]
}

/// Keys that a sweep decides itself.
const DECIDED_HERE: [&str; 5] = ["out", "seed", "test", "test_rows", "samples"];

impl Sweep {
    /// All combinations of the varied keys.
    ///
    /// # Errors
    /// For keys that are none of RUN.toml's, lists that are none, and what cannot vary.
    pub fn settings(&self) -> anyhow::Result<Vec<Setting>> {
        let fail = |what: String| Err(bad_input(format!("the sweep: {what}")));
        if self.version == 0 || self.version > SWEEP_VERSION {
            return fail(format!(
                "version is {}, this program reads {SWEEP_VERSION}",
                self.version
            ));
        }
        if self.seeds.is_empty() || self.vary.is_empty() {
            return fail("vary and seeds must each name something".to_string());
        }
        let mut seeds = self.seeds.clone();
        seeds.sort_unstable();
        seeds.dedup();
        if seeds.len() < self.seeds.len() {
            return fail("a seed stands there twice; equal seeds repeat, they add nothing".into());
        }
        let mut settings = vec![Setting { keys: Vec::new(), rows: Rows::All }];
        for (key, values) in &self.vary {
            check_key(key)?;
            if self.run.contains_key(key) {
                return fail(format!("{key} stands in [run] and in [vary]; leave one out"));
            }
            let Some(values) = values.as_array().filter(|list| !list.is_empty()) else {
                return fail(format!("vary.{key} must be a list of values, such as [1e-4, 1e-3]"));
            };
            if settings.len().saturating_mul(values.len()) * self.seeds.len() > MOST_RUNS {
                return fail(format!("these are more than {MOST_RUNS} runs"));
            }
            let mut next = Vec::new();
            for setting in &settings {
                for value in values {
                    next.push(setting.with(key, value)?);
                }
            }
            settings = next;
        }
        for key in self.run.keys() {
            check_key(key)?;
        }
        Ok(settings)
    }
}

impl Setting {
    fn with(&self, key: &str, value: &Value) -> anyhow::Result<Setting> {
        let mut next = self.clone();
        if key == "rows" {
            next.rows = value
                .clone()
                .try_into()
                .map_err(|e: toml::de::Error| bad_input(format!("vary.rows: {}", e.message())))?;
        } else {
            next.keys.push((key.to_string(), value.clone()));
        }
        Ok(next)
    }
}

fn check_key(key: &str) -> anyhow::Result<()> {
    if DECIDED_HERE.contains(&key) {
        return Err(bad_input(format!("the sweep: {key} is decided by the sweep; leave it out")));
    }
    if key == "rows" || Key::find(key).is_some() {
        return Ok(());
    }
    let names = crate::run::config::KEYS.iter().map(|k| k.name).chain(["rows"]);
    let hint = nearest(key, names).map_or(String::new(), |n| format!("; did you mean {n}?"));
    Err(bad_input(format!("the sweep: there is no key {key:?} of RUN.toml{hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(text: &str) -> anyhow::Result<Vec<Setting>> {
        crate::study::toml::parse::<Sweep>("S.toml", text)?.settings()
    }

    #[test]
    fn every_combination_once() {
        let text = "run = {model = \"m\"}\nvary = {lr = [1e-3, 1e-4], rows = [8, \"all\"]}";
        let found: Vec<String> = sweep(text).expect("a sweep").iter().map(Setting::words).collect();
        assert_eq!(
            found,
            ["lr = 0.001, rows = 8", "lr = 0.001", "lr = 0.0001, rows = 8", "lr = 0.0001"]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |text: &str| sweep(text).expect_err(text).to_string();
        let with = |vary: &str| message(&format!("run = {{}}\nvary = {{{vary}}}"));
        assert!(with("lora_rnk = [1]").contains("did you mean lora_rank?"));
        assert!(with("lr = 1e-3").contains("must be a list"));
        assert!(with("rows = [0]").contains("whole number from 1"));
        assert!(with("seed = [1]").contains("decided by the sweep"));
        assert!(message("run = {lr = 1.0}\nvary = {lr = [1.0]}").contains("leave one out"));
        assert!(message("run = {}\nvary = {}").contains("must each name"));
        assert!(
            message("seeds = [1, 1]\nrun = {}\nvary = {lr = [1.0]}").contains("stands there twice")
        );
    }
}
