//! The one trait between the model and the machine.
//!
//! Letters: N rows of the batch · M kept rows (those whose outputs the loss or the sampler reads) ·
//! E loss entries · C model width · H query heads · K key/value heads · D head width · F
//! feed-forward width · V vocabulary · R adapter rank · O, I output and input features of a matrix.
//!
//! # The contract
//!
//! * **Handles in, nothing out.** Ops take [`Slot`]s and [`Mat`]s, which are plain integers; memory
//!   belongs to the back-end. All of it is reserved once by [`Backend::reserve`]; no op allocates.
//! * **Rows come from lengths.** An op's number of rows is its slot's length over its width, so a
//!   smaller batch is served by shorter slots ([`Slot::first`]).
//! * **Forward overwrites. Backward accumulates** (`+=`) into gradients of parameters and of the
//!   residual stream, which have several sources; it overwrites gradients of activations that have
//!   one consumer (each op says which). A [`Write`] argument says so where both occur.
//! * **Rows are independent** in every op but attention, so only attention reads segments.
//! * **Integers come from the batch** given to [`Backend::set_batch`]: tokens, positions, kept rows,
//!   loss entries, who sees whom.
//! * **Order of calls is order of effects.** A back-end may run late (a GPU does); [`Backend::download`]
//!   and [`Backend::sync`] wait, and errors of earlier ops may surface there.
//! * **Deterministic.** The same calls give the same bits on one device type: no float atomics, and
//!   partitions that depend on shapes alone.
//! * Slots that one op writes never overlap those it reads or writes otherwise, except where an op
//!   says "may be the same". [`crate::checked::Checked`] enforces shapes and this rule.
//!
//! # Adding a back-end
//!
//! Implement the required methods; the fused ops have default bodies made of them. Fuse where a
//! measurement says so, and the op table (`paddock-kernels`) checks each against the reference.

use crate::batch::{Batch, Rows};
use crate::config::Config;
use crate::error::Result;
pub use crate::operands::{AttentionGrads, AttentionSaved, LoraGrads, LossSlots};
use crate::philox::Stream;
use crate::plan::{Capacity, RegionSizes};
use crate::slot::{Region, Slot};
use crate::weights::Mat;

/// Whether a result replaces what the slot holds or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `out = …`
    Set,
    /// `out += …`
    Add,
}

/// Geometry of an attention op.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads (H).
    pub n_heads: u32,
    /// Key/value heads (K), a divisor of H: query head h reads key head h / (H/K).
    pub n_kv_heads: u32,
    /// Width of a head (D).
    pub head_dim: u32,
}

/// One dropout mask: element (row, c) is kept where the random number of
/// (seed, stream, step, hash of the row's prefix, c) is at least `p`, and scaled by 1/(1-p).
///
/// The random number is a word of [`crate::dropout::keep_words`], which every back-end reproduces bit
/// for bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of a zero, in [0, 1).
    pub p: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Which module drops.
    pub stream: Stream,
    /// Optimizer step (every step draws new masks).
    pub step: u32,
    /// Which rows of the batch the op's rows are (their hashes index the mask).
    pub rows: Rows,
}

/// Trained low-rank update of one linear layer: W + scale · B·A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraMats {
    /// A (R,I), trained.
    pub a: Mat,
    /// B (O,R), trained.
    pub b: Mat,
    /// alpha / R, or alpha / sqrt(R) with rank stabilisation.
    pub scale: f32,
}

/// Slots that a LoRA linear needs besides its input and output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraSlots {
    /// s (N,R) = scale · x·Aᵀ: written by forward, read by backward.
    pub s: Slot,
    /// ds (N,R): working space of backward.
    pub ds: Slot,
    /// (N,I): working space for the dropped-out input and its gradient; read only with dropout.
    pub dropped: Slot,
    /// The mask, if any.
    pub dropout: Option<Dropout>,
}

