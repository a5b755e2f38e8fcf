//! The sets of a mixture: `[[mixture]]` in RUN.toml, one section a set.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::RunConfig;
use super::kinds::{KeyType, Kind};

/// Rows of a set that are used at most, unless it says otherwise (as FLAN does).
pub const MOST_ROWS: u64 = 30_000;

/// One set of a mixture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureSet {
    /// What messages call it. Without it: the first file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its files, or bundled:NAME.
    #[serde(deserialize_with = "one_or_many")]
    pub data: Vec<String>,
    /// Its templates; each row is drawn with one of them. Without any the columns decide.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub template: Vec<String>,
    /// How often each of these is drawn, in their order; for all or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub template_weight: Vec<f64>,
    /// Templates that are never trained with: its held-out rows are asked in their words.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub judge_template: Vec<String>,
    /// The cluster of tasks that it belongs to. Without it: that of its templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How often it is drawn from; for all sets or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Most rows that are used, chosen by seed. Without it: 30,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u64>,
    /// Which column fills which field of its templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Labels with their meaning, stated before worked examples.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl MixtureSet {
    /// What messages call it.
    pub fn title(&self) -> &str {
        self.name.as_deref().or(self.data.first().map(String::as_str)).unwrap_or("a set")
    }

    /// Its cluster: as stated, or that of its templates if they are all of one.
    pub fn cluster(&self) -> Option<&str> {
        if let Some(stated) = &self.cluster {
            return Some(stated);
        }
        let mut all = self.template.iter().map(|name| cluster_of(name));
        let first = all.next()??;
        all.all(|other| other == Some(first)).then_some(first)
    }
}

/// Sets as the text of the flag `--mixture`.
pub fn as_flag(sets: &[MixtureSet]) -> String {
    // Texts and finite numbers: nothing here can fail to be written.
    toml::Value::try_from(sets).map(|value| value.to_string()).unwrap_or_default()
}

/// `sentiment` of `cluster:sentiment/terse`.
pub fn cluster_of(template: &str) -> Option<&str> {
    template.strip_prefix("cluster:")?.split('/').next()
}

impl KeyType for Vec<MixtureSet> {
    const KIND: Kind = Kind::Sets;
}

/// A text stands for a list of one.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(text) => vec![text],
        Either::Many(list) => list,
    })
}

impl RunConfig {
    /// What is wrong with the mixture.
    pub(super) fn check_mixture(&self, found: &mut Vec<(&'static str, String)>) {
        let mut say = |key, text: String| found.push((key, text));
        if !self.mixture.is_empty() && !self.data.is_empty() {
            let text = "give data, or a mixture of sets with data of their own, not both";
            say("mixture", text.to_string());
        }
        let stated = self.mixture.iter().filter(|set| set.weight.is_some()).count();
        if stated > 0 && stated < self.mixture.len() {
            say("mixture", "give a weight to every set of the mixture or to none".to_string());
        }
        for set in &self.mixture {
            let title = set.title();
            if set.data.is_empty() || set.data.iter().any(|d| d.trim().is_empty()) {
                say("mixture", format!("{title}: names no data"));
            }
            if set.weight.is_some_and(|w| !w.is_finite() || w < 0.0) {
                say("mixture", format!("{title}: the weight must be 0 or more"));
            }
            let weights = &set.template_weight;
            if !weights.is_empty() && weights.len() != set.template.len() {
                let (some, all) = (weights.len(), set.template.len());
                say("mixture", format!("{title}: {some} template weights for {all} templates"));
            }
            let bad = weights.iter().any(|w| !w.is_finite() || *w < 0.0);
            if bad || (!weights.is_empty() && weights.iter().sum::<f64>() <= 0.0) {
                let text = "template weights must be 0 or more, and one above 0";
                say("mixture", format!("{title}: {text}"));
            }
            if let Some(both) = set.judge_template.iter().find(|t| set.template.contains(t)) {
                let text = "is both trained with and kept for judging";
                say("mixture", format!("{title}: the template {both} {text}"));
            }
            if set.max_rows == Some(0) {
                say("mixture", format!("{title}: max_rows is 0, but must be 1 or more"));
            }
        }
        if !self.hold_out.is_empty() && self.mixture.is_empty() {
            let text =
                "hold_out keeps sets of a mixture for judging; write the data as [[mixture]] sets";
            say("hold_out", text.to_string());
        }
        if self.mixture_cap == 0 {
            say("mixture_cap", "mixture_cap is 0, but must be 1 or more".to_string());
        }
        let temperature = self.mixture_temperature;
        if !(temperature.is_finite() && temperature > 0.0) {
            let text = format!("mixture_temperature is {temperature}, but must be above 0");
            say("mixture_temperature", text);
        }
        if self.mixture_rows == Some(0) {
            say("mixture_rows", "mixture_rows is 0, but must be 1 or more".to_string());
        }
        let rate = self.shots_rate;
        if !(0.0..=1.0).contains(&rate) {
            say("shots_rate", format!("shots_rate is {rate}, but must be from 0 to 1"));
        }
        if self.shots > 64 {
            say("shots", format!("shots is {}, but must be at most 64", self.shots));
        }
    }
}
