//! A run in memory: the back-end with the model on it, the data position, and what a checkpoint holds.

use std::cell::RefCell;
use std::io::Write;

use anyhow::Context;
use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::Config;
use paddock_core::model::{Method, Model, init};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::slot::{Region, Slot};
use paddock_core::train::{
    Adam, Outcome, Run, Schedule, ScheduleKind, StepSettings, Watch, evaluate, scaled_step,
};
use paddock_datasets::encode::Example;
use paddock_datasets::forest::{Limits, MicroBatch, micro_batches};
use serde_json::{Map, json};

use super::capacity::capacity;
use super::course::Course;
use super::setup::Setup;
use super::tensors::{Tensor, bytes_of, tensors, write_tensors};
use crate::model::mmap::forget;
use crate::open::{Machine, backend};
use crate::run::checkpoint::{Checkpoint, Entry, Found, Keep, Payload, Saved, save};
use crate::run::config::{self, LrSchedule};
use crate::run::events;
use crate::storage::Storage;

/// Answers up to this many tokens count as short: exact match then says something.
const SHORT_ANSWER: u64 = 32;

/// Rows of a step that a message names.
const NAMED_ROWS: usize = 8;

/// A run with its memory.
pub struct Session<'a> {
    /// What it is made of.
    pub setup: &'a Setup,
    /// The machine.
    pub b: Box<dyn Backend + 'a>,
    /// The model.
    pub model: Model,
    /// Its memory.
    pub plan: Plan,
    /// What it was said to need, once that is known.
    pub forecast: Option<events::Plan>,
    /// Where the run is.
    pub run: Run,
    schedule: Schedule,
    course: Course,
    validation: Vec<(MicroBatch, Batch)>,
}

/// An optimizer step, its rows and what came of it.
pub struct Stepped {
    /// What the core says.
    pub outcome: Outcome,
    /// Rows of the step.
    pub rows: u64,
    /// Their tokens, nothing shared.
    pub tokens: u64,
    /// Learning rate.
    pub lr: f64,
    /// If the loss was not finite: the row that showed it first.
    pub bad_row: Option<u64>,
    /// Numbers of the first few rows.
    pub first_rows: Vec<u64>,
    /// How often it was made again because a gradient was too large for its type.
    pub overflows: u64,
}

/// Numbers of an evaluation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scores {
    /// Mean loss of a trained token.
    pub loss: f64,
    /// Share of trained tokens that are the most likely one.
    pub token_accuracy: f64,
    /// Share of rows of which every trained token is; only where answers are short.
    pub exact_match: Option<f64>,
    /// Trained tokens.
    pub tokens: u64,
}

/// What the settings call recomputation, in the core's words.
pub fn recompute(chosen: config::Recompute) -> Recompute {
    match chosen {
        config::Recompute::Off => Recompute::Nothing,
        config::Recompute::Cheap => Recompute::Cheap,
        config::Recompute::Layers => Recompute::Layers,
    }
}

impl<'a> Session<'a> {
    /// Plans all memory without reserving any.
    pub fn plan(setup: &'a Setup) -> anyhow::Result<Session<'a>> {
        let c = &setup.config;
        let b = backend(&Machine::of(c), setup.opened.weights()?)?;
        let model = Model::new(setup.opened.folder.config.clone(), setup.method)?;
        let plan = Plan::new(&model, capacity(setup), recompute(c.recompute), true, &*b);
        let total_steps = setup.total_steps();
        let schedule = Schedule {
            kind: match c.lr_schedule {
                LrSchedule::Constant => ScheduleKind::Constant,
                LrSchedule::Linear => ScheduleKind::Linear,
                LrSchedule::Cosine => ScheduleKind::Cosine,
            },
            lr: c.effective_lr(),
            warmup_steps: c.effective_warmup_steps(total_steps),
            total_steps,
        };
        let course = Course::new(setup.train.len(), setup.mixed.as_ref(), c.seed, c.shuffle)?;
        let limits = limits(&plan.capacity);
        let rows = setup.validation.all()?;
        let rows: Vec<&Example> = rows.iter().collect();
        let validation = batches(&rows, &limits, &model.config)?;
        let (run, forecast) = (Run::default(), None);
        Ok(Session { setup, b, model, plan, forecast, run, schedule, course, validation })
    }

    /// Reserves the memory and gives everything its first value.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.b.reserve(&self.plan.sizes)?;
        init::upload_rope(&mut *self.b, &self.model, &self.plan, 0)?;
        self.setup.opened.init(&mut *self.b, &self.model, self.setup.config.seed)?;
        if self.setup.method == Method::Full {
            // Everything was copied into the parameters; the checkpoint is not read again before the end.
            self.setup.opened.folder.files.iter().for_each(|file| forget(&file.map));
        }
        init::clear_optimizer(&mut *self.b, &self.model)?;
        Ok(())
    }

    /// What a micro-batch may hold.
    pub fn limits(&self) -> Limits {
        limits(&self.plan.capacity)
    }