/// One AdamW step's numbers (Loshchilov & Hutter 2019, as PyTorch computes it).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: p -= lr · weight_decay · p.
    pub weight_decay: f64,
    /// Number of this update, counted from 1 (bias correction).
    pub t: u32,
    /// Gradients are multiplied by this first (clipping).
    pub grad_scale: f64,
    /// Seed of random rounding, where a back-end keeps parameters in so few bits that it is needed.
    pub seed: u64,
}

/// A machine that computes. See the module's page for the contract.
pub trait Backend {
    // ---- memory and batches -------------------------------------------------------------------

    /// A short name: "cpu avx512", "reference f64", …
    fn name(&self) -> &str;

    /// Bytes of one element of `region` here (f32: 4; a GPU may keep activations in 2).
    fn element_bytes(&self, region: Region) -> u64;

    /// Whether activations and their gradients are kept in a type of narrow range (f16): then the loss
    /// must be scaled so that gradients neither vanish nor overflow.
    fn has_narrow_range(&self) -> bool {
        false
    }

    /// Elements of [`Region::Scratch`] that this back-end wants for this model and batches up to
    /// `capacity`.
    fn scratch_len(&self, config: &Config, capacity: &Capacity) -> u64;

    /// The only allocation: gives every region its size, zeroed.
    fn reserve(&mut self, sizes: &RegionSizes) -> Result<()>;

    /// dst = data, converted to the region's element type.
    fn upload(&mut self, dst: Slot, data: &[f32]) -> Result<()>;

    /// data = src, after everything before it has finished.
    fn download(&mut self, src: Slot, data: &mut [f32]) -> Result<()>;

    /// Makes `batch` the one that the following ops work on.
    fn set_batch(&mut self, batch: &Batch) -> Result<()>;

    /// Waits for everything before it; reports its errors.
    fn sync(&mut self) -> Result<()>;

    /// Marks the beginning of a micro-batch's work (submission, graph capture). Optional.
    fn begin_step(&mut self) -> Result<()> {
        Ok(())
    }

    /// Marks its end. Optional.
    fn end_step(&mut self) -> Result<()> {
        Ok(())
    }

    // ---- plain arithmetic ---------------------------------------------------------------------

    /// dst (any) = value
    fn fill(&mut self, dst: Slot, value: f32) -> Result<()>;

    /// dst (any) = src
    fn copy(&mut self, dst: Slot, src: Slot) -> Result<()>;

    /// out (any) = a + b; `out` may be the same slot as `a`.
    fn add(&mut self, out: Slot, a: Slot, b: Slot) -> Result<()>;

    /// dst (any) += scale · src
    fn accumulate(&mut self, dst: Slot, src: Slot, scale: f32) -> Result<()>;

    /// out (M,dim) = the kept rows of inp (N,dim)
    fn gather_rows(&mut self, out: Slot, inp: Slot, dim: u32) -> Result<()>;

    /// The kept rows of dinp (N,dim) += dout (M,dim); `Write::Set` zeroes the other rows.
    fn scatter_rows(&mut self, dinp: Slot, dout: Slot, dim: u32, write: Write) -> Result<()>;

    // ---- the layers ---------------------------------------------------------------------------

    /// out (N,C) = table (V,C) at the rows' tokens
    fn embed_forward(&mut self, out: Slot, table: Mat) -> Result<()>;

    /// dtable (V,C) += dout (N,C) at the rows' tokens
    fn embed_backward(&mut self, dtable: Slot, dout: Slot, dim: u32) -> Result<()>;

    /// out (n,C) = inp · rstd · weight (1,C); rstd (n) = 1 / sqrt(mean(inp²) + eps)
    fn rms_norm_forward(
        &mut self,
        out: Slot,
        rstd: Slot,
        inp: Slot,
        weight: Mat,
        eps: f32,
    ) -> Result<()>;

