//! out (n,F) = silu(gate (n,F)) · up (n,F), silu(x) = x · σ(x), σ(x) = 1 / (1 + e^-x).

use super::Ctx;
use super::simd::{Kernel, Simd};
use super::tiles::{Out, for_blocks};
use super::vmath::{get, put, sigmoid};

/// Elements of a task: 8 KiB of each array.
const BLOCK: usize = 2048;
/// Operations of one element, about, mostly the exponential's.
const WORK: usize = 30;

/// Forward; overwrites `out`.
pub fn forward(ctx: Ctx<'_>, out: &mut [f32], gate: &[f32], up: &[f32]) {
    struct Run<'a>(&'a mut [f32], &'a [f32], &'a [f32]);
    impl Kernel for Run<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let parts = self.1.chunks(S::LANES).zip(self.2.chunks(S::LANES));
            for (out, (gate, up)) in self.0.chunks_mut(S::LANES).zip(parts) {
                let x = get(s, gate);
                let silu = s.mul(x, sigmoid(s, x));
                put(s, out, s.mul(silu, get(s, up)));
            }
        }
    }
    let work = WORK * gate.len();
    for_blocks(ctx.pool, work, 1, [Out::rows(out, 1, BLOCK)], |block, _, [mut out], _| {
        let out = out.flat();
        let at = block * BLOCK;
        ctx.level.run(Run(out, &gate[at..][..out.len()], &up[at..][..out.len()]));
    });
}

/// `dup` holds dout at first: dgate = dout · up · silu'(gate); dup = dout · silu(gate), where
/// silu'(x) = σ(x) · (1 + x · (1 - σ(x))).
pub fn backward(ctx: Ctx<'_>, dgate: &mut [f32], dup: &mut [f32], gate: &[f32], up: &[f32]) {
    struct Run<'a> {
        dgate: &'a mut [f32],
        dup: &'a mut [f32],
        gate: &'a [f32],
        up: &'a [f32],
    }
    impl Kernel for Run<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let one = s.splat(1.0);
            let outs = self.dgate.chunks_mut(S::LANES).zip(self.dup.chunks_mut(S::LANES));
            let inps = self.gate.chunks(S::LANES).zip(self.up.chunks(S::LANES));
            for ((dgate, dup), (gate, up)) in outs.zip(inps) {
                let (x, dout) = (get(s, gate), get(s, dup));
                let sigma = sigmoid(s, x);
                let slope = s.mul(sigma, s.fma(x, s.sub(one, sigma), one));
                put(s, dgate, s.mul(s.mul(dout, get(s, up)), slope));
                put(s, dup, s.mul(dout, s.mul(x, sigma)));
            }
        }
    }
    let outs = [Out::rows(dgate, 1, BLOCK), Out::rows(dup, 1, BLOCK)];
    for_blocks(ctx.pool, WORK * gate.len(), 1, outs, |block, _, [mut dgate, mut dup], _| {
        let (dgate, dup) = (dgate.flat(), dup.flat());
        let at = block * BLOCK;
        let (gate, up) = (&gate[at..][..dgate.len()], &up[at..][..dgate.len()]);
        ctx.level.run(Run { dgate, dup, gate, up });
    });
}
