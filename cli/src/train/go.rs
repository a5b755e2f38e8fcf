//! The loop of a run: steps, evaluations, checkpoints, until it is done or told to stop.

use std::path::Path;
use std::time::Instant;

use paddock_core::train::{Decision, Outcome, Phase, StepReport, Watch};

use super::on_the_way::Watched;
use super::outcome;
use super::outlets::{Clock, Outlets};
use super::session::{Scores, Session, Stepped};
use super::spike::Losses;
use super::verdict::Facts;
use crate::run::checkpoint::{CheckpointError, Keep, Saved};
use crate::run::config::{EarlyStopOn, LossSpike};
use crate::run::events::{Event, Reason, SavedCheckpoint, Warning};
use crate::run::metrics::{Eval, Line, MetricsError, Step};
use crate::run::signals::Signals;
use crate::storage::words::is_full;

/// Steps in a row whose numbers may be bad before the run gives up.
const MOST_BAD_STEPS: u64 = 3;

/// More unchanged numbers than this are worth a word.
const MOST_UNMOVED: f64 = 0.5;

/// Whether an error of saving goes away once there is room on the disk.
fn wants_space(error: &anyhow::Error) -> bool {
    let lines = || error.downcast_ref::<MetricsError>().is_some_and(|e| is_full(&e.source));
    error.downcast_ref().is_some_and(CheckpointError::is_full) || lines()
}

/// Stops a step between micro-batches and layers when a signal came, and declines an update above the limit.
struct Guard<'a> {
    signals: &'a Signals,
    limit: f64,
}

impl Watch for Guard<'_> {
    fn phase(&mut self, phase: Phase) -> bool {
        // Once the update has begun it is carried through.
        phase == Phase::Done || !self.signals.stop_requested()
    }

    fn accept(&mut self, report: &StepReport) -> bool {
        report.loss <= self.limit
    }
}

/// The loop, with what it has to remember between steps.
pub struct Loop<'r, 'a, 's> {
    /// The run in memory.
    pub session: &'r mut Session<'a>,
    /// Where it writes.
    pub out: Outlets<'r, 's>,
    /// Its clock.
    pub clock: Clock,
    /// What the verdict will be made of.
    pub facts: Facts,
    bad_steps: u64,
    /// Whether the last step changed nothing: it was not finite, or a spike.
    passed_over: bool,
    /// Whether an evaluation that is not finite was told.
    told_bad_eval: bool,
    /// What losses were like lately.
    pub losses: Losses,
    /// Answers on the way.
    pub watched: Watched,
}

impl<'r, 'a, 's> Loop<'r, 'a, 's> {
    /// A loop that is about to begin or to go on.
    pub fn new(session: &'r mut Session<'a>, out: Outlets<'r, 's>, clock: Clock) -> Self {
        let (facts, losses, watched) = Default::default();
        let (bad_steps, passed_over, told_bad_eval) = Default::default();
        Loop { session, out, clock, facts, bad_steps, passed_over, told_bad_eval, losses, watched }
    }

