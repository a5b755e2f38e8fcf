//! Two answers to one prompt, judged by a person who does not know whose is whose.

use paddock_core::philox::{Philox, Stream};
use serde::{Deserialize, Serialize};

use super::outcome::TemplateOutcome;
use super::statistics::{Interval, mean_interval};

/// What a person preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    /// The first model's answer.
    First,
    /// The second model's answer.
    Second,
    /// Neither.
    Tie,
}

/// A prompt with both answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The row's number in the data.
    pub row: u64,
    /// What both were given.
    pub prompt: String,
    /// The first model's answer.
    pub first: String,
    /// The second model's answer.
    pub second: String,
    /// Whether the first one is shown on the right: drawn from the seed and the row.
    pub swapped: bool,
}

/// Pairs of different answers to the same rows; the sides are drawn from `seed`.
pub fn pairs(first: &TemplateOutcome, second: &TemplateOutcome, seed: u64) -> Vec<Pair> {
    let random = Philox::new(seed, Stream::GENERATE);
    let mut pairs = Vec::new();
    for a in &first.rows {
        let Some(b) = second.rows.iter().find(|b| b.row == a.row) else { continue };
        if a.said.trim() == b.said.trim() {
            continue;
        }
        pairs.push(Pair {
            row: a.row,
            prompt: a.prompt.clone(),
            first: a.said.clone(),
            second: b.said.clone(),
            swapped: random.below(0, a.row, 2) == 1,
        });
    }
    pairs
}

/// The second model's share of the votes, a tie being half a vote, with its 95% interval; `None` without votes.
pub fn preference(votes: &[Vote], seed: u64) -> Option<Interval> {
    let points: Vec<f64> = votes
        .iter()
        .map(|vote| match vote {
            Vote::First => 0.0,
            Vote::Second => 1.0,
            Vote::Tie => 0.5,
        })
        .collect();
    (!points.is_empty()).then(|| mean_interval(&points, seed))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::RowOutcome;
    use super::*;

    fn outcome(said: &[&str]) -> TemplateOutcome {
        let row = |(row, said): (usize, &&str)| RowOutcome {
            row: row as u64,
            prompt: format!("prompt {row}"),
            wanted: String::new(),
            said: (*said).to_string(),
            score: 0.0,
            badness: 0.0,
            kind: None,
            probabilities: Vec::new(),
        };
        TemplateOutcome { rows: said.iter().enumerate().map(row).collect(), ..Default::default() }
    }

    #[test]
    fn sides_are_mixed_and_equal_answers_are_no_choice() {
        let first: Vec<String> = (0..200).map(|i| format!("a{i}")).collect();
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        let mut second = vec!["b"; 200];
        second[7] = " a7 ";
        let found = pairs(&outcome(&first), &outcome(&second), 3);
        assert_eq!(found.len(), 199);
        let swapped = found.iter().filter(|pair| pair.swapped).count();
        assert!((60..140).contains(&swapped), "{swapped}");
        assert_eq!(found, pairs(&outcome(&first), &outcome(&second), 3));
    }

    #[test]
    fn ties_are_half_a_vote() {
        assert_eq!(preference(&[], 1), None);
        let votes = [Vote::Second, Vote::Second, Vote::Tie, Vote::First];
        let found = preference(&votes, 1).expect("votes");
        assert!((found.value - 0.625).abs() < 1e-12 && found.low < 0.625 && found.high > 0.625);
    }
}
