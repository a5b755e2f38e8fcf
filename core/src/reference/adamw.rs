//! AdamW (Loshchilov & Hutter 2019), in PyTorch's order of operations.

use super::Real;
use crate::backend::AdamW;

pub(super) fn step<T: Real>(param: &mut [T], grad: &[T], m: &mut [T], v: &mut [T], a: &AdamW) {
    let t = f64::from(a.t);
    let correct1 = 1.0 - libm::pow(a.beta1, t);
    let correct2 = libm::sqrt(1.0 - libm::pow(a.beta2, t));
    let keep = T::from_f64(1.0 - a.lr * a.weight_decay);
    let (beta1, beta2) = (T::from_f64(a.beta1), T::from_f64(a.beta2));
    let (rest1, rest2) = (T::from_f64(1.0 - a.beta1), T::from_f64(1.0 - a.beta2));
    let (rate, eps) = (T::from_f64(a.lr / correct1), T::from_f64(a.eps));
    let (root, scale) = (T::from_f64(correct2), T::from_f64(a.grad_scale));
    for (i, param) in param.iter_mut().enumerate() {
        let g = grad[i] * scale;
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * g * g;
        *param = *param * keep - rate * m[i] / (v[i].sqrt() / root + eps);
    }
}
