//! out (n,H,D) = softmax(q (n,H,D) · kᵀ (Nk,K,D) / sqrt(D), over the visible keys) · v (Nk,K,D);
//! lse (n,H). Grouped heads: query head h reads key head h / (H/K).
//!
//! A task is (block of queries, key head): its rows are the (query, head of the group) pairs, up to
//! [`ROWS`] at a time. It walks over the keys that any of them sees, [`KEYS`] at a time: scores in
//! register tiles, softmax kept up online (Milakov & Gimelshein 2018; Dao et al. 2022), then the
//! product with v. Tiles that no row of a panel sees are not computed, so causal attention pays for
//! what it uses. No score matrix is stored.

use paddock_core::backend::Heads;
use paddock_core::batch::Visibility;

use super::Ctx;
use super::pack::{self, View};
use super::pool::Scratch;
use super::simd::{Kernel, Simd};
use super::tiles::{Cut, NV, Out, ROW_STRIDE, Tile, for_blocks, tile_rows};
use super::vmath::{exp, get, largest, put, scale};

pub mod backward;
pub mod layout;
mod steps;

use layout::{Block, Layout};
use steps::{
    KEYS, Rows, copy_len, fill_seen, key_steps, mask_gaps, pack_turned, row_panels, scores, weigh,
};

/// Rows (query, head) of a step, at least one query.
const ROWS: usize = 128;

/// What attention reads.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// (n,H,D)
    pub q: &'a [f32],
    /// (Nk,K,D)
    pub k: &'a [f32],
    /// (Nk,K,D)
    pub v: &'a [f32],
    /// Geometry.
    pub heads: Heads,
    /// Who sees whom.
    pub visibility: &'a Visibility,
    /// Its cut.
    pub layout: &'a Layout,
}

impl Inputs<'_> {
    /// H / K
    pub(crate) fn group(&self) -> usize {
        (self.heads.n_heads / self.heads.n_kv_heads) as usize
    }

    /// D
    pub(crate) fn dim(&self) -> usize {
        self.heads.head_dim as usize
    }

    /// H · D: distance of queries.
    pub(crate) fn q_stride(&self) -> usize {
        self.heads.n_heads as usize * self.dim()
    }

    /// K · D: distance of keys.
    pub(crate) fn kv_stride(&self) -> usize {
        self.heads.n_kv_heads as usize * self.dim()
    }

    /// 1 / sqrt(D)
    pub(crate) fn score_scale(&self) -> f32 {
        1.0 / (self.dim() as f32).sqrt()
    }

    /// Multiply-adds of scores, about: (rows, keys of their blocks) pairs times D.
    pub(crate) fn work(&self) -> usize {
        let pairs: usize = self
            .layout
            .blocks
            .iter()
            .map(|b| {
                let from = b.first_interval as usize;
                let seen = &self.layout.intervals[from..from + b.n_intervals as usize];
                b.q_len as usize * seen.iter().map(|r| r.len as usize).sum::<usize>()
            })
            .sum();
        pairs * self.q_stride()
    }

    /// The keys of head `kv` as a matrix (Nk,D).
    pub(crate) fn keys(&self, kv: usize) -> View<'_, f32> {
        View { data: &self.k[kv * self.dim()..], stride: self.kv_stride() }
    }

    /// The values of head `kv` as a matrix (Nk,D).
    pub(crate) fn values(&self, kv: usize) -> View<'_, f32> {
        View { data: &self.v[kv * self.dim()..], stride: self.kv_stride() }
    }
}

/// A task of forward.
struct Forward<'a, 't> {
    inp: Inputs<'a>,
    block: Block,
    kv: usize,
    out: Tile<'t>,
    lse: Tile<'t>,
    scratch: &'t mut Scratch,
}

impl Kernel for Forward<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let group = self.inp.group();
        let step = (ROWS / group).max(1);
        let (first, len) = (self.block.q_start as usize, self.block.q_len as usize);
        for at in (0..len).step_by(step) {
            let queries = step.min(len - at);
            let rows = Rows { q: first + at, queries, head: self.kv * group, group };
            self.some_rows(s, rows, at);
        }
    }
}

