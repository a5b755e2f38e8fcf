//! Logits, losses, gradients, whole training runs and greedy answers against transformers and PEFT in
//! f64 (`tests/fixtures`), on every back-end, one row at a time, packed, and as a forest.

use paddock_cli::model::{Adapter, ModelFolder};
use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::Config;
use paddock_core::decode::{Cache, Sampler, extend, sample};
use paddock_core::forest::{Entry, Forest};
use paddock_core::model::forward::Pass;
use paddock_core::model::{LoraConfig, Method, Model, Module, init};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::slot::Region;
use paddock_core::train::{Adam, Outcome, Schedule, ScheduleKind, StepSettings, evaluate, step};
use paddock_tests::backends;
use paddock_tests::forests::{Row, packed, shared};
use paddock_tests::golden::{Golden, relative_error};

const MODELS: [&str; 7] = [
    "mha_tied",
    "gqa_untied_odd",
    "llama3_rope",
    "linear_rope",
    "dynamic_rope",
    "mha_tied_bf16",
    "gqa_untied_odd_f16_sharded",
];
const WITH_RUNS: [&str; 5] =
    ["mha_tied", "gqa_untied_odd", "llama3_rope", "linear_rope", "dynamic_rope"];

/// A model ready to compute on some back-end.
struct Ready {
    model: Model,
    plan: Plan,
}

fn ready(
    b: &mut dyn Backend,
    folder: &ModelFolder,
    method: Method,
    adapter: Option<&Adapter>,
    rows: &[Row],
) -> Ready {
    let model = Model::new(folder.config.clone(), method).unwrap();
    let tokens = rows.iter().map(|r| r.tokens.len() as u64).sum::<u64>();
    let capacity = Capacity {
        tokens,
        kept: tokens,
        entries: tokens,
        positions: 64,
        cache_rows: 64,
        logit_rows: tokens,
    };
    let plan = Plan::new(&model, capacity, Recompute::Nothing, true, b);
    b.reserve(&plan.sizes).unwrap();
    let copies = folder.copies();
    let (weights, _) = folder.weights(&copies).unwrap();
    init::init(b, &model, &weights, 1).unwrap();
    init::upload_rope(b, &model, &plan, 0).unwrap();
    if let Some(adapter) = adapter {
        for param in &model.params.items {
            b.upload(param.slot, &adapter.tensors[&param.name]).unwrap();
        }
    }
    Ready { model, plan }
}

/// The batch's longest row decides dynamic rotary angles: the fixtures pad to the longest row, so each
/// forest here holds all rows.
fn all_forests(name: &str, rows: &[Row]) -> Vec<Vec<Forest>> {
    let mut all = vec![vec![packed(rows)], vec![shared(rows)]];
    if name != "dynamic_rope" {
        all.push(rows.iter().map(|r| packed(std::slice::from_ref(r))).collect());
    }
    all
}

fn batches(forests: &[Forest], config: &Config) -> Vec<Batch> {
    forests.iter().map(|f| Batch::from_forest(f, config.vocab_size).unwrap()).collect()
}

/// Runs `f` for each back-end over an open folder.
fn on_backends(folder: &ModelFolder, mut f: impl FnMut(&mut dyn Backend, &str)) {
    let copies = folder.copies();
    for (name, open) in backends() {
        let (weights, _) = folder.weights(&copies).unwrap();
        f(&mut *open(weights), name);
    }
}

