//! A step is one thing however it is cut into micro-batches, and a step that goes wrong changes
//! nothing.

mod common;

use common::{
    Checkpoint, Lab, Row, STEP, capacity, config, lora, packed, random_rows, trie, uneven_rows,
};
use paddock_core::batch::Batch;
use paddock_core::config::Config;
use paddock_core::model::Method;
use paddock_core::plan::Recompute;
use paddock_core::slot::Region;
use paddock_core::train::trace::{Place, fingerprint, gradient_not_finite, where_not_finite};
use paddock_core::train::{
    Outcome, Phase, StepReport, StepSettings, Watch, evaluate, evaluate_while, step,
};

fn wider() -> Config {
    Config { dim: 16, hidden_dim: 24, vocab_size: 29, ..config() }
}

fn batches(groups: &[&[Row]], vocab: u32) -> Vec<Batch> {
    groups.iter().map(|rows| Batch::from_forest(&packed(rows), vocab).unwrap()).collect()
}

/// A lab with room for 16 rows.
fn lab<'w>(checkpoint: &'w Checkpoint, config: &Config, method: Method) -> Lab<'w, f32> {
    let room = capacity(&random_rows(16, 9, config.vocab_size));
    Lab::new(checkpoint, config, method, room, Recompute::Nothing)
}

/// Everything that a step may change.
fn state(lab: &mut Lab<'_, f32>) -> (Vec<f32>, Vec<f32>) {
    let params = lab.model.params.all();
    let moments = paddock_core::slot::Slot::new(Region::Moments, 0, 2 * params.len);
    (lab.read(params), lab.read(moments))
}

fn updated(outcome: Outcome) -> StepReport {
    match outcome {
        Outcome::Updated(report) => report,
        other => panic!("{other:?}"),
    }
}

/// ‖a - b‖ / ‖b‖
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = |f: &dyn Fn(usize) -> f64| (0..b.len()).map(|i| f(i) * f(i)).sum::<f64>();
    (squares(&|i| f64::from(a[i]) - f64::from(b[i])) / squares(&|i| f64::from(b[i]))).sqrt()
}

#[test]
fn f65_micro_batches_change_nothing() {
    let config = wider();
    let checkpoint = Checkpoint::new(&config, 5);
    let rows = uneven_rows(config.vocab_size);
    for method in [Method::Full, lora(0.0), lora(0.2)] {
        let mut first: Option<(StepReport, Vec<f32>, Vec<f32>)> = None;
        for size in [16, 4, 1] {
            let groups: Vec<&[Row]> = rows.chunks(size).collect();
            let mut lab = lab(&checkpoint, &config, method);
            let batches = batches(&groups, config.vocab_size);
            let (model, plan) = (&lab.model, &lab.plan);
            let outcome = step(&mut lab.b, model, plan, &batches, &STEP, &mut ()).unwrap();
            let report = updated(outcome);
            let gradient = lab.read(lab.model.params.all().in_region(Region::Grads));
            let params = state(&mut lab).0;
            let Some((loss, g, p)) = &first else {
                first = Some((report, gradient, params));
                continue;
            };
            assert!((report.loss / loss.loss - 1.0).abs() < 1e-6, "{size}: {report:?}");
            assert!((report.grad_norm / loss.grad_norm - 1.0).abs() < 1e-6, "{size}: {report:?}");
            assert_eq!(report.trained, loss.trained);
            assert!(distance(&gradient, g) < 1e-6, "{size}: {:.1e}", distance(&gradient, g));
            assert!(distance(&params, p) < 1e-6, "{size}: {:.1e}", distance(&params, p));
        }
    }
}

#[test]
fn f67_the_same_step_gives_the_same_bits() {
    let config = wider();
    let checkpoint = Checkpoint::new(&config, 5);
    let rows = uneven_rows(config.vocab_size);
    let batch = Batch::from_forest(&trie(&rows), config.vocab_size).unwrap();
    let run = || {
        let mut lab = lab(&checkpoint, &config, lora(0.2));
        let (model, plan) = (&lab.model, &lab.plan);
        let batches = std::slice::from_ref(&batch);
        for number in 0..3 {
            let settings = StepSettings { step: number, ..STEP };
            updated(step(&mut lab.b, model, plan, batches, &settings, &mut ()).unwrap());
        }
        state(&mut lab)
    };
    assert_eq!(run(), run());
}

