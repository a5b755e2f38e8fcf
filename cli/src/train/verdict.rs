//! How a run went, in a sentence or two.

use paddock_core::train::Run;

/// What is known at the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Validation loss before the first step.
    pub before: Option<f64>,
    /// The best validation loss.
    pub best: Option<f64>,
    /// The step that reached it.
    pub best_step: u64,
    /// The step whose state was better, and could not be taken back.
    pub lost_best: Option<u64>,
    /// The last validation loss.
    pub last: Option<f64>,
    /// First and last mean training loss.
    pub train: Option<(f64, f64)>,
    /// Steps passed over because something was not finite.
    pub skipped: u64,
    /// How often the run went back because its loss jumped.
    pub rewinds: u64,
    /// Share of wishes (or exact answers) on the test rows, before and after.
    pub judged: Option<(f64, f64)>,
    /// Whether patience ended the run.
    pub stopped_early: bool,
    /// Rows that it learned from, and those that the validation loss is of.
    pub rows: (u64, u64),
    /// Passes over the rows that were asked for.
    pub epochs: f64,
    /// Answers shown before and after, and those of them that are still the same.
    pub answers: (usize, usize),
}

/// Fewer rows than this teach little in the default number of passes.
const FEW_ROWS: u64 = 200;
/// Passes that are worth a try where rows are few.
const MANY_EPOCHS: f64 = 20.0;

impl Facts {
    /// Takes over what the run's state knows.
    pub fn of(run: &Run) -> Facts {
        let best = run.best_score.is_finite().then_some(run.best_score);
        let (skipped, rewinds) = (run.skipped, run.rewinds);
        Facts { best, best_step: run.best_step, skipped, rewinds, ..Facts::default() }
    }
}

/// The verdict.
pub fn words(facts: &Facts) -> String {
    let held_out = match facts.rows.1 {
        0 => "held-out rows".to_string(),
        rows => format!("{rows} held-out rows"),
    };
    let mut text = match (facts.before.filter(|loss| loss.is_finite()), facts.best) {
        (Some(before), Some(best)) if best < before * 0.995 => {
            let percent = 100.0 * (1.0 - best / before);
            format!(
                "The model learned: its loss on the {held_out}, which it had not seen, fell from {before:.3} \
                 to {best:.3} ({percent:.0}% less)."
            )
        }
        (Some(before), Some(best)) => format!(
            "The model hardly learned: its loss on the {held_out}, which it had not seen, was {before:.3} \
             and is {best:.3}. More rows, more passes over them (--epochs) or larger steps (--lr) may help."
        ),
        _ => trained(facts, &held_out),
    };
    if let Some(step) = facts.lost_best {
        text.push_str(&format!(
            " The best state, of step {step}, could not be taken back from its checkpoint, so the result is the last \
             state, of step {}.",
            facts.best_step
        ));
    }
    let by_heart = facts.best.zip(facts.last).filter(|(best, last)| *last > best * 1.02);
    if let Some((_, last)) = by_heart {
        text.push_str(&format!(
            " It then began to learn the training rows by heart (loss {last:.3} at the end), so the best \
             state, of step {}, was kept.",
            facts.best_step
        ));
    }
    if let Some((base, tuned)) = facts.judged {
        text.push_str(&judged(base, tuned));
    }
    text.push_str(&advice(facts, by_heart.is_some()));
    if facts.stopped_early {
        text.push_str(" The run stopped early because it had stopped getting better.");
    }
    if facts.skipped > 0 {
        text.push_str(&format!(
            " {} steps were passed over because their numbers were not finite or far off; a lower --lr may help.",
            facts.skipped
        ));
    }
    if facts.rewinds > 0 {
        text.push_str(&format!(
            " The loss jumped {} times; each time the run went back to a checkpoint and left out the rows since then \
             (run.toml says which).",
            facts.rewinds
        ));
    }
    text
}

/// What is known where the losses on held-out rows are not.
fn trained(facts: &Facts, held_out: &str) -> String {
    let Some((first, last)) = facts.train else { return "Nothing was measured.".to_string() };
    let why = match facts.rows.1 {
        0 => "No rows were held out".to_string(),
        _ => format!("The losses on the {held_out} before and after are not both finite numbers"),
    };
    format!(
        "The loss on the training rows went from {first:.3} to {last:.3}. {why}, so this does not say how the model \
         does on new ones."
    )
}

