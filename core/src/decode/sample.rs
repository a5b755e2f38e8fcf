//! Choosing the next token from logits: greedy, temperature, top-k, nucleus, repetition penalty.

use alloc::vec::Vec;

use crate::philox::Philox;

/// How to choose. `temperature` 0 is greedy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Logits are divided by this; 0 takes the largest.
    pub temperature: f32,
    /// Only the k largest are candidates; 0: all.
    pub top_k: u32,
    /// Only the smallest set of tokens whose probability reaches this is a candidate (Holtzman et
    /// al. 2020); 1: all.
    pub top_p: f32,
    /// Logits of tokens already in the text are divided by this where positive, multiplied where
    /// negative (Keskar et al. 2019); 1: off.
    pub repetition_penalty: f32,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0 }
    }
}

/// The next token. `text` is what the penalty looks back on; `(random, step, index)` name the random
/// number, so that the same call gives the same token. Logits that are not finite never win; if none
/// is finite the answer is `None`.
pub fn sample(
    logits: &mut [f32],
    sampler: &Sampler,
    text: &[u32],
    random: &Philox,
    step: u32,
    index: u64,
) -> Option<u32> {
    penalise(logits, sampler.repetition_penalty, text);
    if sampler.temperature <= 0.0 {
        return largest(logits);
    }
    let mut order: Vec<u32> =
        (0..logits.len() as u32).filter(|&i| logits[i as usize].is_finite()).collect();
    // Ties keep the order of the vocabulary, so that the choice is reproducible.
    let falling =
        |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if sampler.top_k > 0 && (sampler.top_k as usize) < order.len() {
        order.select_nth_unstable_by(sampler.top_k as usize - 1, falling);
        order.truncate(sampler.top_k as usize);
    }
    order.sort_unstable_by(falling);
    let max = logits[*order.first()? as usize];
    let weight = |&i: &u32| f64::from(libm::expf((logits[i as usize] - max) / sampler.temperature));
    let weights: Vec<f64> = order.iter().map(weight).collect();
    let mut total: f64 = weights.iter().sum();
    let mut kept = weights.len();
    if sampler.top_p < 1.0 {
        let (mut sum, limit) = (0.0, f64::from(sampler.top_p) * total);
        kept = weights
            .iter()
            .take_while(|&&w| {
                let go = sum < limit;
                sum += w;
                go
            })
            .count();
        kept = kept.max(1);
        total = weights[..kept].iter().sum();
    }
    let mut left = f64::from(random.uniform(step, index)) * total;
    for (&token, &weight) in order[..kept].iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return Some(token);
        }
    }
    Some(order[kept - 1])
}

/// The largest finite logit; the first of equals.
fn largest(logits: &[f32]) -> Option<u32> {
    let mut best: Option<usize> = None;
    for (i, &x) in logits.iter().enumerate() {
        if x.is_finite() && best.is_none_or(|b| x > logits[b]) {
            best = Some(i);
        }
    }
    best.map(|i| i as u32)
}

fn penalise(logits: &mut [f32], penalty: f32, text: &[u32]) {
    if penalty == 1.0 {
        return;
    }
    let mut seen: Vec<u32> = text.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        if let Some(x) = logits.get_mut(token as usize) {
            *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::Stream;

    fn draw(sampler: Sampler, index: u64) -> Option<u32> {
        let mut logits = [1.0, 3.0, 2.0, f32::NAN, -1.0];
        sample(&mut logits, &sampler, &[1], &Philox::new(3, Stream::SAMPLE), 0, index)
    }

    #[test]
    fn greedy_ignores_nan_and_honours_the_penalty() {
        assert_eq!(draw(Sampler::default(), 0), Some(1));
        let penalty = Sampler { repetition_penalty: 2.0, ..Sampler::default() };
        assert_eq!(draw(penalty, 0), Some(2));
        let mut bad = [f32::NAN; 3];
        let random = Philox::new(0, Stream::SAMPLE);
        assert_eq!(sample(&mut bad, &Sampler::default(), &[], &random, 0, 0), None);
    }

    #[test]
    fn candidates_are_cut() {
        let two = Sampler { temperature: 5.0, top_k: 2, ..Sampler::default() };
        assert!((0..200).all(|i| matches!(draw(two, i), Some(1 | 2))));
        let nucleus = Sampler { temperature: 1.0, top_p: 0.5, ..Sampler::default() };
        assert!((0..200).all(|i| draw(nucleus, i) == Some(1)));
        let all = Sampler { temperature: 5.0, ..Sampler::default() };
        assert!((0..500).any(|i| draw(all, i) == Some(4)));
    }
}
