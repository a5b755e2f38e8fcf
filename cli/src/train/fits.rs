//! What a run would need under other settings, and which of them fit into this machine.

use paddock_core::backend::Backend;
use paddock_core::config::Config;
use paddock_core::model::{LoraConfig, Method, Model};
use paddock_core::plan::{Capacity, Plan, Recompute, RegionSizes};
use serde::Serialize;

use super::report::bytes;

/// A run by its shape: what its memory follows from.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The model.
    pub config: Config,
    /// What is trained.
    pub method: Method,
    /// The largest batch.
    pub capacity: Capacity,
    /// What is computed again.
    pub recompute: Recompute,
    /// Memory besides the planned regions: program, rows, frozen weights.
    pub besides: u64,
    /// Bytes of the frozen weights, which full training does not keep.
    pub weights: u64,
    /// Tokens of the longest row: a micro-batch cannot be smaller.
    pub longest: u64,
}

/// Other settings and what they would need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// The flags.
    pub flags: String,
    /// Memory in all.
    pub memory_bytes: u64,
}

impl Shape {
    /// Sizes of the planned regions.
    pub fn sizes(&self, b: &dyn Backend) -> anyhow::Result<RegionSizes> {
        let model = Model::new(self.config.clone(), self.method)?;
        Ok(Plan::new(&model, self.capacity, self.recompute, true, b).sizes)
    }

    /// Memory in all.
    pub fn memory(&self, b: &dyn Backend) -> anyhow::Result<u64> {
        Ok(self.besides + self.sizes(b)?.total_bytes(b))
    }

    /// Settings that need less, the mildest first.
    pub fn alternatives(&self, b: &dyn Backend) -> anyhow::Result<Vec<Alternative>> {
        let layers = |shape: &Shape| Shape { recompute: Recompute::Layers, ..shape.clone() };
        let mut list: Vec<(String, Shape)> = Vec::new();
        if self.recompute != Recompute::Layers {
            list.push(("--recompute layers".to_string(), layers(self)));
        }
        let half = (self.capacity.tokens / 2).max(self.longest);
        let mut sizes = vec![half, self.longest];
        sizes.dedup();
        sizes.retain(|tokens| *tokens < self.capacity.tokens);
        for tokens in &sizes {
            let part = self.with_tokens(*tokens);
            let flags = format!("--micro-batch-tokens {tokens}");
            list.push((flags.clone(), part.clone()));
            list.push((format!("{flags} --recompute layers"), layers(&part)));
        }
        if self.method == Method::Full {
            let (rank, alpha, targets) = (16, 32.0, [true; 7]);
            let (rank_stabilised, dropout) = (false, 0.0);
            let lora = LoraConfig { rank, alpha, rank_stabilised, dropout, targets };
            let method = Method::Lora(lora);
            let besides = self.besides + self.weights;
            let own = ("".to_string(), self.clone());
            for (flags, shape) in std::iter::once(own).chain(list.clone()) {
                let flags = format!("--method lora {flags}").trim_end().to_string();
                list.push((flags, Shape { method, besides, ..shape }));
            }
        }
        let found = list
            .into_iter()
            .map(|(flags, shape)| Ok(Alternative { flags, memory_bytes: shape.memory(b)? }));
        let mut found = found.collect::<anyhow::Result<Vec<_>>>()?;
        let own = self.memory(b)?;
        found.retain(|other| other.memory_bytes < own);
        Ok(found)
    }

    fn with_tokens(&self, tokens: u64) -> Shape {
        let capacity = Capacity { tokens, kept: tokens, entries: 2 * tokens, ..self.capacity };
        Shape { capacity, ..self.clone() }
    }
}

/// Whether it fits, and what would make it fit, in words.
pub fn words(needed: u64, free: u64, alternatives: &[Alternative]) -> String {
    if free == 0 {
        return "It is not known how much memory this machine has free.".to_string();
    }
    let (need, have) = (bytes(needed), bytes(free));
    if needed <= free {
        return format!("Fits       {need} of {have} free");
    }
    let mut text = format!("Does not fit: {need} are needed, {have} are free.");
    let fitting: Vec<&Alternative> =
        alternatives.iter().filter(|a| a.memory_bytes <= free).collect();
    match (&fitting[..], alternatives.iter().min_by_key(|a| a.memory_bytes)) {
        ([], None) => text.push_str(" Nothing else here needs less; take a smaller model."),
        ([], Some(least)) => text.push_str(&format!(
            " The least, with {}, is {}; take a smaller model, or shorter rows (--max-seq-len).",
            least.flags,
            bytes(least.memory_bytes)
        )),
        (fitting, _) => {
            text.push_str(" What would make it fit:");
            for other in fitting {
                text.push_str(&format!("\n  {:>9}  {}", bytes(other.memory_bytes), other.flags));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_named_and_what_does_not_is_not() {
        let list = [("a", 50), ("b", 20)]
            .map(|(flags, memory_bytes)| Alternative { flags: flags.to_string(), memory_bytes });
        assert!(words(10, 20, &list).contains("10 bytes of 20 bytes free"));
        let text = words(100, 30, &list);
        assert!(text.contains("20 bytes  b") && !text.contains("50 bytes"), "{text}");
        let text = words(100, 10, &list);
        assert!(text.contains("The least, with b, is 20 bytes"), "{text}");
    }
}
