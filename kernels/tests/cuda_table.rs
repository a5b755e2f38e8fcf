//! Every op of the CUDA back-end against the core's reference: on the emulator, or on the machine's own
//! card with larger shapes too.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "common/cuda.rs"]
mod cuda;

use cuda::{AMPERE, Device, HOPPER, device};
use paddock_kernels::cuda::Cuda;
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::{Draw, Expected, Storage, compare, table};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Runs every op drawn from `seed`.
fn check(device: &Device, seed: u64, size: Size) {
    for op in table() {
        let case = (op.draw)(&mut Draw::new(seed, size)).stored(Storage::Bf16);
        let expected = Expected::stored(&case, Storage::Bf16).unwrap();
        let mut backend = Cuda::on(device.gpu.clone(), case.weights());
        assert_eq!(Storage::of(&backend), Storage::Bf16);
        let verdicts = compare(&op, &case, &expected, &mut backend);
        let verdicts = verdicts.unwrap_or_else(|error| panic!("{} seed {seed}: {error}", op.name));
        for verdict in verdicts {
            assert!(verdict.passes(), "seed {seed}: {verdict:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn every_op_equals_the_reference(seed in any::<u64>()) {
        let both = [AMPERE, HOPPER];
        check(&device(both[seed as usize % 2]), seed, Size::Small);
    }
}

#[test]
fn every_op_equals_the_reference_on_large_shapes() {
    let device = device(AMPERE);
    if device.is_real() {
        for seed in 0..4 {
            check(&device, seed, Size::Large);
        }
    }
}

#[test]
fn two_runs_give_the_same_bits() {
    let device = device(HOPPER);
    for op in table() {
        let case = (op.draw)(&mut Draw::new(7, Size::Small));
        let [first, second] = [0, 1].map(|_| {
            let mut backend = Cuda::on(device.gpu.clone(), case.weights());
            let outputs = case.run(&mut backend).unwrap().concat();
            outputs.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
        });
        assert_eq!(first, second, "{}", op.name);
    }
}
