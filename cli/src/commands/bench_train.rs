//! `core-cli bench train`: optimizer steps of a model of any shape, with random weights.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use memmap2::Mmap;
use paddock_core::backend::Backend;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::model::names::TensorSpec;
use paddock_core::model::{LoraConfig, Method, Model, init, tensors};
use paddock_core::null::Null;
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::Plan;
use paddock_core::train::{
    Adam, LossScale, Outcome, Phase, StepSettings, Watch, scaled_step, step,
};
use paddock_core::weights::{Dtype, WeightView, Weights};
use serde_json::json;

use super::bench_work::{Work, large_product};
use crate::error::bad_input;
use crate::model::mmap::{forget, map};
use crate::open::{Machine, device, parse_parameters};
use crate::run::config;
use crate::train::forecast::{peak_bytes, resident_bytes};
use crate::train::session::recompute;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// DIM,LAYERS,HEADS,KV,HIDDEN,VOCAB
    #[arg(long, value_name = "DIM,LAYERS,HEADS,KV,HIDDEN,VOCAB")]
    shape: String,
    /// The head is the embedding table.
    #[arg(long)]
    tie: bool,
    /// Element type of the frozen weights: f32 or bf16.
    #[arg(long, default_value = "f32")]
    weights: String,
    /// Rows of a step.
    #[arg(long, default_value_t = 4)]
    pub batch: u64,
    /// Tokens of a row; with --data the most that one may have.
    #[arg(long, default_value_t = 256)]
    pub seq: u64,
    /// Rows to train on, instead of random tokens.
    #[arg(long, requires = "tokenizer")]
    pub data: Option<PathBuf>,
    /// A folder with the tokenizer for them.
    #[arg(long, requires = "data")]
    pub tokenizer: Option<PathBuf>,
    /// Tokens that are in memory at once [default: those of a step].
    #[arg(long)]
    pub micro_batch_tokens: Option<u64>,
    /// lora or full
    #[arg(long, default_value = "lora")]
    method: String,
    /// Rank of LoRA on all linear layers.
    #[arg(long, default_value_t = 16)]
    rank: u32,
    /// Compute activations again instead of keeping them: off, cheap (norms and SwiGLU) or layers (least memory).
    #[arg(long, default_value = "cheap", value_parser = parse_recompute)]
    recompute: config::Recompute,
    /// What an NVIDIA card keeps trained parameters in: f32, or bf16 rounded at random.
    #[arg(long, default_value = "f32", value_parser = parse_parameters)]
    parameters: config::Parameters,
    /// Steps measured, after one to warm up.
    #[arg(long, default_value_t = 3)]
    pub steps: u64,
    #[command(flatten)]
    machine: Machine,
}

fn parse_recompute(text: &str) -> Result<config::Recompute, String> {
    serde_json::from_value(serde_json::Value::String(text.into()))
        .map_err(|_| "expected off, cheap or layers".to_string())
}

/// Seconds spent in each phase.
#[derive(Default)]
struct Phases {
    seconds: [f64; 3],
    current: Option<(usize, Instant)>,
}

impl Watch for Phases {
    fn phase(&mut self, phase: Phase) -> bool {
        if let Some((index, since)) = self.current.take() {
            self.seconds[index] += since.elapsed().as_secs_f64();
        }
        self.current = match phase {
            Phase::Forward => Some((0, Instant::now())),
            Phase::Backward => Some((1, Instant::now())),
            Phase::Optimizer => Some((2, Instant::now())),
            Phase::Done => None,
        };
        true
    }
}

