//! out (N,C) = table (V,C) at tokens (N); dtable (V,C) += dout (N,C) at tokens (N).
//!
//! Backward's tasks are column blocks: each adds all rows in order, so repeated tokens add up in
//! the same order whatever the number of threads.

use super::Ctx;
use super::elem::Elem;
use super::matmul::Elems;
use super::pack::View;
use super::tiles::{Cut, Out, Tile, for_blocks};

/// Rows of a task of forward.
const ROWS: usize = 32;
/// Columns of a task of backward.
const COLS: usize = 64;

/// Forward; overwrites `out`.
pub fn forward(ctx: Ctx<'_>, out: &mut [f32], table: Elems<'_>, tokens: &[u32], dim: usize) {
    fn copy<E: Elem>(mut out: Tile<'_>, table: View<'_, E>, tokens: &[u32], dim: usize) {
        for (i, &token) in tokens.iter().enumerate() {
            let row = table.row(token as usize, 0, dim);
            out.row(i).iter_mut().zip(row).for_each(|(o, x)| *o = x.widen());
        }
    }
    for_blocks(ctx.pool, out.len(), 1, [Out::rows(out, dim, ROWS)], |block, _, [out], _| {
        let tokens = &tokens[block * ROWS..][..out.rows()];
        match table {
            Elems::F32(table) => copy(out, table, tokens, dim),
            Elems::Bf16(table) => copy(out, table, tokens, dim),
            Elems::F16(table) => copy(out, table, tokens, dim),
        }
    });
}

/// Backward; adds to `dtable`.
pub fn backward(ctx: Ctx<'_>, dtable: &mut [f32], dout: &[f32], tokens: &[u32], dim: usize) {
    let rows = dtable.len() / dim.max(1);
    let cut = Cut::Even { rows, block: rows.max(1) };
    let outs = [Out { data: dtable, stride: dim, width: COLS, cut }];
    for_blocks(ctx.pool, dout.len(), dim.div_ceil(COLS), outs, |_, group, [mut table], _| {
        let width = table.cols();
        for (&token, dout) in tokens.iter().zip(dout.chunks_exact(dim)) {
            let row = table.row(token as usize);
            row.iter_mut().zip(&dout[group * COLS..][..width]).for_each(|(d, &g)| *d += g);
        }
    });
}
