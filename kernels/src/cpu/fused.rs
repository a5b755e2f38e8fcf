//! The fused ops of the back-end: the loss with its gradients, and adapted linear layers.

use paddock_core::backend::{Backend, LoraGrads, LoraMats, LoraSlots, LossSlots, Write};
use paddock_core::error::Result;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Mat, Weights};

use super::memory::{elems, or_empty, slot_of};
use super::{Cpu, Ctx, linear_cross_entropy as lce, lora, matmul, parts};

impl Cpu<'_> {
    pub(super) fn loss_forward(
        &mut self,
        nll: Slot,
        lse: Slot,
        best: Option<Slot>,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        let (ctx, memory, weights) = parts!(self);
        let slots = [nll, lse, or_empty(best), inp, slot_of(w), memory.whole(Region::Scratch)];
        let views = memory.views("linear_cross_entropy_forward", slots)?;
        let [nll, lse, best, inp, trained, logits] = views;
        let head = head(inp, elems(weights, w, trained)?, w);
        lce::forward(ctx, lce::Losses { nll, lse, best }, None, head, logits, &self.batch);
        Ok(())
    }

    pub(super) fn loss_backward(
        &mut self,
        dinp: Slot,
        dw: Option<Slot>,
        coeff: Slot,
        lse: Slot,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        let (ctx, memory, weights) = parts!(self);
        let scratch = memory.whole(Region::Scratch);
        let slots = [dinp, or_empty(dw), coeff, lse, inp, slot_of(w), scratch];
        let views = memory.views("linear_cross_entropy_backward", slots)?;
        let [dinp, dw, coeff, lse, inp, trained, logits] = views;
        let head = head(inp, elems(weights, w, trained)?, w);
        lce::backward(ctx, lce::Grads { dinp, dw, coeff }, lse, head, logits, &self.batch);
        Ok(())
    }

    pub(super) fn loss(&mut self, out: LossSlots, inp: Slot, w: Mat) -> Result<()> {
        let (ctx, memory, weights) = parts!(self);
        let scratch = memory.whole(Region::Scratch);
        let LossSlots { nll, lse, coeff, dinp, dw } = out;
        let slots = [nll, lse, coeff, dinp, or_empty(dw), inp, slot_of(w), scratch];
        let views = memory.views("linear_cross_entropy", slots)?;
        let [nll, lse, coeff, dinp, dw, inp, trained, logits] = views;
        let head = head(inp, elems(weights, w, trained)?, w);
        let losses = lce::Losses { nll, lse, best: &mut [] };
        let grads = lce::Grads { dinp, dw, coeff };
        lce::forward(ctx, losses, Some(grads), head, logits, &self.batch);
        Ok(())
    }

    pub(super) fn lora_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        mats: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        let mut dropped = or_empty(None);
        if let Some(dropout) = slots.dropout {
            self.dropout_forward(slots.dropped, inp, w.cols, dropout)?;
            dropped = slots.dropped.first(inp.len);
        }
        let (ctx, memory, weights) = parts!(self);
        let (a, b) = (slot_of(mats.a), slot_of(mats.b));
        let views =
            memory.views("lora_linear_forward", [out, slots.s, inp, dropped, slot_of(w), a, b])?;
        let [out, s, inp, dropped, trained, a, b] = views;
        let layer = lora_layer(weights, w, mats, (trained, a, b))?;
        let a_input = if dropped.is_empty() { &*inp } else { dropped };
        lora::forward(ctx, out, s, inp, a_input, layer);
        Ok(())
    }

    pub(super) fn lora_backward(
        &mut self,
        grads: LoraGrads,
        dout: Slot,
        inp: Slot,
        w: Mat,
        mats: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        let mut dropped = or_empty(None);
        if let Some(dropout) = slots.dropout {
            self.dropout_forward(slots.dropped, inp, w.cols, dropout)?;
            dropped = slots.dropped.first(inp.len);
        }
        let (ctx, memory, weights) = parts!(self);
        // With dropout the gradient of the input takes the long way below.
        let fused = grads.dinp.filter(|_| slots.dropout.is_none());
        let dinp = or_empty(fused.map(|(slot, _)| slot));
        let (a, b) = (slot_of(mats.a), slot_of(mats.b));
        let places = [grads.da, grads.db, slots.ds, dinp, dout, slots.s, inp, dropped];
        let [da, db, ds, dinp, dout_at, s, inp_at, dropped_at] = places;
        let slots_all = [da, db, ds, dinp, dout_at, s, inp_at, dropped_at, slot_of(w), a, b];
        let views = memory.views("lora_linear_backward", slots_all)?;
        let [da, db, ds, dinp, dout_view, s, inp_view, dropped_view, trained, a, b] = views;
        let layer = lora_layer(weights, w, mats, (trained, a, b))?;
        let a_input = if dropped_view.is_empty() { &*inp_view } else { dropped_view };
        lora::backward_weights(ctx, (da, db), ds, dout_view, (s, a_input), layer);
        if let Some((_, write)) = fused {
            lora::backward_input(ctx, dinp, write, ds, dout_view, layer);
            return Ok(());
        }
        let (Some((dinp, write)), Some(dropout)) = (grads.dinp, slots.dropout) else {
            return Ok(());
        };
        self.matmul_backward_input(dinp, dout, w, 1.0, write)?;
        let (ds, dropped) = (slots.ds, slots.dropped.first(inp.len));
        self.matmul_backward_input(dropped, ds, mats.a, mats.scale, Write::Set)?;
        self.dropout_backward(dinp, dropped, w.cols, dropout)
    }
}

fn head<'a>(inp: &'a [f32], w: matmul::Elems<'a>, mat: Mat) -> lce::Head<'a> {
    lce::Head { inp, w, vocab: mat.rows as usize, dim: mat.cols as usize }
}

/// The matrices of an adapted layer.
fn lora_layer<'a>(
    weights: &'a Weights<'_>,
    w: Mat,
    mats: LoraMats,
    (trained, a, b): (&'a [f32], &'a [f32], &'a [f32]),
) -> Result<lora::Layer<'a>> {
    Ok(lora::Layer {
        w: elems(weights, w, trained)?,
        a: elems(weights, mats.a, a)?,
        b: elems(weights, mats.b, b)?,
        outputs: w.rows as usize,
        inputs: w.cols as usize,
        rank: mats.a.rows as usize,
        scale: mats.scale,
    })
}