/// What to try where rows were few or answers are what they were.
fn advice(facts: &Facts, by_heart: bool) -> String {
    let ((shown, same), (rows, _)) = (facts.answers, facts.rows);
    let gained = facts.judged.is_some_and(|(base, tuned)| tuned - base >= 0.05);
    let unchanged = shown > 0 && 2 * same >= shown && !gained;
    let few = (1..FEW_ROWS).contains(&rows) && !gained;
    if !few && !unchanged {
        return String::new();
    }
    let mut text = String::new();
    if unchanged {
        text.push_str(&format!(
            " But {same} of the {shown} answers shown are what they were before."
        ));
    }
    if few {
        text.push_str(&format!(" It had {rows} rows to learn from, which are few."));
    }
    text.push_str(match by_heart || facts.epochs >= MANY_EPOCHS {
        true => " More rows would help most.",
        false => " More passes over them (--epochs 20) often help, and more rows help most.",
    });
    text
}

/// What the test rows say, in a sentence.
fn judged(base: f64, tuned: f64) -> String {
    let (base, tuned) = (100.0 * base, 100.0 * tuned);
    let what = match tuned - base {
        gain if gain >= 5.0 => "it follows instructions that it could not follow before",
        gain if gain <= -5.0 => {
            "it follows them worse than before; smaller steps (--lr) or fewer passes (--epochs) may help"
        }
        _ => "training made little difference there",
    };
    format!(
        " Of 100 things that the unseen instructions of the table asked for, it did {base:.0} before and does \
         {tuned:.0} now: {what}."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_words() {
        let learned = Facts {
            before: Some(4.0),
            best: Some(2.0),
            best_step: 10,
            last: Some(2.5),
            ..Facts::default()
        };
        let text = words(&learned);
        assert!(text.contains("50% less") && text.contains("step 10"), "{text}");
        let flat = Facts { before: Some(2.0), best: Some(2.0), ..Facts::default() };
        assert!(words(&flat).contains("hardly learned"));
        assert!(!words(&flat).contains("few"), "nothing is known of the rows");
        let blind = Facts { train: Some((3.0, 1.0)), ..Facts::default() };
        assert!(words(&blind).contains("No rows were held out"));
        let lost = Facts { lost_best: Some(8), best_step: 12, ..flat };
        let text = words(&lost);
        assert!(text.contains("step 8, could not be taken back"), "{text}");
        assert!(text.contains("the last state, of step 12"), "{text}");
    }

    #[test]
    fn f62_a_loss_that_is_not_finite_is_not_said_to_be_of_no_rows() {
        let bad = Facts {
            before: Some(f64::NAN),
            train: Some((3.0, 1.0)),
            rows: (400, 8),
            ..Facts::default()
        };
        for best in [None, Some(2.0)] {
            let text = words(&Facts { best, ..bad });
            assert!(text.contains("the 8 held-out rows before and after are not both"), "{text}");
            assert!(!text.contains("No rows") && !text.contains("NaN"), "{text}");
        }
    }

    #[test]
    fn few_rows_and_unchanged_answers_get_advice() {
        let learned = Facts {
            before: Some(4.0),
            best: Some(3.0),
            last: Some(3.0),
            rows: (40, 8),
            epochs: 3.0,
            answers: (4, 3),
            ..Facts::default()
        };
        let text = words(&learned);
        for part in ["the 8 held-out rows", "3 of the 4 answers", "40 rows", "--epochs 20"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Who has learned by heart, or passed over the rows often, needs others.
        let often = words(&Facts { epochs: 20.0, ..learned });
        assert!(often.contains("More rows") && !often.contains("--epochs"), "{often}");
        let by_heart = words(&Facts { last: Some(3.5), ..learned });
        assert!(by_heart.contains("More rows") && !by_heart.contains("--epochs"), "{by_heart}");
        // With enough rows, answers that changed or a gain there is nothing to say.
        let many = words(&Facts { rows: (4_000, 8), answers: (4, 1), ..learned });
        assert!(!many.contains("More") && !many.contains("answers shown"), "{many}");
        let gained = words(&Facts { judged: Some((0.1, 0.6)), ..learned });
        assert!(!gained.contains("few"), "{gained}");
    }
}
