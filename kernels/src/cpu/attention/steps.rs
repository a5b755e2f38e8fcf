//! The steps that attention's forward and backward share: copying rows, packing keys, scores in
//! register tiles, who sees what.

use paddock_core::batch::Visibility;

use super::layout::{Block, Layout, each_visible};
use crate::cpu::pack::{self, View};
use crate::cpu::simd::Simd;
use crate::cpu::tiles::{A_PANEL, KC, NV, Packed, Panels, ROW_STRIDE, Tile, multiply, tile_rows};

/// Keys of a step.
pub(super) const KEYS: usize = 128;
/// The (query, head) pairs that are worked on together: row r is query `q + r / group`, head
/// `head + r % group`.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// First query.
    pub(super) q: usize,
    /// How many queries.
    pub(super) queries: usize,
    /// First head.
    pub(super) head: usize,
    /// Heads of the group.
    pub(super) group: usize,
}

impl Rows {
    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.queries * self.group
    }

    /// Where row r's D elements begin in a (n,H,D) array with `stride` = H · D.
    pub(super) fn offset(&self, r: usize, stride: usize, dim: usize) -> usize {
        (self.q + r / self.group) * stride + (self.head + r % self.group) * dim
    }

    /// Copies rows of a (n,H,D) array into panels of at most KC columns: element (r, c) at
    /// (c / KC) · len · ROW_STRIDE + r · ROW_STRIDE + c % KC.
    #[inline(always)]
    pub(super) fn copy_from(&self, src: &[f32], stride: usize, dim: usize, panels: &mut [f32]) {
        for r in 0..self.len() {
            let row = &src[self.offset(r, stride, dim)..][..dim];
            for (piece, row) in row.chunks(KC).enumerate() {
                let at = (piece * self.len() + r) * ROW_STRIDE;
                panels[at..][..row.len()].copy_from_slice(row);
            }
        }
    }
}

/// Elements of a copy of rows (see [`Rows::copy_from`]).
pub(super) fn copy_len(rows: usize, dim: usize) -> usize {
    dim.div_ceil(KC) * rows * ROW_STRIDE + A_PANEL
}

/// Packs keys `key..key + len` (or values) for products along D: pieces of at most KC of D, each
/// in panels of NV vectors of keys.
#[inline(always)]
pub(super) fn pack_turned<S: Simd>(
    s: S,
    from: View<'_, f32>,
    key: usize,
    len: usize,
    dim: usize,
    panels: &mut [f32],
) {
    let width = len.next_multiple_of(NV * S::LANES);
    for d in (0..dim).step_by(KC) {
        let part = KC.min(dim - d);
        let panels = &mut panels[d * width..];
        pack::b_cols(s, from, d, part, key, len, part * NV * S::LANES, panels);
    }
}

/// out (rows, keys) = α a · bᵀ for rows copied by [`Rows::copy_from`] and keys packed by
/// [`pack_turned`]; of each panel of rows only the first `seen` keys.
#[inline(always)]
pub(super) fn scores<S: Simd>(
    s: S,
    (a, b): (&[f32], &[f32]),
    dim: usize,
    keys: usize,
    alpha: f32,
    seen: &[u32],
    out: &mut [f32],
) {
    let (rows, width) = (seen.len(), NV * S::LANES);
    let mut out = Tile::new(out, ROW_STRIDE, rows, KEYS);
    let turned = keys.next_multiple_of(width);
    for (d, piece) in (0..dim).step_by(KC).zip(0..) {
        let k = KC.min(dim - d);
        let (a, b) = (&a[piece * rows * ROW_STRIDE..], &b[d * turned..]);
        for (first, m, most) in row_panels(seen, tile_rows::<S>()) {
            for col in (0..most).step_by(width) {
                let panels = Panels {
                    a: &a[first * ROW_STRIDE..],
                    packed: Packed::ByRows,
                    b: &b[col * k..],
                    b_stride: width,
                    k,
                };
                multiply(s, panels, alpha, d > 0, out.part(first, col, m, width.min(most - col)));
            }
        }
    }
}

/// Cuts rows into panels of at most `most`: (first row, rows, the largest `seen` of them).
#[inline(always)]
pub(super) fn row_panels(
    seen: &[u32],
    most: usize,
) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
    let step = seen.len().div_ceil(seen.len().div_ceil(most).max(1)).max(1);
    seen.chunks(step)
        .enumerate()
        .map(move |(i, part)| (i * step, part.len(), part.iter().max().map_or(0, |&m| m as usize)))
}

/// The steps over the keys that `block` sees: (first key, how many), at most KEYS each. An iterator
/// rather than a callback: a large closure would not be inlined, and so lose the SIMD level.
#[inline(always)]
pub(super) fn key_steps<'a>(
    layout: &'a Layout,
    block: &Block,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let from = block.first_interval as usize;
    let intervals = &layout.intervals[from..from + block.n_intervals as usize];
    intervals.iter().flat_map(|interval| {
        let (start, len) = (interval.start as usize, interval.len as usize);
        (0..len).step_by(KEYS).map(move |at| (start + at, KEYS.min(len - at)))
    })
}

/// For each row, the number of keys of `key..key + len` up to the last that it sees.
#[inline(always)]
pub(super) fn fill_seen(
    visibility: &Visibility,
    block: &Block,
    rows: Rows,
    (key, len): (usize, usize),
    seen: &mut [u32],
) -> u32 {
    let mut span = block.first_span as usize;
    let mut most = 0;
    for (query, seen) in (rows.q..).zip(seen.chunks_exact_mut(rows.group)) {
        while query as u32 >= visibility.spans[span].q_start + visibility.spans[span].q_len {
            span += 1;
        }
        let mut last = 0;
        let of = &visibility.spans[span];
        each_visible(visibility, of, query as u32, key as u32, len as u32, |_, to| last = to);
        seen.fill(last as u32);
        most = most.max(last as u32);
    }
    most
}

/// Sets scores of keys that query `q` does not see, before the last that it sees, to -infinity.
#[inline(always)]
pub(super) fn mask_gaps(
    visibility: &Visibility,
    span: usize,
    q: usize,
    (key, len): (usize, usize),
    row: &mut [f32],
) {
    let mut at = 0;
    let of = &visibility.spans[span];
    each_visible(visibility, of, q as u32, key as u32, len as u32, |from, to| {
        row[at..from].fill(f32::NEG_INFINITY);
        at = to;
    });
}

/// out (rows, D) += p (rows, keys) · v (keys, D) from packed values.
#[inline(always)]
pub(super) fn weigh<S: Simd>(
    s: S,
    p: &[f32],
    v: &[f32],
    keys: usize,
    dim: usize,
    seen: &[u32],
    mut out: Tile<'_>,
) {
    let width = NV * S::LANES;
    for (first, m, most) in row_panels(seen, tile_rows::<S>()) {
        for col in (0..dim).step_by(width) {
            let panels = Panels {
                a: &p[first * ROW_STRIDE..],
                packed: Packed::ByRows,
                b: &v[col * keys..],
                b_stride: width,
                k: most,
            };
            multiply(s, panels, 1.0, true, out.part(first, col, m, width.min(dim - col)));
        }
    }
}