impl Forward<'_, '_> {
    #[inline(always)]
    fn some_rows<S: Simd>(&mut self, s: S, rows: Rows, at: usize) {
        let (inp, dim, n) = (self.inp, self.inp.dim(), rows.len());
        let wide = dim.next_multiple_of(NV * S::LANES);
        let a = Scratch::grow(&mut self.scratch.a, copy_len(n, dim) + copy_len(n, KEYS));
        let (q, p) = a.split_at_mut(copy_len(n, dim));
        let b = Scratch::grow(&mut self.scratch.b, 2 * (KEYS + NV * S::LANES) * wide);
        let (k_panels, v_panels) = b.split_at_mut((KEYS + NV * S::LANES) * wide);
        let c = Scratch::grow(&mut self.scratch.c, n * (wide + 2));
        let (sums, rest) = c.split_at_mut(n * wide);
        let (max, total) = rest.split_at_mut(n);
        let seen = Scratch::grow_counts(&mut self.scratch.counts, n);
        sums.fill(0.0);
        max.fill(f32::NEG_INFINITY);
        total.fill(0.0);
        rows.copy_from(inp.q, inp.q_stride(), dim, q);
        for (key, len) in key_steps(inp.layout, &self.block) {
            let most = fill_seen(inp.visibility, &self.block, rows, (key, len), seen) as usize;
            if most == 0 {
                continue;
            }
            pack_turned(s, inp.keys(self.kv), key, most, dim, k_panels);
            let panel = most * NV * S::LANES;
            pack::b_rows(s, inp.values(self.kv), key, most, 0, dim, panel, v_panels);
            scores(s, (q, k_panels), dim, most, inp.score_scale(), seen, p);
            let online = Online { p, sums, max, total, wide };
            online.softmax(s, inp.visibility, &self.block, rows, (key, most), seen);
            weigh(s, p, v_panels, most, dim, seen, Tile::new(sums, wide, n, wide));
        }
        for r in 0..n {
            let (query, head) = (at + r / rows.group, r % rows.group);
            let out = &mut self.out.row(query)[head * dim..][..dim];
            out.copy_from_slice(&sums[r * wide..][..dim]);
            scale(s, 1.0 / total[r], out);
            self.lse.row(query)[head] = max[r] + total[r].ln();
        }
    }
}

/// The running softmax of some rows.
struct Online<'a> {
    p: &'a mut [f32],
    sums: &'a mut [f32],
    max: &'a mut [f32],
    total: &'a mut [f32],
    wide: usize,
}

impl Online<'_> {
    /// Turns scores into e^(score - running maximum) and brings sums and totals up to it.
    #[inline(always)]
    fn softmax<S: Simd>(
        self,
        s: S,
        visibility: &Visibility,
        block: &Block,
        rows: Rows,
        keys: (usize, usize),
        seen: &[u32],
    ) {
        let mut span = block.first_span as usize;
        for (first, m, most) in row_panels(seen, tile_rows::<S>()) {
            for (r, &last) in (first..).zip(&seen[first..first + m]) {
                let (query, last) = (rows.q + r / rows.group, last as usize);
                let of = &visibility.spans;
                while query as u32 >= of[span].q_start + of[span].q_len {
                    span += 1;
                }
                let (row, hidden) = self.p[r * ROW_STRIDE..][..most].split_at_mut(last);
                hidden.fill(0.0);
                if last == 0 {
                    continue;
                }
                mask_gaps(visibility, span, query, keys, row);
                let top = largest(s, row).max(self.max[r]);
                let old = (self.max[r] - top).exp();
                if old != 1.0 {
                    scale(s, old, &mut self.sums[r * self.wide..][..self.wide]);
                }
                self.total[r] = self.total[r] * old + exp_in_place(s, row, top);
                self.max[r] = top;
            }
        }
    }
}

/// row = e^(row - shift); returns the sum.
#[inline(always)]
pub(crate) fn exp_in_place<S: Simd>(s: S, row: &mut [f32], shift: f32) -> f32 {
    let (full, shift) = (row.len() / S::LANES * S::LANES, s.splat(shift));
    let mut sum = s.splat(0.0);
    let (body, rest) = row.split_at_mut(full);
    for x in body.chunks_exact_mut(S::LANES) {
        let e = exp(s, s.sub(s.load(x), shift));
        sum = s.add(sum, e);
        s.store(x, e);
    }
    let e = exp(s, s.sub(get(s, rest), shift));
    put(s, rest, e);
    s.sum(sum) + rest.iter().sum::<f32>()
}

/// Forward; overwrites `out` and `lse`.
pub fn forward(ctx: Ctx<'_>, out: &mut [f32], lse: &mut [f32], inp: Inputs<'_>) {
    let (group, kv_heads) = (inp.group(), inp.heads.n_kv_heads as usize);
    let cut = Cut::At(&inp.layout.q_cuts);
    let outs = [
        Out { data: out, stride: inp.q_stride(), width: group * inp.dim(), cut },
        Out { data: lse, stride: inp.heads.n_heads as usize, width: group, cut },
    ];
    for_blocks(ctx.pool, 4 * inp.work(), kv_heads, outs, |i, kv, [out, lse], scratch| {
        let block = inp.layout.blocks[i];
        ctx.level.run(Forward { inp, block, kv, out, lse, scratch });
    });
}
