//! Cells that differ by their seed only, as one line of the result.

use serde::Serialize;

use super::cell::Outcome;
use super::course::Finished;
use super::paired::{Paired, holm, paired};
use super::rows::Row;
use super::spec::{Kind, Rows};
use crate::eval::confusion::Confusion;
use crate::eval::statistics::{Interval, mean_interval, mean_sd};

/// Mean and standard deviation over runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation; 0 for one run.
    pub sd: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let values: Vec<f64> = values.collect();
        let (mean, sd) = mean_sd(&values);
        Spread { mean, sd }
    }
}

/// A way to the task, over all its seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variant {
    /// The kind of method.
    pub kind: Kind,
    /// In words, without seeds.
    pub name: String,
    /// Labelled examples asked for.
    pub examples: Option<Rows>,
    /// Labelled examples used (fewer where they do not fit into a prompt).
    pub used: usize,
    /// Runs: seeds.
    pub runs: usize,
    /// Accuracy on the test rows.
    pub accuracy: Spread,
    /// Its mean with the 95% interval of a bootstrap over test rows.
    pub interval: Interval,
    /// Balanced accuracy on the test rows.
    pub balanced: Spread,
    /// Mean F1 of the labels on the test rows.
    pub f1: Spread,
    /// Accuracy on the validation rows, where there are any.
    pub validation: Option<Spread>,
    /// Seconds of learning, mean over runs.
    pub learn_s: f64,
    /// Seconds of answering, mean over runs.
    pub answer_s: f64,
    /// Tokens of learning, mean over runs.
    pub learn_tokens: u64,
    /// Tokens of answering, mean over runs.
    pub answer_tokens: u64,
    /// Most memory planned, in bytes.
    pub memory_bytes: u64,
    /// Expected and chosen labels of the test rows, all runs together.
    pub confusion: Confusion,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// For each test row the share of runs that have it right.
    #[serde(skip)]
    pub right: Vec<f64>,
}

/// All variants, and how they compare.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// In the order of the study.
    pub variants: Vec<Variant>,
    /// The best by the validation rows (by the test rows where there are none).
    pub best: usize,
    /// For each variant how it compares with the best, p corrected for their number.
    pub against_best: Vec<Paired>,
}

/// Groups the cells.
pub fn table(finished: &Finished) -> Table {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for (i, cell) in finished.cells.iter().enumerate() {
        let key = cell.settings.variant();
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(i),
            None => groups.push((key, vec![i])),
        }
    }
    let variants: Vec<Variant> =
        groups.iter().map(|(_, members)| variant(finished, members)).collect();
    let score = |v: &Variant| v.validation.unwrap_or(v.accuracy).mean;
    let best = (0..variants.len())
        .fold(0, |b, i| if score(&variants[i]) > score(&variants[b]) { i } else { b });
    let mut against: Vec<Paired> =
        variants.iter().map(|v| paired(&v.right, &variants[best].right, 1)).collect();
    let others: Vec<usize> = (0..variants.len()).filter(|i| *i != best).collect();
    let corrected = holm(&others.iter().map(|&i| against[i].p).collect::<Vec<_>>());
    others.iter().zip(corrected).for_each(|(&i, p)| against[i].p = p);
    Table { variants, best, against_best: against }
}

fn variant(finished: &Finished, members: &[usize]) -> Variant {
    let cells: Vec<&Outcome> = members.iter().map(|&i| &finished.cells[i].outcome).collect();
    let mut settings = finished.cells[members[0]].settings.clone();
    settings.seed = None;
    let (test, labels) = (&finished.sides.test, &finished.sides.labels);
    let confusion = |chosen: &[usize]| confusion(labels, test, chosen);
    let runs = cells.len() as f64;
    let right: Vec<f64> = (0..test.len())
        .map(|i| cells.iter().filter(|c| c.test[i] == test[i].label).count() as f64 / runs)
        .collect();
    let mean = |get: &dyn Fn(&Outcome) -> f64| cells.iter().map(|c| get(c)).sum::<f64>() / runs;
    let validation = &finished.sides.validation;
    let on_validation = (!validation.is_empty()).then(|| {
        let of = |c: &&Outcome| hits(validation, &c.validation) / validation.len() as f64;
        Spread::of(cells.iter().map(of))
    });
    let mut notes: Vec<String> = cells.iter().flat_map(|c| c.notes.clone()).collect();
    notes.dedup();
    let all: Vec<usize> = cells.iter().flat_map(|c| c.test.clone()).collect();
    let again: Vec<Row> = cells.iter().flat_map(|_| test.clone()).collect();
    Variant {
        kind: settings.kind,
        name: settings.words(),
        examples: settings.examples,
        used: cells.iter().map(|c| c.examples).min().unwrap_or(0),
        runs: cells.len(),
        accuracy: Spread::of(cells.iter().map(|c| hits(test, &c.test) / test.len() as f64)),
        interval: mean_interval(&right, 1),
        balanced: Spread::of(cells.iter().map(|c| confusion(&c.test).balanced_accuracy())),
        f1: Spread::of(cells.iter().map(|c| confusion(&c.test).macro_f1())),
        validation: on_validation,
        learn_s: mean(&|c| c.learn_s),
        answer_s: mean(&|c| c.answer_s),
        learn_tokens: mean(&|c| c.learn_tokens as f64) as u64,
        answer_tokens: mean(&|c| c.answer_tokens as f64) as u64,
        memory_bytes: cells.iter().map(|c| c.memory_bytes).max().unwrap_or(0),
        confusion: self::confusion(labels, &again, &all),
        notes,
        right,
    }
}

fn hits(rows: &[Row], chosen: &[usize]) -> f64 {
    rows.iter().zip(chosen).filter(|(row, chosen)| row.label == **chosen).count() as f64
}

fn confusion(labels: &[String], rows: &[Row], chosen: &[usize]) -> Confusion {
    Confusion::of(labels, rows.iter().zip(chosen).map(|(row, chosen)| (row.label, Some(*chosen))))
}

impl Table {
    /// The best of the variants of some kinds, by the validation rows (test rows where there are none).
    pub fn best_of(&self, kinds: &[Kind]) -> Option<&Variant> {
        let score = |v: &Variant| v.validation.unwrap_or(v.accuracy).mean;
        let mut best: Option<&Variant> = None;
        for variant in self.variants.iter().filter(|v| kinds.contains(&v.kind)) {
            if best.is_none_or(|b| score(variant) > score(b)) {
                best = Some(variant);
            }
        }
        best
    }
}
