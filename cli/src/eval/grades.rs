//! Answers of several models to the same rows, graded one by one by a person who does not know whose they are.

use paddock_core::philox::{Philox, Stream};
use serde::{Deserialize, Serialize};

use super::outcome::TemplateOutcome;
use super::statistics::{Interval, mean_interval};

/// An answer that waits for a grade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ungraded {
    /// The row's number in the data.
    pub row: u64,
    /// What the model was given.
    pub prompt: String,
    /// What it said.
    pub answer: String,
    /// Whose it is: its place among the models.
    pub model: usize,
}

/// At most `most` rows, evenly spread, each with all its answers; the order of all answers is drawn from `seed`.
pub fn shuffled(outcomes: &[&TemplateOutcome], most: usize, seed: u64) -> Vec<Ungraded> {
    let Some(first) = outcomes.first() else { return Vec::new() };
    let count = first.rows.len().min(most);
    let chosen: Vec<u64> =
        (0..count).map(|i| first.rows[i * first.rows.len() / count].row).collect();
    let mut all = Vec::new();
    for (model, outcome) in outcomes.iter().enumerate() {
        for row in outcome.rows.iter().filter(|row| chosen.contains(&row.row)) {
            let (prompt, answer) = (row.prompt.clone(), row.said.clone());
            all.push(Ungraded { row: row.row, prompt, answer, model });
        }
    }
    Philox::new(seed, Stream::GENERATE).shuffle(0, &mut all);
    all
}

/// The mean grade of each of `models` models with its 95% interval; none where nothing of it was graded.
/// `grades` are those of the first answers, in their order; a passed-over one has none.
pub fn means(
    answers: &[Ungraded],
    grades: &[Option<f64>],
    models: usize,
    seed: u64,
) -> Vec<Option<Interval>> {
    let of = |model| {
        let own = answers.iter().zip(grades).filter(|(answer, _)| answer.model == model);
        let own: Vec<f64> = own.filter_map(|(_, grade)| *grade).collect();
        (!own.is_empty()).then(|| mean_interval(&own, seed))
    };
    (0..models).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::RowOutcome;
    use super::*;

    fn outcome(who: &str, rows: u64) -> TemplateOutcome {
        let row = |row| RowOutcome {
            row,
            prompt: format!("prompt {row}"),
            wanted: String::new(),
            said: format!("{who} {row}"),
            score: 0.0,
            badness: 0.0,
            kind: None,
            probabilities: Vec::new(),
        };
        TemplateOutcome { rows: (0..rows).map(row).collect(), ..Default::default() }
    }

    #[test]
    fn every_model_is_graded_on_the_same_rows_in_no_order() {
        let (a, b) = (outcome("a", 40), outcome("b", 40));
        let all = shuffled(&[&a, &b], 10, 5);
        assert_eq!(all, shuffled(&[&a, &b], 10, 5));
        let rows = |model| {
            let mut own: Vec<u64> =
                all.iter().filter(|x| x.model == model).map(|x| x.row).collect();
            own.sort_unstable();
            own
        };
        assert_eq!((rows(0).len(), rows(0)), (10, rows(1)));
        let models: Vec<usize> = all.iter().map(|x| x.model).collect();
        assert!(models != [vec![0; 10], vec![1; 10]].concat(), "{models:?}");
        let grades: Vec<Option<f64>> =
            all.iter().map(|x| (x.row != all[0].row).then_some([2.0, 5.0][x.model])).collect();
        let means = means(&all, &grades, 3, 1);
        assert_eq!(means[0].map(|m| m.value), Some(2.0));
        assert_eq!(means[1].map(|m| (m.value, m.low, m.high)), Some((5.0, 5.0, 5.0)));
        assert_eq!(means[2], None);
    }
}
