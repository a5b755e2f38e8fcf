//! out (n,O) = alpha · inp (n,I) · wᵀ (O,I) [+ out], and its two gradients.

use super::{Real, W};
use crate::backend::Write;
use crate::weights::Mat;

fn put<T: Real>(out: &mut T, value: T, write: Write) {
    *out = match write {
        Write::Set => value,
        Write::Add => *out + value,
    };
}

pub(super) fn forward<T: Real>(
    out: &mut [T],
    inp: &[T],
    w: &W<'_, T>,
    shape: Mat,
    alpha: T,
    write: Write,
) {
    let (rows, cols) = (shape.rows as usize, shape.cols as usize);
    for (out, inp) in out.chunks_exact_mut(rows).zip(inp.chunks_exact(cols)) {
        for (o, out) in out.iter_mut().enumerate() {
            let dot = (0..cols).fold(T::ZERO, |sum, i| sum + inp[i] * w.get(o * cols + i));
            put(out, alpha * dot, write);
        }
    }
}

/// dinp (n,I) = alpha · dout (n,O) · w (O,I) [+ dinp]
pub(super) fn backward_input<T: Real>(
    dinp: &mut [T],
    dout: &[T],
    w: &W<'_, T>,
    shape: Mat,
    alpha: T,
    write: Write,
) {
    let (rows, cols) = (shape.rows as usize, shape.cols as usize);
    for (dinp, dout) in dinp.chunks_exact_mut(cols).zip(dout.chunks_exact(rows)) {
        for (i, dinp) in dinp.iter_mut().enumerate() {
            let dot = (0..rows).fold(T::ZERO, |sum, o| sum + dout[o] * w.get(o * cols + i));
            put(dinp, alpha * dot, write);
        }
    }
}

/// dw (O,I) += alpha · doutᵀ (O,n) · inp (n,I)
pub(super) fn backward_weight<T: Real>(
    dw: &mut [T],
    dout: &[T],
    inp: &[T],
    rows: usize,
    cols: usize,
    alpha: T,
) {
    let n = dout.len() / rows;
    for (o, dw) in dw.chunks_exact_mut(cols).enumerate() {
        for (i, dw) in dw.iter_mut().enumerate() {
            let dot = (0..n).fold(T::ZERO, |s, r| s + dout[r * rows + o] * inp[r * cols + i]);
            *dw = *dw + alpha * dot;
        }
    }
}