    /// Runs to the end. What comes back says why it ended; checkpoints are saved.
    pub fn run(&mut self) -> anyhow::Result<Reason> {
        if self.session.run.step == 0
            && self.facts.before.is_none()
            && !self.session.setup.validation.is_empty()
        {
            let Some(scores) = self.scores()? else { return self.interrupted() };
            self.facts.before = Some(scores.loss);
            self.note_eval(scores, false)?;
        }
        if let Some(reason) = self.catch_up()? {
            return Ok(reason);
        }
        self.bad_steps = self.bad_steps_before()?;
        while !self.session.finished() {
            self.wait_while_paused()?;
            if self.out.signals.stop_requested() {
                return self.interrupted();
            }
            let before = Instant::now();
            let policy = self.session.setup.config.loss_spike;
            let spike = self.losses.limit();
            let declines = matches!(policy, LossSpike::Skip | LossSpike::Rewind);
            let limit = if declines { spike } else { f64::INFINITY };
            let stepped = self.session.step(&mut Guard { signals: self.out.signals, limit })?;
            if stepped.overflows > 0 {
                self.rescaled(stepped.overflows);
            }
            self.passed_over = !matches!(stepped.outcome, Outcome::Updated(_));
            match stepped.outcome.clone() {
                Outcome::Stopped => return self.interrupted(),
                Outcome::NotFinite { report, .. } => self.bad_step(&report, &stepped)?,
                Outcome::Declined(report) => {
                    if policy == LossSpike::Rewind && self.rewind(&report, &stepped, spike)? {
                        continue;
                    }
                    self.spike(&report, &stepped, spike)?;
                }
                Outcome::Updated(report) => {
                    if report.loss > spike && policy == LossSpike::Warn {
                        self.spike(&report, &stepped, spike)?;
                    }
                    self.losses.push(report.loss);
                    self.good_step(&report, &stepped, before)?;
                }
            }
            if let Some(reason) = self.after_step()? {
                return Ok(reason);
            }
            self.answer_on_the_way()?;
        }
        Ok(Reason::Finished)
    }

    /// What the checkpoint that a run goes on from still owes: the evaluation that a signal cut short, and the end of
    /// a run whose patience had run out.
    fn catch_up(&mut self) -> anyhow::Result<Option<Reason>> {
        let (run, c) = (&self.session.run, &self.session.setup.config);
        if run.step > 0 && self.evaluates() && run.evaluated != run.step {
            // As if the run had not been interrupted: a step that was passed over has no line.
            let last = outcome::last_step(self.out.storage, self.out.folder)?;
            self.passed_over = last != Some(self.session.run.step);
            let reason = self.after_step()?;
            if reason.is_none() {
                self.answer_on_the_way()?;
            }
            return Ok(reason);
        }
        if !run.is_out_of_patience(c.patience.unwrap_or(0)) {
            return Ok(None);
        }
        self.facts.stopped_early = true;
        self.warn(format!(
            "step {}: patience had run out, so no more steps are made. To train on: a larger --patience (0 never \
             stops) with --allow-changes",
            self.session.run.step
        ))?;
        Ok(Some(Reason::EarlyStop))
    }

    /// Steps without finite numbers right before this one: those have no line. Nor have spikes that were passed over,
    /// so that where those may be, the count begins anew.
    fn bad_steps_before(&self) -> anyhow::Result<u64> {
        if self.session.setup.config.loss_spike != LossSpike::Warn {
            return Ok(0);
        }
        let last = outcome::last_step(self.out.storage, self.out.folder)?.unwrap_or(0);
        Ok(self.session.run.step.saturating_sub(last).min(MOST_BAD_STEPS - 1))
    }

    /// Steps between evaluations.
    fn eval_every(&self) -> u64 {
        let setup = self.session.setup;
        setup.config.eval_every.unwrap_or(setup.steps_per_epoch()).max(1)
    }

    /// Whether an evaluation is due after the step that was made last.
    fn evaluates(&self) -> bool {
        self.session.finished() || self.session.run.step.is_multiple_of(self.eval_every())
    }

    fn good_step(
        &mut self,
        report: &StepReport,
        stepped: &Stepped,
        before: Instant,
    ) -> anyhow::Result<()> {
        self.bad_steps = 0;
        let train = self.facts.train.get_or_insert((report.loss, report.loss));
        train.1 = report.loss;
        let step = Step {
            step: self.session.run.step,
            epoch: self.session.epoch(),
            loss: report.loss,
            lr: stepped.lr,
            grad_norm: report.grad_norm,
            rows: stepped.rows,
            tokens: stepped.tokens,
            trained_tokens: report.trained as u64,
            tokens_per_s: stepped.tokens as f64 / before.elapsed().as_secs_f64().max(1e-9),
            elapsed_s: self.clock.elapsed_s(),
            unchanged: stepped.unmoved,
        };
        self.note(Line::Step(step.clone()))?;
        self.out.listener.event(&Event::Step(step))?;
        // Near the end of a schedule the rate is meant to be small.
        let tries = stepped.lr >= 0.1 * self.session.setup.config.effective_lr();
        match stepped.unmoved.filter(|&share| tries && share > MOST_UNMOVED) {
            Some(share) => self.warn(format!(
                "step {}: {:.0}% of the trained numbers did not change, because the update was smaller than \
                 their precision; try a higher --lr",
                self.session.run.step,
                100.0 * share
            )),
            None => Ok(()),
        }
    }

