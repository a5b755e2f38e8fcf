//! out (n,C) += mask · inp / (1 - p)

use super::Real;
use crate::backend::Dropout;
use crate::batch::{Batch, Rows};
use crate::dropout::{keep_scale, keep_words, threshold};

pub(super) fn add_masked<T: Real>(
    out: &mut [T],
    inp: &[T],
    dim: usize,
    d: &Dropout,
    batch: &Batch,
) {
    let (least, scale) = (threshold(d.p), T::from_f32(keep_scale(d.p)));
    for (i, (out, inp)) in out.chunks_exact_mut(dim).zip(inp.chunks_exact(dim)).enumerate() {
        let row = match d.rows {
            Rows::All => i,
            Rows::Kept => batch.kept_rows[i] as usize,
        };
        for (c, (out, &x)) in out.iter_mut().zip(inp).enumerate() {
            let word = keep_words(d, batch.hashes[row], c as u32 / 4)[c % 4];
            if word >= least {
                *out = *out + scale * x;
            }
        }
    }
}
