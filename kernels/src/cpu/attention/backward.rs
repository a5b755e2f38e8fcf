//! dq (n,H,D), dk, dv (Nk,K,D) from dout, out and lse, without a score matrix.
//!
//! With p = e^(score - lse) and δ = dout · out: dv += pᵀ dout; ds = p · (dout vᵀ - δ);
//! dq += ds k / sqrt(D); dk += dsᵀ q / sqrt(D).
//!
//! A task is (tree, key head): nothing outside reads its keys, so it adds everything itself, blocks
//! of queries in order and keys in order. That makes five products instead of the seven of a split
//! by keys and by queries, and no sum depends on the number of threads.

#![allow(clippy::too_many_arguments, reason = "a step's tables and geometry, all different")]

use super::Inputs;
use super::layout::Block;
use super::steps::{
    KEYS, Rows, copy_len, fill_seen, key_steps, mask_gaps, pack_turned, scores, weigh,
};
use crate::cpu::Ctx;
use crate::cpu::pack::{self, View};
use crate::cpu::pool::Scratch;
use crate::cpu::simd::{Kernel, Simd};
use crate::cpu::tiles::{
    A_PANEL, COL_STRIDE, Cut, NV, Out, Packed, Panels, ROW_STRIDE, Tile, for_blocks, multiply,
    tile_rows,
};
use crate::cpu::vmath::{dot, exp, get, put, scale};

/// What backward reads besides the inputs.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// (n,H,D)
    pub dout: &'a [f32],
    /// (n,H,D)
    pub out: &'a [f32],
    /// (n,H)
    pub lse: &'a [f32],
}

/// Where the gradients go; all are overwritten.
pub struct Grads<'a> {
    /// (n,H,D)
    pub dq: &'a mut [f32],
    /// (Nk,K,D)
    pub dk: &'a mut [f32],
    /// (Nk,K,D)
    pub dv: &'a mut [f32],
}

/// Rows (query, head) of a step, at least one query.
const ROWS: usize = 128;

/// Backward.
pub fn backward(ctx: Ctx<'_>, grads: Grads<'_>, saved: Saved<'_>, inp: Inputs<'_>) {
    let (group, dim, kv_heads) = (inp.group(), inp.dim(), inp.heads.n_kv_heads as usize);
    let (queries, keys) = (Cut::At(&inp.layout.tree_q), Cut::At(&inp.layout.tree_k));
    let outs = [
        Out { data: grads.dq, stride: inp.q_stride(), width: group * dim, cut: queries },
        Out { data: grads.dk, stride: inp.kv_stride(), width: dim, cut: keys },
        Out { data: grads.dv, stride: inp.kv_stride(), width: dim, cut: keys },
    ];
    for_blocks(ctx.pool, 10 * inp.work(), kv_heads, outs, |tree, kv, [dq, dk, dv], scratch| {
        ctx.level.run(Task { inp, saved, tree, kv, dq, dk, dv, scratch });
    });
}

struct Task<'a, 't> {
    inp: Inputs<'a>,
    saved: Saved<'a>,
    tree: usize,
    kv: usize,
    dq: Tile<'t>,
    dk: Tile<'t>,
    dv: Tile<'t>,
    scratch: &'t mut Scratch,
}

impl Kernel for Task<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.dk.rows() {
            self.dk.row(i).fill(0.0);
            self.dv.row(i).fill(0.0);
        }
        let (layout, group) = (self.inp.layout, self.inp.group());
        let step = (ROWS / group).max(1);
        let blocks =
            layout.tree_blocks[self.tree] as usize..layout.tree_blocks[self.tree + 1] as usize;
        for block in &layout.blocks[blocks] {
            for at in (0..block.q_len as usize).step_by(step) {
                let q = block.q_start as usize + at;
                let queries = step.min(block.q_len as usize - at);
                let rows = Rows { q, queries, head: self.kv * group, group };
                self.some_rows(s, *block, rows);
            }
        }
    }
}

