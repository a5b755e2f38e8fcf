//! One optimizer step and one evaluation pass, as straight-line code.

use alloc::vec;
use alloc::vec::Vec;

use crate::backend::{AdamW, Backend};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::model::forward::{GoOn, Pass};
use crate::model::{Model, init};
use crate::plan::Plan;
use crate::rope;
use crate::slot::{Region, Slot};

/// Constants of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decay of matrices.
    pub weight_decay: f64,
    /// The decay is added to the gradient (Kingma & Ba's Adam with an L2 term, PyTorch's `Adam`) instead of
    /// taken from the parameter (AdamW).
    pub coupled: bool,
}

impl Default for Adam {
    fn default() -> Adam {
        Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, coupled: false }
    }
}

/// One update's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSettings {
    /// Constants of Adam.
    pub adam: Adam,
    /// Learning rate.
    pub lr: f64,
    /// Gradients are scaled down to this global norm, if it is positive.
    pub max_grad_norm: f64,
    /// Number of the update, counted from 0.
    pub step: u64,
    /// Seed of dropout's masks.
    pub seed: u64,
}

/// What a step was about when it tells its watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A micro-batch's forward pass begins.
    Forward,
    /// Its backward pass begins.
    Backward,
    /// The update begins.
    Optimizer,
    /// The step is over.
    Done,
}

/// Whoever watches a step: clocks it, and may stop it between micro-batches and between layers.
pub trait Watch {
    /// A phase begins. Returning false abandons the step (nothing has been updated).
    fn phase(&mut self, phase: Phase) -> bool;

    /// Within a forward or backward pass, the next layer begins. Where a pass takes long, waiting
    /// for its end would be too late to stop; who does not tell them apart hears of the phase again.
    fn layer(&mut self, phase: Phase) -> bool {
        self.phase(phase)
    }

    /// Loss and gradient are known and finite. Returning false declines the update.
    fn accept(&mut self, _: &StepReport) -> bool {
        true
    }
}

/// Nobody watches.
impl Watch for () {
    fn phase(&mut self, _: Phase) -> bool {
        true
    }
}

/// Numbers of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Σ weight·nll / Σ weight over the whole step.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Σ weight: trained tokens.
    pub trained: f64,
    /// Rows computed (shared trunks once).
    pub computed: u64,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The update was made.
    Updated(StepReport),
    /// Loss or gradient is not finite: no update. The first bad micro-batch and loss entry (as
    /// numbered in its forest), if the loss itself shows one.
    NotFinite {
        /// What was computed.
        report: StepReport,
        /// (micro-batch, entry).
        found: Option<(usize, u32)>,
    },
    /// The watcher declined the update: the loss is far off, say.
    Declined(StepReport),
    /// The watcher stopped it: no update.
    Stopped,
}

/// One optimizer step over micro-batches: forward and backward of each, clip, AdamW. A micro-batch may
/// be without trained tokens; all together may not, for then there is no mean to take.
pub fn step(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    batches: &[Batch],
    settings: &StepSettings,
    watch: &mut dyn Watch,
) -> Result<Outcome> {
    scaled_step(b, model, plan, batches, settings, 1.0, watch)
}

/// The same with the loss multiplied by `scale` on its way back, which the update takes out again: for
/// back-ends of [narrow range](Backend::has_narrow_range). A gradient that overflows is
/// [`Outcome::NotFinite`] with a finite loss.
pub fn scaled_step(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    batches: &[Batch],
    settings: &StepSettings,
    scale: f64,
    watch: &mut dyn Watch,
) -> Result<Outcome> {
    let grads = model.params.all().in_region(Region::Grads);
    let total: f64 = batches.iter().flat_map(|x| &x.weights).map(|&w| f64::from(w)).sum();
    if total == 0.0 {
        let (what, index) = ("no trained token in the whole step", 0);
        return Err(Error::Batch { what, index });
    }
    let mut report = StepReport { trained: total, ..StepReport::default() };
    let mut found = None;
    // A step that was stopped on its way may have left a part of its gradients.
    b.fill(grads, 0.0)?;
    for (i, batch) in batches.iter().enumerate() {
        if !watch.phase(Phase::Forward) {
            return Ok(Outcome::Stopped);
        }
        report.computed += batch.rows();
        let pass = begin(b, model, plan, batch, Some((settings.seed, settings.step as u32)))?;
        let coeff: Vec<f32> =
            batch.weights.iter().map(|&w| (scale * f64::from(w) / total) as f32).collect();
        b.upload(Pass::cut(plan.head.coeff, batch.entries(), 1), &coeff)?;
        let mut nll = None;
        if pass.forward_while(b, &mut || watch.layer(Phase::Forward))?
            && watch.phase(Phase::Backward)
        {
            nll = pass.backward_while(b, &mut || watch.layer(Phase::Backward))?;
        }
        b.end_step()?;
        let Some(nll) = nll else { return Ok(Outcome::Stopped) };
        let nll = init::read(b, nll)?;
        for (e, (&nll, &weight)) in nll.iter().zip(&batch.weights).enumerate() {
            report.loss += f64::from(weight) * f64::from(nll) / total;
            if !nll.is_finite() && found.is_none() {
                found = Some((i, batch.entry_order[e]));
            }
        }
    }
    if !watch.phase(Phase::Optimizer) {
        return Ok(Outcome::Stopped);
    }
    b.norm_squared(plan.head.norm_squared, grads)?;
    report.grad_norm = libm::sqrt(f64::from(init::read(b, plan.head.norm_squared)?[0])) / scale;
    if !report.loss.is_finite() || !report.grad_norm.is_finite() {
        return Ok(Outcome::NotFinite { report, found });
    }
    if !watch.accept(&report) {
        watch.phase(Phase::Done);
        return Ok(Outcome::Declined(report));
    }
    update(b, model, settings, report.grad_norm, scale)?;
    watch.phase(Phase::Done);
    Ok(Outcome::Updated(report))
}

