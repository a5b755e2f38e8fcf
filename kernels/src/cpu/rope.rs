//! x (n,heads,D): halves (x₀, x₁) of each head become (x₀·cos - x₁·sin, x₁·cos + x₀·sin), with the
//! cosines and sines of the row's position in table (P,D) = [cos | sin]; -sin turns it back.

use super::Ctx;
use super::simd::{Kernel, Simd};
use super::tiles::{Out, Tile, for_blocks};
use super::vmath::{get, put};

/// Rows of a task.
const ROWS: usize = 8;

struct Rotate<'a> {
    x: Tile<'a>,
    table: &'a [f32],
    positions: &'a [u32],
    head_dim: usize,
    direction: f32,
}

impl Kernel for Rotate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (d, half) = (self.head_dim, self.head_dim / 2);
        let direction = s.splat(self.direction);
        for (i, &position) in self.positions.iter().enumerate() {
            let (cos, sin) = self.table[position as usize * d..][..d].split_at(half);
            for head in self.x.row(i).chunks_exact_mut(d) {
                let (lower, upper) = head.split_at_mut(half);
                let halves = lower.chunks_mut(S::LANES).zip(upper.chunks_mut(S::LANES));
                let angles = cos.chunks(S::LANES).zip(sin.chunks(S::LANES));
                for ((x0, x1), (cos, sin)) in halves.zip(angles) {
                    let (a, b) = (get(s, x0), get(s, x1));
                    let (cos, sin) = (get(s, cos), s.mul(direction, get(s, sin)));
                    put(s, x0, s.sub(s.mul(a, cos), s.mul(b, sin)));
                    put(s, x1, s.fma(b, cos, s.mul(a, sin)));
                }
            }
        }
    }
}

/// Rotates in place; `direction` is 1, or -1 for the transpose.
pub fn rotate(
    ctx: Ctx<'_>,
    x: &mut [f32],
    table: &[f32],
    head_dim: usize,
    positions: &[u32],
    direction: f32,
) {
    if positions.is_empty() {
        return;
    }
    let (work, width) = (6 * x.len(), x.len() / positions.len());
    for_blocks(ctx.pool, work, 1, [Out::rows(x, width, ROWS)], |block, _, [x], _| {
        let positions = &positions[block * ROWS..][..x.rows()];
        ctx.level.run(Rotate { x, table, positions, head_dim, direction });
    });
}
