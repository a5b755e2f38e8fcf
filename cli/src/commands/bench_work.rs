//! What `core-cli bench train` trains on, and how fast a large matrix product is beside it.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use paddock_core::backend::Write;
use paddock_core::batch::Batch;
use paddock_core::config::Config;
use paddock_core::forest::Forest;
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, RegionSizes};
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Dtype, Mat, Weight, WeightView, Weights};
use paddock_datasets::encode::{EncodeOptions, Example, OverLength};
use paddock_datasets::forest::Limits;
use paddock_datasets::prepare::{PrepareOptions, Quiet, prepare};
use paddock_datasets::readers::{self, ReadOptions};
use paddock_datasets::template::Template;
use paddock_datasets::tokenizer::Tokenizer;
use paddock_kernels::Device;

use super::bench_train::Args;
use crate::error::bad_input;
use crate::train::session::batches;

/// Steps, and what they hold.
pub struct Work {
    /// Micro-batches of each step, with the tokens of its rows as if nothing were shared.
    steps: Vec<(Vec<Batch>, u64)>,
    /// The largest micro-batch.
    pub capacity: Capacity,
    /// Rows and tokens of one pass over the data, if there are data.
    pub pass: Option<(u64, u64)>,
}

impl Work {
    /// Dense rows of random tokens, every one of them trained.
    pub fn random(args: &Args, config: &Config) -> anyhow::Result<Work> {
        let vocab = config.vocab_size;
        let random = Philox::new(2, Stream::GENERATE);
        let draw = |i: u64| random.below(0, i, u64::from(vocab)) as u32;
        let row = |r: u64| (0..args.seq).map(|i| draw(r * args.seq + i)).collect();
        let rows: Vec<Vec<u32>> = (0..args.batch).map(row).collect();
        if let Some(folder) = &args.model.keep {
            std::fs::write(folder.join("rows.json"), serde_json::to_string(&rows)?)?;
        }
        let mask = vec![true; args.seq as usize];
        let tokens = args.batch * args.seq;
        let part = args.micro_batch_tokens.unwrap_or(tokens).min(tokens).max(args.seq);
        let forest = |rows: &[Vec<u32>]| {
            let pairs: Vec<(&[u32], &[bool])> = rows.iter().map(|r| (&r[..], &mask[..])).collect();
            Batch::from_forest(&Forest::from_rows(&pairs), vocab)
        };
        let parts = rows.chunks((part / args.seq.max(1)) as usize).map(forest);
        let parts = parts.collect::<Result<Vec<Batch>, _>>()?;
        let capacity = Capacity {
            tokens: part,
            kept: part,
            entries: part,
            positions: args.seq,
            ..Capacity::default()
        };
        Ok(Work { steps: vec![(parts, tokens)], capacity, pass: None })
    }

    /// Rows of a file, evenly spread over it, as a run would cut them.
    pub fn of_rows(args: &Args, config: &Config) -> anyhow::Result<Work> {
        let (Some(data), Some(tokenizer)) = (&args.data, &args.tokenizer) else {
            return Err(bad_input("--data and --tokenizer go together"));
        };
        let rows = examples(data, tokenizer, args.seq)?;
        let count = rows.len() as u64;
        if count < args.batch || args.batch == 0 {
            return Err(bad_input(format!("{} has {count} usable rows", data.display())));
        }
        let tokens = |row: &Example| row.tokens.len() as u64;
        let longest = rows.iter().map(tokens).max().unwrap_or(1);
        // A prime step through the rows: neighbours, which are often alike, come apart.
        let chosen = |step: u64| -> Vec<&Example> {
            let index = |j| ((step * args.batch + j) * 7919 % count) as usize;
            (0..args.batch).map(|j| &rows[index(j)]).collect()
        };
        let steps: Vec<Vec<&Example>> = (0..=args.steps).map(chosen).collect();
        let sums = steps.iter().map(|step| step.iter().map(|row| tokens(row)).sum::<u64>());
        let sums: Vec<u64> = sums.collect();
        let largest = sums.iter().copied().max().unwrap_or(1);
        let part = args.micro_batch_tokens.unwrap_or(largest).max(longest);
        let limits = Limits { entries: 2 * part as usize, ..Limits::tokens(part as usize) };
        let mut all = Vec::new();
        for (step, sum) in steps.iter().zip(sums) {
            let parts = batches(step, &limits, config)?;
            all.push((parts.into_iter().map(|(_, batch)| batch).collect(), sum));
        }
        let capacity = Capacity {
            tokens: part,
            kept: part,
            entries: 2 * part,
            positions: longest,
            ..Capacity::default()
        };
        let pass = Some((count, rows.iter().map(tokens).sum()));
        Ok(Work { steps: all, capacity, pass })
    }

