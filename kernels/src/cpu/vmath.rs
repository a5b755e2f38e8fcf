//! Vector functions that the element-wise kernels share, built from [`Simd`]'s operations.
//!
//! Every reduction here has one fixed order: lanes side by side over the slice, two accumulators
//! taking turns, then the lanes in halves. So a result depends on the data and the level alone.

use super::simd::Simd;

/// e^x, at most 2 units in the last place off in [-87.3, 88.7] (`exp_error` checks it); 0 below
/// (results that would be subnormal are flushed), infinity above, NaN stays NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two pieces so that r is exact; e^r by its series to
/// r^7, whose truncation error is below 6e-9, a tenth of a rounding.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LOW: f32 = -87.336_54;
    const HIGH: f32 = 88.722_83;
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // The operand that may be NaN comes second, so that NaN passes through.
    let clamped = s.min(s.splat(HIGH), s.max(s.splat(LOW), x));
    let n = s.round(s.mul(clamped, s.splat(core::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_HIGH), clamped);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    let y = s.scale2(p, n);
    let y = s.if_less(x, s.splat(LOW), s.splat(0.0), y);
    s.if_less(s.splat(HIGH), x, s.splat(f32::INFINITY), y)
}

/// 1 / (1 + e^-x): at most 4 units in the last place off; 0 and 1 in the far tails.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// Up to LANES elements from the start of `src`, the rest zero.
#[inline(always)]
pub fn get<S: Simd>(s: S, src: &[f32]) -> S::V {
    if src.len() >= S::LANES { s.load(src) } else { s.load_part(src) }
}

/// As many lanes as `dst` has room for.
#[inline(always)]
pub fn put<S: Simd>(s: S, dst: &mut [f32], v: S::V) {
    if dst.len() >= S::LANES { s.store(dst, v) } else { s.store_part(dst, v) }
}

/// Σ a·b over two slices of equal length.
#[inline(always)]
pub fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let step = 2 * S::LANES;
    let (mut even, mut odd) = (s.splat(0.0), s.splat(0.0));
    let (mut blocks_a, mut blocks_b) = (a.chunks_exact(step), b.chunks_exact(step));
    for (x, y) in blocks_a.by_ref().zip(blocks_b.by_ref()) {
        even = s.fma(s.load(x), s.load(y), even);
        odd = s.fma(s.load(&x[S::LANES..]), s.load(&y[S::LANES..]), odd);
    }
    let (rest_a, rest_b) = (blocks_a.remainder(), blocks_b.remainder());
    for (x, y) in rest_a.chunks(S::LANES).zip(rest_b.chunks(S::LANES)) {
        even = s.fma(s.load_part(x), s.load_part(y), even);
    }
    s.sum(s.add(even, odd))
}

/// The largest element (negative infinity for none); NaN may be lost.
#[inline(always)]
pub fn largest<S: Simd>(s: S, a: &[f32]) -> f32 {
    let mut best = s.splat(f32::NEG_INFINITY);
    let mut blocks = a.chunks_exact(S::LANES);
    for x in blocks.by_ref() {
        best = s.max(s.load(x), best);
    }
    blocks.remainder().iter().fold(s.max_lane(best), |m, &x| m.max(x))
}

/// y += α x.
#[inline(always)]
pub fn axpy<S: Simd>(s: S, alpha: f32, x: &[f32], y: &mut [f32]) {
    let factor = s.splat(alpha);
    let mut blocks_x = x.chunks_exact(S::LANES);
    let mut blocks_y = y.chunks_exact_mut(S::LANES);
    for (x, y) in blocks_x.by_ref().zip(blocks_y.by_ref()) {
        let sum = s.fma(factor, s.load(x), s.load(y));
        s.store(y, sum);
    }
    let (x, y) = (blocks_x.remainder(), blocks_y.into_remainder());
    let sum = s.fma(factor, s.load_part(x), s.load_part(y));
    s.store_part(y, sum);
}

/// y *= α.
#[inline(always)]
pub fn scale<S: Simd>(s: S, alpha: f32, y: &mut [f32]) {
    let factor = s.splat(alpha);
    for y in y.chunks_mut(S::LANES) {
        let product = s.mul(factor, get(s, y));
        put(s, y, product);
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Kernel, Level};
    use super::*;

    struct Map<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Map<'_> {
        type Out = ();
        fn run<S: Simd>(self, s: S) {
            for (x, y) in self.0.chunks(S::LANES).zip(self.1.chunks_mut(S::LANES)) {
                let e = exp(s, s.load_part(x));
                s.store_part(y, e);
            }
        }
    }

    #[test]
    fn exp_error() {
        let xs: Vec<f32> = (0..400_001).map(|i| -87.3 + i as f32 * (176.0 / 400_000.0)).collect();
        for level in Level::available() {
            let mut ys = vec![0.0; xs.len()];
            level.run(Map(&xs, &mut ys));
            let mut worst = 0.0f64;
            for (&x, &y) in xs.iter().zip(&ys) {
                let exact = f64::from(x).exp();
                let ulp = f64::from(f32::EPSILON) * 2f64.powf(exact.log2().floor());
                worst = worst.max((f64::from(y) - exact).abs() / ulp);
            }
            assert!(worst <= 2.0, "{level}: {worst} units in the last place");
        }
    }

    #[test]
    fn exp_tails() {
        let xs = [f32::NEG_INFINITY, -1e30, -90.0, 0.0, 89.0, f32::INFINITY, f32::NAN, 88.7];
        for level in Level::available() {
            let mut ys = [7.0; 8];
            level.run(Map(&xs, &mut ys));
            assert_eq!(&ys[..6], &[0.0, 0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY], "{level}");
            assert!(ys[6].is_nan() && ys[7].is_finite(), "{level}: {ys:?}");
        }
    }
}
