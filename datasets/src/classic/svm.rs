//! A linear support vector machine by dual coordinate descent (Hsieh et al. 2008, algorithm 1), with
//! the squared hinge loss and the bias as one more weight, as LIBLINEAR's and scikit-learn's `LinearSVC`.

use paddock_core::philox::{Philox, Stream};

use super::Sparse;
use crate::error::{Error, Result};

/// How the machine is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Cost of a row on the wrong side.
    pub c: f64,
    /// Ends when no row pulls harder than this.
    pub tolerance: f64,
    /// Most passes over the rows.
    pub passes: u32,
    /// Seed of the order of the rows.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { c: 1.0, tolerance: 1e-4, passes: 1_000, seed: 1 }
    }
}

/// Weights for each class against the others; for two classes one set is enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Svm {
    classes: usize,
    /// (sets, features + 1): the last is the bias.
    weights: Vec<Vec<f64>>,
}

impl Svm {
    /// Fits to rows with classes from 0 to `classes` - 1.
    ///
    /// # Errors
    /// [`Error::Setting`] if the rows are of one class only, or rows and classes do not go together.
    pub fn fit(
        rows: &[Sparse],
        labels: &[usize],
        classes: usize,
        features: usize,
        options: &Options,
    ) -> Result<Svm> {
        let fail = |message: String| Err(Error::Setting(format!("linear SVM: {message}")));
        if rows.len() != labels.len() || labels.iter().any(|&l| l >= classes) {
            return fail(format!("{} labels of {classes} classes do not fit", labels.len()));
        }
        if labels.iter().all(|l| Some(l) == labels.first()) {
            return fail("all rows have the same label; it needs rows of two at least".to_string());
        }
        let sets: Vec<usize> = if classes == 2 { vec![1] } else { (0..classes).collect() };
        let weights = sets
            .into_iter()
            .map(|class| {
                let signs: Vec<f64> =
                    labels.iter().map(|&l| if l == class { 1.0 } else { -1.0 }).collect();
                fit_one(rows, &signs, features, options)
            })
            .collect();
        Ok(Svm { classes, weights })
    }

    /// The class of a row.
    pub fn class(&self, row: &Sparse) -> usize {
        let scores: Vec<f64> = self.weights.iter().map(|w| score(w, row)).collect();
        if self.classes == 2 {
            return usize::from(scores[0] > 0.0);
        }
        (0..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
    }

    /// Numbers that it consists of.
    pub fn numbers(&self) -> usize {
        self.weights.iter().map(Vec::len).sum()
    }
}

fn score(weights: &[f64], row: &Sparse) -> f64 {
    let bias = weights.last().copied().unwrap_or(0.0);
    bias + row.iter().map(|&(id, value)| weights[id as usize] * value).sum::<f64>()
}

fn fit_one(rows: &[Sparse], signs: &[f64], features: usize, options: &Options) -> Vec<f64> {
    let mut weights = vec![0.0; features + 1];
    let mut alpha = vec![0.0; rows.len()];
    // The squared hinge adds 1 / 2C to the diagonal of the dual problem; the bias adds 1.
    let diagonal = 0.5 / options.c;
    let square = |row: &Sparse| row.iter().map(|(_, v)| v * v).sum::<f64>() + 1.0 + diagonal;
    let squares: Vec<f64> = rows.iter().map(square).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let random = Philox::new(options.seed, Stream::MIX);
    for pass in 0..options.passes {
        random.shuffle(pass, &mut order);
        let (mut most, mut least) = (f64::NEG_INFINITY, f64::INFINITY);
        for &i in &order {
            let gradient = signs[i] * score(&weights, &rows[i]) - 1.0 + alpha[i] * diagonal;
            let projected = if alpha[i] == 0.0 { gradient.min(0.0) } else { gradient };
            (most, least) = (most.max(projected), least.min(projected));
            if projected.abs() < 1e-12 {
                continue;
            }
            let new = (alpha[i] - gradient / squares[i]).max(0.0);
            let change = (new - alpha[i]) * signs[i];
            alpha[i] = new;
            rows[i].iter().for_each(|&(id, value)| weights[id as usize] += change * value);
            weights[features] += change;
        }
        if most - least < options.tolerance {
            break;
        }
    }
    weights
}
