//! Every op of the CPU back-end against the core's reference, at every SIMD level and with matrix products in bf16,
//! and with different numbers of threads.

use paddock_core::error::Error;
use paddock_core::weights::Weights;
use paddock_kernels::cpu::Cpu;
use paddock_kernels::cpu::simd::Level;
use paddock_kernels::cpu::simd::amx::Amx;
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::{Case, Draw, Expected, Storage, compare, table};
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
        let Some(mut cpu) = in_bf16(&case, 2) else { continue };
        let expected = Expected::stored(&case, Storage::Bf16Products).unwrap();
        for verdict in compare(&op, &case, &expected, &mut cpu).unwrap() {
            assert!(verdict.passes(), "seed {seed}, products in bf16: {verdict:?}");
        }
    }
}

/// With matrix products in bf16, where the processor can.
fn in_bf16(case: &Case, threads: usize) -> Option<Cpu<'_>> {
    if Amx::detect().is_none() || Level::choose(None) != Ok(Level::Avx512) {
        static SAID: std::sync::Once = std::sync::Once::new();
        SAID.call_once(|| eprintln!("SKIPPED: products in bf16: no matrix instructions here"));
        return None;
    }
    let cpu = Cpu::new(case.weights(), threads, None).unwrap();
    Some(cpu.with_products_in_bf16().unwrap())
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
    let bits = |case: &Case, cpu: &mut Cpu<'_>| -> Vec<u32> {
        case.run(cpu).unwrap().concat().iter().map(|x| x.to_bits()).collect()
    };
    let same = |all: &[Vec<u32>]| all.iter().all(|bits| *bits == all[0]);
    for op in table() {
        for seed in 0..3 {
            let case = (op.draw)(&mut Draw::new(seed, Size::Large));
            for level in Level::available() {
                let all = [1, 2, 3].map(|threads| {
                    bits(&case, &mut Cpu::new(case.weights(), threads, Some(level)).unwrap())
                });
                assert!(same(&all), "{} {level}", op.name);
            }
            let narrow =
                [1, 2, 3].map(|n| in_bf16(&case, n).map_or(vec![], |mut c| bits(&case, &mut c)));
            assert!(same(&narrow), "{} in bf16", op.name);
        }
    }
}

#[test]
fn products_in_bf16_are_refused_where_the_processor_lacks_them() {
    let cpu = Cpu::new(Weights::default(), 1, Some(Level::Scalar)).unwrap();
    let refused = cpu.with_products_in_bf16();
    assert!(
        matches!(refused, Err(Error::Device(why)) if why.contains("AMX") && why.contains("--precision"))
    );
}
