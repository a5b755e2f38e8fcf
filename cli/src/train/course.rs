//! Which rows a run takes, one after another: the shuffled rows of one set, or draws from a mixture of
//! sets in which each row comes with one of its templates. One integer, the position, resumes either.

use paddock_core::philox::{Philox, Stream};
use paddock_datasets::mixture::{Mixture, Rates};
use paddock_datasets::order::Order;

/// Draws of templates use a step of their own.
const TEMPLATES: u32 = (1 << 29) + 1;
/// Steps into which weights are cut.
const FINE: u64 = 1 << 32;

/// The training rows of one set of a mixture, within the examples of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct SetRows {
    /// What messages call it.
    pub name: String,
    /// Share of the draws.
    pub share: f64,
    /// Its templates.
    pub templates: u64,
    /// For each row the place of its first example; one more at the end. Those of a row differ in
    /// their template.
    pub starts: Vec<usize>,
    /// How often each template is drawn; empty: all alike.
    pub weights: Vec<f64>,
    /// The template of each example, from the first row's on; empty where all are drawn alike.
    pub drawn_with: Vec<u16>,
}

impl SetRows {
    /// Rows.
    pub fn rows(&self) -> u64 {
        self.starts.len().saturating_sub(1) as u64
    }

    /// Which of a row's examples is drawn at a position.
    fn example(&self, row: usize, random: &Philox, at: u64) -> usize {
        let (from, to) = (self.starts[row], self.starts[row + 1]);
        if self.weights.is_empty() {
            return from + random.below(TEMPLATES, at, (to - from) as u64) as usize;
        }
        let first = self.starts[0];
        let weight = |i: usize| self.weights[usize::from(self.drawn_with[i - first])];
        let sum: f64 = (from..to).map(weight).sum();
        let mut left = sum * random.below(TEMPLATES, at, FINE) as f64 / FINE as f64;
        for i in from..to {
            left -= weight(i);
            if left < 0.0 {
                return i;
            }
        }
        from
    }
}

/// A mixture of sets.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// The sets.
    pub sets: Vec<SetRows>,
    /// How often each is drawn from.
    pub rates: Rates,
    /// Rows of one pass.
    pub rows: u64,
    /// Seed of all draws.
    pub seed: u64,
}

/// The endless order of a run's examples.
pub enum Course {
    /// One set.
    Plain(Order),
    /// Several.
    Mixed(Box<Mixed>, Box<Mixture>),
}

impl Course {
    /// Of `examples` examples, or of a mixture.
    pub fn new(
        examples: usize,
        mixed: Option<&Mixed>,
        seed: u64,
        shuffle: bool,
    ) -> paddock_datasets::Result<Course> {
        let Some(mixed) = mixed else {
            return Ok(Course::Plain(Order::new(examples, seed, shuffle)?));
        };
        let sizes: Vec<u64> = mixed.sets.iter().map(SetRows::rows).collect();
        let mixture = Mixture::new(&sizes, &mixed.rates, mixed.seed)?;
        Ok(Course::Mixed(Box::new(mixed.clone()), Box::new(mixture)))
    }

    /// The examples from a position on, by place; fewer where the pass ends.
    pub fn examples(&mut self, position: u64, count: usize) -> Vec<usize> {
        let (mixed, mixture) = match self {
            Course::Plain(order) => return order.rows(position, count, true),
            Course::Mixed(mixed, mixture) => (mixed, mixture),
        };
        let left = mixed.rows - position % mixed.rows;
        mixture.seek(position);
        let random = Philox::new(mixed.seed, Stream::MIX);
        (position..position + (count as u64).min(left))
            .map(|at| {
                let (set, row) = mixture.draw();
                mixed.sets[set].example(row, &random, at)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed() -> Mixed {
        let set = |name: &str, first: usize, rows: usize, templates: usize| SetRows {
            name: name.to_string(),
            share: 0.5,
            templates: templates as u64,
            starts: (0..=rows).map(|row| first + row * templates).collect(),
            weights: Vec::new(),
            drawn_with: Vec::new(),
        };
        Mixed {
            sets: vec![set("a", 0, 10, 3), set("b", 30, 1000, 1)],
            rates: Rates::Proportional { cap: 30 },
            rows: 40,
            seed: 3,
        }
    }

    #[test]
    fn every_position_resumes_and_every_template_comes() {
        let mixed = mixed();
        let mut whole = Course::new(0, Some(&mixed), 3, true).expect("a course");
        let drawn: Vec<usize> = (0..400).step_by(8).flat_map(|at| whole.examples(at, 8)).collect();
        assert_eq!(drawn.len(), 400);
        for at in [0u64, 8, 123, 392] {
            let mut again = Course::new(0, Some(&mixed), 3, true).expect("a course");
            let found = again.examples(at, 8);
            assert_eq!(found, drawn[at as usize..][..found.len()], "{at}");
        }
        // A quarter of the draws are of the small set; all of its 30 examples come.
        let small = drawn.iter().filter(|example| **example < 30).count();
        assert!((70..130).contains(&small), "{small}");
        assert!((0..30).all(|example| drawn.contains(&example)));
        // A pass ends where it ends.
        assert_eq!(whole.examples(36, 16).len(), 4);
    }

    #[test]
    fn templates_come_as_often_as_their_weights_say() {
        let mut mixed = mixed();
        mixed.sets[0].weights = vec![3.0, 0.0, 1.0];
        mixed.sets[0].drawn_with = (0..30).map(|i| i % 3).collect();
        mixed.sets.truncate(1);
        mixed.rows = 10;
        let mut course = Course::new(0, Some(&mixed), 3, true).expect("a course");
        let drawn: Vec<usize> =
            (0..4_000).step_by(10).flat_map(|at| course.examples(at, 10)).collect();
        let count = |template| drawn.iter().filter(|i| **i % 3 == template).count();
        assert_eq!((drawn.len(), count(1)), (4_000, 0));
        assert!((2_880..3_120).contains(&count(0)), "{}", count(0));
    }
}
