//! The core's trait on the CPU: resolves slots to slices and calls the op's file.

use paddock_core::backend::{
    AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, LoraGrads, LoraMats, LoraSlots,
    LossSlots, Write,
};
use paddock_core::batch::{Batch, Rows};
use paddock_core::config::Config;
use paddock_core::error::{Error, Result};
use paddock_core::plan::{Capacity, RegionSizes};
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::Mat;

use super::linear_cross_entropy as lce;
use super::matmul::{self, Part, Product};
use super::memory::{elems, or_empty, slot_of};
use super::{Cpu, Ctx, adamw, attention, dropout, elementwise, embed, parts};
use super::{rms_norm, rope, swiglu};

impl Backend for Cpu<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn element_bytes(&self, _region: Region) -> u64 {
        4
    }

    fn scratch_len(&self, config: &Config, capacity: &Capacity) -> u64 {
        // One chunk of logits; the threads' panels are a few hundred KiB each and not planned.
        u64::from(config.vocab_size) * capacity.kept.min(lce::CHUNK as u64)
    }

    fn reserve(&mut self, sizes: &RegionSizes) -> Result<()> {
        self.memory.reserve(sizes)
    }

    fn upload(&mut self, dst: Slot, data: &[f32]) -> Result<()> {
        let [dst] = self.memory.views("upload", [dst])?;
        check("upload", "data", data.len(), dst.len())?;
        dst.copy_from_slice(data);
        Ok(())
    }

    fn download(&mut self, src: Slot, data: &mut [f32]) -> Result<()> {
        let [src] = self.memory.views("download", [src])?;
        check("download", "data", data.len(), src.len())?;
        data.copy_from_slice(src);
        Ok(())
    }

    fn set_batch(&mut self, batch: &Batch) -> Result<()> {
        self.batch.clone_from(batch);
        self.all.rebuild(&self.batch.all);
        self.kept.rebuild(&self.batch.kept);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn fill(&mut self, dst: Slot, value: f32) -> Result<()> {
        let [dst] = self.memory.views("fill", [dst])?;
        dst.fill(value);
        Ok(())
    }

    fn copy(&mut self, dst: Slot, src: Slot) -> Result<()> {
        let [dst, src] = self.memory.views("copy", [dst, src])?;
        check("copy", "src", src.len(), dst.len())?;
        dst.copy_from_slice(src);
        Ok(())
    }

    fn add(&mut self, out: Slot, a: Slot, b: Slot) -> Result<()> {
        if out == a {
            return self.accumulate(out, b, 1.0);
        }
        let (ctx, memory, _) = parts!(self);
        let [out, a, b] = memory.views("add", [out, a, b])?;
        check("add", "a", a.len(), out.len())?;
        check("add", "b", b.len(), out.len())?;
        elementwise::add(ctx, out, a, b);
        Ok(())
    }

    fn accumulate(&mut self, dst: Slot, src: Slot, scale: f32) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let [dst, src] = memory.views("accumulate", [dst, src])?;
        check("accumulate", "src", src.len(), dst.len())?;
        elementwise::accumulate(ctx, dst, src, scale);
        Ok(())
    }

    fn gather_rows(&mut self, out: Slot, inp: Slot, dim: u32) -> Result<()> {
        let [out, inp] = self.memory.views("gather_rows", [out, inp])?;
        let dim = dim as usize;
        for (out, &row) in out.chunks_exact_mut(dim).zip(&self.batch.kept_rows) {
            out.copy_from_slice(&inp[row as usize * dim..][..dim]);
        }
        Ok(())
    }

    fn scatter_rows(&mut self, dinp: Slot, dout: Slot, dim: u32, write: Write) -> Result<()> {
        let [dinp, dout] = self.memory.views("scatter_rows", [dinp, dout])?;
        if write == Write::Set {
            dinp.fill(0.0);
        }
        let dim = dim as usize;
        for (dout, &row) in dout.chunks_exact(dim).zip(&self.batch.kept_rows) {
            let dinp = &mut dinp[row as usize * dim..][..dim];
            dinp.iter_mut().zip(dout).for_each(|(d, g)| *d += g);
        }
        Ok(())
    }

    fn embed_forward(&mut self, out: Slot, table: Mat) -> Result<()> {
        let (ctx, memory, weights) = parts!(self);
        let [out, trained] = memory.views("embed_forward", [out, slot_of(table)])?;
        let table_elems = elems(weights, table, trained)?;
        embed::forward(ctx, out, table_elems, &self.batch.tokens, table.cols as usize);
        Ok(())
    }

    fn embed_backward(&mut self, dtable: Slot, dout: Slot, dim: u32) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let [dtable, dout] = memory.views("embed_backward", [dtable, dout])?;
        embed::backward(ctx, dtable, dout, &self.batch.tokens, dim as usize);
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
        let (ctx, memory, weights) = parts!(self);
        let slots = [out, rstd, inp, slot_of(weight)];
        let [out, rstd, inp, trained] = memory.views("rms_norm_forward", slots)?;
        let w = elems(weights, weight, trained)?;
        rms_norm::forward(ctx, out, rstd, inp, w, weight.cols as usize, eps);
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
        let (ctx, memory, weights) = parts!(self);
        let slots = [dinp, or_empty(dweight), dout, inp, slot_of(weight), rstd];
        let views = memory.views("rms_norm_backward", slots)?;
        let [dinp, dweight, dout, inp, trained, rstd] = views;
        let w = elems(weights, weight, trained)?;
        let saved = rms_norm::Saved { dout, inp, rstd };
        rms_norm::backward(ctx, dinp, dweight, saved, w, weight.cols as usize);
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
        let (ctx, memory, weights) = parts!(self);
        let [out, inp, trained] = memory.views("matmul_forward", [out, inp, slot_of(w)])?;
        let part = matmul::forward(inp, elems(weights, w, trained)?, w.cols as usize);
        one_product(ctx, out, part, w.rows, alpha, write)
    }

    fn matmul_backward_input(
        &mut self,
        dinp: Slot,
        dout: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let (ctx, memory, weights) = parts!(self);
        let slots = [dinp, dout, slot_of(w)];
        let [dinp, dout, trained] = memory.views("matmul_backward_input", slots)?;
        let part = matmul::backward_input(dout, elems(weights, w, trained)?, w.rows as usize);
        one_product(ctx, dinp, part, w.cols, alpha, write)
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
        let (ctx, memory, _) = parts!(self);
        let [dw, dout, inp] = memory.views("matmul_backward_weight", [dw, dout, inp])?;
        let part = matmul::backward_weight(dout, inp, rows as usize, cols as usize);
        one_product(ctx, dw, part, cols, alpha, Write::Add)
    }

    fn rope_forward(&mut self, x: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let [x, table] = memory.views("rope_forward", [x, table])?;
        rope::rotate(ctx, x, table, head_dim as usize, positions(&self.batch, rows), 1.0);
        Ok(())
    }

    fn rope_backward(&mut self, dx: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let [dx, table] = memory.views("rope_backward", [dx, table])?;
        rope::rotate(ctx, dx, table, head_dim as usize, positions(&self.batch, rows), -1.0);
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
        let (ctx, memory, _) = parts!(self);
        let [out, lse, q, k, v] = memory.views("attention_forward", [out, lse, q, k, v])?;
        let layout = if rows == Rows::All { &self.all } else { &self.kept };
        let visibility = self.batch.visibility(rows);
        let inp = attention::Inputs { q, k, v, heads, visibility, layout };
        attention::forward(ctx, out, lse, inp);
        Ok(())
    }

    fn attention_backward(&mut self, grads: AttentionGrads, saved: AttentionSaved) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let AttentionSaved { dout, out, lse, q, k, v, heads, rows } = saved;
        let slots = [grads.dq, grads.dk, grads.dv, dout, out, lse, q, k, v];
        let [dq, dk, dv, dout, out, lse, q, k, v] = memory.views("attention_backward", slots)?;
        let layout = if rows == Rows::All { &self.all } else { &self.kept };
        let visibility = self.batch.visibility(rows);
        let inp = attention::Inputs { q, k, v, heads, visibility, layout };
        let grads = attention::backward::Grads { dq, dk, dv };
        let saved = attention::backward::Saved { dout, out, lse };
        attention::backward::backward(ctx, grads, saved, inp);
        Ok(())
    }

    fn cache_write(&mut self, cache: Slot, inp: Slot, dim: u32) -> Result<()> {
        let [cache, inp] = self.memory.views("cache_write", [cache, inp])?;
        let dim = dim as usize;
        for (row, &at) in inp.chunks_exact(dim).zip(&self.batch.all.at) {
            cache[at as usize * dim..][..dim].copy_from_slice(row);
        }
        Ok(())
    }

    fn swiglu_forward(&mut self, out: Slot, gate: Slot, up: Slot) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let [out, gate, up] = memory.views("swiglu_forward", [out, gate, up])?;
        swiglu::forward(ctx, out, gate, up);
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
        let (ctx, memory, _) = parts!(self);
        let [dgate, dup, gate, up] = memory.views("swiglu_backward", [dgate, dup, gate, up])?;
        swiglu::backward(ctx, dgate, dup, gate, up);
        Ok(())
    }

    fn dropout_forward(&mut self, out: Slot, inp: Slot, dim: u32, d: Dropout) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let [out, inp] = memory.views("dropout_forward", [out.first(inp.len), inp])?;
        dropout::masked(ctx, out, inp, dim as usize, d, &self.batch, false);
        Ok(())
    }

    fn dropout_backward(&mut self, dinp: Slot, dout: Slot, dim: u32, d: Dropout) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let [dinp, dout] = memory.views("dropout_backward", [dinp, dout.first(dinp.len)])?;
        dropout::masked(ctx, dinp, dout, dim as usize, d, &self.batch, true);
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
        self.loss_forward(nll, lse, best, inp, w)
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
        self.loss_backward(dinp, dw, coeff, lse, inp, w)
    }

    fn linear_cross_entropy(&mut self, out: LossSlots, inp: Slot, w: Mat) -> Result<()> {
        self.loss(out, inp, w)
    }

    fn lora_linear_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        mats: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        self.lora_forward(out, inp, w, mats, slots)
    }

    fn lora_linear_backward(
        &mut self,
        grads: LoraGrads,
        dout: Slot,
        inp: Slot,
        w: Mat,
        mats: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        self.lora_backward(grads, dout, inp, w, mats, slots)
    }

    fn norm_squared(&mut self, out: Slot, x: Slot) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let [out, x] = memory.views("norm_squared", [out, x])?;
        out[0] = elementwise::norm_squared(ctx, x);
        Ok(())
    }

    fn adamw(&mut self, param: Slot, grad: Slot, m: Slot, v: Slot, step: AdamW) -> Result<()> {
        let (ctx, memory, _) = parts!(self);
        let [param, grad, m, v] = memory.views("adamw", [param, grad, m, v])?;
        adamw::step(ctx, param, grad, m, v, step);
        Ok(())
    }
}

fn positions(batch: &Batch, rows: Rows) -> &[u32] {
    match rows {
        Rows::All => &batch.positions,
        Rows::Kept => &batch.kept_positions,
    }
}

fn check(op: &'static str, operand: &'static str, found: usize, expected: usize) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::Shape { op, operand, found: found as u64, expected: expected as u64 }),
    }
}

/// out (·,cols) = alpha · part [+ out]
fn one_product(
    ctx: Ctx<'_>,
    out: &mut [f32],
    part: Part<'_>,
    cols: u32,
    alpha: f32,
    write: Write,
) -> Result<()> {
    let n = cols as usize;
    let m = out.len().checked_div(n).unwrap_or(0);
    let p = Product { m, n, parts: &[part], alpha, add: write == Write::Add };
    matmul::product(ctx, p, out);
    Ok(())
}
