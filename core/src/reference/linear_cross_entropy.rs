//! nll (E) = lse (M) - logit[target], logits (M,V) = inp (M,C) · wᵀ (V,C), one row at a time.

use super::{Real, W};
use crate::batch::Batch;

/// What forward writes; `best` may be empty.
pub(super) struct Out<'a, T> {
    pub nll: &'a mut [T],
    pub lse: &'a mut [T],
    pub best: &'a mut [T],
}

/// What backward reads.
pub(super) struct Saved<'a, T> {
    pub coeff: &'a [T],
    pub lse: &'a [T],
    pub inp: &'a [T],
}

fn logits_of<T: Real>(logits: &mut [T], inp: &[T], w: &W<'_, T>) {
    let dim = inp.len();
    for (o, logit) in logits.iter_mut().enumerate() {
        *logit = (0..dim).fold(T::ZERO, |sum, i| sum + inp[i] * w.get(o * dim + i));
    }
}

pub(super) fn forward<T: Real>(
    out: Out<'_, T>,
    inp: &[T],
    w: &W<'_, T>,
    logits: &mut [T],
    batch: &Batch,
) {
    if out.lse.is_empty() {
        return;
    }
    let dim = inp.len() / out.lse.len();
    for (m, lse) in out.lse.iter_mut().enumerate() {
        logits_of(logits, &inp[m * dim..(m + 1) * dim], w);
        let mut best = 0;
        for (o, &logit) in logits.iter().enumerate() {
            if logit > logits[best] {
                best = o;
            }
        }
        let max = logits[best];
        let sum = logits.iter().fold(T::ZERO, |sum, &x| sum + (x - max).exp());
        *lse = max + sum.ln();
        if let Some(slot) = out.best.get_mut(m) {
            *slot = T::from_f64(best as f64);
        }
        for e in batch.entry_first[m]..batch.entry_first[m + 1] {
            out.nll[e as usize] = *lse - logits[batch.targets[e as usize] as usize];
        }
    }
}

/// dlogits = Σ_e coeff_e · (softmax - onehot(target_e)); dinp = dlogits · w; dw += dlogitsᵀ · inp.
pub(super) fn backward<T: Real>(
    dinp: &mut [T],
    dw: &mut [T],
    saved: Saved<'_, T>,
    w: &W<'_, T>,
    logits: &mut [T],
    batch: &Batch,
) {
    if saved.lse.is_empty() {
        return;
    }
    let dim = saved.inp.len() / saved.lse.len();
    for (m, &lse) in saved.lse.iter().enumerate() {
        let (inp, dinp) = (&saved.inp[m * dim..][..dim], &mut dinp[m * dim..][..dim]);
        logits_of(logits, inp, w);
        let entries = batch.entry_first[m] as usize..batch.entry_first[m + 1] as usize;
        let total = saved.coeff[entries.clone()].iter().fold(T::ZERO, |sum, &c| sum + c);
        logits.iter_mut().for_each(|x| *x = total * (*x - lse).exp());
        for e in entries {
            let target = batch.targets[e] as usize;
            logits[target] = logits[target] - saved.coeff[e];
        }
        for (i, dinp) in dinp.iter_mut().enumerate() {
            *dinp =
                logits.iter().enumerate().fold(T::ZERO, |s, (o, &g)| s + g * w.get(o * dim + i));
        }
        for (dw, &g) in dw.chunks_exact_mut(dim).zip(&*logits) {
            dw.iter_mut().zip(inp).for_each(|(dw, &x)| *dw = *dw + g * x);
        }
    }
}
