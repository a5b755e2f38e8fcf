//! One decoding step: new tokens of any number of sequences in, one row of logits each out.

use alloc::vec;
use alloc::vec::Vec;

use crate::backend::Backend;
use crate::batch::{Batch, Piece};
use crate::decode::cache::{Cache, NodeId};
use crate::error::{Error, Result};
use crate::model::forward::Pass;
use crate::model::{Model, init};
use crate::plan::Plan;
use crate::rope;

/// Before the first token: the rotary table, for texts of up to `len` tokens.
pub fn start(b: &mut dyn Backend, model: &Model, plan: &Plan, len: u32) -> Result<()> {
    let len = if rope::depends_on_length(&model.config, len) { len } else { 0 };
    init::upload_rope(b, model, plan, len)
}

/// Appends tokens to nodes of the cache (several at once) and returns, for each node, the logits (V)
/// after its last token. Long prompts go through in pieces of what the plan holds; those come one
/// node at a time.
pub fn extend(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    cache: &mut Cache,
    new: &[(NodeId, &[u32])],
) -> Result<Vec<Vec<f32>>> {
    let rows: u64 = new.iter().map(|(_, tokens)| tokens.len() as u64).sum();
    let fits = plan.capacity.logit_rows.min(plan.capacity.kept);
    if rows <= plan.capacity.tokens && new.len() as u64 <= fits {
        return extend_once(b, model, plan, cache, new);
    }
    let mut out = Vec::new();
    for &(node, tokens) in new {
        let mut logits = Vec::new();
        for part in tokens.chunks(plan.capacity.tokens.max(1) as usize) {
            logits = extend_once(b, model, plan, cache, &[(node, part)])?;
        }
        out.append(&mut logits);
    }
    Ok(out)
}

fn extend_once(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    cache: &mut Cache,
    new: &[(NodeId, &[u32])],
) -> Result<Vec<Vec<f32>>> {
    let mut ranges = Vec::new();
    for &(node, tokens) in new {
        cache.room(node, tokens.len() as u32)?;
        ranges.push(cache.ranges(node)?);
    }
    let mut pieces = Vec::new();
    for (&(node, tokens), ranges) in new.iter().zip(&ranges) {
        let (first_row, first_position) = cache.next(node)?;
        pieces.push(Piece { tokens, first_position, ranges, first_row, wanted: true });
    }
    let batch = Batch::from_pieces(&pieces, model.config.vocab_size)?;
    if u64::from(batch.longest) > plan.capacity.positions {
        let (found, reserved) = (u64::from(batch.longest), plan.capacity.positions);
        return Err(Error::Capacity { what: "positions", found, reserved });
    }
    b.set_batch(&batch)?;
    b.begin_step()?;
    let pass = Pass { cached: true, ..Pass::new(model, plan, &batch) };
    pass.forward(b)?;
    let logits = pass.logits(b)?;
    b.end_step()?;
    for &(node, tokens) in new {
        cache.grow(node, tokens.len() as u32)?;
    }
    let mut all = vec![0.0; logits.len as usize];
    b.download(logits, &mut all)?;
    Ok(all.chunks(model.config.vocab_size as usize).map(<[f32]>::to_vec).collect())
}
