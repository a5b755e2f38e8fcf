//! out (M,N) = α Σ_parts a (M,K_p) · b (K_p,N) [+ out] with a and b rounded to bf16, by the processor's matrix
//! instructions: what `matmul.rs` computes in f32, several times as fast, with three digits of each operand.
//!
//! Sums stay f32. Each part's terms are rounded up to whole steps of 32. A task walks along the steps in stretches of
//! at most [`STRETCH`]: it packs its columns of b (they stay in the level-2 cache), then takes the rows by 32, which
//! are packed and multiplied with all columns. The sum of an element depends on K alone.

use super::matmul::{Costs, Part, Product, cut_evenly};
use super::pack_bf16::{self, At};
use super::pool::{Pool, Scratch};
use super::simd::Simd;
use super::simd::amx::{Amx, PAIR, PackKernel, SIDE, Sums, TERMS};
use super::tiles::{self, Cut, Out, Tile};

/// Steps of a stretch at most: 1,024 terms.
const STRETCH: usize = 32;
/// Columns of a task at most; with a whole stretch they fill half of a 2 MiB level-2 cache.
const COLUMNS: usize = 512;
/// What packing b costs a task, in rows that are multiplied in that time, about.
const PACKING: usize = 128;

/// Computes `p` into `out`, whose rows are `p.n` long.
pub fn product(pool: &Pool, amx: Amx, p: Product<'_>, out: &mut [f32]) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    let steps: usize = p.parts.iter().map(steps).sum();
    let costs = Costs { columns: COLUMNS, b: PACKING, a: PACKING };
    let (row_block, col_block) = cut_evenly((p.m, p.n), pool.threads(), costs, SIDE);
    let cut = Cut::Even { rows: p.m, block: row_block };
    let out = Out { data: out, stride: p.n, width: col_block, cut };
    let groups = p.n.div_ceil(col_block);
    // A tenth of the time that as many operations take elsewhere.
    let work = 2 * p.m * p.n * steps * TERMS / 10;
    tiles::for_blocks(pool, work, groups, [out], |i, j, [tile], scratch| {
        amx.run(Block { p, row: i * row_block, col: j * col_block, tile, scratch });
    });
}

/// Steps of a part.
fn steps(part: &Part<'_>) -> usize {
    part.k.div_ceil(TERMS)
}

/// A task: the block of out at (row, col).
struct Block<'a, 't> {
    p: Product<'a>,
    row: usize,
    col: usize,
    tile: Tile<'t>,
    scratch: &'t mut Scratch,
}

impl PackKernel for Block<'_, '_> {
    #[inline(always)]
    fn run(mut self, amx: Amx) {
        let (rows, cols) = (self.tile.rows(), self.tile.cols());
        let steps: usize = self.p.parts.iter().map(steps).sum();
        let stretch = steps.div_ceil(steps.div_ceil(STRETCH).max(1));
        let panel = stretch * PAIR;
        let b = Scratch::grow(&mut self.scratch.b, cols.div_ceil(SIDE) * panel);
        let a = Scratch::grow(&mut self.scratch.a, panel);
        let mut sums = Sums::default();
        let mut add = self.p.add;
        for from in (0..steps.max(1)).step_by(stretch.max(1)) {
            let len = stretch.min(steps - from);
            for (group, col) in (0..cols).step_by(SIDE).enumerate() {
                let of = (self.col + col, SIDE.min(cols - col));
                let dst = &mut b[group * panel..][..len * PAIR];
                pack::<false>(amx, &self.p, from, of, dst);
            }
            for row in (0..rows).step_by(SIDE) {
                let of = (self.row + row, SIDE.min(rows - row));
                pack::<true>(amx, &self.p, from, of, &mut a[..len * PAIR]);
                for (group, col) in (0..cols).step_by(SIDE).enumerate() {
                    amx.multiply(a, &b[group * panel..], len, &mut sums);
                    let out = self.tile.part(row, col, of.1, SIDE.min(cols - col));
                    put(amx, &sums, self.p.alpha, add, out);
                }
            }
            add = true;
        }
    }
}

/// Packs up to 32 rows of a (or columns of b), for as many steps from `from` on as `dst` has room for.
#[inline(always)]
fn pack<const LEFT: bool>(
    amx: Amx,
    p: &Product<'_>,
    from: usize,
    (first, count): (usize, usize),
    dst: &mut [f32],
) {
    let mut places = dst.chunks_exact_mut(PAIR);
    let mut skip = from;
    for part in p.parts {
        let own = steps(part);
        for step in skip.min(own)..own {
            let Some(place) = places.next() else { return };
            let k = step * TERMS;
            let at = At { first, count, k, terms: TERMS.min(part.k - k) };
            if LEFT {
                pack_bf16::left(amx, part.a, at, place);
            } else {
                pack_bf16::right(amx, part.b, at, place);
            }
        }
        skip = skip.saturating_sub(own);
    }
}

/// out = factor · sums [+ out]
#[inline(always)]
fn put(amx: Amx, sums: &Sums, factor: f32, add: bool, mut out: Tile<'_>) {
    let s = amx.avx512();
    let factor = s.splat(factor);
    for i in 0..out.rows() {
        let row = out.row(i);
        for (half, part) in row.chunks_mut(SIDE / 2).enumerate() {
            let sum = s.load(&sums.0[i / 16 * 2 + half][i % 16]);
            tiles::store_sum(s, part, sum, factor, add);
        }
    }
}