    /// Micro-batches of an evaluation.
    pub fn validation_parts(&self) -> usize {
        self.validation.len()
    }

    /// Passes over the data so far.
    pub fn epoch(&self) -> f64 {
        self.run.rows_seen as f64 / self.setup.epoch_rows() as f64
    }

    /// Whether all steps are done.
    pub fn finished(&self) -> bool {
        self.run.step >= self.schedule.total_steps
    }

    /// One optimizer step from the data position on. The position moves only if the step was made.
    pub fn step(&mut self, watch: &mut dyn Watch) -> anyhow::Result<Stepped> {
        let c = &self.setup.config;
        let position = self.run.rows_seen;
        let chosen = self.course.examples(position, c.batch_size as usize);
        let rows = self.setup.train.some(&chosen)?;
        let rows: Vec<&Example> = rows.iter().collect();
        let parts = batches(&rows, &limits(&self.plan.capacity), &self.model.config)?;
        let (micro, cores): (Vec<MicroBatch>, Vec<Batch>) = parts.into_iter().unzip();
        let lr = self.schedule.at(self.run.step);
        let settings = StepSettings {
            adam: Adam {
                beta1: c.adam_beta1,
                beta2: c.adam_beta2,
                eps: c.adam_eps,
                weight_decay: c.weight_decay,
                coupled: c.optimizer == config::Optimizer::Adam,
            },
            lr,
            max_grad_norm: c.max_grad_norm,
            step: self.run.step,
            seed: c.seed,
        };
        let (outcome, overflows) = self.scaled(&cores, &settings, watch)?;
        let tokens = micro.iter().map(|m| m.row_tokens as u64).sum();
        let first_rows = rows.iter().take(NAMED_ROWS).map(|row| row.row).collect();
        let rows_of = rows.len() as u64;
        let mut stepped =
            Stepped { outcome, rows: rows_of, tokens, lr, bad_row: None, first_rows, overflows };
        match &stepped.outcome {
            Outcome::Updated(report) => self.run.stepped(report.loss, stepped.rows, tokens),
            Outcome::Declined(_) => self.pass_over(stepped.rows, tokens),
            Outcome::NotFinite { found, .. } => {
                let row = found.and_then(|(m, e)| Some(*micro.get(m)?.entry_rows.get(e as usize)?));
                stepped.bad_row = row.and_then(|i| Some(rows.get(i)?.row));
                self.pass_over(stepped.rows, tokens);
            }
            Outcome::Stopped => {}
        }
        Ok(stepped)
    }

    /// The step; with a smaller scale of the loss, again, where a gradient overflows in a narrow type.
    fn scaled(
        &mut self,
        batches: &[Batch],
        settings: &StepSettings,
        watch: &mut dyn Watch,
    ) -> anyhow::Result<(Outcome, u64)> {
        let narrow = self.b.has_narrow_range();
        let mut overflows = 0;
        loop {
            let scale = if narrow { self.run.loss_scale.factor } else { 1.0 };
            let (b, model, plan) = (&mut *self.b, &self.model, &self.plan);
            let outcome = scaled_step(b, model, plan, batches, settings, scale, watch)?;
            match &outcome {
                Outcome::NotFinite { report, .. }
                    if narrow && report.loss.is_finite() && self.run.loss_scale.overflowed() =>
                {
                    overflows += 1;
                }
                Outcome::Updated(_) if narrow => {
                    self.run.loss_scale.passed();
                    return Ok((outcome, overflows));
                }
                _ => return Ok((outcome, overflows)),
            }
        }
    }

    /// Rows are passed over: the schedule goes on without them.
    fn pass_over(&mut self, rows: u64, tokens: u64) {
        self.run.step += 1;
        self.run.skipped += 1;
        self.run.rows_seen += rows;
        self.run.tokens_seen += tokens;
    }

    /// Loss and accuracy on the validation rows.
    pub fn evaluate(&mut self, go_on: &dyn Fn() -> bool) -> anyhow::Result<Option<Scores>> {
        let mut scores = Scores::default();
        let (mut hits, mut exact) = (0u64, 0u64);
        for (micro, batch) in &self.validation {
            if !go_on() {
                return Ok(None);
            }
            let result = evaluate(&mut *self.b, &self.model, &self.plan, batch)?;
            scores.loss += result.nll.iter().map(|&x| f64::from(x)).sum::<f64>();
            scores.tokens += result.nll.len() as u64;
            hits += result.hit.iter().filter(|&&h| h).count() as u64;
            let mut missed: Vec<usize> = result
                .hit
                .iter()
                .zip(&micro.entry_rows)
                .filter(|(hit, _)| !**hit)
                .map(|(_, &row)| row)
                .collect();
            missed.sort_unstable();
            missed.dedup();
            exact += (micro.rows.len() - missed.len()) as u64;
        }
        let tokens = scores.tokens.max(1) as f64;
        scores.loss /= tokens;
        scores.token_accuracy = hits as f64 / tokens;
        let rows = self.setup.validation.len();
        let longest = self.setup.validation.facts().map(|f| u64::from(f.trained)).max();
        if longest.is_some_and(|n| n <= SHORT_ANSWER) {
            scores.exact_match = Some(exact as f64 / rows as f64);
        }
        Ok(Some(scores))
    }

