//! AdamW: g = grad · grad_scale; m = β₁ m + (1-β₁) g; v = β₂ v + (1-β₂) g²;
//! p = p (1 - lr·wd) - lr/(1-β₁ᵗ) · m / (√v / √(1-β₂ᵗ) + ε). All (P); one pass over memory.

use paddock_core::backend::AdamW;

use super::Ctx;
use super::simd::{Kernel, Simd};
use super::tiles::{Out, for_blocks};
use super::vmath::{get, put};

/// Elements of a task: 16 KiB of each array.
const BLOCK: usize = 4096;

struct Run<'a> {
    param: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    grad: &'a [f32],
    step: AdamW,
}

impl Kernel for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let a = self.step;
        let t = f64::from(a.t);
        let of = |x: f64| s.splat(x as f32);
        let keep = of(1.0 - a.lr * a.weight_decay);
        let (beta1, beta2) = (of(a.beta1), of(a.beta2));
        let (rest1, rest2) = (of(1.0 - a.beta1), of(1.0 - a.beta2));
        let rate = of(a.lr / (1.0 - a.beta1.powf(t)));
        let root = of((1.0 - a.beta2.powf(t)).sqrt());
        let (eps, scale) = (of(a.eps), of(a.grad_scale));
        let moments = self.m.chunks_mut(S::LANES).zip(self.v.chunks_mut(S::LANES));
        let values = self.param.chunks_mut(S::LANES).zip(self.grad.chunks(S::LANES));
        for ((m_out, v_out), (param, grad)) in moments.zip(values) {
            let g = s.mul(get(s, grad), scale);
            let m = s.fma(beta1, get(s, m_out), s.mul(rest1, g));
            let v = s.fma(beta2, get(s, v_out), s.mul(s.mul(rest2, g), g));
            let below = s.add(s.div(s.sqrt(v), root), eps);
            let change = s.div(s.mul(rate, m), below);
            put(s, param, s.sub(s.mul(get(s, param), keep), change));
            put(s, m_out, m);
            put(s, v_out, v);
        }
    }
}

/// One step.
pub fn step(
    ctx: Ctx<'_>,
    param: &mut [f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    step: AdamW,
) {
    let outs = [Out::rows(param, 1, BLOCK), Out::rows(m, 1, BLOCK), Out::rows(v, 1, BLOCK)];
    for_blocks(ctx.pool, 20 * grad.len(), 1, outs, |block, _, [mut param, mut m, mut v], _| {
        let (param, m, v) = (param.flat(), m.flat(), v.flat());
        let grad = &grad[block * BLOCK..][..param.len()];
        ctx.level.run(Run { param, m, v, grad, step });
    });
}
