//! nll (E) = lse (M) - logit[target], logits (M,V) = inp (M,C) · wᵀ (V,C); and its gradients.
//!
//! Logits exist for [`CHUNK`] rows at a time. With known coefficients a chunk is turned into
//! dlogits where it lies, and dinp and dw follow at once: three products a chunk, one exponential
//! an element. w (V,C) is packed again for every chunk: 256 rows made 70 GFLOP/s where 512 make 76
//! (one thread, C 768, V 32000, peak 150); larger chunks would cost more memory than they are worth.

use paddock_core::batch::Batch;

use super::Ctx;
use super::matmul::{self, Elems, Product};
use super::simd::{Kernel, Simd};
use super::tiles::{Cut, Out, for_blocks};
use super::vmath::{exp, get, largest, put, scale};

/// Rows whose logits exist at once.
pub const CHUNK: usize = 512;

/// What is written; `best` may be empty.
pub struct Losses<'a> {
    /// (E)
    pub nll: &'a mut [f32],
    /// (M)
    pub lse: &'a mut [f32],
    /// (M), or empty
    pub best: &'a mut [f32],
}

/// Where gradients go; `dw` may be empty.
pub struct Grads<'a> {
    /// (M,C), overwritten
    pub dinp: &'a mut [f32],
    /// (V,C), added to
    pub dw: &'a mut [f32],
    /// (E): the loss's derivative by each nll
    pub coeff: &'a [f32],
}

/// The head and its input.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// (M,C)
    pub inp: &'a [f32],
    /// (V,C)
    pub w: Elems<'a>,
    /// V
    pub vocab: usize,
    /// C
    pub dim: usize,
}

/// Losses, and with `grads` the gradients too. `logits` has room for at least one row.
pub fn forward(
    ctx: Ctx<'_>,
    out: Losses<'_>,
    mut grads: Option<Grads<'_>>,
    head: Head<'_>,
    logits: &mut [f32],
    batch: &Batch,
) {
    let rows = out.lse.len();
    let (mut best, mut lse) = (out.best, out.lse);
    let step = chunk_rows(logits.len(), head.vocab);
    for first in (0..rows).step_by(step) {
        let n = step.min(rows - first);
        let logits = &mut logits[..n * head.vocab];
        compute_logits(ctx, head, first, n, logits);
        let (lse_part, lse_rest) = lse.split_at_mut(n);
        let (best_part, best_rest) = best.split_at_mut(n.min(best.len()));
        let losses = Losses { nll: out.nll, lse: lse_part, best: best_part };
        let coeff = grads.as_ref().map(|g| g.coeff);
        judge(ctx, losses, coeff, head.vocab, logits, batch, first);
        if let Some(grads) = &mut grads {
            push_back(ctx, grads, head, first, n, logits);
        }
        (lse, best) = (lse_rest, best_rest);
    }
}

/// Gradients alone, from the lse that forward left.
pub fn backward(
    ctx: Ctx<'_>,
    mut grads: Grads<'_>,
    lse: &[f32],
    head: Head<'_>,
    logits: &mut [f32],
    batch: &Batch,
) {
    let step = chunk_rows(logits.len(), head.vocab);
    for first in (0..lse.len()).step_by(step) {
        let n = step.min(lse.len() - first);
        let logits = &mut logits[..n * head.vocab];
        compute_logits(ctx, head, first, n, logits);
        let outs = [Out::rows(&mut *logits, head.vocab, 1)];
        let coeff = grads.coeff;
        for_blocks(ctx.pool, 20 * n * head.vocab, 1, outs, |i, _, [mut row], _| {
            let m = first + i;
            let total = entries(batch, m).map(|e| coeff[e]).sum::<f32>();
            ctx.level.run(Exp { row: row.flat(), shift: lse[m] });
            finish(ctx, row.flat(), total, coeff, batch, m);
        });
        push_back(ctx, &mut grads, head, first, n, logits);
    }
}

fn chunk_rows(room: usize, vocab: usize) -> usize {
    (room / vocab.max(1)).clamp(1, CHUNK)
}

fn entries(batch: &Batch, m: usize) -> std::ops::Range<usize> {
    batch.entry_first[m] as usize..batch.entry_first[m + 1] as usize
}

