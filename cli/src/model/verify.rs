//! An exported model against its source: the same logits, or no "done".

use std::path::Path;

use paddock_core::batch::Batch;
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::model::forward::Pass;
use paddock_core::model::{Model, init};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::train::evaluate;

use crate::open::{Machine, Opened, backend};

/// Positions compared.
const POSITIONS: u32 = 48;

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Comparison {
    /// Positions compared.
    pub positions: usize,
    /// Largest difference of a logit.
    pub largest_difference: f32,
    /// Largest logit in size, for scale.
    pub largest_logit: f32,
    /// Positions where both find the same token likeliest.
    pub agreeing: usize,
    /// Bits of precision of the new weights.
    bits: u32,
}

impl Comparison {
    /// Refuses what differs by more than rounding the weights explains.
    pub fn judge(&self) -> anyhow::Result<()> {
        // Rounding each weight to p bits changes a logit by a few 2^-p of its size; layers add up.
        let allowed = 64.0 * self.largest_logit.max(1.0) / (1u64 << self.bits) as f32;
        anyhow::ensure!(
            self.largest_difference <= allowed,
            "the written model does not answer like its source: logits differ by {:.2e}, rounding \
             explains {allowed:.2e}",
            self.largest_difference
        );
        Ok(())
    }

    /// What was found, once it has been [judged](Comparison::judge).
    pub fn words(&self, out: &Path) -> String {
        let same = match self.positions - self.agreeing.min(self.positions) {
            0 => format!(
                "in all {} places the likeliest next piece of text is the same",
                self.positions
            ),
            // A place where another one comes first is one where both are within that difference.
            other => format!(
                "in {} of {} places the likeliest next piece of text is the same, in {other} two are so near \
                 to each other that rounding decides",
                self.agreeing, self.positions
            ),
        };
        format!(
            "{} is written and checked: it answers as what it was made from. Read with the same random text, \
             {same} (their numbers, the logits, differ by at most {:.1e}; the largest is {:.1}).",
            out.display(),
            self.largest_difference,
            self.largest_logit
        )
    }
}

/// Logits of a fixed text of random tokens on both models.
pub fn compare(source: &Opened, new: &Path, machine: &Machine) -> anyhow::Result<Comparison> {
    let new = Opened::open(&new.to_string_lossy(), None)?;
    let tokens = source.folder.config.vocab_size;
    let a = logits(source, tokens, machine)?;
    let b = logits(&new, tokens, machine)?;
    // The new one may have more tokens; those are not compared.
    let [of_a, of_b] = [source, &new].map(|opened| opened.folder.config.vocab_size as usize);
    let best = |row: &[f32]| {
        let mut best = 0;
        (0..row.len()).for_each(|i| best = if row[i] > row[best] { i } else { best });
        best
    };
    let mut result = Comparison { bits: precision(&new)?, ..Comparison::default() };
    for (x, y) in a.chunks(of_a).zip(b.chunks(of_b)) {
        result.positions += 1;
        result.agreeing += usize::from(best(x) == best(y));
        for (&x, &y) in x.iter().zip(y) {
            result.largest_logit = result.largest_logit.max(x.abs());
            // `max` would pass over NaN.
            let difference = if (x - y).is_finite() { (x - y).abs() } else { f32::INFINITY };
            result.largest_difference = result.largest_difference.max(difference);
        }
    }
    Ok(result)
}

/// Bits of the coarsest element type among the weights.
fn precision(opened: &Opened) -> anyhow::Result<u32> {
    use paddock_core::weights::Dtype;
    let bits = |dtype| match dtype {
        Dtype::F32 => 22,
        Dtype::F16 => 11,
        Dtype::Bf16 => 8,
    };
    Ok(opened.weights()?.tensors.iter().map(|t| bits(t.dtype)).min().unwrap_or(22))
}

/// Logits after each of a few random tokens below `tokens`.
fn logits(opened: &Opened, tokens: u32, machine: &Machine) -> anyhow::Result<Vec<f32>> {
    let config = &opened.folder.config;
    let len = POSITIONS.min(config.max_seq_len);
    let random = Philox::new(1, Stream::GENERATE);
    let token = |i: u32| random.below(0, u64::from(i), u64::from(tokens)) as u32;
    let forest = Forest {
        tokens: (0..len).map(token).collect(),
        segments: vec![Segment { start: 0, len, parent: None }],
        entries: (0..len).map(|position| Entry { position, target: 0, weight: 1.0 }).collect(),
    };
    let batch = Batch::from_forest(&forest, config.vocab_size)?;
    let rows = u64::from(len);
    let capacity = Capacity {
        tokens: rows,
        kept: rows,
        entries: rows,
        positions: rows,
        cache_rows: 0,
        logit_rows: rows,
    };
    let mut b = backend(machine, opened.weights()?)?;
    let model = Model::new(config.clone(), opened.method())?;
    let plan = Plan::new(&model, capacity, Recompute::Nothing, false, &*b);
    b.reserve(&plan.sizes)?;
    init::upload_rope(&mut *b, &model, &plan, 0)?;
    opened.load_adapter(&mut *b, &model)?;
    evaluate(&mut *b, &model, &plan, &batch)?;
    let logits = Pass::new(&model, &plan, &batch).logits(&mut *b)?;
    Ok(init::read(&mut *b, logits)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compared_is_said_in_words() {
        let found = Comparison { positions: 48, agreeing: 48, bits: 8, ..Comparison::default() };
        let text = found.words(Path::new("merged"));
        assert!(
            text.starts_with("merged is written and checked") && text.contains("all 48"),
            "{text}"
        );
        let near = Comparison { agreeing: 47, largest_difference: 0.01, ..found };
        let text = near.words(Path::new("merged"));
        assert!(text.contains("47 of 48") && text.contains("in 1 two are so near"), "{text}");
        assert!(near.judge().is_ok());
        let far = Comparison { largest_difference: 1.0, ..found };
        assert!(far.judge().is_err());
    }
}
