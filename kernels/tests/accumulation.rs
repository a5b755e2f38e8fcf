//! A step is one thing however it is cut into micro-batches, on the kernels as on the reference (for which see
//! core/tests/accumulation.rs).

#[path = "../../core/tests/common/mod.rs"]
mod common;

use common::{Checkpoint, Row, STEP, capacity, config, lora, packed, uneven_rows};
use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::Config;
use paddock_core::model::{Method, Model, init};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Plan, Recompute};
use paddock_core::slot::Region;
use paddock_core::train::{Outcome, StepReport, step};
use paddock_kernels::cpu::Cpu;
use paddock_kernels::cpu::simd::Level;
use paddock_kernels::ops::Storage;
use paddock_kernels::ops::whole::distance;
use paddock_kernels::wgpu::{Gpu, Wgpu};
use paddock_kernels::{Device, Options};

/// A step's numbers, its gradient, and the parameters after it.
struct Stepped {
    report: StepReport,
    gradient: Vec<f32>,
    params: Vec<f32>,
}

/// One step over the same sixteen rows, `size` of them in a micro-batch.
fn take_step(
    b: &mut dyn Backend,
    checkpoint: &Checkpoint,
    config: &Config,
    method: Method,
    size: usize,
) -> Stepped {
    let rows = uneven_rows(config.vocab_size);
    let model = Model::new(config.clone(), method).unwrap();
    let plan = Plan::new(&model, capacity(&rows), Recompute::Nothing, true, b);
    b.reserve(&plan.sizes).unwrap();
    init::init(b, &model, &checkpoint.weights(), 3).unwrap();
    init::clear_optimizer(b, &model).unwrap();
    init::upload_rope(b, &model, &plan, 0).unwrap();
    // LoRA's B begins as zeros, with which A would have no gradient.
    let items = model.params.items.iter().enumerate();
    for (i, param) in items.filter(|(_, p)| p.name.contains("lora_B")) {
        let random = Philox::new(9, Stream::init(i as u16));
        let values: Vec<f32> = (0..param.slot.len).map(|j| random.normal(0, j) * 0.3).collect();
        b.upload(param.slot, &values).unwrap();
    }
    let batch = |rows: &[Row]| Batch::from_forest(&packed(rows), config.vocab_size).unwrap();
    let batches: Vec<Batch> = rows.chunks(size).map(batch).collect();
    let outcome = step(b, &model, &plan, &batches, &STEP, &mut ()).unwrap();
    let Outcome::Updated(report) = outcome else { panic!("{outcome:?}") };
    let gradient = init::read(b, model.params.all().in_region(Region::Grads)).unwrap();
    let params = init::read(b, model.params.all()).unwrap();
    Stepped { report, gradient, params }
}

/// One micro-batch of sixteen rows, four of four, sixteen of one: the same to `allowed`, relative to what is compared.
fn check(
    name: &str,
    allowed: f64,
    backend: impl for<'w> Fn(&'w Checkpoint) -> Box<dyn Backend + 'w>,
) {
    let config = Config { dim: 16, hidden_dim: 24, vocab_size: 29, ..config() };
    let checkpoint = Checkpoint::new(&config, 5);
    for method in [Method::Full, lora(0.0), lora(0.2)] {
        let [one, four, sixteen] = [16, 4, 1]
            .map(|size| take_step(&mut *backend(&checkpoint), &checkpoint, &config, method, size));
        for (cut, found) in [("4x4", four), ("1x16", sixteen)] {
            let errors = [
                (found.report.loss / one.report.loss - 1.0).abs(),
                (found.report.grad_norm / one.report.grad_norm - 1.0).abs(),
                distance(&found.gradient, &one.gradient),
                distance(&found.params, &one.params),
            ];
            let place = format!("{name}, {method:?}, {cut}");
            println!("{place}: loss, norm, gradient and parameters off by {errors:?}");
            assert!(errors.iter().all(|error| *error < allowed), "{place}: {errors:?}");
            assert_eq!(found.report.trained, one.report.trained, "{place}");
        }
    }
}

#[test]
fn f65_micro_batches_change_nothing_on_the_processor() {
    for level in Level::available() {
        check(&level.to_string(), 1e-6, |checkpoint| {
            Box::new(Cpu::new(checkpoint.weights(), 2, Some(level)).unwrap())
        });
    }
}

/// Within what whole steps on it may be off by from the reference: 800 roundings.
#[test]
fn f65_micro_batches_change_nothing_on_a_graphics_card() {
    let gpu = match Gpu::open(&Options::default()) {
        Ok(gpu) => gpu,
        Err(why) => {
            let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
            assert!(!required.contains("wgpu"), "PADDOCK_REQUIRE names wgpu, but {why}");
            eprintln!("SKIPPED: micro-batches on the wgpu back-end: {why}");
            return;
        }
    };
    let unit = Storage::on(&Device::Wgpu(gpu.clone())).unwrap().unit();
    check("wgpu", (800.0 * unit).min(0.1), |checkpoint| {
        Box::new(Wgpu::on(gpu.clone(), checkpoint.weights()).unwrap())
    });
}
