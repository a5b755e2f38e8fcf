//! The executable specification: every op as a plain loop, safe and scalar, in f32 or f64. Finite
//! differences in f64 check each backward; every back-end is compared with this one.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use crate::backend::{AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, Write};
use crate::batch::{Batch, Rows};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::plan::{Capacity, RegionSizes};
use crate::slot::{Region, Slot};
use crate::weights::{Mat, MatData, WeightView, Weights};

mod adamw;
mod attention;
mod dropout;
mod embed;
mod linear_cross_entropy;
mod matmul;
pub mod real;
mod rms_norm;
mod rope;
mod swiglu;

pub use real::Real;

/// The reference back-end over borrowed checkpoint bytes.
pub struct Reference<'w, T: Real> {
    weights: Weights<'w>,
    regions: [Vec<T>; 8],
    batch: Batch,
}

/// A matrix to read: frozen bytes or trained numbers.
pub(crate) enum W<'a, T> {
    Frozen(&'a WeightView<'a>),
    Trained(&'a [T]),
}

impl<T: Real> W<'_, T> {
    fn get(&self, i: usize) -> T {
        match self {
            W::Frozen(view) => T::from_f32(view.get(i)),
            W::Trained(values) => values[i],
        }
    }
}

impl<'w, T: Real> Reference<'w, T> {
    /// A back-end that reads frozen weights from `weights`.
    pub fn new(weights: Weights<'w>) -> Reference<'w, T> {
        Reference { weights, regions: Default::default(), batch: Batch::default() }
    }

    /// The elements of a slot, in full precision (gradient checks read and change them).
    pub fn slice_mut(&mut self, slot: Slot) -> Result<&mut [T]> {
        let [slice] = views(&mut self.regions, [slot])?;
        Ok(slice)
    }
}

/// Disjoint mutable views of several slots; overlapping ones are refused.
fn views<T, const K: usize>(regions: &mut [Vec<T>; 8], slots: [Slot; K]) -> Result<[&mut [T]; K]> {
    let mut order: [usize; K] = core::array::from_fn(|i| i);
    order.sort_unstable_by_key(|&i| (slots[i].region, slots[i].offset, slots[i].len));
    let mut out: [&mut [T]; K] = core::array::from_fn(|_| Default::default());
    let mut rest: [(u64, &mut [T]); 8] = regions.each_mut().map(|r| (0, r.as_mut_slice()));
    let mut before: Option<Slot> = None;
    for i in order {
        let slot = slots[i];
        if slot.len == 0 {
            continue;
        }
        let (start, slice) = &mut rest[slot.region as usize];
        if slot.offset < *start {
            let first = before.unwrap_or(slot);
            return Err(Error::Alias { op: "reference", first, second: slot });
        }
        let region_len = *start + slice.len() as u64;
        if slot.end() > region_len {
            let region = slot.region;
            return Err(Error::OutOfRegion { region, end: slot.end(), len: region_len });
        }
        let tail = core::mem::take(slice).split_at_mut((slot.offset - *start) as usize).1;
        let (view, tail) = tail.split_at_mut(slot.len as usize);
        (*start, *slice) = (slot.end(), tail);
        out[i] = view;
        before = Some(slot);
    }
    Ok(out)
}

/// The slot of a trained matrix; an empty one for a frozen matrix.
fn slot_of(w: Mat) -> Slot {
    match w.data {
        MatData::Trained(slot) => slot,
        MatData::Frozen(_) => Slot::new(Region::Params, 0, 0),
    }
}

/// An optional slot, empty where there is none.
fn or_empty(slot: Option<Slot>) -> Slot {
    slot.unwrap_or(Slot::new(Region::Grads, 0, 0))
}

fn mat<'a, T>(weights: &'a Weights<'_>, w: Mat, trained: &'a [T]) -> Result<W<'a, T>> {
    let MatData::Frozen(handle) = w.data else { return Ok(W::Trained(trained)) };
    match weights.get(handle) {
        Some(view) if view.rows == w.rows && view.cols == w.cols => Ok(W::Frozen(view)),
        found => Err(Error::Weight {
            name: found.map_or_else(|| format!("#{}", handle.0), |v| v.name.clone()),
            found: found
                .map_or_else(|| String::from("nothing"), |v| format!("{}x{}", v.rows, v.cols)),
            expected: format!("{}x{}", w.rows, w.cols),
        }),
    }
}