/// The working space of a step, cut from a thread's scratch.
struct Space<'a> {
    q: &'a mut [f32],
    dout: &'a mut [f32],
    p: &'a mut [f32],
    ds: &'a mut [f32],
    a_panel: &'a mut [f32],
    k_turned: &'a mut [f32],
    v_turned: &'a mut [f32],
    k_panels: &'a mut [f32],
    q_panels: &'a mut [f32],
    dout_panels: &'a mut [f32],
    dq: &'a mut [f32],
    delta: &'a mut [f32],
    seen: &'a mut [u32],
}

/// Cuts `len` elements off the front of `rest`.
fn cut<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (front, back) = std::mem::take(rest).split_at_mut(len);
    *rest = back;
    front
}

fn space(scratch: &mut Scratch, n: usize, dim: usize, width: usize) -> Space<'_> {
    let wide = dim.next_multiple_of(width);
    let (copies, scores, panel) = (copy_len(n, dim), copy_len(n, KEYS), KEYS.max(n) + width);
    let a = &mut Scratch::grow(
        &mut scratch.a,
        2 * copies + 2 * scores + KEYS.max(n) * COL_STRIDE + A_PANEL,
    );
    let b = &mut Scratch::grow(&mut scratch.b, 5 * panel * wide);
    let c = &mut Scratch::grow(&mut scratch.c, n * (wide + 1));
    Space {
        q: cut(a, copies),
        dout: cut(a, copies),
        p: cut(a, scores),
        ds: cut(a, scores),
        a_panel: std::mem::take(a),
        k_turned: cut(b, panel * wide),
        v_turned: cut(b, panel * wide),
        k_panels: cut(b, panel * wide),
        q_panels: cut(b, panel * wide),
        dout_panels: cut(b, panel * wide),
        dq: cut(c, n * wide),
        delta: cut(c, n),
        seen: Scratch::grow_counts(&mut scratch.counts, n),
    }
}

impl Task<'_, '_> {
    #[inline(always)]
    fn some_rows<S: Simd>(&mut self, s: S, block: Block, rows: Rows) {
        let (inp, saved, dim, n) = (self.inp, self.saved, self.inp.dim(), rows.len());
        let (width, stride) = (NV * S::LANES, self.inp.q_stride());
        let wide = dim.next_multiple_of(width);
        let first_key = inp.layout.tree_k[self.tree] as usize;
        let first_query = inp.layout.tree_q[self.tree] as usize;
        let sp = space(self.scratch, n, dim, width);
        rows.copy_from(inp.q, stride, dim, sp.q);
        rows.copy_from(saved.dout, stride, dim, sp.dout);
        pack_rows(s, inp.q, rows, stride, dim, sp.q_panels);
        pack_rows(s, saved.dout, rows, stride, dim, sp.dout_panels);
        for (r, delta) in sp.delta.iter_mut().enumerate() {
            let at = rows.offset(r, stride, dim);
            *delta = dot(s, &saved.dout[at..][..dim], &saved.out[at..][..dim]);
        }
        sp.dq.fill(0.0);
        let alpha = inp.score_scale();
        for (key, len) in key_steps(inp.layout, &block) {
            let most = fill_seen(inp.visibility, &block, rows, (key, len), sp.seen) as usize;
            if most == 0 {
                continue;
            }
            pack_turned(s, inp.keys(self.kv), key, most, dim, sp.k_turned);
            pack_turned(s, inp.values(self.kv), key, most, dim, sp.v_turned);
            pack::b_rows(s, inp.keys(self.kv), key, most, 0, dim, most * width, sp.k_panels);
            scores(s, (sp.q, sp.k_turned), dim, most, alpha, sp.seen, sp.p);
            scores(s, (sp.dout, sp.v_turned), dim, most, 1.0, sp.seen, sp.ds);
            let lse = Lse { lse: saved.lse, heads: inp.heads.n_heads as usize };
            lse.finish(s, &inp, &block, rows, (key, most), (sp.seen, sp.delta), sp.p, sp.ds);
            weigh(s, sp.ds, sp.k_panels, most, dim, sp.seen, Tile::new(sp.dq, wide, n, wide));
            let at = key - first_key;
            let dv = self.dv.part(at, 0, most, dim);
            gather(s, sp.p, sp.dout_panels, 1.0, sp.seen, sp.a_panel, dv);
            let dk = self.dk.part(at, 0, most, dim);
            gather(s, sp.ds, sp.q_panels, alpha, sp.seen, sp.a_panel, dk);
        }
        for r in 0..n {
            let (query, head) = (rows.q + r / rows.group - first_query, r % rows.group);
            let dq = &mut self.dq.row(query)[head * dim..][..dim];
            dq.copy_from_slice(&sp.dq[r * wide..][..dim]);
            scale(s, alpha, dq);
        }
    }
}