/// A micro-batch without a trained token counts nothing and disturbs nothing, wherever it stands.
#[test]
fn a_micro_batch_without_trained_tokens() {
    let config = wider();
    let checkpoint = Checkpoint::new(&config, 5);
    let rows = random_rows(4, 9, config.vocab_size);
    let mut masked = random_rows(2, 6, config.vocab_size);
    masked.iter_mut().for_each(|row| row.weights.fill(0.0));
    for method in [Method::Full, lora(0.2)] {
        let mut all = Vec::new();
        for groups in [vec![&rows[..]], vec![&masked, &rows], vec![&rows, &masked]] {
            let mut lab = lab(&checkpoint, &config, method);
            let batches = batches(&groups, config.vocab_size);
            let (model, plan) = (&lab.model, &lab.plan);
            let outcome = step(&mut lab.b, model, plan, &batches, &STEP, &mut ()).unwrap();
            let report = StepReport { computed: 0, ..updated(outcome) };
            all.push((report, state(&mut lab)));
        }
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
        assert_eq!(all[0].0.trained, 4.0 * 6.0);
    }
}

/// With no trained token in the whole step there is nothing to learn: an error, not a step of decay.
#[test]
fn f64_a_step_without_trained_tokens_is_refused() {
    let config = wider();
    let checkpoint = Checkpoint::new(&config, 5);
    let mut rows = random_rows(2, 6, config.vocab_size);
    rows.iter_mut().for_each(|row| row.weights.fill(0.0));
    let mut unweighted = packed(&random_rows(2, 6, config.vocab_size));
    unweighted.entries.iter_mut().for_each(|e| e.weight = 0.0);
    for forest in [packed(&rows), unweighted] {
        let batch = Batch::from_forest(&forest, config.vocab_size).unwrap();
        let mut lab = lab(&checkpoint, &config, Method::Full);
        let before = state(&mut lab);
        let (model, plan) = (&lab.model, &lab.plan);
        let outcome = step(&mut lab.b, model, plan, &[batch], &STEP, &mut ());
        assert!(outcome.is_err(), "{outcome:?}");
        assert_eq!(before, state(&mut lab));
    }
}