    /// dinp (n,C) += rstd · (g - x̂ · mean(g · x̂)), with g = dout · weight and x̂ = inp · rstd;
    /// dweight (C) += Σ_rows dout · x̂, if wanted. `dinp` may be the same slot as nothing else.
    fn rms_norm_backward(
        &mut self,
        dinp: Slot,
        dweight: Option<Slot>,
        dout: Slot,
        inp: Slot,
        weight: Mat,
        rstd: Slot,
    ) -> Result<()>;

    /// out (n,O) = alpha · inp (n,I) · wᵀ (O,I)   [+ out]
    fn matmul_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()>;

    /// dinp (n,I) = alpha · dout (n,O) · w (O,I)   [+ dinp]
    fn matmul_backward_input(
        &mut self,
        dinp: Slot,
        dout: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()>;

    /// dw (O,I) += alpha · doutᵀ (O,n) · inp (n,I), with O = `rows` and I = `cols`
    fn matmul_backward_weight(
        &mut self,
        dw: Slot,
        dout: Slot,
        inp: Slot,
        rows: u32,
        cols: u32,
        alpha: f32,
    ) -> Result<()>;

    /// x (n,heads,D) rotated in place: halves (x₀, x₁) of each head become
    /// (x₀·cos - x₁·sin, x₁·cos + x₀·sin) at the row's position in table (P,D) = [cos | sin].
    fn rope_forward(&mut self, x: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()>;

    /// dx (n,heads,D) rotated back in place (the transpose of `rope_forward`).
    fn rope_backward(&mut self, dx: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()>;

    /// out (n,H,D) = softmax(q (n,H,D) · kᵀ (Nk,K,D) / sqrt(D), over the visible keys) · v (Nk,K,D);
    /// lse (n,H) = log Σ exp of those scores. Who sees whom: `batch.visibility(rows)`; with
    /// `Rows::Kept` the n queries are the kept rows while keys and values are all rows.
    fn attention_forward(
        &mut self,
        out: Slot,
        lse: Slot,
        q: Slot,
        k: Slot,
        v: Slot,
        heads: Heads,
        rows: Rows,
    ) -> Result<()>;

    /// dq (n,H,D), dk (Nk,K,D), dv (Nk,K,D) = gradients of `attention_forward` (all overwritten),
    /// from dout (n,H,D), its inputs, its out and lse.
    fn attention_backward(&mut self, grads: AttentionGrads, saved: AttentionSaved) -> Result<()>;

    /// cache (Nc,dim) at the rows' own key rows (`batch.all.at`) = inp (N,dim)
    fn cache_write(&mut self, cache: Slot, inp: Slot, dim: u32) -> Result<()>;

    /// out (n,F) = silu(gate (n,F)) · up (n,F)
    fn swiglu_forward(&mut self, out: Slot, gate: Slot, up: Slot) -> Result<()>;

    /// dgate (n,F) = dout · up · silu'(gate); dup (n,F) = dout · silu(gate). Both overwritten; `dup`
    /// may be the same slot as `dout`.
    fn swiglu_backward(
        &mut self,
        dgate: Slot,
        dup: Slot,
        dout: Slot,
        gate: Slot,
        up: Slot,
    ) -> Result<()>;

    /// out (N,C) = mask · inp / (1 - p), C = `dim`
    fn dropout_forward(&mut self, out: Slot, inp: Slot, dim: u32, d: Dropout) -> Result<()>;

    /// dinp (N,C) += mask · dout / (1 - p), C = `dim`
    fn dropout_backward(&mut self, dinp: Slot, dout: Slot, dim: u32, d: Dropout) -> Result<()>;

    // ---- the loss -----------------------------------------------------------------------------

    /// For each entry e of kept row m: nll (E) = lse (M) - logit_m[target_e], where the logits are
    /// inp (M,C) · wᵀ (V,C) and exist only in chunks; best (M), if wanted, is the number of the
    /// largest logit (the first of equals), as a float.
    fn linear_cross_entropy_forward(
        &mut self,
        nll: Slot,
        lse: Slot,
        best: Option<Slot>,
        inp: Slot,
        w: Mat,
    ) -> Result<()>;

    /// dinp (M,C) = Σ_e coeff_e · (softmax(logits) - onehot(target_e)) · w (overwritten);
    /// dw (V,C) += its transpose product with inp, if wanted. coeff (E): the loss's derivative by
    /// each entry's nll.
    fn linear_cross_entropy_backward(
        &mut self,
        dinp: Slot,
        dw: Option<Slot>,
        coeff: Slot,
        lse: Slot,
        inp: Slot,
        w: Mat,
    ) -> Result<()>;

    // ---- the optimizer ------------------------------------------------------------------------

    /// out (1) = Σ x², summed in an order that depends on the length alone.
    fn norm_squared(&mut self, out: Slot, x: Slot) -> Result<()>;

    /// One AdamW step: g = grad · grad_scale; p -= lr·wd·p; m, v = moments; then
    /// p -= lr · m̂ / (sqrt(v̂) + eps). All (P) of one length.
    fn adamw(&mut self, param: Slot, grad: Slot, m: Slot, v: Slot, step: AdamW) -> Result<()>;

    // ---- fused ops: correct by default, faster where a back-end overrides them -----------------

    /// Loss and its gradient in one go, for coefficients known beforehand:
    /// `linear_cross_entropy_forward`, then `linear_cross_entropy_backward`.
    fn linear_cross_entropy(&mut self, out: LossSlots, inp: Slot, w: Mat) -> Result<()> {
        self.linear_cross_entropy_forward(out.nll, out.lse, None, inp, w)?;
        self.linear_cross_entropy_backward(out.dinp, out.dw, out.coeff, out.lse, inp, w)
    }

    /// out (n,O) = inp·wᵀ + s·Bᵀ, with s (n,R) = scale · drop(inp)·Aᵀ
    fn lora_linear_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        lora: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        let mut a_input = inp;
        if let Some(dropout) = slots.dropout {
            self.dropout_forward(slots.dropped, inp, w.cols, dropout)?;
            a_input = slots.dropped;
        }
        self.matmul_forward(slots.s, a_input, lora.a, lora.scale, Write::Set)?;
        self.matmul_forward(out, inp, w, 1.0, Write::Set)?;
        self.matmul_forward(out, slots.s, lora.b, 1.0, Write::Add)
    }

    /// db += doutᵀ·s; ds = dout·B; da += scale·dsᵀ·drop(inp);
    /// dinp (n,I) = dout·w + scale·drop'(ds·A)   [+ dinp], if wanted.
    fn lora_linear_backward(
        &mut self,
        grads: LoraGrads,
        dout: Slot,
        inp: Slot,
        w: Mat,
        lora: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        let rank = lora.a.rows;
        let mut a_input = inp;
        if let Some(dropout) = slots.dropout {
            self.dropout_forward(slots.dropped, inp, w.cols, dropout)?;
            a_input = slots.dropped;
        }
        self.matmul_backward_weight(grads.db, dout, slots.s, w.rows, rank, 1.0)?;
        self.matmul_backward_input(slots.ds, dout, lora.b, 1.0, Write::Set)?;
        self.matmul_backward_weight(grads.da, slots.ds, a_input, rank, w.cols, lora.scale)?;
        let Some((dinp, write)) = grads.dinp else { return Ok(()) };
        self.matmul_backward_input(dinp, dout, w, 1.0, write)?;
        match slots.dropout {
            None => self.matmul_backward_input(dinp, slots.ds, lora.a, lora.scale, Write::Add),
            Some(dropout) => {
                let (ds, scale) = (slots.ds, lora.scale);
                self.matmul_backward_input(slots.dropped, ds, lora.a, scale, Write::Set)?;
                self.dropout_backward(dinp, slots.dropped, w.cols, dropout)
            }
        }
    }
}
