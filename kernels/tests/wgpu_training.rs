//! Whole steps on the wgpu back-end: gradients equal the reference's, and fifty steps follow the
//! CPU's losses.

use std::sync::Arc;

use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::decode::{Cache, extend};
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::model::{LoraConfig, Method, Model, Module, init, tensors};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::reference::Reference;
use paddock_core::slot::Region;
use paddock_core::train::{Adam, Outcome, StepSettings, step};
use paddock_core::weights::{Dtype, WeightView, Weights};
use paddock_kernels::cpu::Cpu;
use paddock_kernels::wgpu::{Gpu, Wgpu};

fn gpu() -> Option<Arc<Gpu>> {
    let why = match Gpu::open() {
        Ok(gpu) => return Some(gpu),
        Err(why) => why,
    };
    let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
    assert!(!required.contains("wgpu"), "PADDOCK_REQUIRE names wgpu, but {why}");
    eprintln!("SKIPPED: the wgpu back-end is not tested: {why}");
    None
}

fn config() -> Config {
    Config {
        dim: 48,
        hidden_dim: 70,
        n_layers: 2,
        n_heads: 6,
        n_kv_heads: 2,
        head_dim: 8,
        vocab_size: 101,
        max_seq_len: 64,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
        tied: false,
    }
}

/// A random checkpoint in bf16.
struct Checkpoint(Vec<(String, u32, u32, Vec<u8>)>);

impl Checkpoint {
    fn new(config: &Config) -> Checkpoint {
        let list = tensors(config);
        let tensors = list.iter().enumerate().map(|(i, t)| {
            let random = Philox::new(5, Stream::init(i as u16));
            let shift = if t.vector { 1.0 } else { 0.0 };
            let len = u64::from(t.rows) * u64::from(t.cols);
            let value = |j| half::bf16::from_f32(random.normal(0, j) * 0.12 + shift);
            let bytes = (0..len).flat_map(|j| value(j).to_le_bytes()).collect();
            (t.name.clone(), t.rows, t.cols, bytes)
        });
        Checkpoint(tensors.collect())
    }

    fn weights(&self) -> Weights<'_> {
        let mut weights = Weights::default();
        for (name, rows, cols, bytes) in &self.0 {
            let (name, rows, cols) = (name.clone(), *rows, *cols);
            weights.push(WeightView { name, dtype: Dtype::Bf16, rows, cols, bytes });
        }
        weights
    }
}

/// A trunk with two children, and a second root; every child token is trained.
fn batch(config: &Config, seed: u64) -> Batch {
    let random = Philox::new(seed, Stream::GENERATE);
    let segment = |start, len, parent| Segment { start, len, parent };
    let segments = vec![
        segment(0, 9, None),
        segment(9, 7, Some(0)),
        segment(16, 5, Some(0)),
        segment(21, 8, None),
    ];
    // Tokens repeat a pattern, so that there is something to learn.
    let tokens: Vec<u32> = (0..29)
        .map(|i| ((i * 7 + random.below(0, i, 2)) % u64::from(config.vocab_size)) as u32)
        .collect();
    let pairs = (9..15).chain(16..20).chain(21..28).map(|p| (p, p + 1)).chain([(8, 9), (8, 16)]);
    let entries = pairs
        .map(|(p, next)| Entry { position: p, target: tokens[next as usize], weight: 1.0 })
        .collect();
    Batch::from_forest(&Forest { tokens, segments, entries }, config.vocab_size).unwrap()
}

fn lora(dropout: f32) -> Method {
    let all = LoraConfig {
        rank: 4,
        alpha: 8.0,
        dropout,
        targets: Module::ALL.map(|_| true),
        rank_stabilised: false,
    };
    Method::Lora(all)
}

/// Losses and gradient norms of `steps` steps, the last step's gradients, and the logits afterwards.
struct Run {
    losses: Vec<f64>,
    grads: Vec<f32>,
    logits: Vec<f32>,
}

fn train(b: &mut dyn Backend, checkpoint: &Checkpoint, method: Method, steps: u64) -> Run {
    let model = Model::new(config(), method).unwrap();
    let batches = [batch(&model.config, 1), batch(&model.config, 2)];
    let capacity = Capacity {
        tokens: 29,
        kept: 29,
        entries: 32,
        positions: 64,
        cache_rows: 32,
        logit_rows: 2,
    };
    let plan = Plan::new(&model, capacity, Recompute::Cheap, true, b);
    b.reserve(&plan.sizes).unwrap();
    init::init(b, &model, &checkpoint.weights(), 1).unwrap();
    init::upload_rope(b, &model, &plan, 0).unwrap();
    let mut losses = Vec::new();
    for i in 0..steps {
        let adam = Adam { weight_decay: 0.01, ..Adam::default() };
        let settings = StepSettings { adam, lr: 2e-3, max_grad_norm: 1.0, step: i, seed: 9 };
        let outcome = step(b, &model, &plan, &batches, &settings, &mut ()).unwrap();
        let Outcome::Updated(report) = outcome else { panic!("{outcome:?}") };
        losses.push(report.loss);
    }
    let grads = init::read(b, model.params.all().in_region(Region::Grads)).unwrap();
    let mut cache = Cache::new(32);
    let node = cache.add(None, 12).unwrap();
    let mut logits = Vec::new();
    for tokens in [&[3u32, 10, 17, 24][..], &[31], &[38]] {
        logits.extend(extend(b, &model, &plan, &mut cache, &[(node, tokens)]).unwrap().remove(0));
    }
    Run { losses, grads, logits }
}

/// ‖a - b‖ / ‖b‖
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (difference / b.iter().map(|&b| square(b)).sum::<f64>()).sqrt()
}

#[test]
fn a_step_equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    let checkpoint = Checkpoint::new(&config());
    for method in [Method::Full, lora(0.0), lora(0.2)] {
        let mut reference = Reference::<f64>::new(checkpoint.weights());
        let expected = train(&mut reference, &checkpoint, method, 2);
        let mut wgpu = Wgpu::on(gpu.clone(), checkpoint.weights()).unwrap();
        let found = train(&mut wgpu, &checkpoint, method, 2);
        let grads = distance(&found.grads, &expected.grads);
        assert!(grads < 1e-4, "{method:?}: gradients off by {grads:e}");
        let logits = distance(&found.logits, &expected.logits);
        assert!(logits < 1e-5, "{method:?}: cached decoding off by {logits:e}");
    }
}

#[test]
fn fifty_steps_follow_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let checkpoint = Checkpoint::new(&config());
    for method in [Method::Full, lora(0.1)] {
        let mut cpu = Cpu::new(checkpoint.weights(), 1, None).unwrap();
        let expected = train(&mut cpu, &checkpoint, method, 50).losses;
        let runs = [0, 1].map(|_| {
            let mut wgpu = Wgpu::on(gpu.clone(), checkpoint.weights()).unwrap();
            train(&mut wgpu, &checkpoint, method, 50)
        });
        for (i, (found, expected)) in runs[0].losses.iter().zip(&expected).enumerate() {
            let error = (found - expected).abs() / expected;
            assert!(error < 1e-3, "{method:?} step {i}: {found} instead of {expected}");
        }
        assert!(runs[0].losses[49] < 0.8 * runs[0].losses[0], "{:?}", runs[0].losses);
        assert_eq!(runs[0].losses, runs[1].losses);
        assert_eq!(runs[0].grads, runs[1].grads);
    }
}
