//! A LLaMA of 16 numbers a token and two layers, drawn at random, and a few rows to learn.

use alloc::vec::Vec;

use paddock_core::Result;
use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::model::{Method, Model, init, tensors};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::reference::Reference;
use paddock_core::train::{Adam, StepSettings, evaluate, step};
use paddock_core::weights::{Dtype, WeightView, Weights};

/// What a run did.
pub struct Run {
    /// Mean loss before.
    pub before: f64,
    /// Mean loss after.
    pub after: f64,
    /// Trained numbers.
    pub trained: u64,
    /// Bytes of all planned regions.
    pub planned_bytes: u64,
    /// Bytes of the checkpoint.
    pub weight_bytes: u64,
}

/// Makes `steps` updates of `method` on the rows below.
pub fn train(method: Method, steps: u64, lr: f64) -> Result<Run> {
    let config = config();
    let checkpoint = checkpoint(&config);
    let weights = view(&config, &checkpoint);
    let weight_bytes = weights.bytes();
    let mut b = Reference::<f32>::new(weights.clone());
    let model = Model::new(config, method)?;
    let batch = Batch::from_forest(&forest(), model.config.vocab_size)?;
    let capacity = Capacity {
        tokens: batch.rows(),
        kept: batch.kept(),
        entries: batch.entries(),
        positions: u64::from(batch.longest),
        ..Capacity::default()
    };
    let plan = Plan::new(&model, capacity, Recompute::Nothing, true, &b);
    b.reserve(&plan.sizes)?;
    init::init(&mut b, &model, &weights, 1)?;
    init::clear_optimizer(&mut b, &model)?;
    init::upload_rope(&mut b, &model, &plan, 0)?;

    let before = mean_loss(&mut b, &model, &plan, &batch)?;
    let adam = Adam::default();
    let batches = [batch];
    for number in 0..steps {
        let settings = StepSettings { adam, lr, max_grad_norm: 1.0, step: number, seed: 1 };
        step(&mut b, &model, &plan, &batches, &settings, &mut ())?;
    }
    let after = mean_loss(&mut b, &model, &plan, &batches[0])?;
    let planned_bytes = plan.sizes.total_bytes(&b);
    Ok(Run { before, after, trained: model.params.count(), planned_bytes, weight_bytes })
}

fn mean_loss(b: &mut Reference<'_, f32>, model: &Model, plan: &Plan, x: &Batch) -> Result<f64> {
    let nll = evaluate(b, model, plan, x)?.nll;
    Ok(nll.iter().map(|&x| f64::from(x)).sum::<f64>() / nll.len() as f64)
}

fn config() -> Config {
    Config {
        dim: 16,
        hidden_dim: 40,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 4,
        vocab_size: 32,
        max_seq_len: 64,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
        tied: true,
    }
}

/// The bytes of all tensors, one after another.
fn checkpoint(config: &Config) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, tensor) in tensors(config).iter().enumerate() {
        let random = Philox::new(7, Stream::init(i as u16));
        for j in 0..u64::from(tensor.rows) * u64::from(tensor.cols) {
            let value = if tensor.vector { 1.0 } else { random.normal(0, j) * 0.2 };
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

fn view<'a>(config: &Config, bytes: &'a [u8]) -> Weights<'a> {
    let mut weights = Weights::default();
    let mut rest = bytes;
    for tensor in tensors(config) {
        let (bytes, tail) = rest.split_at(tensor.rows as usize * tensor.cols as usize * 4);
        rest = tail;
        let (name, rows, cols) = (tensor.name, tensor.rows, tensor.cols);
        weights.push(WeightView { name, dtype: Dtype::F32, rows, cols, bytes });
    }
    weights
}

/// Two answers to one prompt, and a row by itself.
fn forest() -> Forest {
    let segment = |start, len, parent| Segment { start, len, parent };
    let entry = |position, target| Entry { position, target, weight: 1.0 };
    Forest {
        tokens: [1, 5, 9, 12, 20, 21, 2, 23, 24, 2, 1, 7, 30, 2].to_vec(),
        segments: [
            segment(0, 4, None),
            segment(4, 3, Some(0)),
            segment(7, 3, Some(0)),
            segment(10, 4, None),
        ]
        .to_vec(),
        entries: [
            entry(3, 20),
            entry(4, 21),
            entry(5, 2),
            entry(3, 23),
            entry(7, 24),
            entry(8, 2),
            entry(11, 30),
            entry(12, 2),
        ]
        .to_vec(),
    }
}
