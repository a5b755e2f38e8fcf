//! What an evaluation found: the contents of its JSON file, from which terminal and page are made.

use serde::{Deserialize, Serialize};

use super::calibration::Bin;
use super::confusion::Confusion;
use super::statistics::{Interval, mean_sd};

/// Version of the JSON file.
pub const VERSION: u32 = 1;

/// One measure over the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// Its value, with the 95% interval of a bootstrap over rows.
    #[serde(flatten)]
    pub interval: Interval,
    /// A share from 0 to 1, shown as per cent.
    pub share: bool,
    /// More is better.
    pub more_is_better: bool,
}

/// The main measure for one kind of task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindOutcome {
    /// The kind.
    pub kind: String,
    /// Rows of it.
    pub rows: usize,
    /// The main measure.
    #[serde(flatten)]
    pub interval: Interval,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowOutcome {
    /// Its number in the data.
    pub row: u64,
    /// What the model was given.
    pub prompt: String,
    /// The right answer.
    pub wanted: String,
    /// What the model chose or said; empty where it was only asked for likelihoods.
    pub said: String,
    /// Main score: 0 to 1, or minus the mean token loss where perplexity is the main measure.
    pub score: f64,
    /// Breaks ties among rows of one score: the larger, the worse.
    pub badness: f64,
    /// Kind of task.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// Probability of each answer to choose from.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub probabilities: Vec<f64>,
}

/// Everything about one template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TemplateOutcome {
    /// Its name.
    pub template: String,
    /// Its content's hash.
    pub template_sha256: String,
    /// The measures, the main one first.
    pub measures: Vec<Measure>,
    /// The main measure for each kind of task, where the data name kinds.
    pub kinds: Vec<KindOutcome>,
    /// Expected against predicted labels.
    pub confusion: Option<Confusion>,
    /// Probabilities against truth.
    pub calibration: Vec<Bin>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// All rows, in the data's order.
    pub rows: Vec<RowOutcome>,
}

impl TemplateOutcome {
    /// The `n` worst rows that are not fully right, worst first.
    pub fn worst(&self, n: usize) -> Vec<&RowOutcome> {
        let mut rows: Vec<&RowOutcome> = self.rows.iter().filter(|r| r.score < 1.0).collect();
        rows.sort_by(|a, b| {
            a.score
                .total_cmp(&b.score)
                .then(b.badness.total_cmp(&a.badness))
                .then(a.row.cmp(&b.row))
        });
        rows.truncate(n);
        rows
    }
}

/// One measure over several templates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The measure.
    pub name: String,
    /// Mean over templates.
    pub mean: f64,
    /// Standard deviation over templates.
    pub sd: f64,
    /// A share from 0 to 1.
    pub share: bool,
}

/// A whole evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Version of this layout.
    pub version: u32,
    /// The model as named.
    pub model: String,
    /// The adapter as named.
    pub adapter: Option<String>,
    /// The data as named.
    pub data: Vec<String>,
    /// How answers were got, in words.
    pub how: String,
    /// Each template.
    pub templates: Vec<TemplateOutcome>,
    /// Over several templates: mean and spread of each measure.
    pub spread: Vec<Spread>,
    /// Over several templates: the best one by the main measure.
    pub best_template: Option<String>,
    /// Seconds.
    pub seconds: f64,
}

impl Outcome {
    /// Fills in spread and best template.
    pub fn compare_templates(&mut self) {
        let Some(first) = self.templates.first().filter(|_| self.templates.len() > 1) else {
            return;
        };
        for measure in &first.measures {
            let values: Vec<f64> = self
                .templates
                .iter()
                .filter_map(|t| t.measures.iter().find(|m| m.name == measure.name))
                .map(|m| m.interval.value)
                .collect();
            let (mean, sd) = mean_sd(&values);
            let (name, share) = (measure.name.clone(), measure.share);
            self.spread.push(Spread { name, mean, sd, share });
        }
        let main = |t: &TemplateOutcome| {
            let m = t.measures.first();
            m.map_or(f64::NEG_INFINITY, |m| {
                if m.more_is_better { m.interval.value } else { -m.interval.value }
            })
        };
        let mut best = first;
        for template in &self.templates {
            if main(template) > main(best) {
                best = template;
            }
        }
        self.best_template = Some(best.template.clone());
    }
}

/// "71.4%" or "12.30".
pub fn number(value: f64, share: bool) -> String {
    match (value.is_nan(), share) {
        (true, _) => "not defined".to_string(),
        (_, true) => format!("{:.1}%", 100.0 * value),
        _ => format!("{value:.2}"),
    }
}

/// "71.4% (66.0% to 76.8%)".
pub fn with_interval(interval: &Interval, share: bool) -> String {
    let n = |x| number(x, share);
    format!("{} ({} to {})", n(interval.value), n(interval.low), n(interval.high))
}