/// Clips (as PyTorch's `clip_grad_norm_` does) and updates both decay groups.
fn update(
    b: &mut dyn Backend,
    model: &Model,
    settings: &StepSettings,
    norm: f64,
    loss_scale: f64,
) -> Result<()> {
    let max = settings.max_grad_norm;
    let clip = if max > 0.0 { (max / (norm + 1e-6)).min(1.0) } else { 1.0 };
    let grad_scale = clip / loss_scale;
    let Adam { beta1, beta2, eps, weight_decay, coupled } = settings.adam;
    let t = settings.step as u32 + 1;
    let half = model.params.len();
    for (param, decays) in model.params.groups() {
        if param.len == 0 {
            continue;
        }
        let mut weight_decay = if decays { weight_decay } else { 0.0 };
        if coupled && weight_decay > 0.0 {
            // The update multiplies the gradient by grad_scale; the decay is not clipped.
            let scale = (weight_decay / grad_scale) as f32;
            b.accumulate(param.in_region(Region::Grads), param, scale)?;
            weight_decay = 0.0;
        }
        let StepSettings { lr, seed, .. } = *settings;
        let step = AdamW { lr, beta1, beta2, eps, weight_decay, t, grad_scale, seed };
        let m = param.in_region(Region::Moments);
        let v = Slot::new(Region::Moments, half + param.offset, param.len);
        b.adamw(param, param.in_region(Region::Grads), m, v, step)?;
    }
    Ok(())
}

/// Gives the back-end a batch and, where it depends on the length, its rotary table.
pub(crate) fn begin<'a>(
    b: &mut dyn Backend,
    model: &'a Model,
    plan: &'a Plan,
    batch: &Batch,
    dropout: Option<(u64, u32)>,
) -> Result<Pass<'a>> {
    plan.capacity.admit(batch)?;
    if matches!(model.config.rope.scaling, crate::config::RopeScaling::Dynamic { .. }) {
        let longest = batch.longest;
        let len = if rope::depends_on_length(&model.config, longest) { longest } else { 0 };
        init::upload_rope(b, model, plan, len)?;
    }
    b.set_batch(batch)?;
    b.begin_step()?;
    Ok(Pass { dropout, ..Pass::new(model, plan, batch) })
}

/// What a forward pass without gradients tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// nll of each entry, in the order of the forest's entries.
    pub nll: Vec<f32>,
    /// Whether each entry's target has the largest logit.
    pub hit: Vec<bool>,
}

/// Loss of one batch without gradients.
pub fn evaluate(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    batch: &Batch,
) -> Result<Evaluation> {
    evaluate_while(b, model, plan, batch, &mut || true).map(Option::unwrap_or_default)
}

/// The same, with `go_on` asked before each layer; nothing comes back once it says no.
pub fn evaluate_while(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    batch: &Batch,
    go_on: GoOn<'_>,
) -> Result<Option<Evaluation>> {
    let pass = begin(b, model, plan, batch, None)?;
    let found = if pass.forward_while(b, go_on)? { Some(pass.loss(b)?) } else { None };
    b.end_step()?;
    let Some((nll, best)) = found else { return Ok(None) };
    let (nll, best) = (init::read(b, nll)?, init::read(b, best)?);
    let mut out = Evaluation { nll: vec![0.0; nll.len()], hit: vec![false; nll.len()] };
    for (m, &best) in best.iter().enumerate() {
        for e in batch.entry_first[m] as usize..batch.entry_first[m + 1] as usize {
            let entry = batch.entry_order[e] as usize;
            out.nll[entry] = nll[e];
            out.hit[entry] = batch.targets[e] == best as u32;
        }
    }
    Ok(Some(out))
}
