//! out (n,H,D) = softmax(q·kᵀ / sqrt(D)) · v over the visible keys, grouped heads; Vaswani et al.
//! 2017, Ainslie et al. 2023. The backward works from lse as FlashAttention does (Dao et al. 2022).

use super::Real;
use crate::backend::Heads;
use crate::batch::Visibility;

/// What backward reads.
pub(super) struct Saved<'a, T> {
    pub dout: &'a [T],
    pub out: &'a [T],
    pub lse: &'a [T],
    pub q: &'a [T],
    pub k: &'a [T],
    pub v: &'a [T],
}

/// Calls `f(query, key)` for every visible pair of a query, keys ascending.
fn each_key(visibility: &Visibility, mut f: impl FnMut(usize, usize)) {
    for span in &visibility.spans {
        let first = span.first_range as usize;
        let ranges = &visibility.ranges[first..first + span.n_ranges as usize];
        for query in span.q_start..span.q_start + span.q_len {
            for range in ranges {
                (range.start..range.start + range.len).for_each(|k| f(query as usize, k as usize));
            }
            let at = visibility.at[query as usize];
            (span.self_start..=at).for_each(|k| f(query as usize, k as usize));
        }
    }
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::ZERO, |sum, (&a, &b)| sum + a * b)
}

pub(super) fn forward<T: Real>(
    out: &mut [T],
    lse: &mut [T],
    q: &[T],
    k: &[T],
    v: &[T],
    sums: &mut [T],
    heads: Heads,
    visibility: &Visibility,
) {
    let (h, kv, d) = (heads.n_heads as usize, heads.n_kv_heads as usize, heads.head_dim as usize);
    let scale = T::ONE / T::from_f64(d as f64).sqrt();
    let group = h / kv;
    let score = |query: usize, key: usize, head: usize| {
        let q = &q[(query * h + head) * d..][..d];
        scale * dot(q, &k[(key * kv + head / group) * d..][..d])
    };
    out.fill(T::ZERO);
    for head in 0..h {
        // lse holds the largest score first, then log Σ exp.
        lse.iter_mut().skip(head).step_by(h).for_each(|x| *x = T::LOWEST);
        sums[..lse.len() / h].fill(T::ZERO);
        each_key(visibility, |query, key| {
            let (s, max) = (score(query, key, head), &mut lse[query * h + head]);
            if s > *max {
                *max = s;
            }
        });
        each_key(visibility, |query, key| {
            let p = (score(query, key, head) - lse[query * h + head]).exp();
            sums[query] = sums[query] + p;
        });
        for (query, lse) in lse.iter_mut().skip(head).step_by(h).enumerate() {
            *lse = *lse + sums[query].ln();
        }
        each_key(visibility, |query, key| {
            let p = (score(query, key, head) - lse[query * h + head]).exp();
            let out = &mut out[(query * h + head) * d..][..d];
            let v = &v[(key * kv + head / group) * d..][..d];
            out.iter_mut().zip(v).for_each(|(o, &v)| *o = *o + p * v);
        });
    }
}

/// With p = exp(score - lse) and δ = dout · out: dv += p · dout; ds = p · (dout · v - δ) · scale;
/// dq += ds · k; dk += ds · q.
pub(super) fn backward<T: Real>(
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
    saved: &Saved<'_, T>,
    heads: Heads,
    visibility: &Visibility,
) {
    let (h, kv, d) = (heads.n_heads as usize, heads.n_kv_heads as usize, heads.head_dim as usize);
    let scale = T::ONE / T::from_f64(d as f64).sqrt();
    let group = h / kv;
    dq.fill(T::ZERO);
    dk.fill(T::ZERO);
    dv.fill(T::ZERO);
    for head in 0..h {
        each_key(visibility, |query, key| {
            let qi = (query * h + head) * d..(query * h + head + 1) * d;
            let ki = (key * kv + head / group) * d..(key * kv + head / group + 1) * d;
            let (q, dout) = (&saved.q[qi.clone()], &saved.dout[qi.clone()]);
            let (k, v) = (&saved.k[ki.clone()], &saved.v[ki.clone()]);
            let p = (scale * dot(q, k) - saved.lse[query * h + head]).exp();
            let delta = dot(dout, &saved.out[qi.clone()]);
            let ds = p * (dot(dout, v) - delta) * scale;
            for j in 0..d {
                dv[ki.start + j] = dv[ki.start + j] + p * dout[j];
                dq[qi.start + j] = dq[qi.start + j] + ds * k[j];
                dk[ki.start + j] = dk[ki.start + j] + ds * q[j];
            }
        });
    }
}
