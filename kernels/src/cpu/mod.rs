//! The CPU back-end: rayon outside, SIMD inside.
//!
//! `simd.rs` and `tiles.rs` hold the machinery and all `unsafe`; every other file is one op, its
//! formula first. Results depend on the SIMD level and on shapes, never on the number of threads.

use paddock_core::backend::{
    AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, LoraGrads, LoraMats, LoraSlots,
    LossSlots, Write,
};
use paddock_core::batch::{Batch, Rows};
use paddock_core::config::Config;
use paddock_core::error::{Error, Result};
use paddock_core::plan::{Capacity, RegionSizes};
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Mat, Weights};

pub mod adamw;
pub mod attention;
pub mod dropout;
pub mod elementwise;
pub mod embed;
pub mod linear_cross_entropy;
pub mod lora;
pub mod matmul;
pub mod matvec;
pub mod memory;
pub mod pack;
pub mod pool;
pub mod rms_norm;
pub mod rope;
pub mod simd;
pub mod swiglu;
pub mod tiles;
pub mod vmath;

use linear_cross_entropy as lce;
use matmul::{Part, Product};
use memory::{Memory, elems, or_empty, slot_of};
use pool::Pool;
use simd::Level;

/// Where an op runs: the threads and the SIMD level.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// The worker threads.
    pub pool: &'a Pool,
    /// The instruction set.
    pub level: Level,
}

/// The CPU back-end over borrowed checkpoint bytes.
pub struct Cpu<'w> {
    name: String,
    level: Level,
    pool: Pool,
    weights: Weights<'w>,
    memory: Memory,
    batch: Batch,
    all: attention::layout::Layout,
    kept: attention::layout::Layout,
}

impl<'w> Cpu<'w> {
    /// A back-end that reads frozen weights from `weights` in place, with `threads` workers (0: one
    /// for each core) at `level` (none: PADDOCK_SIMD, else the processor's best).
    pub fn new(weights: Weights<'w>, threads: usize, level: Option<Level>) -> Result<Cpu<'w>> {
        let level = Level::choose(level).map_err(|e| Error::Device(e.to_string()))?;
        let pool = Pool::new(threads).map_err(|e| Error::Device(e.to_string()))?;
        Ok(Cpu {
            name: format!("cpu {level}"),
            level,
            pool,
            weights,
            memory: Memory::default(),
            batch: Batch::default(),
            all: Default::default(),
            kept: Default::default(),
        })
    }

    /// Worker threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The SIMD level in use.
    pub fn level(&self) -> Level {
        self.level
    }
}

/// Splits a back-end into the context, the memory and the weights, which an op borrows apart.
macro_rules! parts {
    ($self:ident) => {
        (Ctx { pool: &$self.pool, level: $self.level }, &mut $self.memory, &$self.weights)
    };
}

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
        self.memory.reserve(sizes);
        Ok(())
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
        let (ctx, memory, weights) = parts!(self);
        let slots = [nll, lse, or_empty(best), inp, slot_of(w), memory.whole(Region::Scratch)];
        let views = memory.views("linear_cross_entropy_forward", slots)?;
        let [nll, lse, best, inp, trained, logits] = views;
        let head = head(inp, elems(weights, w, trained)?, w);
        lce::forward(ctx, lce::Losses { nll, lse, best }, None, head, logits, &self.batch);
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
        let (ctx, memory, weights) = parts!(self);
        let scratch = memory.whole(Region::Scratch);
        let slots = [dinp, or_empty(dw), coeff, lse, inp, slot_of(w), scratch];
        let views = memory.views("linear_cross_entropy_backward", slots)?;
        let [dinp, dw, coeff, lse, inp, trained, logits] = views;
        let head = head(inp, elems(weights, w, trained)?, w);
        lce::backward(ctx, lce::Grads { dinp, dw, coeff }, lse, head, logits, &self.batch);
        Ok(())
    }

    fn linear_cross_entropy(&mut self, out: LossSlots, inp: Slot, w: Mat) -> Result<()> {
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

    fn lora_linear_forward(
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

    fn lora_linear_backward(
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
    let m = if n == 0 { 0 } else { out.len() / n };
    let p = Product { m, n, parts: &[part], alpha, add: write == Write::Add };
    matmul::product(ctx.pool, ctx.level, p, out);
    Ok(())
}
