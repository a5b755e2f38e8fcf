//! `core-cli bench train`: optimizer steps of a model of any shape, with random weights.

use std::path::PathBuf;
use std::time::Instant;

use paddock_core::backend::Backend;
use paddock_core::model::{LoraConfig, Method, Model, init};
use paddock_core::null::Null;
use paddock_core::plan::Plan;
use paddock_core::train::{
    Adam, LossScale, Outcome, Phase, StepSettings, Watch, scaled_step, step,
};
use serde_json::json;

use super::bench_model::{RandomModel, Shape};
use super::bench_work::{Work, large_product};
use crate::error::bad_input;
use crate::model::mmap::forget;
use crate::open::{Machine, device, parse_parameters};
use crate::run::config;
use crate::train::forecast::{peak_bytes, resident_bytes};
use crate::train::session::recompute;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub model: Shape,
    /// Rows of a step.
    #[arg(long, default_value_t = 4)]
    pub batch: u64,
    /// Tokens of a row; with --data the most that one may have.
    #[arg(long, default_value_t = 256)]
    pub seq: u64,
    /// Rows to train on, instead of random tokens.
    #[arg(long, requires = "tokenizer", conflicts_with = "keep")]
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

/// Runs the command; gives what was measured.
pub fn run(args: &Args) -> anyhow::Result<serde_json::Value> {
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
    let model = RandomModel::new(&args.model, args.seq)?;
    measure(args, &model, method)
}

fn measure(args: &Args, random: &RandomModel, method: Method) -> anyhow::Result<serde_json::Value> {
    let (config, weights, file) = (&random.config, random.weights(), &random.file);
    let work = match &args.data {
        Some(_) => Work::of_rows(args, config)?,
        None => Work::random(args, config)?,
    };
    let model = Model::new(config.clone(), method)?;
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
    let mut run = |b: &mut dyn Backend, i: u64, watch: &mut dyn Watch| -> anyhow::Result<f64> {
        let settings = StepSettings { step: i, ..settings };
        let outcome = scaled_step(b, &model, &plan, work.step(i), &settings, scale, watch)?;
        let Outcome::Updated(report) = outcome else { anyhow::bail!("the loss is not finite") };
        loss = report.loss;
        Ok(loss)
    };
    let first_loss = run(&mut *b, 0, &mut ())?;
    let (mut phases, start) = (Phases::default(), Instant::now());
    (1..=args.steps).try_for_each(|i| run(&mut *b, i, &mut phases).map(drop))?;
    b.sync()?;
    let all_s = start.elapsed().as_secs_f64();
    let flops = flops(&model, &plan, &work, args.steps)?;
    let (steps, tokens) = (args.steps as f64, work.tokens(1..=args.steps));
    let phase = |i: usize| phases.seconds[i] / steps;
    let mut found = json!({
        "shape": args.model.shape,
        "method": args.method,
        "weights": args.model.weights,
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
        "first_loss": first_loss,
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
