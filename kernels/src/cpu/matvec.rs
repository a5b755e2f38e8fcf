//! out (m,O) = α inp (m,I) · wᵀ (O,I) [+ out] for m <= 8: decoding, and other very short batches.
//!
//! Weights are read once, in place, at the speed of memory: four rows of w at a time, each vector
//! multiplied with all m rows of inp. Tasks are blocks of outputs; an output's sum has one order,
//! so threads change nothing.

#![allow(
    clippy::needless_range_loop,
    reason = "several small arrays are walked side by side, by constant bounds"
)]

use super::elem::Elem;
use super::matmul::{Elems, Left, Part, Product, Right};
use super::pack::View;
use super::pool::Pool;
use super::simd::{Kernel, Level, Simd};
use super::tiles::{Cut, Out, Tile, for_blocks};
use super::vmath::get;

/// The most rows that this way serves.
pub const ROWS: usize = 8;
/// Outputs of a task.
const OUTPUTS: usize = 64;
/// Rows of w that are read side by side.
const SIDE: usize = 4;

/// Whether a part lies as this way needs it.
pub fn serves(part: &Part<'_>) -> bool {
    matches!((part.a, part.b), (Left::Rows(_), Right::Cols(_)))
}

/// Computes `p`, whose parts are all served.
pub fn product(pool: &Pool, level: Level, p: Product<'_>, out: &mut [f32]) {
    let k: usize = p.parts.iter().map(|part| part.k).sum();
    let cut = Cut::Even { rows: p.m, block: p.m };
    let outs = [Out { data: out, stride: p.n, width: OUTPUTS, cut }];
    // Reading weights costs more than the arithmetic: threads are worth waking earlier.
    let work = 8 * p.m * p.n * k;
    for_blocks(pool, work, p.n.div_ceil(OUTPUTS), outs, |_, group, [mut tile], _| {
        let first = group * OUTPUTS;
        for (i, part) in p.parts.iter().enumerate() {
            let add = p.add || i > 0;
            let (Left::Rows(inp), Right::Cols(w)) = (part.a, part.b) else { continue };
            let tile = tile.part(0, 0, p.m, tile.cols());
            let (k, alpha) = (part.k, p.alpha);
            match w {
                Elems::F32(w) => level.run(Dots { tile, inp, w, first, k, alpha, add }),
                Elems::Bf16(w) => level.run(Dots { tile, inp, w, first, k, alpha, add }),
                Elems::F16(w) => level.run(Dots { tile, inp, w, first, k, alpha, add }),
            }
        }
    });
}

struct Dots<'a, 't, E> {
    tile: Tile<'t>,
    inp: View<'a, f32>,
    w: View<'a, E>,
    first: usize,
    k: usize,
    alpha: f32,
    add: bool,
}

impl<E: Elem> Kernel for Dots<'_, '_, E> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.tile.rows() {
            1 => self.rows::<S, 1>(s),
            2 => self.rows::<S, 2>(s),
            3 => self.rows::<S, 3>(s),
            4 => self.rows::<S, 4>(s),
            5 => self.rows::<S, 5>(s),
            6 => self.rows::<S, 6>(s),
            7 => self.rows::<S, 7>(s),
            _ => self.rows::<S, 8>(s),
        }
    }
}

impl<E: Elem> Dots<'_, '_, E> {
    #[inline(always)]
    fn rows<S: Simd, const M: usize>(mut self, s: S) {
        let outputs = self.tile.cols();
        let whole = outputs / SIDE * SIDE;
        for o in (0..whole).step_by(SIDE) {
            self.some::<S, M, SIDE>(s, o);
        }
        for o in whole..outputs {
            self.some::<S, M, 1>(s, o);
        }
    }

    /// M x N outputs from column `o` of the tile on.
    #[inline(always)]
    fn some<S: Simd, const M: usize, const N: usize>(&mut self, s: S, o: usize) {
        let k = self.k;
        let w: [&[E]; N] = std::array::from_fn(|j| self.w.row(self.first + o + j, 0, k));
        let x: [&[f32]; M] = std::array::from_fn(|i| self.inp.row(i, 0, k));
        let mut sums = [[s.splat(0.0); N]; M];
        let full = k / S::LANES * S::LANES;
        for at in (0..full).step_by(S::LANES) {
            let mut vectors = [s.splat(0.0); N];
            for j in 0..N {
                vectors[j] = E::load(s, &w[j][at..]);
            }
            for i in 0..M {
                let x = s.load(&x[i][at..]);
                for j in 0..N {
                    sums[i][j] = s.fma(x, vectors[j], sums[i][j]);
                }
            }
        }
        if full < k {
            let mut vectors = [s.splat(0.0); N];
            for j in 0..N {
                vectors[j] = E::load_part(s, &w[j][full..]);
            }
            for i in 0..M {
                let x = get(s, &x[i][full..]);
                for j in 0..N {
                    sums[i][j] = s.fma(x, vectors[j], sums[i][j]);
                }
            }
        }
        // Numbered by a variable, the sums lie in memory; this copy keeps the others in registers.
        let sums = std::hint::black_box(sums);
        for i in 0..M {
            let row = &mut self.tile.row(i)[o..o + N];
            for j in 0..N {
                let dot = self.alpha * s.sum(sums[i][j]);
                row[j] = if self.add { row[j] + dot } else { dot };
            }
        }
    }
}
