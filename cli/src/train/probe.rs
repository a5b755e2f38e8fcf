//! How long a run will take, found out by doing a little of it in memory.

use std::time::{Duration, Instant};

use paddock_core::train::{Phase, Watch};

use super::judge::longest_answer;
use super::session::Session;
use crate::group::Group;
use crate::run::events::Seconds;
use crate::run::signals::Signals;

/// Training steps are measured for at least this long, or [`MOST_STEPS`] of them.
const MEASURED: Duration = Duration::from_secs(2);
const MOST_STEPS: u32 = 8;
/// Tokens that each of the measured answers grows by.
const NEW_TOKENS: u64 = 8;
/// A forward pass against forward and backward together.
const FORWARD_SHARE: f64 = 0.4;
/// How far off the measurement may be, on a machine that does nothing else.
const LOW: f64 = 0.75;
const HIGH: f64 = 1.4;

struct UntilSignal<'a>(&'a Signals);

impl Watch for UntilSignal<'_> {
    fn phase(&mut self, _: Phase) -> bool {
        !self.0.stop_requested()
    }
}

/// Takes some training steps and begins some answers, and reckons the whole run from them. The session has
/// begun and is of no further use. `None` if a signal came.
pub fn probe(session: &mut Session<'_>, signals: &Signals) -> anyhow::Result<Option<Seconds>> {
    let setup = session.setup;
    let total_steps = setup.total_steps();
    // The first step touches all memory for the first time.
    session.step(&mut UntilSignal(signals))?;
    let began = Instant::now();
    let (mut steps, mut tokens) = (0, 0);
    while steps == 0 || (steps < MOST_STEPS && began.elapsed() < MEASURED && !session.finished()) {
        tokens += session.step(&mut UntilSignal(signals))?.tokens;
        steps += 1;
        if signals.stop_requested() {
            return Ok(None);
        }
        if session.finished() {
            break;
        }
    }
    let token_s = began.elapsed().as_secs_f64() / tokens.max(1) as f64;
    let tokens_of = |rows: &[paddock_datasets::encode::Example]| -> u64 {
        rows.iter().map(|e| e.tokens.len() as u64).sum()
    };
    let epochs = total_steps as f64 / setup.steps_per_epoch().max(1) as f64;
    let training = epochs * tokens_of(&setup.train) as f64 * token_s;
    let every = setup.config.eval_every.unwrap_or(setup.steps_per_epoch()).max(1);
    let evaluations = 1 + total_steps.div_ceil(every);
    let validation = tokens_of(&setup.validation) as f64 * token_s * FORWARD_SHARE;
    let seconds = training + evaluations as f64 * validation + answering(session)?;
    Ok(Some(Seconds { low: seconds * LOW, high: seconds * HIGH }))
}

/// Seconds of answering samples and test rows, before and after.
fn answering(session: &mut Session<'_>) -> anyhow::Result<f64> {
    let setup = session.setup;
    let together = session.plan.capacity.logit_rows.max(1) as usize;
    let wanted = (setup.config.samples as usize).min(setup.validation.len());
    let prompts: Vec<&[u32]> =
        setup.test.iter().take(together).map(|row| &row.prompt[..]).collect();
    let sample: Vec<&[u32]> = setup
        .validation
        .iter()
        .take(1)
        .map(|e| &e.tokens[..e.trained.iter().position(|t| *t).unwrap_or(1).max(1)])
        .collect();
    let mut time = |prompts: &[&[u32]]| -> anyhow::Result<f64> {
        if prompts.is_empty() || session.plan.capacity.logit_rows == 0 {
            return Ok(0.0);
        }
        let model = session.model.base();
        let tokenizer = &setup.opened.tokenizer;
        let (b, plan) = (&mut *session.b, &session.plan);
        let mut group = Group { b, model: &model, plan, tokenizer, max_new_tokens: NEW_TOKENS };
        let began = Instant::now();
        group.answers(prompts, &mut |_| true)?;
        Ok(began.elapsed().as_secs_f64() / NEW_TOKENS as f64)
    };
    let samples = wanted as f64 * setup.config.sample_tokens as f64 * time(&sample)?;
    // The last answer of a group to end decides how long the group takes.
    let groups = setup.test.len().div_ceil(together) as f64;
    let tests = groups * longest_answer(setup) as f64 * time(&prompts)?;
    Ok(2.0 * (samples + tests))
}
