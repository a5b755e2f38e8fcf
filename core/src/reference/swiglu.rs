//! out = silu(gate) · up, silu(x) = x / (1 + exp(-x)). Shazeer 2020.

use super::Real;

fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

pub(super) fn forward<T: Real>(out: &mut [T], gate: &[T], up: &[T]) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate * sigmoid(gate) * up;
    }
}

/// `dup` holds dout at first: dgate = dout · up · silu'(gate); dup = dout · silu(gate), where
/// silu'(x) = σ(x) · (1 + x · (1 - σ(x))).
pub(super) fn backward<T: Real>(dgate: &mut [T], dup: &mut [T], gate: &[T], up: &[T]) {
    for (i, (dgate, dup)) in dgate.iter_mut().zip(dup).enumerate() {
        let (x, s, dout) = (gate[i], sigmoid(gate[i]), *dup);
        *dgate = dout * up[i] * s * (T::ONE + x * (T::ONE - s));
        *dup = dout * x * s;
    }
}