fn shape(args: &Args) -> anyhow::Result<Config> {
    let numbers: Result<Vec<u32>, _> = args.shape.split(',').map(|n| n.trim().parse()).collect();
    let Ok([dim, n_layers, n_heads, n_kv_heads, hidden_dim, vocab_size]) =
        numbers.map(|n| <[u32; 6]>::try_from(n).unwrap_or([0; 6]))
    else {
        return Err(bad_input(format!("--shape {}: expected six whole numbers", args.shape)));
    };
    let config = Config {
        dim,
        hidden_dim,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim: dim.checked_div(n_heads).unwrap_or(0),
        vocab_size,
        max_seq_len: args.seq as u32,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
        tied: args.tie,
    };
    config.validate()?;
    Ok(config)
}

/// Random checkpoint bytes: each tensor is a window into one block of random numbers.
fn random_bytes(config: &Config, dtype: Dtype) -> Vec<u8> {
    let largest = tensors(config).iter().map(|t| u64::from(t.rows) * u64::from(t.cols)).max();
    let random = Philox::new(1, Stream::init(0));
    let value = |i: u64| (random.uniform(0, i) - 0.5) * 0.1;
    let count = largest.unwrap_or(0);
    match dtype {
        Dtype::F32 => (0..count).flat_map(|i| value(i).to_le_bytes()).collect(),
        _ => (0..count).flat_map(|i| half::bf16::from_f32(value(i)).to_le_bytes()).collect(),
    }
}

/// A mapped file in which every tensor has bytes of its own, as a real checkpoint has, so that memory traffic
/// and memory use are real. It has no name any more when this returns.
fn weights_file(sizes: &[u64], block: &[u8]) -> anyhow::Result<Mmap> {
    let path = std::env::temp_dir().join(format!("paddock-bench-{}", std::process::id()));
    let mut file = BufWriter::new(std::fs::File::create_new(&path)?);
    let written = sizes.iter().try_for_each(|&size| file.write_all(&block[..size as usize]));
    let map = written.and_then(|()| file.flush()).map_err(Into::into).and_then(|()| map(&path));
    std::fs::remove_file(&path)?;
    map
}

/// Runs the command; gives what was measured.
pub fn run(args: &Args) -> anyhow::Result<serde_json::Value> {
    let config = shape(args)?;
    let dtype = match args.weights.as_str() {
        "f32" => Dtype::F32,
        "bf16" => Dtype::Bf16,
        other => return Err(bad_input(format!("--weights {other}: expected f32 or bf16"))),
    };
    let method = match args.method.as_str() {
        "full" => Method::Full,
        "lora" => Method::Lora(LoraConfig {
            rank: args.rank,
            alpha: 2.0 * f64::from(args.rank),
            rank_stabilised: false,
            dropout: 0.0,
            targets: [true; 7],
        }),
        other => return Err(bad_input(format!("--method {other}: expected lora or full"))),
    };
    let block = random_bytes(&config, dtype);
    let list = tensors(&config);
    let size = |t: &TensorSpec| u64::from(t.rows) * u64::from(t.cols) * dtype.bytes();
    let file = weights_file(&list.iter().map(size).collect::<Vec<_>>(), &block)?;
    drop(block);
    let (mut weights, mut start) = (Weights::default(), 0);
    for t in &list {
        let end = start + size(t) as usize;
        let (name, bytes) = (t.name.clone(), &file[start..end]);
        weights.push(WeightView { name, dtype, rows: t.rows, cols: t.cols, bytes });
        start = end;
    }
    measure(args, config, method, weights, &file)
}

