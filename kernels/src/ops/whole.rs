//! Whole training steps of a small model, on any back-end, beside the reference.

use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::decode::{Cache, extend};
use paddock_core::error::{Error, Result};
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::model::{LoraConfig, Method, Model, Module, init, tensors};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::reference::Reference;
use paddock_core::slot::Region;
use paddock_core::train::{Adam, Outcome, StepSettings, scaled_step};
use paddock_core::weights::{Dtype, WeightView, Weights};

use super::{Rounding, Storage, Verdict};
use crate::Device;

/// A random checkpoint in bf16 of a model with two layers and grouped heads.
pub struct Toy {
    config: Config,
    tensors: Vec<(String, u32, u32, Vec<u8>)>,
}

impl Toy {
    /// The checkpoint of a seed.
    pub fn new(seed: u64) -> Toy {
        let config = Config {
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
        };
        Toy::of(config, seed)
    }

    /// The checkpoint of a seed in these shapes; it needs 64 positions.
    pub fn of(config: Config, seed: u64) -> Toy {
        let tensors = tensors(&config).into_iter().enumerate().map(|(i, t)| {
            let random = Philox::new(seed, Stream::init(i as u16));
            let shift = if t.vector { 1.0 } else { 0.0 };
            let len = u64::from(t.rows) * u64::from(t.cols);
            let value = |j| half::bf16::from_f32(random.normal(0, j) * 0.12 + shift);
            (t.name, t.rows, t.cols, (0..len).flat_map(|j| value(j).to_le_bytes()).collect())
        });
        Toy { tensors: tensors.collect(), config }
    }

    /// The tensors as a back-end takes them.
    pub fn weights(&self) -> Weights<'_> {
        let mut weights = Weights::default();
        for (name, rows, cols, bytes) in &self.tensors {
            let (name, rows, cols) = (name.clone(), *rows, *cols);
            weights.push(WeightView { name, dtype: Dtype::Bf16, rows, cols, bytes });
        }
        weights
    }

    /// A trunk with two children, and a second root; every child token is trained.
    fn batch(&self, seed: u64) -> Result<Batch> {
        let random = Philox::new(seed, Stream::GENERATE);
        let segment = |start, len, parent| Segment { start, len, parent };
        let segments = vec![
            segment(0, 9, None),
            segment(9, 7, Some(0)),
            segment(16, 5, Some(0)),
            segment(21, 8, None),
        ];
        let vocab = self.config.vocab_size;
        // Tokens repeat a pattern, so that there is something to learn.
        let tokens: Vec<u32> =
            (0..29).map(|i| ((i * 7 + random.below(0, i, 2)) % u64::from(vocab)) as u32).collect();
        let pairs =
            (9..15).chain(16..20).chain(21..28).map(|p| (p, p + 1)).chain([(8, 9), (8, 16)]);
        let entries = pairs
            .map(|(p, next)| Entry { position: p, target: tokens[next as usize], weight: 1.0 })
            .collect();
        Batch::from_forest(&Forest { tokens, segments, entries }, vocab)
    }

    /// The model with its first values on the back-end, and two micro-batches.
    fn begin(&self, b: &mut dyn Backend, method: Method) -> Result<(Model, Plan, [Batch; 2])> {
        let model = Model::new(self.config.clone(), method)?;
        let batches = [self.batch(1)?, self.batch(2)?];
        let capacity = Capacity {
            tokens: 29,
            kept: 29,
            entries: 32,
            positions: 64,
            cache_rows: 32,
            logit_rows: 2,
        };
        let plan = Plan::new(&model, capacity, Recompute::Cheap, true, b);
        b.reserve(&plan.sizes)?;
        init::init(b, &model, &self.weights(), 1)?;
        init::upload_rope(b, &model, &plan, 0)?;
        init::clear_optimizer(b, &model)?;
        Ok((model, plan, batches))
    }

    /// The first step of full training with the loss scaled so, and the parameters after it.
    pub fn first_step(&self, b: &mut dyn Backend, scale: f64) -> Result<(Outcome, Vec<f32>)> {
        let (model, plan, batches) = self.begin(b, Method::Full)?;
        let adam = Adam::default();
        let settings = StepSettings { adam, lr: 2e-3, max_grad_norm: 1.0, step: 0, seed: 9 };
        let outcome = scaled_step(b, &model, &plan, &batches, &settings, scale, &mut ())?;
        Ok((outcome, init::read(b, model.params.all())?))
    }

    /// Trains `steps` steps of two micro-batches each, then decodes six tokens in three pieces.
    pub fn train(&self, b: &mut dyn Backend, method: Method, steps: u64) -> Result<Trained> {
        let (model, plan, batches) = self.begin(b, method)?;
        // In f16 gradients are computed with the loss scaled, and read with the scale taken out.
        let scale = if b.has_narrow_range() { 1024.0 } else { 1.0 };
        let mut losses = Vec::new();
        for i in 0..steps {
            let adam = Adam { weight_decay: 0.01, ..Adam::default() };
            let settings = StepSettings { adam, lr: 2e-3, max_grad_norm: 1.0, step: i, seed: 9 };
            match scaled_step(b, &model, &plan, &batches, &settings, scale, &mut ())? {
                Outcome::Updated(report) => losses.push(report.loss),
                other => return Err(Error::Device(format!("step {i} made no update: {other:?}"))),
            }
        }
        let mut grads = init::read(b, model.params.all().in_region(Region::Grads))?;
        grads.iter_mut().for_each(|x| *x /= scale as f32);
        let mut cache = Cache::new(32);
        let node = cache.add(None, 12)?;
        let mut logits = Vec::new();
        for tokens in [&[3u32, 10, 17, 24][..], &[31], &[38]] {
            logits.extend(extend(b, &model, &plan, &mut cache, &[(node, tokens)])?.concat());
        }
        Ok(Trained { losses, grads, logits })
    }
}

