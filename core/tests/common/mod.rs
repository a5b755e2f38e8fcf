//! A laboratory for small models: random checkpoints, rows as forests of any kind, loss and gradients
//! in the reference's full precision.
#![allow(dead_code, reason = "each test program uses its part")]

use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::model::forward::Pass;
use paddock_core::model::{LoraConfig, Method, Model, init, tensors};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::reference::{Real, Reference};
use paddock_core::slot::{Region, Slot};
use paddock_core::train::{Adam, StepSettings};
use paddock_core::weights::{Dtype, WeightView, Weights};
use proptest::prelude::ProptestConfig;

/// `count` cases, the same ones in every run.
pub fn cases(count: u32) -> ProptestConfig {
    let rng_seed = proptest::test_runner::RngSeed::Fixed(1);
    ProptestConfig { cases: count, failure_persistence: None, rng_seed, ..Default::default() }
}

/// A small shape: grouped heads, widths that are no powers of two.
pub fn config() -> Config {
    Config {
        dim: 6,
        hidden_dim: 7,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 4,
        vocab_size: 11,
        max_seq_len: 64,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 100.0, scaling: RopeScaling::Default },
        tied: false,
    }
}

/// LoRA of rank 2 on all linears.
pub fn lora(dropout: f32) -> Method {
    let (rank, alpha, targets) = (2, 3.0, [true; 7]);
    Method::Lora(LoraConfig { rank, alpha, rank_stabilised: false, dropout, targets })
}

/// A random checkpoint in f32.
pub struct Checkpoint {
    tensors: Vec<(String, u32, u32, Vec<u8>)>,
}

impl Checkpoint {
    /// Matrices with deviation 0.4, norms around one.
    pub fn new(config: &Config, seed: u64) -> Checkpoint {
        let list = tensors(config).into_iter().enumerate();
        let tensors = list.map(|(i, t)| {
            let random = Philox::new(seed, Stream::init(i as u16));
            let shift = if t.vector { 1.0 } else { 0.0 };
            let value = |j: u64| random.normal(0, j) * 0.4 + shift;
            let len = u64::from(t.rows) * u64::from(t.cols);
            let bytes = (0..len).flat_map(|j| value(j).to_le_bytes()).collect();
            (t.name, t.rows, t.cols, bytes)
        });
        Checkpoint { tensors: tensors.collect() }
    }

    /// Lent to a back-end.
    pub fn weights(&self) -> Weights<'_> {
        let mut weights = Weights::default();
        for (name, rows, cols, bytes) in &self.tensors {
            let (name, rows, cols) = (name.clone(), *rows, *cols);
            weights.push(WeightView { name, dtype: Dtype::F32, rows, cols, bytes });
        }
        weights
    }

    /// Replaces one number of one tensor.
    pub fn spoil(&mut self, name: &str, index: usize, value: f32) {
        let tensor = self.tensors.iter_mut().find(|t| t.0 == name).expect(name);
        tensor.3[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// A row: tokens, and for each the weight with which it is trained (0: not at all).
#[derive(Clone, Debug)]
pub struct Row {
    pub tokens: Vec<u32>,
    pub weights: Vec<f32>,
}

/// A step that clips and decays.
pub const STEP: StepSettings = StepSettings {
    adam: Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, coupled: false },
    lr: 1e-3,
    max_grad_norm: 0.5,
    step: 0,
    seed: 7,
};

/// `count` random rows of `len` tokens, all but the first three of each trained.
pub fn random_rows(count: u32, len: u32, vocab: u32) -> Vec<Row> {
    let random = Philox::new(17, Stream::GENERATE);
    let row = |r: u32| Row {
        tokens: (0..len).map(|i| random.below(r, u64::from(i), u64::from(vocab)) as u32).collect(),
        weights: (0..len).map(|i| if i < 3 { 0.0 } else { 1.0 }).collect(),
    };
    (0..count).map(row).collect()
}

/// Rows of very different numbers of trained tokens: a mean per micro-batch would show.
pub fn uneven_rows(vocab: u32) -> Vec<Row> {
    let mut rows = random_rows(16, 9, vocab);
    for (i, row) in rows.iter_mut().enumerate() {
        let keep = 1 + (i * 5) % 6;
        row.weights.iter_mut().skip(3 + keep).for_each(|w| *w = 0.0);
    }
    rows
}

/// Every row a root.
pub fn packed(rows: &[Row]) -> Forest {
    let mut forest = Forest::default();
    for row in rows {
        let start = forest.tokens.len() as u32;
        forest.tokens.extend_from_slice(&row.tokens);
        forest.segments.push(Segment { start, len: row.tokens.len() as u32, parent: None });
        for i in (1..row.tokens.len()).filter(|&i| row.weights[i] > 0.0) {
            let position = start + i as u32 - 1;
            forest.entries.push(Entry { position, target: row.tokens[i], weight: row.weights[i] });
        }
    }
    forest
}

/// Every common prefix once: a trie, written depth first.
pub fn trie(rows: &[Row]) -> Forest {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by(|a, b| a.tokens.cmp(&b.tokens));
    let mut forest = Forest::default();
    branch(&mut forest, &sorted, 0, None);
    forest
}

/// Adds what the rows hold from `depth` on. They agree before it, where `parent` ends.
fn branch(forest: &mut Forest, rows: &[&Row], depth: usize, parent: Option<u32>) {
    for group in rows.chunk_by(|a, b| a.tokens.get(depth) == b.tokens.get(depth)) {
        let (first, last) = (group[0], group[group.len() - 1]);
        // Sorted rows agree as far as the first and the last do.
        let agree = first.tokens.iter().zip(&last.tokens).take_while(|(a, b)| a == b).count();
        if agree <= depth {
            continue;
        }
        let start = forest.tokens.len() as u32;
        let before = parent.map_or(0, |p| {
            let p = forest.segments[p as usize];
            p.start + p.len - 1
        });
        let number = forest.segments.len() as u32;
        forest.tokens.extend_from_slice(&first.tokens[depth..agree]);
        forest.segments.push(Segment { start, len: (agree - depth) as u32, parent });
        for row in group {
            for i in (depth.max(1)..agree).filter(|&i| row.weights[i] > 0.0) {
                let position = if i > depth { start + (i - depth) as u32 - 1 } else { before };
                let (target, weight) = (row.tokens[i], row.weights[i]);
                forest.entries.push(Entry { position, target, weight });
            }
        }
        branch(forest, group, agree, Some(number));
    }
}

/// Room for `rows`, however they are arranged.
pub fn capacity(rows: &[Row]) -> Capacity {
    let tokens = rows.iter().map(|r| r.tokens.len() as u64).sum();
    let positions = rows.iter().map(|r| r.tokens.len() as u64).max().unwrap_or(0);
    Capacity { tokens, kept: tokens, entries: tokens, positions, ..Capacity::default() }
}

/// A model on the reference back-end, ready to compute.
pub struct Lab<'w, T: Real> {
    pub b: Reference<'w, T>,
    pub model: Model,
    pub plan: Plan,
}

