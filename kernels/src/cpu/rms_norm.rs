//! out (n,C) = inp · rstd · weight (C); rstd (n) = 1 / sqrt(mean(inp²) + eps).
//!
//! One task takes 8 rows; a row is read twice, the second time from level 1. The gradient of the
//! weight sums over rows: its tasks are column blocks, each adding all rows in order.

use super::Ctx;
use super::elem::Elem;
use super::matmul::Elems;
use super::simd::{Kernel, Simd};
use super::tiles::{Cut, Out, Tile, for_blocks};
use super::vmath::{dot, get, put};

/// Rows of a task.
const ROWS: usize = 8;
/// Columns of a task of the weight's gradient.
const COLS: usize = 64;

struct Forward<'a, E> {
    out: Tile<'a>,
    rstd: Tile<'a>,
    inp: &'a [f32],
    weight: &'a [E],
    eps: f32,
}

impl<E: Elem> Kernel for Forward<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let dim = self.out.cols();
        for (i, inp) in self.inp.chunks_exact(dim).enumerate() {
            let square = dot(s, inp, inp);
            let rstd = 1.0 / (square / dim as f32 + self.eps).sqrt();
            self.rstd.row(i)[0] = rstd;
            let parts = inp.chunks(S::LANES).zip(self.weight.chunks(S::LANES));
            for (out, (x, w)) in self.out.row(i).chunks_mut(S::LANES).zip(parts) {
                let normed = s.mul(get(s, x), s.splat(rstd));
                put(s, out, s.mul(normed, widened(s, w)));
            }
        }
    }
}

/// Up to LANES elements of a weight.
#[inline(always)]
fn widened<S: Simd, E: Elem>(s: S, src: &[E]) -> S::V {
    if src.len() >= S::LANES { E::load(s, src) } else { E::load_part(s, src) }
}

/// Forward; overwrites `out` and `rstd`.
pub fn forward(
    ctx: Ctx<'_>,
    out: &mut [f32],
    rstd: &mut [f32],
    inp: &[f32],
    weight: Elems<'_>,
    dim: usize,
    eps: f32,
) {
    let outs = [Out::rows(out, dim, ROWS), Out::rows(rstd, 1, ROWS)];
    for_blocks(ctx.pool, 4 * inp.len(), 1, outs, |block, _, [out, rstd], _| {
        let inp = &inp[block * ROWS * dim..][..out.rows() * dim];
        match weight {
            Elems::F32(w) => ctx.level.run(Forward { out, rstd, inp, weight: w.data, eps }),
            Elems::Bf16(w) => ctx.level.run(Forward { out, rstd, inp, weight: w.data, eps }),
            Elems::F16(w) => ctx.level.run(Forward { out, rstd, inp, weight: w.data, eps }),
        }
    });
}

/// What backward reads.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// Gradient of out (n,C).
    pub dout: &'a [f32],
    /// Input (n,C).
    pub inp: &'a [f32],
    /// Reciprocal deviations (n).
    pub rstd: &'a [f32],
}

struct Backward<'a, E> {
    dinp: Tile<'a>,
    saved: Saved<'a>,
    weight: &'a [E],
}

impl<E: Elem> Kernel for Backward<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let dim = self.dinp.cols();
        for (i, &rstd) in self.saved.rstd.iter().enumerate() {
            let (dout, inp) =
                (&self.saved.dout[i * dim..][..dim], &self.saved.inp[i * dim..][..dim]);
            let mut sum = s.splat(0.0);
            let parts = dout.chunks(S::LANES).zip(self.weight.chunks(S::LANES));
            for ((g, w), x) in parts.clone().zip(inp.chunks(S::LANES)) {
                sum = s.fma(s.mul(get(s, g), widened(s, w)), get(s, x), sum);
            }
            // dinp += rstd · g - x · rstd² · mean(g · x̂), g = dout · weight
            let mean = s.sum(sum) * rstd / dim as f32;
            let (factor, back) = (s.splat(rstd), s.splat(-rstd * rstd * mean));
            let row = self.dinp.row(i).chunks_mut(S::LANES);
            for (d, ((g, w), x)) in row.zip(parts.zip(inp.chunks(S::LANES))) {
                let direct = s.fma(factor, s.mul(get(s, g), widened(s, w)), get(s, d));
                put(s, d, s.fma(back, get(s, x), direct));
            }
        }
    }
}

struct WeightGrad<'a> {
    dweight: &'a mut [f32],
    saved: Saved<'a>,
    dim: usize,
    col: usize,
}

impl Kernel for WeightGrad<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.dweight.len();
        let mut sums = [0.0; COLS];
        for (i, &rstd) in self.saved.rstd.iter().enumerate() {
            let at = i * self.dim + self.col;
            let (dout, inp) = (&self.saved.dout[at..][..width], &self.saved.inp[at..][..width]);
            let parts = dout.chunks(S::LANES).zip(inp.chunks(S::LANES));
            for (sum, (g, x)) in sums[..width].chunks_mut(S::LANES).zip(parts) {
                let normed = s.mul(get(s, x), s.splat(rstd));
                let total = s.fma(get(s, g), normed, get(s, sum));
                put(s, sum, total);
            }
        }
        self.dweight.iter_mut().zip(sums).for_each(|(d, sum)| *d += sum);
    }
}

/// dinp (n,C) += rstd · (g - x̂ · mean(g · x̂)), g = dout · weight, x̂ = inp · rstd;
/// dweight (C) += Σ_rows dout · x̂, unless it is empty.
pub fn backward(
    ctx: Ctx<'_>,
    dinp: &mut [f32],
    dweight: &mut [f32],
    saved: Saved<'_>,
    weight: Elems<'_>,
    dim: usize,
) {
    let n = saved.inp.len();
    for_blocks(ctx.pool, 8 * n, 1, [Out::rows(dinp, dim, ROWS)], |block, _, [dinp], _| {
        let (first, rows) = (block * ROWS, dinp.rows());
        let saved = Saved {
            dout: &saved.dout[first * dim..][..rows * dim],
            inp: &saved.inp[first * dim..][..rows * dim],
            rstd: &saved.rstd[first..][..rows],
        };
        match weight {
            Elems::F32(w) => ctx.level.run(Backward { dinp, saved, weight: w.data }),
            Elems::Bf16(w) => ctx.level.run(Backward { dinp, saved, weight: w.data }),
            Elems::F16(w) => ctx.level.run(Backward { dinp, saved, weight: w.data }),
        }
    });
    if dweight.is_empty() {
        return;
    }
    let cut = Cut::Even { rows: 1, block: 1 };
    let outs = [Out { data: dweight, stride: dim, width: COLS, cut }];
    for_blocks(ctx.pool, 4 * n, dim.div_ceil(COLS), outs, |_, group, [mut dweight], _| {
        let col = group * COLS;
        ctx.level.run(WeightGrad { dweight: dweight.flat(), saved, dim, col });
    });
}
