//! out (n,C) [+]= mask · inp / (1 - p): the mask is a function of (seed, stream, step, the hash of
//! the row's prefix, channel), so no thread, split or sharing of rows changes it.
//!
//! Sixteen counters are turned at once, in loops over arrays that the compiler makes vectors of:
//! Philox's 32 x 32 bit products have no portable vector form, but compile to one instruction.

#![allow(
    clippy::needless_range_loop,
    reason = "several small arrays are walked side by side, by constant bounds"
)]

use paddock_core::backend::Dropout;
use paddock_core::batch::{Batch, Rows};
use paddock_core::dropout::{keep_scale, keep_words, threshold};

use super::Ctx;
use super::simd::{Kernel, Simd};
use super::tiles::{Out, for_blocks};

/// Rows of a task.
const ROWS: usize = 8;
/// Counters that are turned at once; four channels each.
const SIDE: usize = 16;

/// One row.
struct Mask<'a> {
    out: &'a mut [f32],
    inp: &'a [f32],
    d: Dropout,
    hash: u64,
    add: bool,
}

impl Kernel for Mask<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (least, scale) = (threshold(self.d.p), keep_scale(self.d.p));
        let keep = |out: &mut f32, x: f32, word: u32| {
            let kept = if word >= least { scale * x } else { 0.0 };
            *out = if self.add { *out + kept } else { kept };
        };
        let parts = self.out.chunks_mut(4 * SIDE).zip(self.inp.chunks(4 * SIDE));
        for (i, (out, inp)) in parts.enumerate() {
            let first = (i * SIDE) as u32;
            if out.len() == 4 * SIDE {
                let words = side_by_side(&self.d, self.hash, first);
                for (j, (out, &x)) in out.iter_mut().zip(inp).enumerate() {
                    keep(out, x, words[j % 4][j / 4]);
                }
                continue;
            }
            for (quad, (out, inp)) in out.chunks_mut(4).zip(inp.chunks(4)).enumerate() {
                let words = keep_words(&self.d, self.hash, first + quad as u32);
                out.iter_mut().zip(inp).zip(words).for_each(|((out, &x), w)| keep(out, x, w));
            }
        }
    }
}

/// [`keep_words`] of SIDE quads from `first` on: word w of quad q at [w][q].
#[inline(always)]
fn side_by_side(d: &Dropout, hash: u64, first: u32) -> [[u32; SIDE]; 4] {
    let mut c = [[hash as u32; SIDE], [(hash >> 32) as u32; SIDE], [d.step; SIDE], [0; SIDE]];
    for (q, quad) in c[3].iter_mut().enumerate() {
        *quad = first + q as u32;
    }
    let mut key = [d.seed as u32, (d.seed >> 32) as u32 ^ d.stream.0];
    for _ in 0..10 {
        let mut next = [[0; SIDE]; 4];
        for q in 0..SIDE {
            let p0 = u64::from(c[0][q]) * 0xD251_1F53;
            let p1 = u64::from(c[2][q]) * 0xCD9E_8D57;
            next[0][q] = (p1 >> 32) as u32 ^ c[1][q] ^ key[0];
            next[1][q] = p1 as u32;
            next[2][q] = (p0 >> 32) as u32 ^ c[3][q] ^ key[1];
            next[3][q] = p0 as u32;
        }
        c = next;
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

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
    let work = 20 * inp.len();
    for_blocks(ctx.pool, work, 1, [Out::rows(out, dim, ROWS)], |block, _, [mut out], _| {
        for i in 0..out.rows() {
            let row = block * ROWS + i;
            let hash = match d.rows {
                Rows::All => batch.hashes[row],
                Rows::Kept => batch.hashes[batch.kept_rows[row] as usize],
            };
            let inp = &inp[row * dim..][..dim];
            ctx.level.run(Mask { out: out.row(i), inp, d, hash, add });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_core::philox::Stream;

    #[test]
    fn side_by_side_is_the_core_s_function() {
        let stream = Stream::dropout(3);
        let d = Dropout { p: 0.1, seed: 0xfeed_beef_0123, stream, step: 77, rows: Rows::All };
        let words = side_by_side(&d, 0x0123_4567_89ab_cdef, 40);
        for q in 0..SIDE {
            let expected = keep_words(&d, 0x0123_4567_89ab_cdef, 40 + q as u32);
            assert_eq!([words[0][q], words[1][q], words[2][q], words[3][q]], expected);
        }
    }
}