/// Packs rows of a (n,H,D) array as a right operand (rows, D).
#[inline(always)]
fn pack_rows<S: Simd>(
    s: S,
    src: &[f32],
    rows: Rows,
    stride: usize,
    dim: usize,
    panels: &mut [f32],
) {
    let (n, width) = (rows.len(), NV * S::LANES);
    for r in 0..n {
        let row = View { data: &src[rows.offset(r, stride, dim)..], stride: dim };
        pack::b_rows(s, row, 0, 1, 0, dim, n * width, &mut panels[r * width..]);
    }
}

/// out (keys, D) += α xᵀ · y for x (rows, keys) and packed y (rows, D), skipping the rows before the
/// first that sees any key of a panel.
#[inline(always)]
fn gather<S: Simd>(
    s: S,
    x: &[f32],
    y: &[f32],
    alpha: f32,
    seen: &[u32],
    a_panel: &mut [f32],
    mut out: Tile<'_>,
) {
    let (keys, dim, width) = (out.rows(), out.cols(), NV * S::LANES);
    let n = seen.len();
    let step = keys.div_ceil(keys.div_ceil(tile_rows::<S>()));
    let x = View { data: x, stride: ROW_STRIDE };
    for key in (0..keys).step_by(step) {
        let m = step.min(keys - key);
        let from = seen.iter().position(|&last| last as usize > key).unwrap_or(n);
        pack::a_cols(s, x, key, m, from, n - from, a_panel);
        for col in (0..dim).step_by(width) {
            let panels = Panels {
                a: a_panel,
                packed: Packed::ByCols { stride: COL_STRIDE },
                b: &y[col * n + from * width..],
                b_stride: width,
                k: n - from,
            };
            multiply(s, panels, alpha, true, out.part(key, col, m, width.min(dim - col)));
        }
    }
}

/// The log-sum-exps (n,H).
struct Lse<'a> {
    lse: &'a [f32],
    heads: usize,
}

impl Lse<'_> {
    /// Turns scores into p and dout·vᵀ (in `ds`) into ds, zero where a row sees nothing.
    #[inline(always)]
    fn finish<S: Simd>(
        &self,
        s: S,
        inp: &Inputs<'_>,
        block: &Block,
        rows: Rows,
        (key, keys): (usize, usize),
        (seen, delta): (&[u32], &[f32]),
        p: &mut [f32],
        ds: &mut [f32],
    ) {
        let spans = &inp.visibility.spans;
        let mut span = block.first_span as usize;
        for (r, (&last, &delta)) in seen.iter().zip(delta).enumerate() {
            let (query, last) = (rows.q + r / rows.group, last as usize);
            while query as u32 >= spans[span].q_start + spans[span].q_len {
                span += 1;
            }
            let row = r * ROW_STRIDE..r * ROW_STRIDE + keys;
            let (p, hidden_p) = p[row.clone()].split_at_mut(last);
            let (ds, hidden_ds) = ds[row].split_at_mut(last);
            hidden_p.fill(0.0);
            hidden_ds.fill(0.0);
            mask_gaps(inp.visibility, span, query, (key, keys), p);
            let head = rows.head + r % rows.group;
            let (lse, delta) = (s.splat(self.lse[query * self.heads + head]), s.splat(delta));
            for (p, ds) in p.chunks_mut(S::LANES).zip(ds.chunks_mut(S::LANES)) {
                let weight = exp(s, s.sub(get(s, p), lse));
                put(s, ds, s.mul(weight, s.sub(get(s, ds), delta)));
                put(s, p, weight);
            }
        }
    }
}
