//! How long a run will take, told by a few of its own steps.

use std::time::{Duration, Instant};

use super::session::Session;

/// Steps that are timed at most, after one to warm up.
const STEPS: u32 = 3;
/// No further step is begun after this.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// What a probe found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe {
    /// Seconds of an optimizer step.
    pub step_s: f64,
    /// Seconds of an evaluation on the held-out rows.
    pub eval_s: f64,
}

/// Makes some steps, which are lost. Memory is reserved for them as for the run.
pub fn probe(session: &mut Session<'_>) -> anyhow::Result<Probe> {
    session.begin()?;
    session.step(&mut ())?;
    let begun = Instant::now();
    let mut steps = 0;
    while steps < STEPS && (steps == 0 || begun.elapsed() < LONG_ENOUGH) && !session.finished() {
        session.step(&mut ())?;
        steps += 1;
    }
    let step_s = begun.elapsed().as_secs_f64() / f64::from(steps.max(1));
    let begun = Instant::now();
    let parts = session.validation_parts();
    let looked = std::cell::Cell::new(0usize);
    session.evaluate(&|| {
        let more = looked.get() == 0 || begun.elapsed() < LONG_ENOUGH;
        looked.set(looked.get() + usize::from(more));
        more
    })?;
    let share = parts as f64 / looked.get().max(1) as f64;
    let eval_s = if parts == 0 { 0.0 } else { begun.elapsed().as_secs_f64() * share };
    Ok(Probe { step_s, eval_s })
}
