//! How long a run will take, told in its plan: by a few steps that are lost where they take a moment, else by
//! counting operations.

use std::time::{Duration, Instant};

use paddock_core::backend::Write;
use paddock_core::null::Null;
use paddock_core::plan::RegionSizes;
use paddock_core::slot::Region;
use paddock_core::train::{Adam, Run, StepSettings, step};
use paddock_core::weights::Mat;

use super::fits::Room;
use super::probe::{BRIEF, limits, probe};
use super::session::Session;
use crate::run::events::Seconds;
use crate::run::signals::Signals;

/// Seconds of a step up to which steps are tried.
const SHORT_STEP: f64 = 0.5;
/// A product is timed for so long, after one to warm up.
const LOOK: Duration = Duration::from_millis(60);
/// Rows and columns of that product at most, and rows of what it is multiplied with.
const MOST_WIDE: u32 = 2048;
const ROWS: u32 = 256;
/// What a step takes in terms of a single product's speed, at best and at worst.
const BEST: f64 = 1.0;
const WORST: f64 = 2.5;
/// Bytes of weights a second that an answer reads for each of its tokens.
const ANSWERING: f64 = 6e9;

/// Seconds of a new run with all that belongs to it; none where that would not be known quickly (a graphics
/// card, too little memory). The session is as new afterwards, and has to begin.
pub fn reckoned(
    session: &mut Session<'_>,
    memory_bytes: u64,
    signals: &Signals,
) -> anyhow::Result<Option<Seconds>> {
    let free = Room::look().free;
    if !session.b.name().starts_with("cpu") || (free > 0 && memory_bytes > free) {
        return Ok(None);
    }
    let (step_s, counted) = by_counting(session)?;
    if step_s > SHORT_STEP {
        return Ok(Some(counted));
    }
    let setup = session.setup;
    let found = probe(session, &BRIEF, signals)?;
    session.run = Run::default();
    Ok(found.map(|probe| limits(probe.total_s(setup.total_steps(), setup.evaluations()))))
}

/// Seconds of a step at best, and limits of the run's, from the number of operations and the speed of one
/// product of matrices.
pub fn by_counting(session: &mut Session<'_>) -> anyhow::Result<(f64, Seconds)> {
    let step_s = operations(session)? / speed(session)?;
    let setup = session.setup;
    let steps = setup.total_steps() as f64;
    // Looking at a row costs about half of learning from it.
    let looks = setup.evaluations() as f64 * setup.validation.len() as f64;
    let looks = 0.5 * looks / setup.config.batch_size.max(1) as f64;
    let samples = (setup.config.samples as usize).min(setup.validation.len()) as f64;
    let tokens = 2.0 * samples * setup.config.sample_tokens as f64;
    let bytes: usize = setup.opened.folder.files.iter().map(|file| file.map.len()).sum();
    let answers = tokens * bytes as f64 / ANSWERING;
    let all = step_s * (steps + looks);
    let (low, high) = (BEST * all + 0.5 * answers, WORST * all + 2.0 * answers);
    Ok((step_s, Seconds { low, high }))
}

/// Arithmetic operations of the first step.
fn operations(session: &mut Session<'_>) -> anyhow::Result<f64> {
    let batches = session.next_batches()?;
    let settings =
        StepSettings { adam: Adam::default(), lr: 1e-4, max_grad_norm: 1.0, step: 0, seed: 1 };
    let mut null = Null::default();
    step(&mut null, &session.model, &session.plan, &batches, &settings, &mut ())?;
    Ok(null.counts.matmul_flops + null.counts.attention_flops)
}

/// Operations a second of a matrix product that is as wide as the model's.
fn speed(session: &mut Session<'_>) -> anyhow::Result<f64> {
    let config = &session.model.config;
    let (rows, cols) = (config.hidden_dim.min(MOST_WIDE), config.dim.min(MOST_WIDE));
    let (wide, many) = (u64::from(rows), u64::from(ROWS));
    let mut sizes = RegionSizes::default();
    let matrix = sizes.take(Region::Params, wide * u64::from(cols));
    let input = sizes.take(Region::Acts, many * u64::from(cols));
    let output = sizes.take(Region::Acts, many * wide);
    let b = &mut *session.b;
    b.reserve(&sizes)?;
    b.fill(matrix, 0.5)?;
    b.fill(input, 0.25)?;
    let matrix = Mat::trained(matrix, rows, cols);
    b.matmul_forward(output, input, matrix, 1.0, Write::Set)?;
    let (begun, mut times) = (Instant::now(), 0.0);
    while times == 0.0 || begun.elapsed() < LOOK {
        b.matmul_forward(output, input, matrix, 1.0, Write::Set)?;
        times += 1.0;
    }
    b.sync()?;
    let operations = 2.0 * times * (wide * u64::from(cols) * many) as f64;
    Ok(operations / begun.elapsed().as_secs_f64().max(1e-9))
}
