//! First values: LoRA as PEFT draws it, full training from the checkpoint, rotary tables.

use alloc::vec;
use alloc::vec::Vec;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::model::{Method, Model};
use crate::philox::{Philox, Stream};
use crate::plan::Plan;
use crate::rope;
use crate::slot::{Region, Slot};
use crate::weights::Weights;

/// Numbers uploaded at once: keeps the host's buffer small.
const CHUNK: u64 = 1 << 16;

/// Gives the trained parameters their first values: full training copies the checkpoint, LoRA draws
/// A uniformly from ±1/sqrt(I) (Kaiming with a = sqrt 5, as PEFT does) and leaves B zero, so that the
/// model starts as its base.
pub fn init(b: &mut dyn Backend, model: &Model, weights: &Weights<'_>, seed: u64) -> Result<()> {
    match model.method {
        Method::Frozen => Ok(()),
        Method::Full => from_checkpoint(b, model, weights),
        Method::Lora(_) => draw_lora(b, model, seed),
    }
}

fn from_checkpoint(b: &mut dyn Backend, model: &Model, weights: &Weights<'_>) -> Result<()> {
    for (tensor, &item) in weights.tensors.iter().zip(&model.params.of_tensor) {
        let slot = model.params.items[item].slot;
        if tensor.len() as u64 != slot.len {
            let (found, expected) = (tensor.len() as u64, slot.len);
            return Err(Error::Shape { op: "init", operand: "checkpoint", found, expected });
        }
        upload_with(b, slot, |i| tensor.get(i as usize))?;
    }
    Ok(())
}

fn draw_lora(b: &mut dyn Backend, model: &Model, seed: u64) -> Result<()> {
    for (i, param) in model.params.items.iter().enumerate() {
        if !param.name.ends_with("lora_A.weight") {
            b.fill(param.slot, 0.0)?;
            continue;
        }
        let bound = 1.0 / libm::sqrtf(param.cols as f32);
        let random = Philox::new(seed, Stream::init(i as u16));
        upload_with(b, param.slot, |i| (2.0 * random.uniform(0, i) - 1.0) * bound)?;
    }
    Ok(())
}

/// Draws every weight of a full model as for pretraining: matrices normal with deviation `std`, those
/// that write to the residual stream divided by sqrt(2L) (Radford et al. 2019), norms one.
pub fn draw_full(b: &mut dyn Backend, model: &Model, seed: u64, std: f32) -> Result<()> {
    let residual = std / libm::sqrtf(2.0 * model.config.n_layers as f32);
    for (i, param) in model.params.items.iter().enumerate() {
        if param.vector {
            b.fill(param.slot, 1.0)?;
            continue;
        }
        let writes = param.name.contains("o_proj") || param.name.contains("down_proj");
        let std = if writes { residual } else { std };
        let random = Philox::new(seed, Stream::init(i as u16));
        upload_with(b, param.slot, |i| random.normal(0, i) * std)?;
    }
    Ok(())
}

/// Uploads `slot.len` numbers made by `value`, a chunk at a time.
fn upload_with(b: &mut dyn Backend, slot: Slot, value: impl Fn(u64) -> f32) -> Result<()> {
    let mut start = 0;
    while start < slot.len {
        let len = CHUNK.min(slot.len - start);
        let chunk: Vec<f32> = (start..start + len).map(&value).collect();
        b.upload(slot.part(start, len), &chunk)?;
        start += len;
    }
    Ok(())
}

/// Fills the rotary table for sequences of `len` positions (only dynamic scaling depends on it).
pub fn upload_rope(b: &mut dyn Backend, model: &Model, plan: &Plan, len: u32) -> Result<()> {
    let positions = plan.capacity.positions as u32;
    b.upload(plan.head.rope, &rope::table(&model.config, positions, len))
}

/// Sets gradients and moments to zero: before the first step.
pub fn clear_optimizer(b: &mut dyn Backend, model: &Model) -> Result<()> {
    let len = model.params.len();
    b.fill(Slot::new(Region::Grads, 0, len), 0.0)?;
    b.fill(Slot::new(Region::Moments, 0, 2 * len), 0.0)
}

/// All numbers of one trained tensor.
pub fn read(b: &mut dyn Backend, slot: Slot) -> Result<Vec<f32>> {
    let mut data = vec![0.0; slot.len as usize];
    b.download(slot, &mut data)?;
    Ok(data)
}