    pub(super) fn warn(&mut self, message: String) -> anyhow::Result<()> {
        self.out.listener.event(&Event::Warning(Warning { message }))
    }

    /// In f16 a gradient may be too large for its type: nothing is lost, the step is made again.
    fn rescaled(&mut self, times: u64) {
        let scale = self.session.run.loss_scale.factor;
        self.out.listener.note(&format!(
            "step {}: a gradient was too large for f16, so it was made again ({times} times) with a \
             smaller loss scale, now {scale}",
            self.session.run.step
        ));
    }

    /// A step whose loss is far above those before it.
    fn spike(&mut self, report: &StepReport, stepped: &Stepped, limit: f64) -> anyhow::Result<()> {
        let declined = matches!(stepped.outcome, Outcome::Declined(_));
        let what = if declined { "nothing was changed by it" } else { "the run goes on" };
        let message = format!(
            "step {}: the loss jumped to {:.3}, far above the steps before it (usual: below {limit:.3}); {what}. \
             Its first rows are {:?}: look at them, or try a lower --lr. --loss-spike skip passes such \
             steps over, --loss-spike rewind goes back to the last checkpoint.",
            self.session.run.step, report.loss, stepped.first_rows
        );
        self.warn(message)
    }

    /// A step whose loss or gradient is not finite: nothing was changed by it. A few may be passed over.
    fn bad_step(&mut self, report: &StepReport, stepped: &Stepped) -> anyhow::Result<()> {
        self.bad_steps += 1;
        let what = if report.loss.is_finite() { "gradient" } else { "loss" };
        let row = match stepped.bad_row {
            Some(row) => format!(", first in row {row}"),
            None => format!(" (its first rows are {:?})", stepped.first_rows),
        };
        let place = stepped.bad_place.as_ref().map_or(String::new(), |place| format!(", {place}"));
        let step = self.session.run.step;
        let message = format!(
            "step {step}: the {what} is not a finite number{row}{place}; the step was passed over and nothing \
             was changed by it"
        );
        if self.bad_steps >= MOST_BAD_STEPS {
            anyhow::bail!(
                "{message}. That is {MOST_BAD_STEPS} such steps in a row, so the run stops; the last \
                 good checkpoint is kept. Try a lower --lr, or look at the rows named."
            );
        }
        self.warn(message)
    }

    /// Evaluations and checkpoints that are due; a reason if the run is to end.
    fn after_step(&mut self) -> anyhow::Result<Option<Reason>> {
        let c = &self.session.setup.config;
        let step = self.session.run.step;
        let save_every = c.save_every.unwrap_or(self.eval_every()).max(1);
        let patience = c.patience.unwrap_or(0);
        let watches_train = c.early_stop_on == EarlyStopOn::Train;
        // After a step that was passed over there is nothing new to save, and the checkpoints that it would push out
        // are those of the steps before.
        let due = step.is_multiple_of(save_every) && !self.passed_over;
        let mut save = self.session.finished() || due;
        let mut stop = false;
        if self.evaluates() {
            let mut scores = None;
            if !self.session.setup.validation.is_empty() {
                scores = self.scores()?;
                if scores.is_none() {
                    return self.interrupted().map(Some);
                }
            }
            let score = match scores {
                Some(scores) if !watches_train => Some(scores.loss),
                // None if every step since the last time was passed over: that is no reason to judge.
                _ if watches_train || c.patience.is_some() => self.session.run.mean_recent_loss(),
                _ => None,
            };
            let decision = score.map(|score| self.session.run.judge(score, patience));
            self.session.run.evaluated = step;
            let best = decision == Some(Decision::Best);
            save |= best;
            stop = decision == Some(Decision::Stop);
            if let Some(scores) = scores {
                self.note_eval(scores, best)?;
            }
        }
        if save || stop {
            self.session.run.due_step = step;
            self.save()?;
        }
        self.facts.stopped_early = stop;
        Ok(stop.then_some(Reason::EarlyStop))
    }

