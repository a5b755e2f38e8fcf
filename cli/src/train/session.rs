//! A run in memory: the back-end with the model on it, the data position, and one step after the other. What a
//! checkpoint holds of it is in `saved.rs`.

use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::Config;
use paddock_core::model::{Method, Model, init};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::train::{
    Adam, Outcome, Run, Schedule, ScheduleKind, StepSettings, Watch, evaluate_while, scaled_step,
};
use paddock_datasets::encode::Example;
use paddock_datasets::forest::{Limits, MicroBatch, micro_batches};

use super::capacity::capacity;
use super::course::Course;
use super::setup::Setup;
use crate::model::mmap::forget;
use crate::open::{Machine, backend};
use crate::run::config::{self, LrSchedule};
use crate::run::events;

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
    /// SHA-256 of the model's files as the run began, once they are known.
    pub made_from: Vec<String>,
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
    /// If loss or gradient were not finite: where in the model that began, in words.
    pub bad_place: Option<String>,
    /// Share of the trained numbers that the update left as they were; looked at now and then.
    pub unmoved: Option<f64>,
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
        let (run, forecast, made_from) = (Run::default(), None, Vec::new());
        Ok(Session {
            setup,
            b,
            model,
            plan,
            forecast,
            made_from,
            run,
            schedule,
            course,
            validation,
        })
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

    /// The rows of the next step.
    fn next_rows(&mut self) -> anyhow::Result<Vec<Example>> {
        let count = self.setup.config.batch_size as usize;
        let chosen = self.course.examples(self.run.rows_seen, count);
        self.setup.train.some(&chosen)
    }

    /// The next step as the back-end will see it.
    pub fn next_batches(&mut self) -> anyhow::Result<Vec<Batch>> {
        let rows = self.next_rows()?;
        let rows: Vec<&Example> = rows.iter().collect();
        let parts = batches(&rows, &self.limits(), &self.model.config)?;
        Ok(parts.into_iter().map(|(_, batch)| batch).collect())
    }

    /// One optimizer step from the data position on. The position moves only if the step was made.
    pub fn step(&mut self, watch: &mut dyn Watch) -> anyhow::Result<Stepped> {
        let rows = self.next_rows()?;
        let c = &self.setup.config;
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
        if c.self_check > 0 && self.run.step.is_multiple_of(c.self_check) {
            self.check_device(&cores, &settings)?;
        }
        let before = self.sample_if_due()?;
        let (outcome, overflows) = self.scaled(&cores, &settings, watch)?;
        let tokens = micro.iter().map(|m| m.row_tokens as u64).sum();
        let first_rows = rows.iter().take(NAMED_ROWS).map(|row| row.row).collect();
        let rows_of = rows.len() as u64;
        let mut stepped = Stepped {
            outcome,
            rows: rows_of,
            tokens,
            lr,
            bad_row: None,
            bad_place: None,
            unmoved: None,
            first_rows,
            overflows,
        };
        match &stepped.outcome {
            Outcome::Updated(report) => {
                self.run.stepped(report.loss, stepped.rows, tokens);
                stepped.unmoved = before.map(|before| self.unmoved(&before)).transpose()?.flatten();
            }
            Outcome::Declined(_) => self.pass_over(stepped.rows, tokens),
            Outcome::NotFinite { found, .. } => {
                let row = found.and_then(|(m, e)| Some(*micro.get(m)?.entry_rows.get(e as usize)?));
                stepped.bad_row = row.and_then(|i| Some(rows.get(i)?.row));
                let batch = found.and_then(|(m, _)| cores.get(m));
                stepped.bad_place = self.bad_place(batch, &settings)?;
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
        let before = self.run.loss_scale;
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
                // No scale was small enough, so the scale is not to blame; or the step has not happened.
                Outcome::NotFinite { .. } | Outcome::Stopped => {
                    self.run.loss_scale = before;
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

    /// Loss and accuracy on the validation rows. `None` if `go_on`, asked before each micro-batch, said no.
    pub fn evaluate(&mut self, go_on: &dyn Fn() -> bool) -> anyhow::Result<Option<Scores>> {
        self.evaluate_while(go_on, &|| true)
    }

    /// The same, which `layer`, asked before each layer of a micro-batch, may end as well: with a large model that is
    /// sooner by seconds.
    pub fn evaluate_while(
        &mut self,
        go_on: &dyn Fn() -> bool,
        layer: &dyn Fn() -> bool,
    ) -> anyhow::Result<Option<Scores>> {
        let mut scores = Scores::default();
        let (mut hits, mut exact) = (0u64, 0u64);
        for (micro, batch) in &self.validation {
            if !go_on() {
                return Ok(None);
            }
            let (b, model, plan) = (&mut *self.b, &self.model, &self.plan);
            let Some(result) = evaluate_while(b, model, plan, batch, &mut || layer())? else {
                return Ok(None);
            };
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