fn read64(b: &mut dyn Backend, slot: paddock_core::slot::Slot) -> Vec<f64> {
    init::read(b, slot).unwrap().iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn logits_and_losses() {
    for name in MODELS {
        let golden = Golden::open(name);
        let folder = ModelFolder::open(&golden.dir).unwrap();
        let adapter = Adapter::open(&golden.dir.join("adapter"), &folder.config).unwrap();
        let (rows, values) = (golden.rows(), golden.tensors("values.safetensors"));
        let prefix = if name == "dynamic_rope" { "alone." } else { "" };
        on_backends(&folder, |b, backend| {
            let Ready { model, plan } = ready(b, &folder, Method::Frozen, None, &rows);
            for (i, row) in rows.iter().enumerate() {
                // Every position is kept, so that every logit can be compared.
                let mut forest = packed(std::slice::from_ref(row));
                let all = |p| Entry { position: p, target: 0, weight: 1.0 };
                forest.entries = (0..row.tokens.len() as u32).map(all).collect();
                let batch = &batches(&[forest], &folder.config)[0];
                evaluate(b, &model, &plan, batch).unwrap();
                let logits = Pass::new(&model, &plan, batch).logits(b).unwrap();
                let error =
                    relative_error(&read64(b, logits), &values[&format!("{prefix}logits.{i}")]);
                assert!(error < 1e-5, "{name} row {i} on {backend}: logits off by {error:e}");
            }
            for (key, base) in [("loss", true), ("lora_loss", false)] {
                let Some(expected) = golden.json[key].as_f64() else { continue };
                let method = if base { Method::Frozen } else { Method::Lora(adapter.lora) };
                let used = (!base).then_some(&adapter);
                let Ready { model, plan } = ready(b, &folder, method, used, &rows);
                for forests in all_forests(name, &rows) {
                    let (mut sum, mut count) = (0.0, 0);
                    for batch in batches(&forests, &folder.config) {
                        let nll = evaluate(b, &model, &plan, &batch).unwrap().nll;
                        sum += nll.iter().map(|&x| f64::from(x)).sum::<f64>();
                        count += nll.len();
                    }
                    let error = (sum / count as f64 - expected).abs() / expected;
                    assert!(error < 1e-5, "{name} {key} on {backend}: off by {error:e}");
                }
            }
        });
    }
}

/// Gradients of one step over all rows, by the name that PEFT or Hugging Face gives them.
fn check_gradients(
    name: &str,
    method: Method,
    adapter: Option<&Adapter>,
    file: &str,
    prefix: &str,
) {
    let golden = Golden::open(name);
    let folder = ModelFolder::open(&golden.dir).unwrap();
    let (rows, expected) = (golden.rows(), golden.tensors(file));
    on_backends(&folder, |b, backend| {
        for forests in all_forests(name, &rows) {
            let Ready { model, plan } = ready(b, &folder, method, adapter, &rows);
            let frozen = StepSettings {
                adam: Adam::default(),
                lr: 0.0,
                max_grad_norm: 0.0,
                step: 0,
                seed: 0,
            };
            let batches = batches(&forests, &folder.config);
            step(b, &model, &plan, &batches, &frozen, &mut ()).unwrap();
            for param in &model.params.items {
                let grad = read64(b, param.slot.in_region(Region::Grads));
                let error = relative_error(&grad, &expected[&format!("{prefix}{}", param.name)]);
                assert!(error < 1e-4, "{name} {} on {backend}: off by {error:e}", param.name);
            }
        }
    });
}

#[test]
fn gradients() {
    for name in MODELS {
        let golden = Golden::open(name);
        let folder = ModelFolder::open(&golden.dir).unwrap();
        let adapter = Adapter::open(&golden.dir.join("adapter"), &folder.config).unwrap();
        let lora = Method::Lora(adapter.lora);
        check_gradients(name, lora, Some(&adapter), "lora_grad.safetensors", "base_model.model.");
        if WITH_RUNS.contains(&name) {
            check_gradients(name, Method::Full, None, "full_grad.safetensors", "");
        }
    }
}

/// Repeats a run of the fixture; returns the largest relative error of its losses and gradient norms.
fn check_run(name: &str, run: &str, method: Method, adapter: Option<&Adapter>) {
    let golden = Golden::open(name);
    let folder = ModelFolder::open(&golden.dir).unwrap();
    let rows = golden.rows();
    let (json, losses) = (&golden.json[run], golden.list(run, "loss"));
    let norms = golden.list(run, "grad_norm");
    let number = |key: &str| json[key].as_f64().unwrap();
    let schedule = Schedule {
        kind: if json["lr_schedule"] == "cosine" {
            ScheduleKind::Cosine
        } else {
            ScheduleKind::Linear
        },
        lr: number("peak_lr"),
        warmup_steps: number("warmup_steps") as u64,
        total_steps: number("steps") as u64,
    };
    let adam = Adam {
        beta1: number("beta1"),
        beta2: number("beta2"),
        eps: number("eps"),
        weight_decay: number("weight_decay"),
        coupled: false,
    };
    on_backends(&folder, |b, backend| {
        // The gradients' test has checked every call; twenty steps more would only take time.
        if backend.starts_with("checked") {
            return;
        }
        for forests in all_forests(name, &rows) {
            let Ready { model, plan } = ready(b, &folder, method, adapter, &rows);
            let batches = batches(&forests, &folder.config);
            for (i, (&loss, &norm)) in losses.iter().zip(&norms).enumerate() {
                let settings = StepSettings {
                    adam,
                    lr: schedule.at(i as u64),
                    max_grad_norm: number("max_grad_norm"),
                    step: i as u64,
                    seed: 0,
                };
                let outcome = step(b, &model, &plan, &batches, &settings, &mut ()).unwrap();
                let Outcome::Updated(report) = outcome else { panic!("{outcome:?}") };
                let error = (report.loss - loss).abs() / loss;
                assert!(error < 1e-4, "{name} {run} step {i} on {backend}: loss off by {error:e}");
                let error = (report.grad_norm - norm).abs() / norm;
                assert!(error < 1e-3, "{name} {run} step {i} on {backend}: norm off by {error:e}");
            }
            let after = match run {
                "lora_run" => golden.tensors("lora_after.safetensors"),
                "full_run" => golden.tensors("full_after.safetensors"),
                _ => continue,
            };
            for param in &model.params.items {
                let prefix = if adapter.is_some() { "base_model.model." } else { "" };
                let value = read64(b, param.slot);
                let error = relative_error(&value, &after[&format!("{prefix}{}", param.name)]);
                assert!(error < 1e-3, "{name} {run} {} on {backend}: off by {error:e}", param.name);
            }
        }
    });
}

#[test]
fn training_runs() {
    for name in WITH_RUNS {
        let golden = Golden::open(name);
        let folder = ModelFolder::open(&golden.dir).unwrap();
        let adapter = Adapter::open(&golden.dir.join("adapter"), &folder.config).unwrap();
        let lora = adapter.lora;
        check_run(name, "full_run", Method::Full, None);
        check_run(name, "lora_run", Method::Lora(lora), Some(&adapter));
        let rslora = LoraConfig { rank_stabilised: true, ..lora };
        check_run(name, "rslora_run", Method::Lora(rslora), Some(&adapter));
        let targets = Module::ALL.map(|m| matches!(m, Module::Q | Module::V));
        check_run(name, "qv_run", Method::Lora(LoraConfig { targets, ..lora }), Some(&adapter));
    }
}

#[test]
fn greedy_answers() {
    for name in MODELS {
        let golden = Golden::open(name);
        let folder = ModelFolder::open(&golden.dir).unwrap();
        let adapter = Adapter::open(&golden.dir.join("adapter"), &folder.config).unwrap();
        let rows = golden.rows();
        on_backends(&folder, |b, backend| {
            for (key, lora) in [("greedy", false), ("lora_greedy", true)] {
                let Some(expected) = golden.json[key].as_array() else { continue };
                let method = if lora { Method::Lora(adapter.lora) } else { Method::Frozen };
                let used = lora.then_some(&adapter);
                let Ready { model, plan } = ready(b, &folder, method, used, &rows);
                for (row, expected) in rows.iter().zip(expected) {
                    let answer = greedy(b, &model, &plan, &row.tokens, 12);
                    let expected: Vec<u32> = expected
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|t| t.as_u64().unwrap() as u32)
                        .collect();
                    assert_eq!(answer, expected, "{name} {key} on {backend}");
                }
            }
        });
    }
}

fn greedy(
    b: &mut dyn Backend,
    model: &Model,
    plan: &Plan,
    prompt: &[u32],
    count: usize,
) -> Vec<u32> {
    let mut cache = Cache::new(plan.capacity.cache_rows);
    let node = cache.add(None, (prompt.len() + count) as u64).unwrap();
    let random = Philox::new(0, Stream::SAMPLE);
    let (mut next, mut answer) = (prompt.to_vec(), Vec::new());
    for i in 0..count {
        let mut logits = extend(b, model, plan, &mut cache, &[(node, &next)]).unwrap().remove(0);
        let token = sample(&mut logits, &Sampler::default(), &[], &random, 0, i as u64).unwrap();
        answer.push(token);
        next = vec![token];
    }
    answer
}