    /// Values of every trained tensor.
    pub fn values(&mut self) -> anyhow::Result<Vec<Vec<f32>>> {
        let slots: Vec<Slot> = self.model.params.items.iter().map(|p| p.slot).collect();
        slots.into_iter().map(|slot| Ok(init::read(&mut *self.b, slot)?)).collect()
    }

    /// Saves weights, moments and position by the checkpoint protocol.
    pub fn save(
        &mut self,
        storage: &dyn Storage,
        dir: &std::path::Path,
        keep: &Keep,
        elapsed_s: f64,
    ) -> anyhow::Result<Saved> {
        let params = self.model.params.items.clone();
        let (run, half) = (self.run, self.model.params.len());
        let weights = tensors(&params, &[("", Region::Params, 0)]);
        let moments =
            tensors(&params, &[("m.", Region::Moments, 0), ("v.", Region::Moments, half)]);
        let b = RefCell::new(&mut *self.b);
        let write_weights = |out: &mut dyn Write| write_tensors(out, &weights, &b);
        let write_moments = |out: &mut dyn Write| write_tensors(out, &moments, &b);
        let stream = |list: &[Tensor], write| Payload::Stream { bytes: bytes_of(list), write };
        let state = run.to_bytes();
        let files = [
            Entry { name: WEIGHTS, payload: stream(&weights, &write_weights) },
            Entry { name: OPTIMIZER, payload: stream(&moments, &write_moments) },
            Entry { name: STATE, payload: Payload::Bytes(&state) },
        ];
        let mut info = Map::new();
        info.insert("elapsed_s".into(), json!(elapsed_s));
        info.insert("best_step".into(), json!(run.best_step));
        Ok(save(storage, dir, &Checkpoint { step: run.step, files: &files, info }, keep)?)
    }

    /// Goes back to a checkpoint: weights, moments and position. Returns the seconds trained until
    /// then.
    pub fn restore(&mut self, storage: &dyn Storage, found: &Found) -> anyhow::Result<f64> {
        self.restore_weights(storage, found)?;
        let half = self.model.params.len();
        let params = self.model.params.items.clone();
        let moments = found.read(storage, OPTIMIZER)?;
        let list = tensors(&params, &[("m.", Region::Moments, 0), ("v.", Region::Moments, half)]);
        self.upload(&list, &moments)
            .with_context(|| format!("{OPTIMIZER} of {}", found.path.display()))?;
        self.run = Run::from_bytes(&found.read(storage, STATE)?)?;
        let elapsed = found.manifest.info.get("elapsed_s").and_then(|x| x.as_f64());
        Ok(elapsed.unwrap_or(0.0))
    }

    /// Takes only the weights of a checkpoint: the best one, at the end.
    pub fn restore_weights(&mut self, storage: &dyn Storage, found: &Found) -> anyhow::Result<()> {
        let params = self.model.params.items.clone();
        let weights = found.read(storage, WEIGHTS)?;
        self.upload(&tensors(&params, &[("", Region::Params, 0)]), &weights)
            .with_context(|| format!("{WEIGHTS} of {}", found.path.display()))
    }

    fn upload(&mut self, list: &[Tensor], bytes: &[u8]) -> anyhow::Result<()> {
        let file = safetensors::SafeTensors::deserialize(bytes)?;
        for tensor in list {
            let view = file.tensor(&tensor.name)?;
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            anyhow::ensure!(
                values.len() as u64 == tensor.slot.len,
                "`{}` has {} numbers, expected {}",
                tensor.name,
                values.len(),
                tensor.slot.len
            );
            self.b.upload(tensor.slot, &values)?;
        }
        Ok(())
    }
}

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.bin";

/// Bytes of one checkpoint of this model.
pub fn checkpoint_bytes(model: &Model) -> u64 {
    let params = &model.params.items;
    let moments = [("m.", Region::Moments, 0), ("v.", Region::Moments, model.params.len())];
    bytes_of(&tensors(params, &[("", Region::Params, 0)]))
        + bytes_of(&tensors(params, &moments))
        + Run::default().to_bytes().len() as u64
}

fn limits(capacity: &Capacity) -> Limits {
    Limits { entries: capacity.entries as usize, ..Limits::tokens(capacity.tokens as usize) }
}

/// Rows as forests within the limits, with the tables that the back-end reads.
pub fn batches(
    rows: &[&Example],
    limits: &Limits,
    config: &Config,
) -> anyhow::Result<Vec<(MicroBatch, Batch)>> {
    micro_batches(rows, limits)?
        .into_iter()
        .map(|micro| {
            let batch = Batch::from_forest(&micro.forest, config.vocab_size)?;
            Ok((micro, batch))
        })
        .collect()
}