#[test]
fn f62_not_a_number_stops_the_update() {
    let config = wider();
    let rows = random_rows(4, 9, config.vocab_size);
    for value in [f32::NAN, f32::INFINITY] {
        for method in [Method::Full, lora(0.0)] {
            let mut checkpoint = Checkpoint::new(&config, 5);
            checkpoint.spoil("model.layers.1.mlp.up_proj.weight", 17, value);
            let mut lab = lab(&checkpoint, &config, method);
            let before = state(&mut lab);
            let batches = batches(&[&rows[..2], &rows[2..]], config.vocab_size);
            let (model, plan) = (&lab.model, &lab.plan);
            let outcome = step(&mut lab.b, model, plan, &batches, &STEP, &mut ()).unwrap();
            let Outcome::NotFinite { found, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(found.map(|f| f.0), Some(0), "the first micro-batch shows it");
            assert_same_bits(&before, &state(&mut lab));
        }
    }
}

/// Only the second micro-batch holds the token whose embedding is spoilt.
#[test]
fn the_bad_micro_batch_is_named() {
    let config = wider();
    let bad = 28;
    let mut rows = random_rows(4, 9, bad);
    rows[3].tokens[5] = bad;
    let mut checkpoint = Checkpoint::new(&config, 5);
    let element = (bad * config.dim) as usize + 3;
    checkpoint.spoil("model.embed_tokens.weight", element, f32::NAN);
    let mut lab = lab(&checkpoint, &config, lora(0.0));
    let before = state(&mut lab);
    let batches = batches(&[&rows[..2], &rows[2..]], config.vocab_size);
    let (model, plan) = (&lab.model, &lab.plan);
    let outcome = step(&mut lab.b, model, plan, &batches, &STEP, &mut ()).unwrap();
    let Outcome::NotFinite { found, .. } = outcome else { panic!("{outcome:?}") };
    // Row 3's token 5 is predicted by entry 6 + 2; the one after it is the first to read it.
    assert_eq!(found, Some((1, 6 + 3)));
    assert_same_bits(&before, &state(&mut lab));
}

#[test]
fn f62_the_first_bad_layer_is_named() {
    let config = wider();
    let rows = random_rows(4, 9, config.vocab_size);
    let batch = Batch::from_forest(&packed(&rows), config.vocab_size).unwrap();
    let token = (rows[1].tokens[2] * config.dim) as usize;
    let cases = [
        ("model.embed_tokens.weight", token, Place::Embedding),
        ("model.layers.0.self_attn.v_proj.weight", 3, Place::Layer(0)),
        ("model.layers.1.mlp.up_proj.weight", 17, Place::Layer(1)),
        ("model.norm.weight", 2, Place::Head),
    ];
    for (name, index, place) in cases {
        let mut checkpoint = Checkpoint::new(&config, 5);
        checkpoint.spoil(name, index, f32::NAN);
        for recompute in [Recompute::Nothing, Recompute::Layers] {
            let room = capacity(&random_rows(16, 9, config.vocab_size));
            let mut lab: Lab<'_, f32> = Lab::new(&checkpoint, &config, lora(0.2), room, recompute);
            let before = state(&mut lab);
            let (model, plan) = (&lab.model, &lab.plan);
            let found = where_not_finite(&mut lab.b, model, plan, &batch, &STEP).unwrap();
            assert_eq!(found, place, "{name}");
            assert_same_bits(&before, &state(&mut lab));
        }
    }
    assert_eq!(Place::Layer(3).to_string(), "layer 3");
}

/// The backward pass meets the last layer first.
#[test]
fn f62_the_first_bad_gradient_is_named() {
    let config = wider();
    let checkpoint = Checkpoint::new(&config, 5);
    let mut lab = lab(&checkpoint, &config, Method::Full);
    assert_eq!(gradient_not_finite(&mut lab.b, &lab.model).unwrap(), None);
    let steps = [
        "model.embed_tokens.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.1.self_attn.q_proj.weight",
    ];
    for name in steps {
        let param = lab.model.params.items.iter().find(|p| p.name == name).unwrap();
        let slot = param.slot.in_region(Region::Grads);
        lab.b.slice_mut(slot).unwrap()[1] = f32::INFINITY;
        let found = gradient_not_finite(&mut lab.b, &lab.model).unwrap();
        assert_eq!(found.as_deref(), Some(name));
    }
}

/// What `self_check` compares: the same twice, and another number when a single bit is another.
#[test]
fn f54_one_wrong_bit_is_another_fingerprint() {
    let config = wider();
    let checkpoint = Checkpoint::new(&config, 5);
    let rows = random_rows(4, 9, config.vocab_size);
    let batch = Batch::from_forest(&packed(&rows), config.vocab_size).unwrap();
    for method in [Method::Full, lora(0.2)] {
        let mut lab = lab(&checkpoint, &config, method);
        let print = |lab: &mut Lab<'_, f32>| {
            let (model, plan) = (&lab.model, &lab.plan);
            fingerprint(&mut lab.b, model, plan, &batch, &STEP).unwrap()
        };
        let first = print(&mut lab);
        assert_eq!(print(&mut lab), first);
        let param = lab.model.params.items.iter().find(|p| p.name.contains("q_proj")).unwrap();
        let whole = param.slot;
        for slot in [whole.part(0, 1), whole.part(whole.len - 1, 1)] {
            let flip = |lab: &mut Lab<'_, f32>| {
                let x = &mut lab.b.slice_mut(slot).unwrap()[0];
                // A bit in the middle of the fraction: as small as it is, it shows.
                *x = f32::from_bits(x.to_bits() ^ (1 << 16));
            };
            flip(&mut lab);
            assert_ne!(print(&mut lab), first, "{method:?} at {slot:?}");
            flip(&mut lab);
            assert_eq!(print(&mut lab), first);
        }
    }
}

/// NaN equals itself here.
fn assert_same_bits(a: &(Vec<f32>, Vec<f32>), b: &(Vec<f32>, Vec<f32>)) {
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(bits(&a.0) == bits(&b.0), "parameters changed");
    assert!(bits(&a.1) == bits(&b.1), "moments changed");
}

/// Says no after some phases.
struct Impatient(usize);

impl Watch for Impatient {
    fn phase(&mut self, _: Phase) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

#[test]
fn a_stopped_step_changes_nothing() {
    let config = wider();
    let checkpoint = Checkpoint::new(&config, 5);
    let rows = random_rows(4, 9, config.vocab_size);
    let batches = batches(&[&rows[..2], &rows[2..]], config.vocab_size);
    let mut lab = lab(&checkpoint, &config, Method::Full);
    let before = state(&mut lab);
    // Of each micro-batch two phases and their two layers each, then the optimizer's phase.
    for asked in 1..=13 {
        let (model, plan) = (&lab.model, &lab.plan);
        let outcome =
            step(&mut lab.b, model, plan, &batches, &STEP, &mut Impatient(asked)).unwrap();
        assert_eq!(outcome, Outcome::Stopped, "asked {asked} times");
        assert_eq!(before, state(&mut lab), "asked {asked} times");
    }
    let (model, plan) = (&lab.model, &lab.plan);
    updated(step(&mut lab.b, model, plan, &batches, &STEP, &mut Impatient(14)).unwrap());
    assert_ne!(before, state(&mut lab));
}

/// Says no at one layer of one kind of pass, counted over the whole step.
struct StopsAt {
    pass: Phase,
    layer: usize,
    seen: usize,
}

impl StopsAt {
    fn new(pass: Phase, layer: usize) -> StopsAt {
        StopsAt { pass, layer, seen: 0 }
    }
}

impl Watch for StopsAt {
    fn phase(&mut self, _: Phase) -> bool {
        true
    }

