//! Which cells a study has, and about how much work each is.

use super::cell::{CELL_VERSION, Settings};
use super::rows::Sides;
use super::spec::{Kind, Method, Rows, Study};
use crate::error::bad_input;

/// Share that a worked example in a shared prompt adds to the work of asking a row: attention to it.
const SHOT: f64 = 0.04;

/// Forward and backward against forward alone.
const LEARNING: f64 = 3.0;

/// Passes over the rows where the settings do not say.
const EPOCHS: f64 = 3.0;

/// A cell to be done.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What it is.
    pub settings: Settings,
    /// The method of STUDY.toml that it belongs to.
    pub method: usize,
    /// Work, in rows that go through the model once.
    pub cost: f64,
}

/// What all cells of a study share.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// Hash of the split.
    pub split: String,
    /// Hash of the model's weights.
    pub model: String,
    /// Hash of the template.
    pub template: String,
}

/// The cells of a study, in the order of its methods.
///
/// # Errors
/// If a method asks for more examples than there are, or for fewer than labels.
pub fn cells(study: &Study, sides: &Sides, common: &Common) -> anyhow::Result<Vec<Planned>> {
    let mut list = Vec::new();
    for (number, method) in study.method.iter().enumerate() {
        let examples: Vec<Option<Rows>> = match method.kind {
            Kind::Majority => vec![Some(Rows::All)],
            Kind::Prompt => {
                method.shots().into_iter().map(|k| (k > 0).then_some(Rows::Some(k))).collect()
            }
            _ => method.rows().into_iter().map(Some).collect(),
        };
        for examples in examples {
            enough(number, examples, sides)?;
            for seed in seeds(study, method.kind, examples) {
                let settings = settings(study, method, examples, seed, common)?;
                let cost = cost(method, examples, sides);
                list.push(Planned { settings, method: number, cost });
            }
        }
    }
    Ok(list)
}

fn enough(number: usize, examples: Option<Rows>, sides: &Sides) -> anyhow::Result<()> {
    let (there, labels) = (sides.train.len(), sides.labels.len());
    let fail = |what: String| Err(bad_input(format!("method {}: {what}", number + 1)));
    match examples {
        Some(Rows::Some(n)) if n > there => {
            fail(format!("it asks for {n} examples, but there are {there} training rows"))
        }
        Some(Rows::Some(n)) if n < labels => fail(format!(
            "{n} examples cannot show all {labels} labels ({}); give {labels} at least",
            sides.labels.join(", ")
        )),
        _ => Ok(()),
    }
}

/// Seeds of a variant: one cell without a seed where nothing is random.
fn seeds(study: &Study, kind: Kind, examples: Option<Rows>) -> Vec<Option<u64>> {
    let random = match kind {
        Kind::Majority => false,
        Kind::Svm => examples != Some(Rows::All),
        Kind::Prompt => examples.is_some(),
        Kind::Lora | Kind::Full => true,
    };
    if random { study.seeds.iter().map(|&seed| Some(seed)).collect() } else { vec![None] }
}

fn settings(
    study: &Study,
    method: &Method,
    examples: Option<Rows>,
    seed: Option<u64>,
    common: &Common,
) -> anyhow::Result<Settings> {
    let asks = !matches!(method.kind, Kind::Majority | Kind::Svm);
    let tunes = method.kind.tunes();
    let training = tunes.then(|| ::toml::to_string(&method.settings)).transpose()?;
    Ok(Settings {
        version: CELL_VERSION,
        kind: method.kind,
        examples,
        seed,
        split: common.split.clone(),
        model: asks.then(|| common.model.clone()),
        template: asks.then(|| common.template.clone()),
        length_norm: asks.then_some(study.length_norm),
        pick: tunes.then_some(method.pick),
        training,
    })
}

fn cost(method: &Method, examples: Option<Rows>, sides: &Sides) -> f64 {
    let asked = (sides.test.len() + sides.validation.len()) as f64;
    let rows = match examples {
        Some(Rows::All) => sides.train.len() as f64,
        Some(Rows::Some(n)) => n as f64,
        None => 0.0,
    };
    let get = |key: &str| {
        let value = method.settings.get(key)?;
        value.as_float().or_else(|| value.as_integer().map(|n| n as f64))
    };
    match method.kind {
        Kind::Majority => 0.0,
        Kind::Svm => rows * 0.02,
        Kind::Prompt => asked * (1.0 + SHOT * rows),
        Kind::Lora | Kind::Full => {
            let by_epochs = rows * get("epochs").unwrap_or(EPOCHS);
            let batch = get("batch_size").unwrap_or(16.0).min(rows);
            let passes = get("max_steps").map_or(by_epochs, |steps| steps * batch);
            asked + LEARNING * passes
        }
    }
}
