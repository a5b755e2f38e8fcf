//! Packing: operands of a product, copied (and widened, and turned where needed) into the panels
//! that a register tile reads. See `tiles.rs` for the layouts.

#![allow(
    clippy::needless_range_loop,
    clippy::too_many_arguments,
    reason = "a packing is told by where from, how much and where to: plain numbers, all different"
)]

use super::elem::Elem;
use super::simd::{MAX_LANES, Simd};
use super::tiles::{COL_STRIDE, NV, ROW_STRIDE};

/// A matrix to read: element (i, j) at i * stride + j.
#[derive(Clone, Copy)]
pub struct View<'a, E> {
    /// The elements from (0, 0) on.
    pub data: &'a [E],
    /// Distance of rows.
    pub stride: usize,
}

impl<'a, E> View<'a, E> {
    /// `len` elements of row `i` from column `j` on.
    #[inline(always)]
    pub fn row(&self, i: usize, j: usize, len: usize) -> &'a [E] {
        &self.data[i * self.stride + j..][..len]
    }
}

/// Rows `row..row + m`, columns `k..k + len` of a (M,K), to panel columns `at..at + len`.
#[inline(always)]
pub fn a_rows(a: View<'_, f32>, row: usize, m: usize, k: usize, len: usize, panel: &mut [f32]) {
    for i in 0..m {
        panel[i * ROW_STRIDE..][..len].copy_from_slice(a.row(row + i, k, len));
    }
}

/// The same from a (K,M): columns `row..row + m`, rows `k..k + len`.
#[inline(always)]
pub fn a_cols<S: Simd>(
    s: S,
    a: View<'_, f32>,
    row: usize,
    m: usize,
    k: usize,
    len: usize,
    panel: &mut [f32],
) {
    for (i, dst) in panel.chunks_exact_mut(COL_STRIDE).take(len).enumerate() {
        let at = (k + i) * a.stride + row;
        // Whole vectors where the matrix goes on: what lies beyond the m-th is not used.
        if m <= S::LANES && at + S::LANES <= a.data.len() {
            s.store(dst, s.load(&a.data[at..at + S::LANES]));
            continue;
        }
        let src = &a.data[at..at + m];
        for (src, dst) in src.chunks(S::LANES).zip(dst.chunks_mut(S::LANES)) {
            s.store(dst, s.load_part(src));
        }
    }
}

/// Rows `k..k + len`, columns `col..col + n` of b (K,N) into panels of NV vectors; a panel's rows
/// are adjacent, panels `panel_len` apart.
#[inline(always)]
pub fn b_rows<S: Simd, E: Elem>(
    s: S,
    b: View<'_, E>,
    k: usize,
    len: usize,
    col: usize,
    n: usize,
    panel_len: usize,
    panels: &mut [f32],
) {
    let width = NV * S::LANES;
    for i in 0..len {
        let src = b.row(k + i, col, n);
        for (p, src) in src.chunks(width).enumerate() {
            let dst = &mut panels[p * panel_len + i * width..][..width];
            if src.len() == width {
                for j in 0..NV {
                    s.store(&mut dst[j * S::LANES..], E::load(s, &src[j * S::LANES..]));
                }
            } else {
                for (j, dst) in dst.chunks_mut(S::LANES).enumerate() {
                    let from = (j * S::LANES).min(src.len());
                    let to = (from + S::LANES).min(src.len());
                    s.store(dst, E::load_part(s, &src[from..to]));
                }
            }
        }
    }
}

/// The same from b (N,K): rows `col..col + n`, columns `k..k + len`, turned on the way.
#[inline(always)]
pub fn b_cols<S: Simd, E: Elem>(
    s: S,
    b: View<'_, E>,
    k: usize,
    len: usize,
    col: usize,
    n: usize,
    panel_len: usize,
    panels: &mut [f32],
) {
    let width = NV * S::LANES;
    for first in (0..n).step_by(S::LANES) {
        let rows = S::LANES.min(n - first);
        let panel = &mut panels[first / width * panel_len + first % width..];
        for i in (0..len).step_by(S::LANES) {
            let part = S::LANES.min(len - i);
            if rows == S::LANES && part == S::LANES {
                turn_block(s, b, col + first, k + i, &mut panel[i * width..]);
                continue;
            }
            let mut block = [s.splat(0.0); MAX_LANES];
            for (j, v) in block.iter_mut().take(rows).enumerate() {
                let src = b.row(col + first + j, k + i, part);
                *v = if part == S::LANES { E::load(s, src) } else { E::load_part(s, src) };
            }
            s.transpose(&mut block);
            for (j, v) in block.iter().take(part).enumerate() {
                s.store(&mut panel[(i + j) * width..], *v);
            }
        }
    }
}

/// Turns the whole block of LANES rows and columns at (row, k); rows of `panel` are NV vectors.
#[inline(always)]
fn turn_block<S: Simd, E: Elem>(s: S, b: View<'_, E>, row: usize, k: usize, panel: &mut [f32]) {
    let width = NV * S::LANES;
    let mut block = [s.splat(0.0); MAX_LANES];
    for j in 0..S::LANES {
        block[j] = E::load(s, b.row(row + j, k, S::LANES));
    }
    s.transpose(&mut block);
    let panel = &mut panel[..(S::LANES - 1) * width + S::LANES];
    for j in 0..S::LANES {
        s.store(&mut panel[j * width..], block[j]);
    }
}