fn compute_logits(ctx: Ctx<'_>, head: Head<'_>, first: usize, n: usize, logits: &mut [f32]) {
    let inp = &head.inp[first * head.dim..][..n * head.dim];
    let parts = [matmul::forward(inp, head.w, head.dim)];
    let p = Product { m: n, n: head.vocab, parts: &parts, alpha: 1.0, add: false };
    matmul::product(ctx, p, logits);
}

/// row = e^(row - shift); returns the sum.
struct Exp<'a> {
    row: &'a mut [f32],
    shift: f32,
}

impl Kernel for Exp<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let shift = s.splat(self.shift);
        let mut sum = s.splat(0.0);
        let mut blocks = self.row.chunks_exact_mut(S::LANES);
        for x in blocks.by_ref() {
            let e = exp(s, s.sub(s.load(x), shift));
            sum = s.add(sum, e);
            s.store(x, e);
        }
        let rest = blocks.into_remainder();
        let e = exp(s, s.sub(get(s, rest), shift));
        put(s, rest, e);
        s.sum(sum) + rest.iter().sum::<f32>()
    }
}

struct Largest<'a>(&'a [f32]);

impl Kernel for Largest<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        largest(s, self.0)
    }
}

struct Scale<'a>(&'a mut [f32], f32);

impl Kernel for Scale<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        scale(s, self.1, self.0);
    }
}

/// The losses of a chunk of logits; with `coeff` the logits become dlogits.
fn judge(
    ctx: Ctx<'_>,
    losses: Losses<'_>,
    coeff: Option<&[f32]>,
    vocab: usize,
    logits: &mut [f32],
    batch: &Batch,
    first: usize,
) {
    let n = losses.lse.len();
    let ends = &batch.entry_first[first..=first + n];
    let with_best = usize::from(!losses.best.is_empty());
    let one_each = Cut::Even { rows: n, block: 1 };
    let outs = [
        Out::rows(logits, vocab, 1),
        Out { data: losses.nll, stride: 1, width: 1, cut: Cut::At(ends) },
        Out { data: losses.lse, stride: 1, width: 1, cut: one_each },
        Out { data: losses.best, stride: with_best, width: with_best, cut: one_each },
    ];
    let work = 20 * n * vocab;
    for_blocks(ctx.pool, work, 1, outs, |i, _, [mut row, mut nll, mut lse, mut best], _| {
        let (row, m) = (row.flat(), first + i);
        let max = ctx.level.run(Largest(row));
        if let Some(best) = best.flat().first_mut() {
            *best = row.iter().position(|&x| x == max).unwrap_or(0) as f32;
        }
        let targets = entries(batch, m).map(|e| batch.targets[e] as usize);
        nll.flat().iter_mut().zip(targets).for_each(|(nll, target)| *nll = row[target]);
        let sum = ctx.level.run(Exp { row, shift: max });
        let log_sum = max + sum.ln();
        lse.flat()[0] = log_sum;
        nll.flat().iter_mut().for_each(|nll| *nll = log_sum - *nll);
        if let Some(coeff) = coeff {
            let total = entries(batch, m).map(|e| coeff[e]).sum::<f32>();
            finish(ctx, row, total / sum, coeff, batch, m);
        }
    });
}

/// row = factor · row - Σ_e coeff_e · onehot(target_e)
fn finish(ctx: Ctx<'_>, row: &mut [f32], factor: f32, coeff: &[f32], batch: &Batch, m: usize) {
    ctx.level.run(Scale(row, factor));
    for e in entries(batch, m) {
        row[batch.targets[e] as usize] -= coeff[e];
    }
}

/// dinp rows = dlogits · w; dw += dlogitsᵀ · inp.
fn push_back(
    ctx: Ctx<'_>,
    grads: &mut Grads<'_>,
    head: Head<'_>,
    first: usize,
    n: usize,
    dlogits: &[f32],
) {
    let (vocab, dim) = (head.vocab, head.dim);
    let parts = [matmul::backward_input(dlogits, head.w, vocab)];
    let p = Product { m: n, n: dim, parts: &parts, alpha: 1.0, add: false };
    matmul::product(ctx, p, &mut grads.dinp[first * dim..][..n * dim]);
    if !grads.dw.is_empty() {
        let inp = &head.inp[first * dim..][..n * dim];
        let parts = [matmul::backward_weight(dlogits, inp, vocab, dim)];
        let p = Product { m: vocab, n: dim, parts: &parts, alpha: 1.0, add: true };
        matmul::product(ctx, p, grads.dw);
    }
}
