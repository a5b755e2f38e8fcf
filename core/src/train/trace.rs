//! Two questions that are asked of a step when something may be wrong: where did a number stop being finite,
//! and does the device compute the same when it is asked again.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::StepSettings;
use super::step::begin;
use crate::backend::Backend;
use crate::batch::Batch;
use crate::error::Result;
use crate::model::forward::Pass;
use crate::model::{Model, init};
use crate::plan::Plan;
use crate::slot::{Region, Slot};

/// Numbers read from the device at once.
const CHUNK: u64 = 1 << 16;

/// The first place of a forward pass whose output is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The rows of the embedding.
    Embedding,
    /// A layer, counted from 0.
    Layer(u32),
    /// What comes after the last layer: norm, logits, loss.
    Head,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Embedding => f.write_str("the embedding"),
            Place::Layer(l) => write!(f, "layer {l}"),
            Place::Head => f.write_str("the output after the last layer"),
        }
    }
}

/// Runs a micro-batch forward once more, layer by layer, up to the first that shows a number that is not
/// finite. Changes nothing that is trained.
pub fn where_not_finite(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    batch: &Batch,
    settings: &StepSettings,
) -> Result<Place> {
    let pass = begin(b, model, plan, batch, Some((settings.seed, settings.step as u32)))?;
    b.embed_forward(pass.acts(0).x, model.embed)?;
    let mut place = Place::Embedding;
    let mut out = pass.acts(0).x;
    for l in 0..model.layers.len() {
        if !is_finite(b, out)? {
            break;
        }
        pass.layer_forward(b, l)?;
        pass.layer_output(b, l)?;
        place = Place::Layer(l as u32);
        out = if pass.is_last(l) {
            Pass::cut(plan.head.out, pass.m, model.config.dim)
        } else {
            pass.acts(l + 1).x
        };
    }
    let found = !is_finite(b, out)?;
    b.end_step()?;
    Ok(if found { place } else { Place::Head })
}

/// The trained tensor whose gradient, on the way back through the model, is the first that is not finite.
pub fn gradient_not_finite(b: &mut dyn Backend, model: &Model) -> Result<Option<String>> {
    let mut found: Option<(i64, &str)> = None;
    for param in &model.params.items {
        let depth = depth(&param.name);
        let deeper = found.is_none_or(|(other, _)| depth > other);
        if deeper && !is_finite(b, param.slot.in_region(Region::Grads))? {
            found = Some((depth, &param.name));
        }
    }
    Ok(found.map(|(_, name)| String::from(name)))
}

/// How late in the forward pass a tensor is used: the backward pass meets the latest first.
fn depth(name: &str) -> i64 {
    let layer = name.split_once("layers.").and_then(|(_, rest)| rest.split('.').next());
    match layer.and_then(|number| number.parse().ok()) {
        Some(number) => number,
        None if name.contains("embed") => -1,
        None => i64::MAX,
    }
}

fn is_finite(b: &mut dyn Backend, slot: Slot) -> Result<bool> {
    let mut finite = true;
    for_each_chunk(b, slot, &mut |chunk| finite &= chunk.iter().all(|x| x.is_finite()))?;
    Ok(finite)
}

fn for_each_chunk(b: &mut dyn Backend, slot: Slot, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
    let mut start = 0;
    while start < slot.len {
        let len = CHUNK.min(slot.len - start);
        visit(&init::read(b, slot.part(start, len))?);
        start += len;
    }
    Ok(())
}

/// Forward and backward pass of one micro-batch, as one number that any other bit of the losses or of a
/// gradient would change. Twice the same on a device that makes no mistakes. The gradients are left behind:
/// call it before a step, which clears them.
pub fn fingerprint(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    batch: &Batch,
    settings: &StepSettings,
) -> Result<u64> {
    let grads = model.params.all().in_region(Region::Grads);
    b.fill(grads, 0.0)?;
    let pass = begin(b, model, plan, batch, Some((settings.seed, settings.step as u32)))?;
    let coeff: Vec<f32> = batch.weights.iter().map(|w| w / batch.weights.len() as f32).collect();
    b.upload(Pass::cut(plan.head.coeff, batch.entries(), 1), &coeff)?;
    pass.forward(b)?;
    let nll = pass.backward(b)?;
    b.end_step()?;
    // FNV over whole words: xor and an odd factor lose nothing, so that one other word is always seen.
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for slot in [nll, grads] {
        for_each_chunk(b, slot, &mut |chunk| {
            for x in chunk {
                hash = (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0100_0000_01B3);
            }
        })?;
    }
    Ok(hash)
}