impl<'w, T: Real> Lab<'w, T> {
    /// Plans, reserves and initialises; LoRA's B is random too, or A would have no gradient.
    pub fn new(
        checkpoint: &'w Checkpoint,
        config: &Config,
        method: Method,
        capacity: Capacity,
        recompute: Recompute,
    ) -> Lab<'w, T> {
        let mut b = Reference::<T>::new(checkpoint.weights());
        let model = Model::new(config.clone(), method).unwrap();
        let plan = Plan::new(&model, capacity, recompute, true, &b);
        b.reserve(&plan.sizes).unwrap();
        init::init(&mut b, &model, &checkpoint.weights(), 3).unwrap();
        init::clear_optimizer(&mut b, &model).unwrap();
        init::upload_rope(&mut b, &model, &plan, 0).unwrap();
        let items = model.params.items.iter().enumerate();
        for (i, param) in items.filter(|(_, p)| p.name.contains("lora_B")) {
            let random = Philox::new(9, Stream::init(i as u16));
            let values = b.slice_mut(param.slot).unwrap();
            (0..).zip(values).for_each(|(j, x)| *x = T::from_f32(random.normal(0, j) * 0.3));
        }
        Lab { b, model, plan }
    }

    /// Sum of weighted losses, and the gradient of their mean, over all forests together.
    pub fn loss_and_gradient(
        &mut self,
        forests: &[Forest],
        dropout: Option<(u64, u32)>,
    ) -> (T, Vec<T>) {
        let total: f64 = forests.iter().flat_map(|f| &f.entries).map(|e| f64::from(e.weight)).sum();
        let grads = self.model.params.all().in_region(Region::Grads);
        self.b.fill(grads, 0.0).unwrap();
        let mut loss = T::ZERO;
        for forest in forests {
            let batch = Batch::from_forest(forest, self.model.config.vocab_size).unwrap();
            self.plan.capacity.admit(&batch).unwrap();
            self.b.set_batch(&batch).unwrap();
            let coeff: Vec<f32> =
                batch.weights.iter().map(|&w| (f64::from(w) / total) as f32).collect();
            self.b.upload(self.plan.head.coeff.first(batch.entries()), &coeff).unwrap();
            let pass = Pass { dropout, ..Pass::new(&self.model, &self.plan, &batch) };
            pass.forward(&mut self.b).unwrap();
            let nll = pass.backward(&mut self.b).unwrap();
            let nll = self.b.slice_mut(nll).unwrap();
            for (&nll, &weight) in nll.iter().zip(&batch.weights) {
                loss = loss + nll * T::from_f32(weight);
            }
        }
        (loss, self.read(grads))
    }

    /// A slot's numbers.
    pub fn read(&mut self, slot: Slot) -> Vec<T> {
        self.b.slice_mut(slot).unwrap().to_vec()
    }

    /// Each trained tensor's name and part of `gradient`.
    pub fn by_name<'a>(&'a self, gradient: &'a [T]) -> impl Iterator<Item = (&'a str, &'a [T])> {
        self.model.params.items.iter().map(|p| {
            let (start, end) = (p.slot.offset as usize, p.slot.end() as usize);
            (p.name.as_str(), &gradient[start..end])
        })
    }
}

/// The largest difference, relative to the largest number of `b` (or to `floor`).
pub fn error(a: &[f64], b: &[f64], floor: f64) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(floor, |max, x| max.max(x.abs()));
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    // A NaN must not vanish in `max`.
    worst.fold(0.0, |max: f64, e| if e <= max { max } else { e }) / scale
}
