//! Every gradient of the whole model against central differences in f64: grouped heads, odd widths,
//! tied and untied heads, forests, LoRA with and without dropout, all recompute policies.

use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::model::forward::Pass;
use paddock_core::model::{LoraConfig, Method, Model, init, tensors};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::reference::Reference;
use paddock_core::slot::Region;
use paddock_core::weights::{Dtype, WeightView, Weights};

fn config(tied: bool) -> Config {
    Config {
        dim: 6,
        hidden_dim: 7,
        n_layers: 3,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 4,
        vocab_size: 11,
        max_seq_len: 32,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 100.0, scaling: RopeScaling::Default },
        tied,
    }
}

/// Random checkpoint bytes in f32.
fn checkpoint(config: &Config) -> Vec<(String, u32, u32, Vec<u8>)> {
    let list = tensors(config);
    let draw = |(i, t): (usize, &paddock_core::model::names::TensorSpec)| {
        let random = Philox::new(5, Stream::init(i as u16));
        let shift = if t.vector { 1.0 } else { 0.0 };
        let value = |j: u64| random.normal(0, j) * 0.4 + shift;
        let len = u64::from(t.rows) * u64::from(t.cols);
        let bytes = (0..len).flat_map(|j| value(j).to_le_bytes()).collect();
        (t.name.clone(), t.rows, t.cols, bytes)
    };
    list.iter().enumerate().map(draw).collect()
}

fn weights(tensors: &[(String, u32, u32, Vec<u8>)]) -> Weights<'_> {
    let mut weights = Weights::default();
    for (name, rows, cols, bytes) in tensors {
        let (name, rows, cols) = (name.clone(), *rows, *cols);
        weights.push(WeightView { name, dtype: Dtype::F32, rows, cols, bytes });
    }
    weights
}

/// Two trees; one trunk's last token predicts the first token of each child.
fn forest() -> Forest {
    let segment = |start, len, parent| Segment { start, len, parent };
    let entry = |position, target, weight| Entry { position, target, weight };
    Forest {
        tokens: vec![1, 2, 3, 4, 5, 6, 7, 8, 2, 9, 10],
        segments: vec![
            segment(0, 3, None),
            segment(3, 2, Some(0)),
            segment(5, 1, Some(1)),
            segment(6, 2, Some(0)),
            segment(8, 3, None),
        ],
        entries: vec![
            entry(2, 4, 1.0),
            entry(3, 5, 1.0),
            entry(2, 7, 0.5),
            entry(6, 8, 1.0),
            entry(9, 10, 2.0),
        ],
    }
}

struct Setup {
    model: Model,
    plan: Plan,
    batch: Batch,
    dropout: Option<(u64, u32)>,
}

impl Setup {
    fn loss(&self, b: &mut Reference<'_, f64>) -> f64 {
        let mut pass = Pass::new(&self.model, &self.plan, &self.batch);
        pass.dropout = self.dropout;
        pass.forward(b).unwrap();
        let (nll, _) = pass.loss(b).unwrap();
        let nll = b.slice_mut(nll).unwrap().to_vec();
        nll.iter().zip(&self.batch.weights).map(|(n, w)| n * f64::from(*w)).sum()
    }
}

fn check(method: Method, tied: bool, recompute: Recompute) {
    let config = config(tied);
    let bytes = checkpoint(&config);
    let mut b = Reference::<f64>::new(weights(&bytes));
    let model = Model::new(config.clone(), method).unwrap();
    let batch = Batch::from_forest(&forest(), config.vocab_size).unwrap();
    let capacity = Capacity {
        tokens: batch.rows(),
        kept: batch.kept(),
        entries: batch.entries(),
        positions: 16,
        ..Capacity::default()
    };
    let plan = Plan::new(&model, capacity, recompute, true, &b);
    b.reserve(&plan.sizes).unwrap();
    init::init(&mut b, &model, &weights(&bytes), 3).unwrap();
    init::upload_rope(&mut b, &model, &plan, 0).unwrap();
    // B must not be zero, or A's gradient would be.
    for (i, p) in model.params.items.iter().enumerate().filter(|(_, p)| p.name.contains("lora_B")) {
        let random = Philox::new(9, Stream::init(i as u16));
        let values = b.slice_mut(p.slot).unwrap();
        (0..).zip(values).for_each(|(j, x)| *x = f64::from(random.normal(0, j)) * 0.3);
    }
    b.set_batch(&batch).unwrap();
    let dropout = (model.dropout() > 0.0).then_some((4, 2));
    let setup = Setup { model, plan, batch, dropout };

    let pass = Pass { dropout, ..Pass::new(&setup.model, &setup.plan, &setup.batch) };
    let coeff = setup.batch.weights.clone();
    b.upload(setup.plan.head.coeff.first(coeff.len() as u64), &coeff).unwrap();
    pass.forward(&mut b).unwrap();
    pass.backward(&mut b).unwrap();

    let mut checked = 0;
    for param in &setup.model.params.items {
        let grads = b.slice_mut(param.slot.in_region(Region::Grads)).unwrap().to_vec();
        // Every element of small tensors, a sample of large ones.
        let stride = (grads.len() / 24).max(1);
        let scale = grads.iter().map(|g| g * g).sum::<f64>().sqrt().max(1e-3);
        for j in (0..grads.len()).step_by(stride) {
            let h = 1e-5;
            let mut at = |delta: f64| {
                b.slice_mut(param.slot).unwrap()[j] += delta;
                let loss = setup.loss(&mut b);
                b.slice_mut(param.slot).unwrap()[j] -= delta;
                loss
            };
            let expected = (at(h) - at(-h)) / (2.0 * h);
            let error = (grads[j] - expected).abs() / scale;
            assert!(error < 1e-6, "{}[{j}]: {} against {expected}", param.name, grads[j]);
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} gradients were checked");
}

fn lora(dropout: f32, targets: [bool; 7]) -> Method {
    Method::Lora(LoraConfig { rank: 2, alpha: 3.0, rank_stabilised: false, dropout, targets })
}

#[test]
fn full_untied() {
    check(Method::Full, false, Recompute::Nothing);
}

#[test]
fn full_tied_recomputing_cheap_ops() {
    check(Method::Full, true, Recompute::Cheap);
}

#[test]
fn full_recomputing_layers() {
    check(Method::Full, false, Recompute::Layers);
}

#[test]
fn lora_on_all_linears() {
    check(lora(0.0, [true; 7]), false, Recompute::Nothing);
}

#[test]
fn lora_with_dropout() {
    check(lora(0.3, [true; 7]), true, Recompute::Nothing);
}

#[test]
fn lora_with_dropout_recomputing_layers() {
    check(lora(0.3, [true; 7]), true, Recompute::Layers);
}

#[test]
fn lora_on_queries_and_down() {
    check(
        Method::Lora(LoraConfig {
            rank: 5,
            alpha: 3.0,
            rank_stabilised: true,
            dropout: 0.0,
            targets: [true, false, false, false, false, false, true],
        }),
        true,
        Recompute::Cheap,
    );
}

#[test]
fn lora_on_gates_alone() {
    let targets = [false, false, false, false, true, true, false];
    check(lora(0.0, targets), false, Recompute::Nothing);
}
