//! out = a + b; dst += scale · src; Σ x²: plain arithmetic on flat arrays, in blocks of one size.

use super::Ctx;
use super::simd::{Kernel, Simd};
use super::tiles::{Cut, Out, for_blocks};
use super::vmath::{self, axpy, dot, get, put};

/// Elements of a task: 16 KiB of each array.
const BLOCK: usize = 4096;

/// dst += scale · src
pub fn accumulate(ctx: Ctx<'_>, dst: &mut [f32], src: &[f32], scale: f32) {
    struct Run<'a>(&'a mut [f32], &'a [f32], f32);
    impl Kernel for Run<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            axpy(s, self.2, self.1, self.0);
        }
    }
    let outs = [Out::rows(dst, 1, BLOCK)];
    for_blocks(ctx.pool, src.len(), 1, outs, |block, _, [mut dst], _| {
        let dst = dst.flat();
        ctx.level.run(Run(dst, &src[block * BLOCK..][..dst.len()], scale));
    });
}

/// dst *= factor
pub fn scale(ctx: Ctx<'_>, dst: &mut [f32], factor: f32) {
    struct Run<'a>(&'a mut [f32], f32);
    impl Kernel for Run<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            vmath::scale(s, self.1, self.0);
        }
    }
    let work = dst.len();
    for_blocks(ctx.pool, work, 1, [Out::rows(dst, 1, BLOCK)], |_, _, [mut dst], _| {
        ctx.level.run(Run(dst.flat(), factor));
    });
}

/// out = a + b
pub fn add(ctx: Ctx<'_>, out: &mut [f32], a: &[f32], b: &[f32]) {
    struct Run<'a>(&'a mut [f32], &'a [f32], &'a [f32]);
    impl Kernel for Run<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let parts = self.1.chunks(S::LANES).zip(self.2.chunks(S::LANES));
            for (out, (a, b)) in self.0.chunks_mut(S::LANES).zip(parts) {
                put(s, out, s.add(get(s, a), get(s, b)));
            }
        }
    }
    let outs = [Out::rows(out, 1, BLOCK)];
    for_blocks(ctx.pool, a.len(), 1, outs, |block, _, [mut out], _| {
        let out = out.flat();
        let at = block * BLOCK;
        ctx.level.run(Run(out, &a[at..][..out.len()], &b[at..][..out.len()]));
    });
}

/// Σ x²: 256 stretches whose length depends on that of x alone; within one, blocks of 4096 are
/// summed in f32 and added up in f64, as are the stretches.
pub fn norm_squared(ctx: Ctx<'_>, x: &[f32]) -> f32 {
    struct Run<'a>(&'a [f32]);
    impl Kernel for Run<'_> {
        type Out = f32;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f32 {
            dot(s, self.0, self.0)
        }
    }
    let mut sums = [0.0f32; 256];
    let stretch = x.len().div_ceil(sums.len()).max(1);
    let outs =
        [Out { data: &mut sums, stride: 1, width: 1, cut: Cut::Even { rows: 256, block: 1 } }];
    for_blocks(ctx.pool, 2 * x.len(), 1, outs, |i, _, [mut sum], _| {
        let part = &x[(i * stretch).min(x.len())..((i + 1) * stretch).min(x.len())];
        let total: f64 = part.chunks(BLOCK).map(|b| f64::from(ctx.level.run(Run(b)))).sum();
        sum.flat()[0] = total as f32;
    });
    sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32
}
