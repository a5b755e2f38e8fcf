//! out (n,C) = inp · rstd · weight; rstd (n) = 1 / sqrt(mean(inp²) + eps). Zhang & Sennrich 2019.

use super::{Real, W};

pub(super) fn forward<T: Real>(
    out: &mut [T],
    rstd: &mut [T],
    inp: &[T],
    weight: &W<'_, T>,
    dim: usize,
    eps: T,
) {
    let rows = out.chunks_exact_mut(dim).zip(inp.chunks_exact(dim)).zip(rstd);
    for ((out, inp), rstd) in rows {
        let square = inp.iter().fold(T::ZERO, |sum, &x| sum + x * x);
        *rstd = T::ONE / (square / T::from_f64(dim as f64) + eps).sqrt();
        for (j, (out, &x)) in out.iter_mut().zip(inp).enumerate() {
            *out = x * *rstd * weight.get(j);
        }
    }
}

/// With x̂ = inp · rstd and g = dout · weight: dinp += rstd · (g - x̂ · mean(g · x̂));
/// dweight += dout · x̂.
pub(super) fn backward<T: Real>(
    dinp: &mut [T],
    dweight: &mut [T],
    dout: &[T],
    inp: &[T],
    weight: &W<'_, T>,
    rstd: &[T],
    dim: usize,
) {
    for (i, &rstd) in rstd.iter().enumerate() {
        let row = i * dim..(i + 1) * dim;
        let (dinp, dout, inp) = (&mut dinp[row.clone()], &dout[row.clone()], &inp[row]);
        let mut mean = T::ZERO;
        for j in 0..dim {
            mean = mean + dout[j] * weight.get(j) * inp[j] * rstd;
        }
        mean = mean / T::from_f64(dim as f64);
        for j in 0..dim {
            let normed = inp[j] * rstd;
            dinp[j] = dinp[j] + rstd * (dout[j] * weight.get(j) - normed * mean);
            if let Some(dweight) = dweight.get_mut(j) {
                *dweight = *dweight + dout[j] * normed;
            }
        }
    }
}
