//! Judgements in numbers: win rates, mean grades, agreement of two judges.

use std::collections::BTreeMap;

use serde::Serialize;

use super::agreement::{Choice, Correlation, correlation, points};
use super::published::Judged;
use crate::error::bad_input;
use crate::eval::outcome::with_interval;
use crate::eval::statistics::{Interval, mean_interval};

/// One file in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Rows judged.
    pub rows: usize,
    /// Rows without a judgement.
    pub missing: usize,
    /// Of pairs: how often the second answer won, was equal, lost.
    pub wins_ties_losses: Option<(usize, usize, usize)>,
    /// Share of wins of the second answer, ties as halves; or the mean grade.
    pub value: Interval,
    /// Grades and how often they were given.
    pub grades: Vec<(f64, usize)>,
    /// Sums of the scores of both answers, where scores were given.
    pub scores: Option<(f64, f64)>,
    /// Names of the two, where they are known.
    pub names: Option<(String, String)>,
}

/// Sums up.
pub fn summary(judged: &Judged) -> Summary {
    let values: Vec<f64> = judged.values.iter().map(|(_, v)| *v).collect();
    let count = |wanted: Choice| judged.choices().filter(|(_, c)| *c == wanted).count();
    let mut grades: Vec<(f64, usize)> = Vec::new();
    for &value in &values {
        match grades.iter_mut().find(|(known, _)| *known == value) {
            Some((_, n)) => *n += 1,
            None => grades.push((value, 1)),
        }
    }
    grades.sort_by(|a, b| a.0.total_cmp(&b.0));
    Summary {
        rows: values.len(),
        missing: judged.missing,
        wins_ties_losses: judged
            .pairs
            .then(|| (count(Choice::Second), count(Choice::Tie), count(Choice::First))),
        value: mean_interval(&values, 1),
        grades: if judged.pairs { Vec::new() } else { grades },
        scores: judged.scores,
        names: judged.names.clone(),
    }
}

impl Summary {
    /// For the terminal.
    pub fn text(&self) -> String {
        let mut out = format!("  judged    {} rows", self.rows);
        if self.missing > 0 {
            out.push_str(&format!(", {} without a judgement", self.missing));
        }
        out.push('\n');
        if let Some((wins, ties, losses)) = self.wins_ties_losses {
            let (first, second) = match &self.names {
                Some((first, second)) => (first.as_str(), second.as_str()),
                None => ("the first answer", "the second answer"),
            };
            let rate = with_interval(&self.value, true);
            out.push_str(&format!(
                "  {second} wins {rate} against {first}, ties as halves: {wins} won, {ties} equal, \
                 {losses} lost\n"
            ));
        } else {
            out.push_str(&format!("  mean grade {}\n", with_interval(&self.value, false)));
            for (grade, n) in &self.grades {
                out.push_str(&format!("    {grade}: {n} rows\n"));
            }
        }
        if let Some((first, second)) = self.scores {
            out.push_str(&format!("  sums of scores: {first} and {second}\n"));
        }
        out
    }
}

/// Two judges on the same rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Rows that both judged.
    pub rows: usize,
    /// Of pairs: mean points (1 both agree, ½ one of them a tie, 0 otherwise).
    pub points: Option<Interval>,
    /// Of grades.
    pub grades: Option<Correlation>,
}

/// Compares two files row by row.
pub fn agreement(a: &Judged, b: &Judged) -> anyhow::Result<Agreement> {
    if a.pairs != b.pairs {
        return Err(bad_input("one file compares pairs and the other grades single answers"));
    }
    let others: BTreeMap<&str, f64> = b.values.iter().map(|(id, v)| (id.as_str(), *v)).collect();
    let both: Vec<(f64, f64)> =
        a.values.iter().filter_map(|(id, v)| Some((*v, *others.get(id.as_str())?))).collect();
    if both.is_empty() {
        return Err(bad_input("the two files have no row in common"));
    }
    let rows = both.len();
    if !a.pairs {
        let (x, y): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
        return Ok(Agreement { rows, points: None, grades: Some(correlation(&x, &y)) });
    }
    let choice = |p: f64| match p {
        p if p > 0.5 => Choice::Second,
        p if p < 0.5 => Choice::First,
        _ => Choice::Tie,
    };
    let found: Vec<f64> = both.iter().map(|(a, b)| points(choice(*a), choice(*b))).collect();
    Ok(Agreement { rows, points: Some(mean_interval(&found, 1)), grades: None })
}

impl Agreement {
    /// For the terminal.
    pub fn text(&self) -> String {
        let mut out = format!("  both judged {} rows\n", self.rows);
        if let Some(points) = &self.points {
            out.push_str(&format!(
                "  agreement {} (1 both agree, ½ one of them a tie, 0 otherwise)\n",
                with_interval(points, true)
            ));
        }
        if let Some(c) = &self.grades {
            out.push_str(&format!(
                "  equal grades {:.1}%, mean distance {:.2}, Spearman {:.3}, Kendall {:.3}\n",
                100.0 * c.equal,
                c.distance,
                c.spearman,
                c.kendall
            ));
        }
        out
    }
}
