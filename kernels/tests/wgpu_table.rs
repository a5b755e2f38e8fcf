//! Every op of the wgpu back-end against the core's reference, on any adapter (a software one will
//! do), and its promises: the same bits twice, cut weights, errors in words.

use std::sync::{Arc, OnceLock};

use paddock_core::backend::Backend;
use paddock_core::error::Error;
use paddock_core::plan::RegionSizes;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::Weights;
use paddock_kernels::Options;
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::{Draw, Expected, compare, table};
use paddock_kernels::wgpu::{Gpu, Wgpu, describe_adapters};
use proptest::prelude::*;

/// The device, opened once; none where there is no adapter, said loudly.
fn gpu() -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
    let open = || match Gpu::open(&Options::default()) {
        Ok(gpu) => {
            eprintln!("testing on {}", gpu.name());
            Some(gpu)
        }
        Err(why) => {
            let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
            assert!(!required.contains("wgpu"), "PADDOCK_REQUIRE names wgpu, but {why}");
            eprintln!("SKIPPED: the wgpu back-end is not tested: {why}");
            None
        }
    };
    GPU.get_or_init(open).clone()
}

/// Runs every op drawn from `seed`; weights are cut to parts of `most` bytes.
fn check(seed: u64, size: Size, most: u64) {
    let Some(gpu) = gpu() else { return };
    for op in table() {
        let case = (op.draw)(&mut Draw::new(seed, size));
        let expected = Expected::of(&case).unwrap();
        let mut wgpu = Wgpu::with_binding_limit(gpu.clone(), case.weights(), most).unwrap();
        for verdict in compare(&op, &case, &expected, &mut wgpu).unwrap() {
            assert!(verdict.passes(), "seed {seed}: {verdict:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_op_equals_the_reference(seed in any::<u64>()) {
        check(seed, Size::Small, u64::MAX);
    }
}

#[test]
fn every_op_equals_the_reference_on_large_shapes() {
    check(1, Size::Large, u64::MAX);
}

#[test]
fn two_runs_give_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    for op in table() {
        let case = (op.draw)(&mut Draw::new(7, Size::Small));
        let [first, second] = [0, 1].map(|_| {
            let mut wgpu = Wgpu::on(gpu.clone(), case.weights()).unwrap();
            let outputs = case.run(&mut wgpu).unwrap().concat();
            outputs.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
        });
        assert_eq!(first, second, "{}", op.name);
    }
}

#[test]
fn weights_larger_than_a_binding_are_cut() {
    let Some(gpu) = gpu() else { return };
    let ops = ["embed_forward", "matmul_forward", "matmul_backward_input"];
    let losses = ["linear_cross_entropy", "lora_linear_backward"];
    for op in table().iter().filter(|op| ops.contains(&op.name) || losses.contains(&op.name)) {
        for seed in 0..4 {
            let case = (op.draw)(&mut Draw::new(seed, Size::Small));
            let expected = Expected::of(&case).unwrap();
            // Small enough to cut the weight, large enough for every region.
            let region = Region::ALL.iter().map(|&r| 4 * case.sizes.len(r)).max().unwrap_or(0);
            let weight = case.weights().bytes();
            let most = region.max(weight / 3 + 2000);
            let mut wgpu = Wgpu::with_binding_limit(gpu.clone(), case.weights(), most).unwrap();
            for verdict in compare(op, &case, &expected, &mut wgpu).unwrap() {
                assert!(verdict.passes(), "seed {seed}: {verdict:?}");
            }
        }
    }
}

#[test]
fn a_region_beyond_a_binding_is_refused_in_words() {
    let Some(gpu) = gpu() else { return };
    let mut wgpu = Wgpu::with_binding_limit(gpu, Weights::default(), 1 << 20).unwrap();
    let mut sizes = RegionSizes::default();
    sizes.grow(Region::Acts, 1 << 20);
    let Err(Error::Device(message)) = wgpu.reserve(&sizes) else { panic!("not refused") };
    assert!(message.contains("Acts needs 4 MiB") && message.contains("micro-batch"), "{message}");
}

#[test]
fn slots_beyond_their_region_are_refused() {
    let Some(gpu) = gpu() else { return };
    let mut wgpu = Wgpu::on(gpu, Weights::default()).unwrap();
    let slot = Slot::new(Region::Acts, 0, 10);
    assert!(wgpu.fill(slot, 1.0).is_err());
    let mut sizes = RegionSizes::default();
    sizes.grow(Region::Acts, 9);
    wgpu.reserve(&sizes).unwrap();
    assert!(matches!(wgpu.fill(slot, 1.0), Err(Error::OutOfRegion { end: 10, len: 9, .. })));
    assert!(matches!(wgpu.download(slot, &mut [0.0; 10]), Err(Error::OutOfRegion { .. })));
}

#[test]
fn values_that_are_not_numbers_stay_so() {
    let Some(gpu) = gpu() else { return };
    for name in ["rms_norm_forward", "attention_forward", "swiglu_forward", "matmul_forward"] {
        let op = table().into_iter().find(|op| op.name == name).unwrap();
        let mut case = (op.draw)(&mut Draw::new(3, Size::Small));
        for (_, values) in &mut case.inputs {
            values.fill(f32::NAN);
        }
        let mut wgpu = Wgpu::on(gpu.clone(), case.weights()).unwrap();
        let out = &case.run(&mut wgpu).unwrap()[0];
        let bad = out.iter().filter(|x| x.is_nan()).count();
        assert_eq!(bad, out.len(), "{name}");
    }
}

#[test]
fn adapters_are_described() {
    if gpu().is_none() {
        return;
    }
    let adapters = describe_adapters();
    assert!(adapters.iter().any(|a| a.unusable.is_none()));
    for adapter in adapters {
        eprintln!("{adapter}");
        assert!(!adapter.name.is_empty() && adapter.max_binding_bytes >= 1 << 27);
    }
}
