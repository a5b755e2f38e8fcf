//! The wgpu back-end against transformers and PEFT in f64 (`tests/fixtures`): losses, gradients, a
//! training run and greedy answers, on any adapter (a software one will do).

use std::sync::Arc;

use paddock_cli::error::{EXIT_DEVICE, exit_code};
use paddock_cli::model::{Adapter, ModelFolder};
use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::decode::{Cache, Sampler, extend, sample};
use paddock_core::model::{Method, Model, init};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::slot::Region;
use paddock_core::train::{Adam, Outcome, Schedule, ScheduleKind, StepSettings, evaluate, step};
use paddock_kernels::Options;
use paddock_kernels::wgpu::{Gpu, Wgpu};
use paddock_tests::forests::{Row, shared};
use paddock_tests::golden::{Golden, relative_error};

/// Grouped heads, odd widths and an untied head in f32; a tied head in bf16.
const MODELS: [&str; 2] = ["gqa_untied_odd", "mha_tied_bf16"];

fn gpu() -> Option<Arc<Gpu>> {
    let why = match Gpu::open(&Options::default()) {
        Ok(gpu) => return Some(gpu),
        Err(why) => why,
    };
    let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
    assert!(!required.contains("wgpu"), "PADDOCK_REQUIRE names wgpu, but {why}");
    eprintln!("SKIPPED: the wgpu back-end is not tested: {why}");
    None
}

/// A fixture, opened.
struct Fixture {
    golden: Golden,
    folder: ModelFolder,
    adapter: Adapter,
    rows: Vec<Row>,
    batch: Batch,
}

impl Fixture {
    fn open(name: &str) -> Fixture {
        let golden = Golden::open(name);
        let folder = ModelFolder::open(&golden.dir).unwrap();
        let adapter = Adapter::open(&golden.dir.join("adapter"), &folder.config).unwrap();
        let rows = golden.rows();
        let batch = Batch::from_forest(&shared(&rows), folder.config.vocab_size).unwrap();
        Fixture { golden, folder, adapter, rows, batch }
    }

    fn ready(&self, b: &mut dyn Backend, method: Method) -> (Model, Plan) {
        let model = Model::new(self.folder.config.clone(), method).unwrap();
        let tokens = self.rows.iter().map(|r| r.tokens.len() as u64).sum::<u64>();
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
        let copies = self.folder.copies();
        let (weights, _) = self.folder.weights(&copies).unwrap();
        init::init(b, &model, &weights, 1).unwrap();
        init::upload_rope(b, &model, &plan, 0).unwrap();
        if matches!(method, Method::Lora(_)) {
            for param in &model.params.items {
                b.upload(param.slot, &self.adapter.tensors[&param.name]).unwrap();
            }
        }
        (model, plan)
    }
}

