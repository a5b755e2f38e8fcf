//! Every op of the CPU back-end against the core's reference, at every SIMD level, and with
//! different numbers of threads.

use paddock_kernels::cpu::Cpu;
use paddock_kernels::cpu::simd::Level;
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::{Draw, Expected, compare, table};
use proptest::prelude::*;

fn check(seed: u64, size: Size) {
    for op in table() {
        let case = (op.draw)(&mut Draw::new(seed, size));
        let expected = Expected::of(&case).unwrap();
        for level in Level::available() {
            let mut cpu = Cpu::new(case.weights(), 2, Some(level)).unwrap();
            for verdict in compare(&op, &case, &expected, &mut cpu).unwrap() {
                assert!(verdict.passes(), "seed {seed}, {level}: {verdict:?}");
            }
        }
    }
}

/// PROPTEST_CASES, or few enough for every run of the tests.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_op_equals_the_reference(seed in any::<u64>()) {
        check(seed, Size::Small);
    }
}

#[test]
fn every_op_equals_the_reference_on_large_shapes() {
    check(1, Size::Large);
}

#[test]
fn threads_change_no_bit() {
    for op in table() {
        for seed in 0..3 {
            let case = (op.draw)(&mut Draw::new(seed, Size::Large));
            for level in Level::available() {
                let mut all = [1, 2, 3].map(|threads| {
                    let mut cpu = Cpu::new(case.weights(), threads, Some(level)).unwrap();
                    let outputs = case.run(&mut cpu).unwrap();
                    outputs.concat().iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
                });
                let first = std::mem::take(&mut all[0]);
                assert!(all[1..].iter().all(|bits| *bits == first), "{} {level}", op.name);
            }
        }
    }
}