    fn scores(&mut self) -> anyhow::Result<Option<Scores>> {
        let signals = self.out.signals;
        let go_on = || !signals.stop_requested();
        self.session.evaluate_while(&go_on, &go_on)
    }

    fn note_eval(&mut self, scores: Scores, best: bool) -> anyhow::Result<()> {
        self.facts.last = Some(scores.loss);
        if !scores.loss.is_finite() && !std::mem::replace(&mut self.told_bad_eval, true) {
            self.warn(format!(
                "step {}: the loss on the held-out rows is not a finite number, so this evaluation says nothing of \
                 the model and counts as no better than those before it. Try a lower --lr, or look at these rows",
                self.session.run.step
            ))?;
        }
        let eval = Eval {
            step: self.session.run.step,
            eval_loss: scores.loss,
            token_accuracy: scores.token_accuracy,
            exact_match: scores.exact_match,
            rows: self.session.setup.validation.len() as u64,
            trained_tokens: scores.tokens,
            best,
            elapsed_s: self.clock.elapsed_s(),
        };
        self.note(Line::Eval(eval.clone()))?;
        self.out.listener.event(&Event::Eval(eval))
    }

    /// Appends a line of metrics; a full disk makes the run wait.
    pub(super) fn note(&mut self, line: Line) -> anyhow::Result<()> {
        loop {
            match self.out.metrics.append(&line) {
                Ok(()) => return Ok(()),
                Err(e) if is_full(&e.source) => {
                    self.wait_for_space(&e.to_string())?;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Saves a checkpoint; a full disk makes the run wait, with everything kept in memory.
    pub fn save(&mut self) -> anyhow::Result<Saved> {
        let c = &self.session.setup.config;
        let has_best = self.session.run.best_score.is_finite();
        let keep = Keep {
            newest: c.keep_checkpoints.max(1) as usize,
            best: has_best.then_some(self.session.run.best_step),
            due: (c.loss_spike == LossSpike::Rewind).then_some(self.session.run.due_step),
        };
        self.session.model_is_unchanged()?;
        let saved = loop {
            let dir = self.out.folder.checkpoints();
            let elapsed = self.clock.elapsed_s();
            // The lines of its steps come first.
            let saved = match self.out.metrics.sync() {
                Ok(()) => self.session.save(self.out.storage, &dir, &keep, elapsed),
                Err(e) => Err(e.into()),
            };
            match saved {
                Ok(saved) => break saved,
                Err(e) if wants_space(&e) => self.wait_for_space(&e.to_string())?,
                Err(e) => return Err(e),
            }
        };
        for message in &saved.warnings {
            self.warn(message.clone())?;
        }
        let path = |p: &Path| p.display().to_string();
        self.out.listener.event(&Event::Checkpoint(SavedCheckpoint {
            step: self.session.run.step,
            path: path(&saved.path),
            bytes: saved.bytes,
            best: keep.best == Some(self.session.run.step),
            removed: saved.removed.iter().map(|p| path(p)).collect(),
        }))?;
        Ok(saved)
    }

    fn interrupted(&mut self) -> anyhow::Result<Reason> {
        self.save()?;
        Ok(Reason::Interrupted)
    }
}
