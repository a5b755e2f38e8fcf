//! `core-cli bench`: the speed of this machine on a model of any shape, with random weights and tokens.

use std::io::{BufWriter, Write};
use std::time::Instant;

use clap::Subcommand;
use memmap2::Mmap;
use paddock_core::batch::Batch;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::forest::Forest;
use paddock_core::model::names::TensorSpec;
use paddock_core::model::{LoraConfig, Method, Model, init, tensors};
use paddock_core::null::Null;
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan};
use paddock_core::train::{Adam, Outcome, Phase, StepSettings, Watch, step};
use paddock_core::weights::{Dtype, WeightView, Weights};
use paddock_kernels::ops::{self, Speed};
use serde_json::json;

use crate::error::bad_input;
use crate::model::mmap::{forget, map};
use crate::open::{Machine, backend, device};
use crate::run::config;
use crate::train::forecast::{peak_bytes, resident_bytes};
use crate::train::session::recompute;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Optimizer steps on a dense batch (nothing shared, every token trained).
    Train(TrainArgs),
    /// Every op of a training step, on shapes like a small model's.
    Ops(OpsArgs),
    /// Rows read, rendered and tokenised.
    Data(super::bench_data::Args),
}

#[derive(Debug, clap::Args)]
struct TrainArgs {
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
    batch: u64,
    /// Tokens of a row.
    #[arg(long, default_value_t = 256)]
    seq: u64,
    /// lora or full
    #[arg(long, default_value = "lora")]
    method: String,
    /// Rank of LoRA on all linear layers.
    #[arg(long, default_value_t = 16)]
    rank: u32,
    /// Compute activations again instead of keeping them: off, cheap (norms and SwiGLU) or layers (least memory).
    #[arg(long, default_value = "cheap", value_parser = parse_recompute)]
    recompute: config::Recompute,
    /// Steps measured, after one to warm up.
    #[arg(long, default_value_t = 3)]
    steps: u64,
    #[command(flatten)]
    machine: Machine,
}

#[derive(Debug, clap::Args)]
struct OpsArgs {
    /// Only ops whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Each op as soon as it is measured.
fn bench_ops(args: &OpsArgs) -> anyhow::Result<()> {
    let device = device(&args.machine)?;
    if !args.json {
        println!("{}", device.name());
        println!("{:30} {:>10} {:>9} {:>8}  shape", "op", "ms", "GFLOP/s", "GB/s");
    }
    let backend = device.name();
    let mut tell = |s: Speed| {
        let (gflops, gbytes) = (s.flops / s.seconds / 1e9, s.bytes / s.seconds / 1e9);
        if args.json {
            let line = json!({
                "op": s.op, "backend": backend, "seconds": s.seconds, "gflops": gflops,
                "gbytes": gbytes, "shape": s.shape,
            });
            println!("{line}");
        } else {
            let ms = 1e3 * s.seconds;
            println!("{:30} {ms:10.3} {gflops:9.1} {gbytes:8.1}  {}", s.op, s.shape);
        }
    };
    Ok(ops::measure(&device, &args.only, &mut tell)?)
}

fn parse_recompute(text: &str) -> Result<config::Recompute, String> {
    serde_json::from_value(serde_json::Value::String(text.into()))
        .map_err(|_| "expected off, cheap or layers".to_string())
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.what {
        What::Train(args) => println!("{}", train(&args)?),
        What::Ops(args) => bench_ops(&args)?,
        What::Data(args) => super::bench_data::run(&args)?,
    }
    Ok(())
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

fn shape(args: &TrainArgs) -> anyhow::Result<Config> {
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

fn train(args: &TrainArgs) -> anyhow::Result<serde_json::Value> {
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

/// Dense rows of random tokens, every one of them trained.
fn random_batch(args: &TrainArgs, vocab_size: u32) -> anyhow::Result<Batch> {
    let random = Philox::new(2, Stream::GENERATE);
    let draw = |i: u64| random.below(0, i, u64::from(vocab_size)) as u32;
    let rows: Vec<Vec<u32>> =
        (0..args.batch).map(|r| (0..args.seq).map(|i| draw(r * args.seq + i)).collect()).collect();
    let mask = vec![true; args.seq as usize];
    let pairs: Vec<(&[u32], &[bool])> = rows.iter().map(|r| (&r[..], &mask[..])).collect();
    Ok(Batch::from_forest(&Forest::from_rows(&pairs), vocab_size)?)
}

fn measure(
    args: &TrainArgs,
    config: Config,
    method: Method,
    weights: Weights<'_>,
    file: &Mmap,
) -> anyhow::Result<serde_json::Value> {
    let tokens = args.batch * args.seq;
    let batch = random_batch(args, config.vocab_size)?;
    let capacity = Capacity {
        tokens,
        kept: tokens,
        entries: tokens,
        positions: args.seq,
        ..Capacity::default()
    };
    let model = Model::new(config, method)?;
    let mut b = backend(&args.machine, weights.clone())?;
    let plan = Plan::new(&model, capacity, recompute(args.recompute), true, &*b);
    // Frozen weights stay in memory; those that are copied into parameters are given back.
    let frozen = if method == Method::Full { 0 } else { file.len() as u64 };
    let planned = resident_bytes() + frozen + plan.sizes.total_bytes(&*b);
    b.reserve(&plan.sizes)?;
    init::upload_rope(&mut *b, &model, &plan, 0)?;
    init::init(&mut *b, &model, &weights, 1)?;
    if method == Method::Full {
        forget(file);
    }
    init::clear_optimizer(&mut *b, &model)?;
    let settings =
        StepSettings { adam: Adam::default(), lr: 1e-4, max_grad_norm: 1.0, step: 0, seed: 1 };
    let batches = [batch];
    let mut loss = 0.0;
    step(&mut *b, &model, &plan, &batches, &settings, &mut ())?;
    let (mut phases, start) = (Phases::default(), Instant::now());
    for i in 0..args.steps {
        let settings = StepSettings { step: i + 1, ..settings };
        let outcome = step(&mut *b, &model, &plan, &batches, &settings, &mut phases)?;
        let Outcome::Updated(report) = outcome else { anyhow::bail!("the loss is not finite") };
        loss = report.loss;
    }
    let seconds = start.elapsed().as_secs_f64() / args.steps as f64;
    let mut null = Null::default();
    step(&mut null, &model, &plan, &batches, &settings, &mut ())?;
    let flops = null.counts.matmul_flops + null.counts.attention_flops;
    let phase = |i: usize| phases.seconds[i] / args.steps as f64;
    Ok(json!({
        "shape": args.shape,
        "method": args.method,
        "weights": args.weights,
        "recompute": args.recompute.to_string(),
        "backend": b.name(),
        "batch": args.batch,
        "seq": args.seq,
        "tokens_per_s": tokens as f64 / seconds,
        "gflops": flops / seconds / 1e9,
        "step_s": seconds,
        "forward_s": phase(0),
        "backward_s": phase(1),
        "optimizer_s": phase(2),
        "peak_rss_bytes": peak_bytes(),
        "planned_bytes": planned,
        "loss": loss,
    }))
}
