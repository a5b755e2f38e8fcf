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
}

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
    let mut text = match (facts.before, facts.best) {
        (Some(before), Some(best)) if best < before * 0.995 => {
            let percent = 100.0 * (1.0 - best / before);
            format!(
                "The model learned: its loss on rows it had not seen fell from {before:.3} to {best:.3} \
                 ({percent:.0}% less)."
            )
        }
        (Some(before), Some(best)) => format!(
            "The model hardly learned: its loss on rows it had not seen was {before:.3} and is {best:.3}. \
             More rows, more passes (--epochs) or a higher --lr may help."
        ),
        _ => match facts.train {
            Some((first, last)) => format!(
                "The loss on the training rows went from {first:.3} to {last:.3}. No rows were held out, \
                 so this does not say how the model does on new ones."
            ),
            None => "Nothing was measured.".to_string(),
        },
    };
    if let (Some(best), Some(last)) = (facts.best, facts.last)
        && last > best * 1.02
    {
        text.push_str(&format!(
            " It then began to learn the training rows by heart (loss {last:.3} at the end), so the best \
             state, of step {}, was kept.",
            facts.best_step
        ));
    }
    if let Some((base, tuned)) = facts.judged {
        text.push_str(&judged(base, tuned));
    }
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

/// What the test rows say, in a sentence.
fn judged(base: f64, tuned: f64) -> String {
    let (base, tuned) = (100.0 * base, 100.0 * tuned);
    let what = match tuned - base {
        gain if gain >= 5.0 => "it follows instructions that it could not follow before",
        gain if gain <= -5.0 => {
            "it follows them worse than before; a lower --lr or fewer --epochs may help"
        }
        _ => "training made little difference there",
    };
    format!(
        " Of 100 things that unseen instructions asked for, it did {base:.0} before and does {tuned:.0} now: \
         {what}."
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
        let blind = Facts { train: Some((3.0, 1.0)), ..Facts::default() };
        assert!(words(&blind).contains("No rows were held out"));
    }
}
