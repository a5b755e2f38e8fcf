//! How long a run will take, found out by doing a little of it in memory.

use std::cell::Cell;
use std::time::{Duration, Instant};

use paddock_core::train::{Phase, Watch};

use super::judge::longest_answer;
use super::session::Session;
use crate::group::Group;
use crate::run::events::Seconds;
use crate::run::signals::Signals;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Training steps are timed for at least this long, or `most_steps` of them, after one to warm up.
    least: Duration,
    most_steps: u32,
    /// No further part of an evaluation is begun after this.
    evaluation: Duration,
}

/// For a forecast that is asked for by itself.
pub const THOROUGH: Effort =
    Effort { least: Duration::from_secs(2), most_steps: 8, evaluation: Duration::from_secs(20) };
/// For the plan of a run that is about to begin.
pub const BRIEF: Effort = Effort {
    least: Duration::from_millis(500),
    most_steps: 4,
    evaluation: Duration::from_millis(200),
};

/// Tokens that each of the timed answers grows by.
const NEW_TOKENS: u64 = 8;
/// How far off the measurement may be, on a machine that does nothing else.
const LOW: f64 = 0.75;
const HIGH: f64 = 1.4;

/// What a probe found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe {
    /// Seconds of an optimizer step with as many tokens as the run's steps have on average.
    pub step_s: f64,
    /// Seconds of an evaluation on the held-out rows.
    pub eval_s: f64,
    /// Seconds of all answers, to samples and test rows, before and after training.
    pub answers_s: f64,
}

impl Probe {
    /// Seconds of a whole run.
    pub fn total_s(&self, steps: u64, evaluations: u64) -> f64 {
        self.step_s * steps as f64 + self.eval_s * evaluations as f64 + self.answers_s
    }
}

/// The limits within which a run that was reckoned to take so long will end.
pub fn limits(seconds: f64) -> Seconds {
    Seconds { low: seconds * LOW, high: seconds * HIGH }
}

struct UntilSignal<'a>(&'a Signals);

impl Watch for UntilSignal<'_> {
    fn phase(&mut self, _: Phase) -> bool {
        !self.0.stop_requested()
    }
}

/// Makes some steps, which are lost, an evaluation, and the beginnings of some answers. Memory is reserved
/// for them as for the run. `None` if a signal came.
pub fn probe(
    session: &mut Session<'_>,
    effort: &Effort,
    signals: &Signals,
) -> anyhow::Result<Option<Probe>> {
    session.begin()?;
    // The first step touches all memory for the first time.
    session.step(&mut UntilSignal(signals))?;
    let begun = Instant::now();
    let (mut steps, mut tokens) = (0, 0);
    let enough = |steps, begun: &Instant| {
        steps >= effort.most_steps || steps > 0 && begun.elapsed() >= effort.least
    };
    while !enough(steps, &begun) && !session.finished() {
        if signals.stop_requested() {
            return Ok(None);
        }
        tokens += session.step(&mut UntilSignal(signals))?.tokens;
        steps += 1;
    }
    if steps == 0 {
        // A run of one step: that one was it.
        return Ok(Some(Probe::default()));
    }
    let setup = session.setup;
    let token_s = begun.elapsed().as_secs_f64() / tokens.max(1) as f64;
    let step_tokens = setup.epoch_tokens().0 as f64 / setup.steps_per_epoch().max(1) as f64;
    let eval_s = evaluation(session, effort.evaluation)?;
    // The loss on the test rows is looked at before and after, too.
    let looks = 2.0 * setup.test.len() as f64 / setup.validation.len().max(1) as f64;
    let answers_s = answering(session)? + looks * eval_s;
    Ok(Some(Probe { step_s: token_s * step_tokens, eval_s, answers_s }))
}

/// Seconds of an evaluation.
fn evaluation(session: &mut Session<'_>, enough: Duration) -> anyhow::Result<f64> {
    let parts = session.validation_parts();
    if parts == 0 {
        return Ok(0.0);
    }
    let (begun, looked) = (Instant::now(), Cell::new(0usize));
    session.evaluate(&|| {
        let more = looked.get() == 0 || begun.elapsed() < enough;
        looked.set(looked.get() + usize::from(more));
        more
    })?;
    Ok(begun.elapsed().as_secs_f64() * parts as f64 / looked.get().max(1) as f64)
}

/// Seconds of answering samples and test rows, before and after.
fn answering(session: &mut Session<'_>) -> anyhow::Result<f64> {
    let setup = session.setup;
    let together = session.plan.capacity.logit_rows.max(1) as usize;
    let wanted = (setup.config.samples as usize).min(setup.validation.len());
    let prompts: Vec<&[u32]> =
        setup.test.iter().take(together).map(|row| &row.prompt[..]).collect();
    let first = if wanted == 0 { None } else { Some(setup.validation.get(0)?) };
    let sample: Vec<&[u32]> = first
        .iter()
        .map(|e| &e.tokens[..e.trained.iter().position(|t| *t).unwrap_or(1).max(1)])
        .collect();
    let mut time = |prompts: &[&[u32]], max_new_tokens: u64| -> anyhow::Result<f64> {
        if prompts.is_empty() || session.plan.capacity.logit_rows == 0 {
            return Ok(0.0);
        }
        let model = session.model.base();
        let tokenizer = &setup.opened.tokenizer;
        let (b, plan) = (&mut *session.b, &session.plan);
        let (temperature, seed) = (0.0, 0);
        let mut group =
            Group { b, model: &model, plan, tokenizer, max_new_tokens, temperature, seed };
        let begun = Instant::now();
        group.answers(prompts, &mut |_| true)?;
        Ok(begun.elapsed().as_secs_f64())
    };
    // The prompts are read once, however long the answers grow.
    let mut answers = |prompts: &[&[u32]], tokens: u64| -> anyhow::Result<f64> {
        let read = time(prompts, 1)?;
        let token = (time(prompts, 1 + NEW_TOKENS)? - read).max(0.0) / NEW_TOKENS as f64;
        Ok(read + token * tokens.saturating_sub(1) as f64)
    };
    let samples = wanted as f64 * answers(&sample, setup.config.sample_tokens)?;
    // The last answer of a group to end decides how long the group takes.
    let groups = setup.test.len().div_ceil(together) as f64;
    let tests = groups * answers(&prompts, longest_answer(setup))?;
    // On the way the first of the prompts are answered again.
    let times = match super::on_the_way::every(session) {
        0 => 0,
        every => setup.total_steps().saturating_sub(1) / every,
    };
    let share = wanted.min(super::on_the_way::PROMPTS) as f64 / wanted.max(1) as f64;
    Ok(2.0 * (samples + tests) + times as f64 * share * samples)
}
