//! Whole steps on the wgpu back-end: gradients equal the reference's, and fifty steps follow the
//! CPU's losses.

use std::sync::Arc;

use paddock_core::model::Method;
use paddock_kernels::cpu::Cpu;
use paddock_kernels::ops::whole::{Toy, lora, verify_steps};
use paddock_kernels::wgpu::{Gpu, Wgpu};
use paddock_kernels::{Device, Options};

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
