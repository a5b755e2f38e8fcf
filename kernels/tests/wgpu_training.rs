//! Whole steps on the wgpu back-end: gradients equal the reference's, and fifty steps follow the
//! CPU's losses.

use std::sync::Arc;

use paddock_core::model::Method;
use paddock_core::train::{LossScale, Outcome};
use paddock_kernels::cpu::Cpu;
use paddock_kernels::ops::whole::{Toy, distance, lora, verify_steps};
use paddock_kernels::wgpu::{Gpu, Wgpu, describe_adapters};
use paddock_kernels::{Device, Options, Precision};

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

#[test]
fn a_step_equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    let mut seen = 0;
    let mut judge = |verdict: paddock_kernels::ops::Verdict| {
        assert!(verdict.passes(), "{verdict:?}");
        seen += 1;
    };
    verify_steps(&Device::Wgpu(gpu), 5, &mut judge).unwrap();
    assert_eq!(seen, 4);
}

#[test]
fn fifty_steps_follow_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let toy = Toy::new(5);
    for method in [Method::Full, lora(0.1)] {
        let mut cpu = Cpu::new(toy.weights(), 1, None).unwrap();
        let expected = toy.train(&mut cpu, method, 50).unwrap().losses;
        let runs = [0, 1].map(|_| {
            let mut wgpu = Wgpu::on(gpu.clone(), toy.weights()).unwrap();
            toy.train(&mut wgpu, method, 50).unwrap()
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

/// The same with activations in f16, where some adapter offers it.
fn gpu_in_f16() -> Option<Arc<Gpu>> {
    if describe_adapters().iter().any(|a| a.half_activations) {
        let options = Options { precision: Precision::F16, ..Options::default() };
        return Some(Gpu::open(&options).unwrap());
    }
    eprintln!("SKIPPED: steps in f16 are not tested: no graphics adapter offers f16");
    None
}

/// LoRA's losses follow the processor's, which computes in f32: f16 rounds each activation by up
/// to 2^-11 of itself. The losses were off by 3e-4
/// at most.
#[test]
fn fifty_steps_in_f16_follow_the_cpu() {
    let Some(gpu) = gpu_in_f16() else { return };
    let toy = Toy::new(5);
    let method = lora(0.1);
    let mut cpu = Cpu::new(toy.weights(), 1, None).unwrap();
    let expected = toy.train(&mut cpu, method, 50).unwrap().losses;
    let runs = [0, 1].map(|_| {
        let mut wgpu = Wgpu::on(gpu.clone(), toy.weights()).unwrap();
        toy.train(&mut wgpu, method, 50).unwrap()
    });
    let off = |(found, expected): (&f64, &f64)| (found - expected).abs() / expected;
    let worst = runs[0].losses.iter().zip(&expected).map(off).fold(0.0, f64::max);
    println!("50 steps in f16: losses off by {worst:.1e} at most");
    assert!(worst < 1e-3, "off by {worst:e}: {:?} instead of {expected:?}", runs[0].losses);
    assert!(runs[0].losses[49] < 0.8 * runs[0].losses[0], "{:?}", runs[0].losses);
    assert_eq!(runs[0].losses, runs[1].losses);
    assert_eq!(runs[0].grads, runs[1].grads);
    assert_eq!(runs[0].logits, runs[1].logits);
}

/// A loss scale that is too large is told as such, and changes nothing; halved until it is not, the step is that of any
/// smaller one.
#[test]
fn gradients_that_overflow_in_f16_are_told() {
    let Some(gpu) = gpu_in_f16() else { return };
    let toy = Toy::new(5);
    let run = |scale: f64| {
        let mut wgpu = Wgpu::on(gpu.clone(), toy.weights()).unwrap();
        toy.first_step(&mut wgpu, scale).unwrap()
    };
    let (Outcome::Updated(small), one) = run(256.0) else { panic!("no update was made") };
    let mut scale = LossScale { factor: 2.0_f64.powi(20), good: 0 };
    let mut overflows = 0;
    let (large, other) = loop {
        match run(scale.factor) {
            (Outcome::NotFinite { report, .. }, after) => {
                assert!(report.loss.is_finite() && !report.grad_norm.is_finite(), "{report:?}");
                assert!(after.iter().all(|x| x.is_finite()) && distance(&after, &one) > 1e-3);
                overflows += 1;
                assert!(scale.overflowed());
            }
            (Outcome::Updated(report), after) => break (report, after),
            (outcome, _) => panic!("{outcome:?}"),
        }
    };
    println!("f16: {overflows} overflows, then {}", scale.factor);
    assert!(overflows > 0 && scale.factor >= 1024.0, "{overflows} {scale:?}");
    assert_eq!(small.loss, large.loss);
    assert!((small.grad_norm / large.grad_norm - 1.0).abs() < 1e-3, "{small:?} {large:?}");
    assert!(distance(&one, &other) < 1e-3);
}
