//! out (n,C) [+]= mask · inp / (1 - p): the mask is a function of (seed, stream, step, the hash of
//! the row's prefix, channel), so no thread, split or sharing of rows changes it.

use paddock_core::backend::Dropout;
use paddock_core::batch::{Batch, Rows};
use paddock_core::dropout::{keep_scale, keep_words, threshold};

use super::Ctx;
use super::tiles::{Out, for_blocks};

/// Rows of a task.
const ROWS: usize = 8;

/// out = mask · inp / (1 - p), or += with `add`.
pub fn masked(
    ctx: Ctx<'_>,
    out: &mut [f32],
    inp: &[f32],
    dim: usize,
    d: Dropout,
    batch: &Batch,
    add: bool,
) {
    let (least, scale) = (threshold(d.p), keep_scale(d.p));
    let work = 20 * inp.len();
    for_blocks(ctx.pool, work, 1, [Out::rows(out, dim, ROWS)], |block, _, [mut out], _| {
        for i in 0..out.rows() {
            let row = block * ROWS + i;
            let hash = match d.rows {
                Rows::All => batch.hashes[row],
                Rows::Kept => batch.hashes[batch.kept_rows[row] as usize],
            };
            let quads = out.row(i).chunks_mut(4).zip(inp[row * dim..][..dim].chunks(4));
            for (quad, (out, inp)) in quads.enumerate() {
                let words = keep_words(&d, hash, quad as u32);
                for ((out, &x), word) in out.iter_mut().zip(inp).zip(words) {
                    let kept = if word >= least { scale * x } else { 0.0 };
                    *out = if add { *out + kept } else { kept };
                }
            }
        }
    });
}
