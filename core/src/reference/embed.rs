//! out (N,C) = table (V,C) at tokens (N)

use super::{Real, W};

pub(super) fn forward<T: Real>(out: &mut [T], table: &W<'_, T>, tokens: &[u32], dim: usize) {
    for (out, &token) in out.chunks_exact_mut(dim).zip(tokens) {
        for (j, out) in out.iter_mut().enumerate() {
            *out = table.get(token as usize * dim + j);
        }
    }
}

/// dtable (V,C) += dout (N,C) at tokens (N)
pub(super) fn backward<T: Real>(dtable: &mut [T], dout: &[T], tokens: &[u32], dim: usize) {
    for (dout, &token) in dout.chunks_exact(dim).zip(tokens) {
        let row = &mut dtable[token as usize * dim..][..dim];
        row.iter_mut().zip(dout).for_each(|(d, &g)| *d = *d + g);
    }
}
