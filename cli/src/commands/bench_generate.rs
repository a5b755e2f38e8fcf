//! `core-cli bench generate`: how fast a model of any shape reads a prompt and writes an answer, one stream.

use std::time::Instant;

use paddock_core::backend::Backend;
use paddock_core::decode::{Cache, extend};
use paddock_core::model::{Method, Model, init};
use paddock_core::plan::{Capacity, Plan, Recompute};
use serde_json::json;

use super::bench_model::{RandomModel, Shape};
use crate::open::{Machine, device};
use crate::train::forecast::peak_bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: Shape,
    /// Tokens of the prompt whose reading is measured.
    #[arg(long, default_value_t = 512)]
    prompt: u32,
    /// Tokens written, after a prompt of 16.
    #[arg(long, default_value_t = 128)]
    tokens: u32,
    /// Times that each is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    times: usize,
    #[command(flatten)]
    machine: Machine,
}

/// Tokens before the first that is written.
const SHORT: u32 = 16;

/// Runs the command; gives what was measured.
pub fn run(args: &Args) -> anyhow::Result<serde_json::Value> {
    let longest = u64::from(args.prompt.max(SHORT + args.tokens).max(2));
    let random = RandomModel::new(&args.model, longest)?;
    let model = Model::new(random.config.clone(), Method::Frozen)?;
    let mut b = device(&args.machine)?.backend(random.weights())?;
    let capacity = Capacity {
        tokens: u64::from(args.prompt).max(u64::from(SHORT)),
        kept: 1,
        entries: 1,
        positions: longest,
        cache_rows: longest,
        logit_rows: 1,
    };
    let plan = Plan::new(&model, capacity, Recompute::Nothing, false, &*b);
    b.reserve(&plan.sizes)?;
    init::upload_rope(&mut *b, &model, &plan, 0)?;
    let vocab = random.config.vocab_size;
    let token = |i: u32| i.wrapping_mul(7919) % vocab;
    let mut texts = Texts { b: &mut *b, model: &model, plan: &plan };
    // The first time warms up.
    let reading = (0..=args.times).map(|_| texts.read(args.prompt, token).map(|(s, ..)| s));
    let reading = median(reading.collect::<anyhow::Result<Vec<f64>>>()?);
    let writing = (0..=args.times).map(|_| texts.write(args.tokens, token));
    let writing = median(writing.collect::<anyhow::Result<Vec<f64>>>()?);
    Ok(json!({
        "shape": args.model.shape,
        "weights": args.model.weights,
        "backend": b.name(),
        "prompt": args.prompt,
        "tokens": args.tokens,
        "prompt_tokens_per_s": f64::from(args.prompt) / reading,
        "tokens_per_s": f64::from(args.tokens) / writing,
        "peak_rss_bytes": peak_bytes(),
    }))
}

/// The median of all but the first.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Texts<'a> {
    b: &'a mut dyn Backend,
    model: &'a Model,
    plan: &'a Plan,
}

impl Texts<'_> {
    /// Seconds to read a prompt of `len` tokens; and what comes after it.
    fn read(
        &mut self,
        len: u32,
        token: impl Fn(u32) -> u32,
    ) -> anyhow::Result<(f64, Cache, paddock_core::decode::NodeId, u32)> {
        let prompt: Vec<u32> = (0..len).map(token).collect();
        let mut cache = Cache::new(self.plan.capacity.cache_rows);
        let node = cache.add(None, self.plan.capacity.cache_rows)?;
        let begun = Instant::now();
        let logits = extend(self.b, self.model, self.plan, &mut cache, &[(node, &prompt)])?;
        Ok((begun.elapsed().as_secs_f64(), cache, node, likeliest(&logits[0])))
    }

    /// Seconds to write `len` tokens after a short prompt, always the likeliest.
    fn write(&mut self, len: u32, token: impl Fn(u32) -> u32) -> anyhow::Result<f64> {
        let (_, mut cache, node, mut next) = self.read(SHORT, token)?;
        let begun = Instant::now();
        for _ in 0..len {
            let logits = extend(self.b, self.model, self.plan, &mut cache, &[(node, &[next])])?;
            next = likeliest(&logits[0]);
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(token, _)| token as u32)
}