fn read64(b: &mut dyn Backend, slot: paddock_core::slot::Slot) -> Vec<f64> {
    init::read(b, slot).unwrap().iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn losses_gradients_and_answers() {
    let Some(gpu) = gpu() else { return };
    for name in MODELS {
        let fixture = Fixture::open(name);
        let copies = fixture.folder.copies();
        let lora = Method::Lora(fixture.adapter.lora);
        let plain = [("loss", "greedy", "", "", Method::Frozen)];
        let file = ("lora_loss", "lora_greedy", "lora_grad.safetensors", "base_model.model.", lora);
        for (loss, greedy, file, prefix, method) in plain.into_iter().chain([file]) {
            let (weights, _) = fixture.folder.weights(&copies).unwrap();
            let b = &mut Wgpu::on(gpu.clone(), weights).unwrap();
            let (model, plan) = fixture.ready(b, method);
            let nll = evaluate(b, &model, &plan, &fixture.batch).unwrap().nll;
            let mean = nll.iter().map(|&x| f64::from(x)).sum::<f64>() / nll.len() as f64;
            let expected = fixture.golden.json[loss].as_f64().unwrap();
            let error = (mean - expected).abs() / expected;
            assert!(error < 1e-5, "{name} {loss}: off by {error:e}");
            if !file.is_empty() {
                check_gradients(b, &fixture, &model, &plan, file, prefix);
            }
            check_answers(b, &fixture, &model, &plan, greedy);
        }
    }
}

fn check_gradients(
    b: &mut dyn Backend,
    fixture: &Fixture,
    model: &Model,
    plan: &Plan,
    file: &str,
    prefix: &str,
) {
    let expected = fixture.golden.tensors(file);
    let adam = Adam::default();
    let frozen = StepSettings { adam, lr: 0.0, max_grad_norm: 0.0, step: 0, seed: 0 };
    step(b, model, plan, std::slice::from_ref(&fixture.batch), &frozen, &mut ()).unwrap();
    for param in &model.params.items {
        let grad = read64(b, param.slot.in_region(Region::Grads));
        let error = relative_error(&grad, &expected[&format!("{prefix}{}", param.name)]);
        assert!(error < 1e-4, "{}: off by {error:e}", param.name);
    }
}

fn check_answers(b: &mut dyn Backend, fixture: &Fixture, model: &Model, plan: &Plan, key: &str) {
    let Some(expected) = fixture.golden.json[key].as_array() else { return };
    for (row, expected) in fixture.rows.iter().zip(expected) {
        let answer = greedy(b, model, plan, &row.tokens, 12);
        let expected = expected.as_array().unwrap().iter();
        let expected: Vec<u32> = expected.map(|t| t.as_u64().unwrap() as u32).collect();
        assert_eq!(answer, expected, "{key}");
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

#[test]
fn a_full_training_run() {
    let Some(gpu) = gpu() else { return };
    let fixture = Fixture::open("gqa_untied_odd");
    let copies = fixture.folder.copies();
    let (weights, _) = fixture.folder.weights(&copies).unwrap();
    let b = &mut Wgpu::on(gpu, weights).unwrap();
    let (model, plan) = fixture.ready(b, Method::Full);
    check_gradients(b, &fixture, &model, &plan, "full_grad.safetensors", "");
    let (model, plan) = fixture.ready(b, Method::Full);
    let json = &fixture.golden.json["full_run"];
    let number = |key: &str| json[key].as_f64().unwrap();
    let cosine = json["lr_schedule"] == "cosine";
    let schedule = Schedule {
        kind: if cosine { ScheduleKind::Cosine } else { ScheduleKind::Linear },
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
    for (i, &loss) in fixture.golden.list("full_run", "loss").iter().enumerate() {
        let (lr, max_grad_norm) = (schedule.at(i as u64), number("max_grad_norm"));
        let settings = StepSettings { adam, lr, max_grad_norm, step: i as u64, seed: 0 };
        let batches = std::slice::from_ref(&fixture.batch);
        let outcome = step(b, &model, &plan, batches, &settings, &mut ()).unwrap();
        let Outcome::Updated(report) = outcome else { panic!("{outcome:?}") };
        let error = (report.loss - loss).abs() / loss;
        assert!(error < 1e-4, "step {i}: loss off by {error:e}");
    }
    let after = fixture.golden.tensors("full_after.safetensors");
    for param in &model.params.items {
        let error = relative_error(&read64(b, param.slot), &after[&param.name]);
        assert!(error < 1e-3, "{}: off by {error:e}", param.name);
    }
}

/// The error of a lost device goes through a step and the words around it to the program's exit code.
#[test]
fn f52_a_step_on_a_lost_graphics_device_ends_in_exit_code_3() {
    let Some(gpu) = gpu() else { return };
    let fixture = Fixture::open("mha_tied_bf16");
    let copies = fixture.folder.copies();
    let (weights, _) = fixture.folder.weights(&copies).unwrap();
    let b = &mut Wgpu::on(gpu.clone(), weights).unwrap();
    let (model, plan) = fixture.ready(b, Method::Lora(fixture.adapter.lora));
    let adam = Adam::default();
    let settings = StepSettings { adam, lr: 1e-3, max_grad_norm: 1.0, step: 0, seed: 0 };
    let batches = std::slice::from_ref(&fixture.batch);
    let first = step(b, &model, &plan, batches, &settings, &mut ());
    assert!(matches!(first, Ok(Outcome::Updated(_))), "{first:?}");
    gpu.destroy();
    let error = step(b, &model, &plan, batches, &settings, &mut ()).expect_err("it is gone");
    let error = anyhow::Error::new(error).context("step 2");
    assert_eq!(exit_code(&error), EXIT_DEVICE, "{error:#}");
}
