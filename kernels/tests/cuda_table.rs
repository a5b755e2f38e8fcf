//! Every op of the CUDA back-end against the core's reference: on the emulator, or on the machine's own
//! card with larger shapes too.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "common/cuda.rs"]
mod cuda;

use cuda::{AMPERE, Device, HOPPER, TURING, device, device_with};
use paddock_core::weights::Weights;
use paddock_kernels::cuda::Cuda;
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::{Draw, Expected, Storage, compare, table};
use paddock_kernels::{Options, Precision};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn f16() -> Options {
    Options { precision: Precision::F16, ..Options::default() }
}

fn narrow_parameters() -> Options {
    Options { narrow_parameters: true, ..Options::default() }
}

/// Runs every op drawn from `seed`.
fn check(device: &Device, seed: u64, size: Size) {
    for op in table() {
        let storage = Storage::of(&Cuda::on(device.gpu.clone(), Weights::default()));
        let case = (op.draw)(&mut Draw::new(seed, size)).stored(storage);
        let expected = Expected::stored(&case, storage).unwrap();
        let mut backend = Cuda::on(device.gpu.clone(), case.weights());
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

/// In f16: the kernels for cards before compute capability 8.0, and the fast ones of later cards.
#[test]
fn every_op_equals_the_reference_in_f16() {
    for seed in 0..8 {
        let capability = [TURING, AMPERE, HOPPER][seed as usize % 3];
        let device = device_with(capability, &f16());
        assert_eq!(Storage::of(&Cuda::on(device.gpu.clone(), Weights::default())), Storage::F16);
        check(&device, seed, Size::Small);
    }
    let device = device_with(AMPERE, &f16());
    if device.is_real() {
        check(&device, 1, Size::Large);
    }
}

#[test]
fn every_op_equals_the_reference_with_parameters_in_bf16() {
    for seed in 0..4 {
        let device = device_with([AMPERE, HOPPER][seed as usize % 2], &narrow_parameters());
        let storage = Storage::of(&Cuda::on(device.gpu.clone(), Weights::default()));
        assert_eq!(storage, Storage::Bf16Parameters);
        check(&device, seed, Size::Small);
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