    fn at(&self, step: u64) -> &(Vec<Batch>, u64) {
        &self.steps[step as usize % self.steps.len()]
    }

    /// The micro-batches of a step.
    pub fn step(&self, step: u64) -> &[Batch] {
        &self.at(step).0
    }

    /// Tokens of the rows of these steps.
    pub fn tokens(&self, steps: RangeInclusive<u64>) -> u64 {
        steps.map(|i| self.at(i).1).sum()
    }

    /// Tokens that these steps compute.
    pub fn computed(&self, steps: RangeInclusive<u64>) -> u64 {
        steps.flat_map(|i| self.step(i)).map(Batch::rows).sum()
    }
}

/// The rows of a file, rendered as its columns call for.
fn examples(data: &Path, tokenizer: &Path, longest: u64) -> anyhow::Result<Vec<Example>> {
    let tokenizer = Tokenizer::load(tokenizer)?;
    let read = ReadOptions::default();
    let detected = readers::open(data, &read)?.detected().clone();
    let template = Template::for_layout(&detected)
        .ok_or_else(|| bad_input("no template suits the columns of --data"))?;
    let options = PrepareOptions {
        read,
        template,
        encode: EncodeOptions { max_tokens: longest as usize, over_length: OverLength::Drop },
        keep_empty_answers: false,
        limit_rows: None,
        shots: None,
        sample: None,
    };
    let mut all = Vec::new();
    prepare(&[data.to_path_buf()], &options, &tokenizer, &mut Quiet, &mut |part| {
        all.extend(part.into_iter().map(|(example, _)| example));
        Ok(())
    })?;
    Ok(all)
}

/// Rows, columns and terms of the large product.
const LARGE: u32 = 8192;

/// Products that are timed together.
const TIMES: u32 = 20;

/// GFLOP/s of a large matrix product on random numbers: what steps are measured against. On an NVIDIA card
/// alone, where it takes no time.
pub fn large_product(device: &Device) -> anyhow::Result<Option<f64>> {
    if !matches!(device, Device::Cuda(_)) {
        return Ok(None);
    }
    let count = u64::from(LARGE) * u64::from(LARGE);
    let bytes: Vec<u8> =
        numbers(count).flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect();
    let mut weights = Weights::default();
    let (name, dtype, rows, cols) = (String::from("large"), Dtype::Bf16, LARGE, LARGE);
    weights.push(WeightView { name, dtype, rows, cols, bytes: &bytes });
    let mut b = device.backend(weights)?;
    let mut sizes = RegionSizes::default();
    sizes.grow(Region::Acts, 2 * count);
    b.reserve(&sizes)?;
    let [inp, out] = [0, count].map(|offset| Slot::new(Region::Acts, offset, count));
    b.upload(inp, &numbers(count).collect::<Vec<f32>>())?;
    let mut run = |times: u32| -> anyhow::Result<f64> {
        let begun = Instant::now();
        for _ in 0..times {
            b.matmul_forward(out, inp, Mat::frozen(Weight(0), LARGE, LARGE), 1.0, Write::Set)?;
        }
        b.sync()?;
        Ok(begun.elapsed().as_secs_f64())
    };
    run(TIMES)?;
    let flops = 2.0 * f64::from(LARGE).powi(3) * f64::from(TIMES);
    Ok(Some(flops / run(TIMES)? / 1e9))
}

/// Numbers of either sign, quickly.
fn numbers(count: u64) -> impl Iterator<Item = f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    })
}