    fn layer(&mut self, phase: Phase) -> bool {
        self.seen += usize::from(phase == self.pass);
        phase != self.pass || self.seen != self.layer
    }
}

/// Forward and backward passes of a large model take long: a stop is looked for before each layer of each.
#[test]
fn f47_stopped_at_any_layer_and_begun_again_a_step_has_the_same_bits() {
    let config = Config { n_layers: 3, ..wider() };
    let checkpoint = Checkpoint::new(&config, 5);
    let rows = random_rows(4, 9, config.vocab_size);
    let batches = batches(&[&rows[..2], &rows[2..]], config.vocab_size);
    // Two micro-batches of so many layers.
    let layers = 2 * config.n_layers as usize;
    let room = || capacity(&random_rows(16, 9, config.vocab_size));
    for method in [Method::Full, lora(0.2)] {
        for recompute in [Recompute::Nothing, Recompute::Cheap, Recompute::Layers] {
            let lab = || Lab::<f32>::new(&checkpoint, &config, method, room(), recompute);
            let run = |lab: &mut Lab<'_, f32>, watch: &mut dyn Watch| {
                let (model, plan) = (&lab.model, &lab.plan);
                step(&mut lab.b, model, plan, &batches, &STEP, watch).unwrap()
            };
            let all = |lab: &mut Lab<'_, f32>| {
                let (params, moments) = state(lab);
                let grads = lab.read(lab.model.params.all().in_region(Region::Grads));
                [params, moments, grads].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let mut whole = lab();
            let before = state(&mut whole);
            let report = updated(run(&mut whole, &mut StopsAt::new(Phase::Done, 0)));
            let after = all(&mut whole);
            for pass in [Phase::Forward, Phase::Backward] {
                for layer in 1..=layers + 1 {
                    let place = format!("{method:?}, {recompute:?}, {pass:?}, layer {layer}");
                    let (mut lab, mut watch) = (lab(), StopsAt::new(pass, layer));
                    let outcome = run(&mut lab, &mut watch);
                    // There is no further layer to stop at: every one was asked for.
                    if layer > layers {
                        assert_eq!(outcome, Outcome::Updated(report), "{place}");
                        assert_eq!(watch.seen, layers, "{place}");
                        continue;
                    }
                    assert_eq!(outcome, Outcome::Stopped, "{place}");
                    assert_same_bits(&before, &state(&mut lab));
                    assert_eq!(updated(run(&mut lab, &mut ())), report, "{place}");
                    assert!(all(&mut lab) == after, "{place}: other bits");
                }
            }
        }
    }
}

/// An evaluation is asked the same, and leaves nothing behind.
#[test]
fn f47_an_evaluation_stops_before_any_layer() {
    let config = Config { n_layers: 3, ..wider() };
    let checkpoint = Checkpoint::new(&config, 5);
    let rows = random_rows(4, 9, config.vocab_size);
    let batch = Batch::from_forest(&packed(&rows), config.vocab_size).unwrap();
    let mut lab = lab(&checkpoint, &config, lora(0.2));
    let before = state(&mut lab);
    let (model, plan) = (&lab.model, &lab.plan);
    let whole = evaluate(&mut lab.b, model, plan, &batch).unwrap();
    assert_eq!(whole.nll.len(), batch.entries() as usize);
    for layer in 1..=config.n_layers + 1 {
        let mut seen = 0;
        let mut go_on = || {
            seen += 1;
            seen != layer
        };
        let found = evaluate_while(&mut lab.b, model, plan, &batch, &mut go_on).unwrap();
        assert_eq!(found, (layer > config.n_layers).then(|| whole.clone()), "layer {layer}");
        assert_eq!(seen, layer.min(config.n_layers));
        assert_eq!(evaluate(&mut lab.b, model, plan, &batch).unwrap(), whole);
    }
    assert_same_bits(&before, &state(&mut lab));
}
