//! Predicted labels against expected ones, as counts.

use serde::{Deserialize, Serialize};

/// How often each expected label was answered by each label, or by none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// The labels (L).
    pub labels: Vec<String>,
    /// (L, L + 1): expected, then predicted; the last column is for answers that name no label.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Counts pairs of the expected label and the predicted one, if there is one.
    pub fn of(labels: &[String], pairs: impl Iterator<Item = (usize, Option<usize>)>) -> Confusion {
        let n = labels.len();
        let mut counts = vec![vec![0; n + 1]; n];
        for (expected, predicted) in pairs {
            counts[expected][predicted.unwrap_or(n)] += 1;
        }
        Confusion { labels: labels.to_vec(), counts }
    }

    /// Rows counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Rows whose answer named no label.
    pub fn unreadable(&self) -> u64 {
        self.counts.iter().filter_map(|row| row.last()).sum()
    }

    /// Labels that occur among the expected ones.
    pub fn expected_labels(&self) -> usize {
        self.counts.iter().filter(|row| row.iter().sum::<u64>() > 0).count()
    }

    /// Share of right predictions.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.labels.len()).map(|i| self.counts[i][i]).sum();
        right as f64 / self.total() as f64
    }

    /// Mean over the labels that occur of the share of their rows that is right, as scikit-learn's
    /// `balanced_accuracy_score`.
    pub fn balanced_accuracy(&self) -> f64 {
        let recalls = self.counts.iter().enumerate().filter_map(|(i, row)| {
            let all: u64 = row.iter().sum();
            (all > 0).then(|| row[i] as f64 / all as f64)
        });
        let (mut sum, mut n) = (0.0, 0.0);
        for recall in recalls {
            sum += recall;
            n += 1.0;
        }
        sum / n
    }

    /// F1 of one label; `None` if it was neither expected nor predicted.
    pub fn f1(&self, label: usize) -> Option<f64> {
        let expected: u64 = self.counts[label].iter().sum();
        let predicted: u64 = self.counts.iter().map(|row| row[label]).sum();
        let sum = expected + predicted;
        (sum > 0).then(|| 2.0 * self.counts[label][label] as f64 / sum as f64)
    }

    /// Mean F1 over the labels that were expected or predicted, as scikit-learn's `f1_score` with
    /// `average="macro"`.
    pub fn macro_f1(&self) -> f64 {
        let scores: Vec<f64> = (0..self.labels.len()).filter_map(|i| self.f1(i)).collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_scikit_learn() {
        let labels = ["a", "b", "c"].map(String::from);
        let expected = [0, 0, 0, 1, 1, 2, 2, 2, 2, 0];
        let predicted = [0, 1, 0, 1, 2, 2, 2, 0, 2, 0];
        let pairs = expected.iter().copied().zip(predicted.iter().map(|&p| Some(p)));
        let found = Confusion::of(&labels, pairs);
        // accuracy_score, balanced_accuracy_score, f1_score(average="macro")
        assert!((found.accuracy() - 0.7).abs() < 1e-12);
        assert!((found.balanced_accuracy() - 0.666_666_666_666).abs() < 1e-9);
        assert!((found.macro_f1() - 2.0 / 3.0).abs() < 1e-9, "{}", found.macro_f1());
        assert_eq!(found.counts[0], [3, 1, 0, 0]);
    }

    #[test]
    fn an_answer_without_a_label_is_wrong_and_one_class_is_seen() {
        let labels = ["a", "b"].map(String::from);
        let found = Confusion::of(&labels, [(0, Some(0)), (0, None)].into_iter());
        assert_eq!((found.unreadable(), found.expected_labels()), (1, 1));
        assert_eq!(found.accuracy(), 0.5);
        assert_eq!(found.balanced_accuracy(), 0.5);
        assert_eq!(found.f1(1), None);
        assert!(Confusion::of(&labels, std::iter::empty()).accuracy().is_nan());
    }
}
