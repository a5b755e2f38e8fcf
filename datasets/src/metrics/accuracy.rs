//! Accuracy and macro F1 over labels.

use std::collections::BTreeMap;

/// Counts for each label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    right: u64,
    predicted: u64,
    expected: u64,
}

/// Predictions against references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    counts: BTreeMap<String, Counts>,
    right: u64,
    total: u64,
}

impl Labels {
    /// Counts a prediction; both sides are compared without blanks around them.
    pub fn push(&mut self, predicted: &str, expected: &str) {
        let (predicted, expected) = (predicted.trim(), expected.trim());
        self.total += 1;
        self.counts.entry(predicted.to_string()).or_default().predicted += 1;
        let counts = self.counts.entry(expected.to_string()).or_default();
        counts.expected += 1;
        if predicted == expected {
            counts.right += 1;
            self.right += 1;
        }
    }

    /// Rows counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Share of right predictions; `None` without rows.
    pub fn accuracy(&self) -> Option<f64> {
        (self.total > 0).then(|| self.right as f64 / self.total as f64)
    }

    /// Mean F1 over all labels that were expected or predicted; `None` without rows.
    pub fn macro_f1(&self) -> Option<f64> {
        let scores = self.counts.values().map(|c| {
            let sum = c.predicted + c.expected;
            if sum == 0 { 0.0 } else { 2.0 * c.right as f64 / sum as f64 }
        });
        (self.total > 0).then(|| scores.sum::<f64>() / self.counts.len() as f64)
    }
}