impl<T: Real> Backend for Reference<'_, T> {
    fn name(&self) -> &str {
        T::NAME
    }

    fn element_bytes(&self, _region: Region) -> u64 {
        size_of::<T>() as u64
    }

    fn scratch_len(&self, config: &Config, capacity: &Capacity) -> u64 {
        // One row of logits, or one query's scores.
        u64::from(config.vocab_size).max(capacity.tokens).max(capacity.cache_rows)
    }

    fn reserve(&mut self, sizes: &RegionSizes) -> Result<()> {
        for region in Region::ALL {
            self.regions[region as usize] = vec![T::ZERO; sizes.len(region) as usize];
        }
        Ok(())
    }

    fn upload(&mut self, dst: Slot, data: &[f32]) -> Result<()> {
        let [dst] = views(&mut self.regions, [dst])?;
        dst.iter_mut().zip(data).for_each(|(d, &x)| *d = T::from_f32(x));
        Ok(())
    }

    fn download(&mut self, src: Slot, data: &mut [f32]) -> Result<()> {
        let [src] = views(&mut self.regions, [src])?;
        data.iter_mut().zip(src).for_each(|(d, x)| *d = x.to_f32());
        Ok(())
    }

    fn set_batch(&mut self, batch: &Batch) -> Result<()> {
        self.batch.clone_from(batch);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn fill(&mut self, dst: Slot, value: f32) -> Result<()> {
        let [dst] = views(&mut self.regions, [dst])?;
        dst.fill(T::from_f32(value));
        Ok(())
    }

    fn copy(&mut self, dst: Slot, src: Slot) -> Result<()> {
        let [dst, src] = views(&mut self.regions, [dst, src])?;
        dst.copy_from_slice(src);
        Ok(())
    }

    fn add(&mut self, out: Slot, a: Slot, b: Slot) -> Result<()> {
        if out == a {
            return self.accumulate(out, b, 1.0);
        }
        let [out, a, b] = views(&mut self.regions, [out, a, b])?;
        for ((out, &a), &b) in out.iter_mut().zip(&*a).zip(&*b) {
            *out = a + b;
        }
        Ok(())
    }

    fn accumulate(&mut self, dst: Slot, src: Slot, scale: f32) -> Result<()> {
        let [dst, src] = views(&mut self.regions, [dst, src])?;
        let scale = T::from_f32(scale);
        dst.iter_mut().zip(src).for_each(|(d, s)| *d = *d + scale * *s);
        Ok(())
    }

    fn gather_rows(&mut self, out: Slot, inp: Slot, dim: u32) -> Result<()> {
        let [out, inp] = views(&mut self.regions, [out, inp])?;
        let dim = dim as usize;
        for (out, &row) in out.chunks_exact_mut(dim).zip(&self.batch.kept_rows) {
            out.copy_from_slice(&inp[row as usize * dim..][..dim]);
        }
        Ok(())
    }

    fn scatter_rows(&mut self, dinp: Slot, dout: Slot, dim: u32, write: Write) -> Result<()> {
        let [dinp, dout] = views(&mut self.regions, [dinp, dout])?;
        if write == Write::Set {
            dinp.fill(T::ZERO);
        }
        let dim = dim as usize;
        for (dout, &row) in dout.chunks_exact(dim).zip(&self.batch.kept_rows) {
            let dinp = &mut dinp[row as usize * dim..][..dim];
            dinp.iter_mut().zip(dout).for_each(|(d, s)| *d = *d + *s);
        }
        Ok(())
    }

    fn embed_forward(&mut self, out: Slot, table: Mat) -> Result<()> {
        let [out, trained] = views(&mut self.regions, [out, slot_of(table)])?;
        let table_w = mat(&self.weights, table, trained)?;
        embed::forward(out, &table_w, &self.batch.tokens, table.cols as usize);
        Ok(())
    }

    fn embed_backward(&mut self, dtable: Slot, dout: Slot, dim: u32) -> Result<()> {
        let [dtable, dout] = views(&mut self.regions, [dtable, dout])?;
        embed::backward(dtable, dout, &self.batch.tokens, dim as usize);
        Ok(())
    }

    fn rms_norm_forward(
        &mut self,
        out: Slot,
        rstd: Slot,
        inp: Slot,
        weight: Mat,
        eps: f32,
    ) -> Result<()> {
        let slots = [out, rstd, inp, slot_of(weight)];
        let [out, rstd, inp, trained] = views(&mut self.regions, slots)?;
        let w = mat(&self.weights, weight, trained)?;
        rms_norm::forward(out, rstd, inp, &w, weight.cols as usize, T::from_f32(eps));
        Ok(())
    }

    fn rms_norm_backward(
        &mut self,
        dinp: Slot,
        dweight: Option<Slot>,
        dout: Slot,
        inp: Slot,
        weight: Mat,
        rstd: Slot,
    ) -> Result<()> {
        let slots = [dinp, or_empty(dweight), dout, inp, slot_of(weight), rstd];
        let [dinp, dweight, dout, inp, trained, rstd] = views(&mut self.regions, slots)?;
        let w = mat(&self.weights, weight, trained)?;
        rms_norm::backward(dinp, dweight, dout, inp, &w, rstd, weight.cols as usize);
        Ok(())
    }

    fn matmul_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let [out, inp, trained] = views(&mut self.regions, [out, inp, slot_of(w)])?;
        let m = mat(&self.weights, w, trained)?;
        matmul::forward(out, inp, &m, w, T::from_f32(alpha), write);
        Ok(())
    }

    fn matmul_backward_input(
        &mut self,
        dinp: Slot,
        dout: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let [dinp, dout, trained] = views(&mut self.regions, [dinp, dout, slot_of(w)])?;
        let m = mat(&self.weights, w, trained)?;
        matmul::backward_input(dinp, dout, &m, w, T::from_f32(alpha), write);
        Ok(())
    }

    fn matmul_backward_weight(
        &mut self,
        dw: Slot,
        dout: Slot,
        inp: Slot,
        rows: u32,
        cols: u32,
        alpha: f32,
    ) -> Result<()> {
        let [dw, dout, inp] = views(&mut self.regions, [dw, dout, inp])?;
        matmul::backward_weight(dw, dout, inp, rows as usize, cols as usize, T::from_f32(alpha));
        Ok(())
    }

    fn rope_forward(&mut self, x: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()> {
        let [x, table] = views(&mut self.regions, [x, table])?;
        rope::rotate(x, table, head_dim as usize, positions(&self.batch, rows), T::ONE);
        Ok(())
    }

    fn rope_backward(&mut self, dx: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()> {
        let [dx, table] = views(&mut self.regions, [dx, table])?;
        rope::rotate(dx, table, head_dim as usize, positions(&self.batch, rows), -T::ONE);
        Ok(())
    }

    fn attention_forward(
        &mut self,
        out: Slot,
        lse: Slot,
        q: Slot,
        k: Slot,
        v: Slot,
        heads: Heads,
        rows: Rows,
    ) -> Result<()> {
        let scratch = whole(&self.regions, Region::Scratch);
        let [out, lse, q, k, v, scores] = views(&mut self.regions, [out, lse, q, k, v, scratch])?;
        attention::forward(out, lse, q, k, v, scores, heads, self.batch.visibility(rows));
        Ok(())
    }

    fn attention_backward(&mut self, grads: AttentionGrads, saved: AttentionSaved) -> Result<()> {
        let AttentionSaved { dout, out, lse, q, k, v, heads, rows } = saved;
        let slots = [grads.dq, grads.dk, grads.dv, dout, out, lse, q, k, v];
        let [dq, dk, dv, dout, out, lse, q, k, v] = views(&mut self.regions, slots)?;
        let saved = attention::Saved { dout, out, lse, q, k, v };
        attention::backward(dq, dk, dv, &saved, heads, self.batch.visibility(rows));
        Ok(())
    }

    fn cache_write(&mut self, cache: Slot, inp: Slot, dim: u32) -> Result<()> {
        let [cache, inp] = views(&mut self.regions, [cache, inp])?;
        let dim = dim as usize;
        for (row, &at) in inp.chunks_exact(dim).zip(&self.batch.all.at) {
            cache[at as usize * dim..][..dim].copy_from_slice(row);
        }
        Ok(())
    }

    fn swiglu_forward(&mut self, out: Slot, gate: Slot, up: Slot) -> Result<()> {
        let [out, gate, up] = views(&mut self.regions, [out, gate, up])?;
        swiglu::forward(out, gate, up);
        Ok(())
    }

    fn swiglu_backward(
        &mut self,
        dgate: Slot,
        dup: Slot,
        dout: Slot,
        gate: Slot,
        up: Slot,
    ) -> Result<()> {
        if dup != dout {
            self.copy(dup, dout)?;
        }
        let [dgate, dup, gate, up] = views(&mut self.regions, [dgate, dup, gate, up])?;
        swiglu::backward(dgate, dup, gate, up);
        Ok(())
    }

    fn dropout_forward(&mut self, out: Slot, inp: Slot, dim: u32, d: Dropout) -> Result<()> {
        let [out, inp] = views(&mut self.regions, [out, inp])?;
        out.fill(T::ZERO);
        dropout::add_masked(out, inp, dim as usize, &d, &self.batch);
        Ok(())
    }

    fn dropout_backward(&mut self, dinp: Slot, dout: Slot, dim: u32, d: Dropout) -> Result<()> {
        let [dinp, dout] = views(&mut self.regions, [dinp, dout])?;
        dropout::add_masked(dinp, dout, dim as usize, &d, &self.batch);
        Ok(())
    }

    fn linear_cross_entropy_forward(
        &mut self,
        nll: Slot,
        lse: Slot,
        best: Option<Slot>,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        let best = best.unwrap_or(Slot::new(Region::Stats, 0, 0));
        let logits = whole(&self.regions, Region::Scratch).first(u64::from(w.rows));
        let slots = [nll, lse, best, inp, slot_of(w), logits];
        let [nll, lse, best, inp, trained, logits] = views(&mut self.regions, slots)?;
        let m = mat(&self.weights, w, trained)?;
        let out = linear_cross_entropy::Out { nll, lse, best };
        linear_cross_entropy::forward(out, inp, &m, logits, &self.batch);
        Ok(())
    }

    fn linear_cross_entropy_backward(
        &mut self,
        dinp: Slot,
        dw: Option<Slot>,
        coeff: Slot,
        lse: Slot,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        let logits = whole(&self.regions, Region::Scratch).first(u64::from(w.rows));
        let slots = [dinp, or_empty(dw), coeff, lse, inp, slot_of(w), logits];
        let [dinp, dw, coeff, lse, inp, trained, logits] = views(&mut self.regions, slots)?;
        let m = mat(&self.weights, w, trained)?;
        let saved = linear_cross_entropy::Saved { coeff, lse, inp };
        linear_cross_entropy::backward(dinp, dw, saved, &m, logits, &self.batch);
        Ok(())
    }

    fn norm_squared(&mut self, out: Slot, x: Slot) -> Result<()> {
        let [out, x] = views(&mut self.regions, [out, x])?;
        out[0] = x.iter().fold(T::ZERO, |sum, &x| sum + x * x);
        Ok(())
    }

    fn adamw(&mut self, param: Slot, grad: Slot, m: Slot, v: Slot, step: AdamW) -> Result<()> {
        let [param, grad, m, v] = views(&mut self.regions, [param, grad, m, v])?;
        adamw::step(param, grad, m, v, &step);
        Ok(())
    }
}

fn whole<T>(regions: &[Vec<T>; 8], region: Region) -> Slot {
    Slot::new(region, 0, regions[region as usize].len() as u64)
}

fn positions(batch: &Batch, rows: Rows) -> &[u32] {
    match rows {
        Rows::All => &batch.positions,
        Rows::Kept => &batch.kept_positions,
    }
}