fn measure(
    args: &Args,
    config: Config,
    method: Method,
    weights: Weights<'_>,
    file: &Mmap,
) -> anyhow::Result<serde_json::Value> {
    let work = match &args.data {
        Some(_) => Work::of_rows(args, &config)?,
        None => Work::random(args, &config)?,
    };
    let model = Model::new(config, method)?;
    let device = device(&Machine { parameters: args.parameters, ..args.machine.clone() })?;
    let product = large_product(&device)?;
    let mut b = device.backend(weights.clone())?;
    let plan = Plan::new(&model, work.capacity, recompute(args.recompute), true, &*b);
    // Frozen weights stay in memory; those that are copied into parameters are given back.
    let frozen = if method == Method::Full { 0 } else { file.len() as u64 };
    let regions = plan.sizes.total_bytes(&*b);
    let planned = resident_bytes() + frozen + regions;
    b.reserve(&plan.sizes)?;
    init::upload_rope(&mut *b, &model, &plan, 0)?;
    init::init(&mut *b, &model, &weights, 1)?;
    if method == Method::Full {
        forget(file);
    }
    init::clear_optimizer(&mut *b, &model)?;
    let settings =
        StepSettings { adam: Adam::default(), lr: 1e-4, max_grad_norm: 1.0, step: 0, seed: 1 };
    let scale = if b.has_narrow_range() { LossScale::default().factor } else { 1.0 };
    let mut loss = 0.0;
    let mut run = |b: &mut dyn Backend, i: u64, watch: &mut dyn Watch| -> anyhow::Result<()> {
        let settings = StepSettings { step: i, ..settings };
        let outcome = scaled_step(b, &model, &plan, work.step(i), &settings, scale, watch)?;
        let Outcome::Updated(report) = outcome else { anyhow::bail!("the loss is not finite") };
        loss = report.loss;
        Ok(())
    };
    run(&mut *b, 0, &mut ())?;
    let (mut phases, start) = (Phases::default(), Instant::now());
    (1..=args.steps).try_for_each(|i| run(&mut *b, i, &mut phases))?;
    b.sync()?;
    let all_s = start.elapsed().as_secs_f64();
    let flops = flops(&model, &plan, &work, args.steps)?;
    let (steps, tokens) = (args.steps as f64, work.tokens(1..=args.steps));
    let phase = |i: usize| phases.seconds[i] / steps;
    let mut found = json!({
        "shape": args.shape,
        "method": args.method,
        "weights": args.weights,
        "recompute": args.recompute.to_string(),
        "backend": b.name(),
        "batch": args.batch,
        "seq": args.seq,
        "tokens_per_s": tokens as f64 / all_s,
        "gflops": flops / all_s / 1e9,
        "step_s": all_s / steps,
        "forward_s": phase(0),
        "backward_s": phase(1),
        "optimizer_s": phase(2),
        "peak_rss_bytes": peak_bytes(),
        "planned_bytes": planned,
        "device_bytes": regions + frozen,
        "loss": loss,
    });
    shares(&mut found, product, flops / all_s / 1e9);
    rows_of(&mut found, &work, args, all_s);
    Ok(found)
}

/// Arithmetic operations of the measured steps.
fn flops(model: &Model, plan: &Plan, work: &Work, steps: u64) -> anyhow::Result<f64> {
    let mut null = Null::default();
    let settings =
        StepSettings { adam: Adam::default(), lr: 1e-4, max_grad_norm: 1.0, step: 0, seed: 1 };
    for i in 1..=steps {
        step(&mut null, model, plan, work.step(i), &settings, &mut ())?;
    }
    Ok(null.counts.matmul_flops + null.counts.attention_flops)
}

/// What a large product reaches on this device, and the share of it.
fn shares(found: &mut serde_json::Value, product: Option<f64>, gflops: f64) {
    if let Some(large) = product {
        found["large_product_gflops"] = json!(large);
        found["share_of_large_product"] = json!(gflops / large);
    }
}

/// What the steps say of a pass over the rows, if there are rows.
fn rows_of(found: &mut serde_json::Value, work: &Work, args: &Args, all_s: f64) {
    let Some((rows, tokens)) = work.pass else { return };
    let rows_per_s = args.steps as f64 * args.batch as f64 / all_s;
    found["computed_tokens_per_s"] = json!(work.computed(1..=args.steps) as f64 / all_s);
    found["rows_of_a_pass"] = json!(rows);
    found["tokens_of_a_pass"] = json!(tokens);
    found["three_passes_minutes"] = json!(3.0 * rows as f64 / rows_per_s / 60.0);
}
