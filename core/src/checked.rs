//! A back-end around another one that checks every call: lengths, regions, overlaps, and afterwards
//! that what was written is finite. For tests and for `--check`; costs a download per op.

use alloc::boxed::Box;
use alloc::vec;

use crate::backend::{
    AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, LoraGrads, LoraMats, LoraSlots,
    LossSlots, Write,
};
use crate::batch::{Batch, Rows};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::plan::{Capacity, RegionSizes};
use crate::slot::{Region, Slot};
use crate::weights::{Mat, MatData};

/// The wrapper.
pub struct Checked<'w> {
    inner: Box<dyn Backend + 'w>,
    sizes: RegionSizes,
    /// N, M, E of the batch.
    counts: [u64; 3],
    /// Rows that the batch's tokens, positions and cache rows need of tables that they index.
    table_rows: [u64; 3],
}

/// A slot with its name in the op's documentation and the length it must have.
type Operand = (&'static str, Slot, u64);

impl<'w> Checked<'w> {
    /// Checks every call to `inner`.
    pub fn new(inner: Box<dyn Backend + 'w>) -> Checked<'w> {
        Checked { inner, sizes: RegionSizes::default(), counts: [0; 3], table_rows: [0; 3] }
    }

    fn rows(&self, rows: Rows) -> u64 {
        self.counts[if rows == Rows::All { 0 } else { 1 }]
    }

    /// Lengths, regions, and that no written slot overlaps another operand.
    fn admit(&self, op: &'static str, writes: &[Operand], reads: &[Operand]) -> Result<()> {
        for &(operand, slot, expected) in writes.iter().chain(reads) {
            if slot.len != expected {
                return Err(Error::Shape { op, operand, found: slot.len, expected });
            }
            let len = self.sizes.len(slot.region);
            if slot.end() > len {
                return Err(Error::OutOfRegion { region: slot.region, end: slot.end(), len });
            }
        }
        for (i, &(_, first, _)) in writes.iter().enumerate() {
            let others = writes[i + 1..].iter().chain(reads);
            if let Some(&(_, second, _)) = others.clone().find(|(_, s, _)| first.overlaps(*s)) {
                return Err(Error::Alias { op, first, second });
            }
        }
        Ok(())
    }

    /// Everything written must be finite.
    fn finite(&mut self, op: &'static str, writes: &[Operand]) -> Result<()> {
        for &(operand, slot, _) in writes {
            let mut values = vec![0.0; slot.len as usize];
            self.inner.download(slot, &mut values)?;
            if let Some(index) = values.iter().position(|x| !x.is_finite()) {
                return Err(Error::NotFinite { op, operand, index: index as u64 });
            }
        }
        Ok(())
    }
}

/// The slot of a trained matrix as an operand; nothing for a frozen one.
fn trained(w: Mat) -> Operand {
    match w.data {
        MatData::Trained(slot) => ("w", slot, w.len()),
        MatData::Frozen(_) => ("w", Slot::new(Region::Params, 0, 0), 0),
    }
}

/// A table of any number of rows of `width` as an operand, at least `rows`.
fn table(name: &'static str, slot: Slot, width: u32, rows: u64) -> Operand {
    let width = u64::from(width).max(1);
    (name, slot, (slot.len / width).max(rows) * width)
}

/// An optional slot as an operand.
fn optional(name: &'static str, slot: Option<Slot>, len: u64) -> Operand {
    slot.map_or((name, Slot::new(Region::Grads, 0, 0), 0), |slot| (name, slot, len))
}

impl Backend for Checked<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn element_bytes(&self, region: Region) -> u64 {
        self.inner.element_bytes(region)
    }

    fn scratch_len(&self, config: &Config, capacity: &Capacity) -> u64 {
        self.inner.scratch_len(config, capacity)
    }

    fn reserve(&mut self, sizes: &RegionSizes) -> Result<()> {
        self.sizes = *sizes;
        self.inner.reserve(sizes)
    }

    fn upload(&mut self, dst: Slot, data: &[f32]) -> Result<()> {
        self.admit("upload", &[("dst", dst, data.len() as u64)], &[])?;
        self.inner.upload(dst, data)
    }

    fn download(&mut self, src: Slot, data: &mut [f32]) -> Result<()> {
        self.admit("download", &[], &[("src", src, data.len() as u64)])?;
        self.inner.download(src, data)
    }

    fn set_batch(&mut self, batch: &Batch) -> Result<()> {
        self.counts = [batch.rows(), batch.kept(), batch.entries()];
        let after = |rows: &[u32]| rows.iter().max().map_or(0, |&row| u64::from(row) + 1);
        self.table_rows = [after(&batch.tokens), after(&batch.positions), after(&batch.all.at)];
        self.inner.set_batch(batch)
    }

    fn sync(&mut self) -> Result<()> {
        self.inner.sync()
    }

    fn begin_step(&mut self) -> Result<()> {
        self.inner.begin_step()
    }

    fn end_step(&mut self) -> Result<()> {
        self.inner.end_step()
    }

    fn fill(&mut self, dst: Slot, value: f32) -> Result<()> {
        self.admit("fill", &[("dst", dst, dst.len)], &[])?;
        self.inner.fill(dst, value)
    }

    fn copy(&mut self, dst: Slot, src: Slot) -> Result<()> {
        self.admit("copy", &[("dst", dst, src.len)], &[("src", src, src.len)])?;
        self.inner.copy(dst, src)
    }

    fn add(&mut self, out: Slot, a: Slot, b: Slot) -> Result<()> {
        let writes = [("out", out, b.len)];
        let reads = [("b", b, b.len), ("a", a, b.len)];
        self.admit("add", &writes, if out == a { &reads[..1] } else { &reads })?;
        self.inner.add(out, a, b)?;
        self.finite("add", &writes)
    }

    fn accumulate(&mut self, dst: Slot, src: Slot, scale: f32) -> Result<()> {
        let writes = [("dst", dst, src.len)];
        self.admit("accumulate", &writes, &[("src", src, src.len)])?;
        self.inner.accumulate(dst, src, scale)?;
        self.finite("accumulate", &writes)
    }

    fn gather_rows(&mut self, out: Slot, inp: Slot, dim: u32) -> Result<()> {
        let (n, m, c) = (self.counts[0], self.counts[1], u64::from(dim));
        self.admit("gather_rows", &[("out", out, m * c)], &[("inp", inp, n * c)])?;
        self.inner.gather_rows(out, inp, dim)
    }

    fn scatter_rows(&mut self, dinp: Slot, dout: Slot, dim: u32, write: Write) -> Result<()> {
        let (n, m, c) = (self.counts[0], self.counts[1], u64::from(dim));
        let writes = [("dinp", dinp, n * c)];
        self.admit("scatter_rows", &writes, &[("dout", dout, m * c)])?;
        self.inner.scatter_rows(dinp, dout, dim, write)?;
        self.finite("scatter_rows", &writes)
    }

    fn embed_forward(&mut self, out: Slot, table: Mat) -> Result<()> {
        let writes = [("out", out, self.counts[0] * u64::from(table.cols))];
        self.admit("embed_forward", &writes, &[trained(table)])?;
        self.inner.embed_forward(out, table)?;
        self.finite("embed_forward", &writes)
    }

    fn embed_backward(&mut self, dtable: Slot, dout: Slot, dim: u32) -> Result<()> {
        let writes = [table("dtable", dtable, dim, self.table_rows[0])];
        let reads = [("dout", dout, self.counts[0] * u64::from(dim))];
        self.admit("embed_backward", &writes, &reads)?;
        self.inner.embed_backward(dtable, dout, dim)?;
        self.finite("embed_backward", &writes)
    }

    fn rms_norm_forward(
        &mut self,
        out: Slot,
        rstd: Slot,
        inp: Slot,
        weight: Mat,
        eps: f32,
    ) -> Result<()> {
        let writes = [("out", out, inp.len), ("rstd", rstd, inp.len / u64::from(weight.cols))];
        self.admit("rms_norm_forward", &writes, &[("inp", inp, inp.len), trained(weight)])?;
        self.inner.rms_norm_forward(out, rstd, inp, weight, eps)?;
        self.finite("rms_norm_forward", &writes)
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
        let (len, c) = (inp.len, u64::from(weight.cols));
        let writes = [("dinp", dinp, len), optional("dweight", dweight, c)];
        let reads =
            [("dout", dout, len), ("inp", inp, len), trained(weight), ("rstd", rstd, len / c)];
        self.admit("rms_norm_backward", &writes, &reads)?;
        self.inner.rms_norm_backward(dinp, dweight, dout, inp, weight, rstd)?;
        self.finite("rms_norm_backward", &writes)
    }

    fn matmul_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let n = inp.len / u64::from(w.cols);
        let writes = [("out", out, n * u64::from(w.rows))];
        let reads = [("inp", inp, n * u64::from(w.cols)), trained(w)];
        self.admit("matmul_forward", &writes, &reads)?;
        self.inner.matmul_forward(out, inp, w, alpha, write)?;
        self.finite("matmul_forward", &writes)
    }

    fn matmul_backward_input(
        &mut self,
        dinp: Slot,
        dout: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let n = dout.len / u64::from(w.rows);
        let writes = [("dinp", dinp, n * u64::from(w.cols))];
        let reads = [("dout", dout, n * u64::from(w.rows)), trained(w)];
        self.admit("matmul_backward_input", &writes, &reads)?;
        self.inner.matmul_backward_input(dinp, dout, w, alpha, write)?;
        self.finite("matmul_backward_input", &writes)
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
        let (rows64, cols64) = (u64::from(rows), u64::from(cols));
        let n = inp.len / cols64;
        let writes = [("dw", dw, rows64 * cols64)];
        let reads = [("dout", dout, n * rows64), ("inp", inp, n * cols64)];
        self.admit("matmul_backward_weight", &writes, &reads)?;
        self.inner.matmul_backward_weight(dw, dout, inp, rows, cols, alpha)?;
        self.finite("matmul_backward_weight", &writes)
    }

    fn rope_forward(&mut self, x: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()> {
        let n = self.rows(rows).max(1) * u64::from(head_dim);
        let writes = [("x", x, x.len / n * n)];
        let reads = [self::table("table", table, head_dim, self.table_rows[1])];
        self.admit("rope_forward", &writes, &reads)?;
        self.inner.rope_forward(x, table, head_dim, rows)?;
        self.finite("rope_forward", &writes)
    }

    fn rope_backward(&mut self, dx: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()> {
        let n = self.rows(rows).max(1) * u64::from(head_dim);
        let writes = [("dx", dx, dx.len / n * n)];
        let reads = [self::table("table", table, head_dim, self.table_rows[1])];
        self.admit("rope_backward", &writes, &reads)?;
        self.inner.rope_backward(dx, table, head_dim, rows)?;
        self.finite("rope_backward", &writes)
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
        let nh = self.rows(rows) * u64::from(heads.n_heads);
        let nq = nh * u64::from(heads.head_dim);
        let writes = [("out", out, nq), ("lse", lse, nh)];
        let reads = [("q", q, nq), ("k", k, v.len), ("v", v, v.len)];
        self.admit("attention_forward", &writes, &reads)?;
        self.inner.attention_forward(out, lse, q, k, v, heads, rows)?;
        self.finite("attention_forward", &writes)
    }

    fn attention_backward(&mut self, grads: AttentionGrads, saved: AttentionSaved) -> Result<()> {
        let h = saved.heads;
        let nh = self.rows(saved.rows) * u64::from(h.n_heads);
        let nq = nh * u64::from(h.head_dim);
        let nk = self.counts[0] * u64::from(h.n_kv_heads * h.head_dim);
        let writes = [("dq", grads.dq, nq), ("dk", grads.dk, nk), ("dv", grads.dv, nk)];
        let reads = [
            ("dout", saved.dout, nq),
            ("out", saved.out, nq),
            ("lse", saved.lse, nh),
            ("q", saved.q, nq),
            ("k", saved.k, nk),
            ("v", saved.v, nk),
        ];
        self.admit("attention_backward", &writes, &reads)?;
        self.inner.attention_backward(grads, saved)?;
        self.finite("attention_backward", &writes)
    }

    fn cache_write(&mut self, cache: Slot, inp: Slot, dim: u32) -> Result<()> {
        let reads = [("inp", inp, self.counts[0] * u64::from(dim))];
        let writes = [table("cache", cache, dim, self.table_rows[2])];
        self.admit("cache_write", &writes, &reads)?;
        self.inner.cache_write(cache, inp, dim)
    }

    fn swiglu_forward(&mut self, out: Slot, gate: Slot, up: Slot) -> Result<()> {
        let writes = [("out", out, gate.len)];
        self.admit("swiglu_forward", &writes, &[("gate", gate, gate.len), ("up", up, gate.len)])?;
        self.inner.swiglu_forward(out, gate, up)?;
        self.finite("swiglu_forward", &writes)
    }

    fn swiglu_backward(
        &mut self,
        dgate: Slot,
        dup: Slot,
        dout: Slot,
        gate: Slot,
        up: Slot,
    ) -> Result<()> {
        let len = gate.len;
        let writes = [("dgate", dgate, len), ("dup", dup, len)];
        let reads = [("gate", gate, len), ("up", up, len), ("dout", dout, len)];
        self.admit("swiglu_backward", &writes, if dup == dout { &reads[..2] } else { &reads })?;
        self.inner.swiglu_backward(dgate, dup, dout, gate, up)?;
        self.finite("swiglu_backward", &writes)
    }

    fn dropout_forward(&mut self, out: Slot, inp: Slot, dim: u32, d: Dropout) -> Result<()> {
        let len = self.rows(d.rows) * u64::from(dim);
        self.admit("dropout_forward", &[("out", out, len)], &[("inp", inp, len)])?;
        self.inner.dropout_forward(out, inp, dim, d)
    }

    fn dropout_backward(&mut self, dinp: Slot, dout: Slot, dim: u32, d: Dropout) -> Result<()> {
        let len = self.rows(d.rows) * u64::from(dim);
        self.admit("dropout_backward", &[("dinp", dinp, len)], &[("dout", dout, len)])?;
        self.inner.dropout_backward(dinp, dout, dim, d)
    }

    fn linear_cross_entropy_forward(
        &mut self,
        nll: Slot,
        lse: Slot,
        best: Option<Slot>,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        let [_, m, e] = self.counts;
        let writes = [("nll", nll, e), ("lse", lse, m), optional("best", best, m)];
        let reads = [("inp", inp, m * u64::from(w.cols)), trained(w)];
        self.admit("linear_cross_entropy_forward", &writes, &reads)?;
        self.inner.linear_cross_entropy_forward(nll, lse, best, inp, w)?;
        self.finite("linear_cross_entropy_forward", &writes)
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
        let [_, m, e] = self.counts;
        let mc = m * u64::from(w.cols);
        let writes = [("dinp", dinp, mc), optional("dw", dw, w.len())];
        let reads = [("coeff", coeff, e), ("lse", lse, m), ("inp", inp, mc), trained(w)];
        self.admit("linear_cross_entropy_backward", &writes, &reads)?;
        self.inner.linear_cross_entropy_backward(dinp, dw, coeff, lse, inp, w)?;
        self.finite("linear_cross_entropy_backward", &writes)
    }

    fn norm_squared(&mut self, out: Slot, x: Slot) -> Result<()> {
        self.admit("norm_squared", &[("out", out, 1)], &[("x", x, x.len)])?;
        self.inner.norm_squared(out, x)
    }

    fn adamw(&mut self, param: Slot, grad: Slot, m: Slot, v: Slot, step: AdamW) -> Result<()> {
        let len = param.len;
        let writes = [("param", param, len), ("m", m, len), ("v", v, len)];
        self.admit("adamw", &writes, &[("grad", grad, len)])?;
        self.inner.adamw(param, grad, m, v, step)?;
        self.finite("adamw", &writes)
    }

    // The fused ops go to the inner back-end's own versions: those are what is being checked.

    fn linear_cross_entropy(&mut self, out: LossSlots, inp: Slot, w: Mat) -> Result<()> {
        let [_, m, e] = self.counts;
        let mc = m * u64::from(w.cols);
        let writes = [
            ("nll", out.nll, e),
            ("lse", out.lse, m),
            ("dinp", out.dinp, mc),
            optional("dw", out.dw, w.len()),
        ];
        let reads = [("coeff", out.coeff, e), ("inp", inp, mc), trained(w)];
        self.admit("linear_cross_entropy", &writes, &reads)?;
        self.inner.linear_cross_entropy(out, inp, w)?;
        self.finite("linear_cross_entropy", &writes)
    }

    fn lora_linear_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        lora: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        let n = inp.len / u64::from(w.cols);
        let rank = u64::from(lora.a.rows);
        let len = n * u64::from(w.cols);
        let writes = [
            ("out", out, n * u64::from(w.rows)),
            ("s", slots.s, n * rank),
            optional("dropped", slots.dropout.map(|_| slots.dropped), len),
        ];
        let reads = [("inp", inp, len), trained(w), trained(lora.a), trained(lora.b)];
        self.admit("lora_linear_forward", &writes, &reads)?;
        self.inner.lora_linear_forward(out, inp, w, lora, slots)?;
        self.finite("lora_linear_forward", &writes)
    }

    fn lora_linear_backward(
        &mut self,
        grads: LoraGrads,
        dout: Slot,
        inp: Slot,
        w: Mat,
        lora: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        let n = inp.len / u64::from(w.cols);
        let (rank, len) = (u64::from(lora.a.rows), n * u64::from(w.cols));
        let writes = [
            ("da", grads.da, lora.a.len()),
            ("db", grads.db, lora.b.len()),
            ("ds", slots.ds, n * rank),
            optional("dinp", grads.dinp.map(|(slot, _)| slot), len),
            optional("dropped", slots.dropout.map(|_| slots.dropped), len),
        ];
        let reads = [
            ("dout", dout, n * u64::from(w.rows)),
            ("inp", inp, len),
            ("s", slots.s, n * rank),
            trained(w),
            trained(lora.a),
            trained(lora.b),
        ];
        self.admit("lora_linear_backward", &writes, &reads)?;
        self.inner.lora_linear_backward(grads, dout, inp, w, lora, slots)?;
        self.finite("lora_linear_backward", &writes)
    }
}
