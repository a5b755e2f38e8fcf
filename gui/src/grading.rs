//! Answers graded one by one by a person who does not know whose they are.

use paddock_cli::eval::grades::{Ungraded, means, shuffled};
use paddock_cli::eval::outcome::with_interval;
use paddock_cli::judge::rubric::{Grade, Rubric};

use crate::evaluate::Asked;

/// Seed of the order.
const SEED: u64 = 2;
/// Rows whose answers are graded at most: a person gets tired.
const MOST_ROWS: usize = 30;
/// The rubric: six grades of helpfulness.
const RUBRIC: &str = "likert";

/// The state of the grading.
#[derive(Debug, Default)]
pub struct Grading {
    /// The grades to choose from, the worst first.
    pub scale: Vec<Grade>,
    /// The answers in the order in which they are shown.
    pub answers: Vec<Ungraded>,
    /// The grades of the first of them; a passed-over answer has none.
    pub grades: Vec<Option<f64>>,
    /// Who was asked.
    pub who: Vec<&'static str>,
    /// Whether the means are shown before the end.
    pub shows: bool,
}

impl Grading {
    /// The answers of all who were asked.
    pub fn of(all: &[Asked]) -> Grading {
        let outcomes: Vec<_> = all.iter().filter_map(Asked::found).collect();
        let said = outcomes.iter().any(|o| o.rows.iter().any(|row| !row.said.trim().is_empty()));
        let answers = if said { shuffled(&outcomes, MOST_ROWS, SEED) } else { Vec::new() };
        // It comes with the program.
        let scale = Rubric::named(RUBRIC).map(|rubric| rubric.grade).unwrap_or_default();
        Grading { scale, answers, who: all.iter().map(|a| a.who).collect(), ..Grading::default() }
    }

    /// The answer that is to be graded next.
    pub fn current(&self) -> Option<&Ungraded> {
        self.answers.get(self.grades.len())
    }

    /// Takes down a grade, or passes the answer over.
    pub fn grade(&mut self, grade: Option<f64>) {
        if self.current().is_some() {
            self.grades.push(grade);
        }
    }

    /// Whether the means may be shown: to see them on the way would tell whose answer was graded.
    pub fn open(&self) -> bool {
        !self.grades.is_empty() && (self.shows || self.current().is_none())
    }

    /// The mean grade of each who was asked, in words.
    pub fn means(&self) -> Vec<(&'static str, String)> {
        let found = means(&self.answers, &self.grades, self.who.len(), SEED);
        let words = |i: Option<_>| i.map_or("not graded".to_string(), |i| with_interval(&i, false));
        self.who.iter().copied().zip(found.into_iter().map(words)).collect()
    }
}
