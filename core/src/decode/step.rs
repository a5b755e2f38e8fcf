//! One decoding step: new tokens of any number of sequences in, one row of logits each out.

use alloc::vec;
use alloc::vec::Vec;

use crate::backend::Backend;
use crate::batch::{Batch, Piece};
use crate::decode::cache::{Cache, NodeId};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::forward::Pass;
use crate::plan::Plan;
use crate::train::step::begin;

/// Appends tokens to nodes of the cache (several at once) and returns, for each node, the logits (V)
/// after its last token. Each node may be named once: its tokens are one piece. Long prompts go through in pieces of what the plan holds; those come one
/// node at a time.
pub fn extend(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    cache: &mut Cache,
    new: &[(NodeId, &[u32])],
) -> Result<Vec<Vec<f32>>> {
    for (i, (node, _)) in new.iter().enumerate() {
        if new[..i].iter().any(|(other, _)| other == node) {
            return Err(Error::Batch { what: "a cache node named twice", index: i as u64 });
        }
    }
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
    // With dynamic rotary scaling, cached keys keep the angles of their time, as in transformers.
    let pass = Pass { cached: true, ..begin(b, model, plan, &batch, None)? };
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