/// LoRA of rank 4 on all linear layers.
pub fn lora(dropout: f32) -> Method {
    Method::Lora(LoraConfig {
        rank: 4,
        alpha: 8.0,
        dropout,
        targets: Module::ALL.map(|_| true),
        rank_stabilised: false,
    })
}

/// What training the toy gives.
pub struct Trained {
    /// Loss of each step.
    pub losses: Vec<f64>,
    /// Gradients of the last step.
    pub grads: Vec<f32>,
    /// Logits of the trained model, decoded with a cache.
    pub logits: Vec<f32>,
}

/// ‖a - b‖ / ‖b‖; infinite if the lengths differ or a number is missing.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let relative = (difference / b.iter().map(|&b| square(b)).sum::<f64>()).sqrt();
    if a.len() == b.len() && relative.is_finite() { relative } else { f64::INFINITY }
}

/// Two steps, full and LoRA, against the reference in f64: distances of gradients and of logits. They may be
/// twice those of the reference in f32 (an optimizer step magnifies roundings of gradients near 0), and 800
/// and 80 roundings of the back-end's activations (or of its products' operands), which pass twice through the model.
pub fn verify_steps(device: &Device, seed: u64, report: &mut dyn FnMut(Verdict)) -> Result<()> {
    let toy = Toy::new(seed);
    let methods = [("whole step, full", Method::Full), ("whole step, LoRA", lora(0.2))];
    for (op, method) in methods {
        let truth = toy.train(&mut Reference::<f64>::new(toy.weights()), method, 2)?;
        let mut backend = device.backend(toy.weights())?;
        let storage = Storage::on(device)?;
        let rounding = storage.unit();
        let plain: &mut dyn Backend = match storage {
            Storage::F32 | Storage::F16Products | Storage::Bf16Products => {
                &mut Reference::<f32>::new(toy.weights())
            }
            narrow => &mut Rounding::new(toy.weights(), narrow),
        };
        let plain = toy.train(plain, method, 2)?;
        let found = toy.train(&mut *backend, method, 2)?;
        let mut judge = |output, found: &[f32], plain: &[f32], truth: &[f32], roundings: f64| {
            let shape = String::from("2 layers, dim 48, 29 tokens");
            let (error, plain) = (distance(found, truth), distance(plain, truth));
            let allowed = 2.0 * plain + (roundings * rounding).min(0.1);
            report(Verdict { op, output, shape, error, plain, largest: 1.0, allowed });
        };
        judge("gradients", &found.grads, &plain.grads, &truth.grads, 800.0);
        judge("logits", &found.logits, &plain.logits, &truth.logits, 80.0);
    }
    Ok(())
}
