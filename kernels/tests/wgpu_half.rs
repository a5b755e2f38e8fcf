//! The wgpu back-end with activations in f16: every op in every tier against the reference, by the bounds that CUDA's
//! f16 has; numbers between host and device at any offset; windows; what is refused.

use std::sync::{Arc, OnceLock};

use paddock_core::backend::Backend;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::error::{Error, Result};
use paddock_core::model::{Method, Model};
use paddock_core::plan::{Capacity, Plan, Recompute, RegionSizes};
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::Weights;
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::whole::verify_steps;
use paddock_kernels::ops::{Case, Draw, Expected, Op, Storage, Verdict, compare, table, verify};
use paddock_kernels::wgpu::{Gpu, Tier, Wgpu, describe_adapters};
use paddock_kernels::{Device, Options, Precision};
use proptest::prelude::*;

fn options() -> Options {
    Options { precision: Precision::F16, ..Options::default() }
}

/// Whether some adapter offers f16; else that is said loudly, once for each test.
fn offered() -> bool {
    static OFFERED: OnceLock<bool> = OnceLock::new();
    let found = *OFFERED.get_or_init(|| describe_adapters().iter().any(|a| a.half_activations));
    if !found {
        let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
        assert!(!required.contains("wgpu"), "PADDOCK_REQUIRE names wgpu, but nothing offers f16");
        eprintln!("SKIPPED: activations in f16 are not tested: no graphics adapter offers f16");
    }
    found
}

/// The device of the tier that is taken by itself, opened once.
fn gpu() -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    offered().then(|| GPU.get_or_init(|| Gpu::open(&options()).unwrap()).clone())
}

/// Every tier that the adapter offers.
fn tiers() -> Vec<Arc<Gpu>> {
    let open = |tier: &Tier| match Gpu::with_tier(&options(), *tier) {
        Ok(gpu) => Some(gpu),
        Err(_) => {
            eprintln!("SKIPPED: \"{tier}\" in f16 is not tested: the adapter does not offer it");
            None
        }
    };
    if offered() { Tier::ALL.iter().filter_map(open).collect() } else { Vec::new() }
}

fn judge(gpu: &Arc<Gpu>, op: &Op, seed: u64, size: Size) {
    let case = (op.draw)(&mut Draw::new(seed, size)).stored(Storage::F16);
    let expected = Expected::stored(&case, Storage::F16).unwrap();
    let mut wgpu = Wgpu::on(gpu.clone(), case.weights()).unwrap();
    for verdict in compare(op, &case, &expected, &mut wgpu).unwrap() {
        assert!(verdict.passes(), "{} seed {seed}: {verdict:?}", gpu.name());
    }
}

#[test]
fn every_tier_equals_the_reference_in_f16() {
    for gpu in tiers() {
        let device = Device::Wgpu(gpu);
        assert_eq!(Storage::on(&device), Ok(Storage::F16));
        assert!(device.name().contains("activations in f16"), "{}", device.name());
        let mut check = |verdict: Verdict| assert!(verdict.passes(), "{verdict:?}");
        verify(&device, 30..31, Size::Small, &mut check).unwrap();
        verify_steps(&device, 3, &mut check).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_op_equals_the_reference_in_f16(seed in any::<u64>()) {
        if let Some(gpu) = gpu() {
            table().iter().for_each(|op| judge(&gpu, op, seed, Size::Small));
        }
    }
}

/// Shapes of the kernels for many tiles, for thin products, for matrix instructions and for tiles of queries.
#[test]
fn kernels_for_large_shapes_equal_the_reference_in_f16() {
    for gpu in tiers() {
        let mut taken = 0;
        for op in table().iter().filter(|op| op.products > 0.0) {
            let wanted = if op.name.starts_with("matmul") { 2 } else { 1 };
            let large =
                |seed: &u64| is_for_large(op.name, &(op.draw)(&mut Draw::new(*seed, Size::Large)));
            for seed in (0..40).filter(large).take(wanted) {
                taken += 1;
                judge(&gpu, op, seed, Size::Large);
            }
        }
        assert!(taken >= 10, "only {taken} cases drawn");
    }
}

/// Whole quads, and rows enough; attention over heads that matrix instructions take.
fn is_for_large(op: &str, case: &Case) -> bool {
    let words = case.shape.split([' ', ',']).filter_map(|word| word.parse::<u32>().ok());
    let extents: Vec<u32> = words.collect();
    let whole = |least: u32| extents.iter().take(3).all(|x| x.is_multiple_of(4) && *x >= least);
    match op {
        name if name.starts_with("matmul") => whole(32),
        name if name.starts_with("attention") => {
            case.shape.contains("head_dim: 64") && extents[0] >= 40
        }
        name if name.starts_with("lora") => {
            extents[1..].iter().all(|x| x.is_multiple_of(4))
                && extents[..3].iter().all(|&x| x >= 128)
        }
        _ => true,
    }
}

#[test]
fn two_runs_in_f16_give_the_same_bits_wherever_they_are_cut() {
    let Some(gpu) = gpu() else { return };
    for op in table() {
        let case = (op.draw)(&mut Draw::new(7, Size::Small));
        let runs = [u64::MAX, 1].map(|work| {
            let mut wgpu = Wgpu::on(gpu.clone(), case.weights()).unwrap().with_work(work);
            let outputs = case.run(&mut wgpu).unwrap().concat();
            outputs.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
        });
        assert!(runs.iter().all(|bits| *bits == runs[0]), "{}", op.name);
    }
}

/// Windows begin at other elements than those of f32 do.
#[test]
fn regions_in_f16_larger_than_a_binding_are_bound_in_windows() {
    let Some(gpu) = gpu() else { return };
    let mut windows = 0;
    for op in table() {
        let case = (op.draw)(&mut Draw::new(1, Size::Small)).stored(Storage::F16);
        let expected = Expected::stored(&case, Storage::F16).unwrap();
        let longest = |narrow: bool| {
            let all = case.inputs.iter().map(|(slot, _)| *slot);
            let all = all.chain(case.outputs.iter().map(|(_, slot)| *slot));
            let own = all.filter(|slot| Storage::F16.narrows(slot.region) == narrow);
            own.map(|slot| slot.len).max().unwrap_or(0)
        };
        let wide = 4 * longest(false).max(case.sizes.len(Region::Scratch));
        let slots = wide.max(2 * longest(true));
        let most = (2 * slots).max(case.weights().bytes() + 64).next_multiple_of(512) + 512;
        let mut wgpu = Wgpu::with_binding_limit(gpu.clone(), case.weights(), most).unwrap();
        let bytes = |region: &Region| case.sizes.bytes(*region, &wgpu);
        windows += Region::ALL.iter().filter(|r| bytes(r) > most).count();
        let verdicts = compare(&op, &case, &expected, &mut wgpu);
        for verdict in verdicts.unwrap_or_else(|e| panic!("{} {}: {e}", op.name, case.shape)) {
            assert!(verdict.passes(), "{verdict:?}");
        }
    }
    assert!(windows > 3, "only {windows} regions were larger than their binding");
}

/// Copies move words of two numbers: a range that begins or ends within one leaves its neighbours as they were.
#[test]
fn any_range_of_f16_is_written_and_read_alone() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut wgpu = Wgpu::on(gpu, Weights::default())?;
    for len in [1, 2, 7, 8] {
        let mut sizes = RegionSizes::default();
        sizes.grow(Region::Acts, len);
        wgpu.reserve(&sizes)?;
        let all = Slot::new(Region::Acts, 0, len);
        let mut kept: Vec<f32> = (0..len).map(|i| i as f32).collect();
        wgpu.upload(all, &kept)?;
        for first in 0..len {
            for count in 0..=len - first {
                let values: Vec<f32> = (0..count).map(|i| (100 + 10 * first + i) as f32).collect();
                wgpu.upload(all.part(first, count), &values)?;
                kept[first as usize..(first + count) as usize].copy_from_slice(&values);
                let mut found = vec![0.0; len as usize];
                wgpu.download(all, &mut found)?;
                assert_eq!(found, kept, "{first} {count} of {len}");
                let mut found = values.clone();
                found.fill(-1.0);
                wgpu.download(all.part(first, count), &mut found)?;
                assert_eq!(found, values, "{first} {count} of {len}");
            }
        }
    }
    Ok(())
}

/// Rounded to the nearest on the host, and to infinity beyond what f16 holds, on the host and by kernels; what is
/// no number stays none.
#[test]
fn what_f16_does_not_hold_is_seen() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut wgpu = Wgpu::on(gpu, Weights::default())?;
    let mut sizes = RegionSizes::default();
    let (wide, narrow) = (sizes.take(Region::Stats, 8), sizes.take(Region::Acts, 8));
    wgpu.reserve(&sizes)?;
    let values = [65504.0, 65519.0, 65520.0, -65521.0, 1e30, f32::NAN, 6e-8, 1.0];
    let expected = [65504.0, 65504.0, f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY];
    let mut by_host = [0.0; 8];
    wgpu.upload(narrow, &values)?;
    wgpu.download(narrow, &mut by_host)?;
    let mut by_kernel = [0.0; 8];
    wgpu.upload(wide, &values)?;
    wgpu.copy(narrow, wide)?;
    wgpu.download(narrow, &mut by_kernel)?;
    for found in [by_host, by_kernel] {
        // A device may round the second either way.
        assert_eq!((found[0], &found[2..5]), (expected[0], &expected[2..5]), "{found:?}");
        assert!(found[1] >= 65504.0 && found[5].is_nan() && found[7] == 1.0, "{found:?}");
    }
    assert_eq!((by_host[1], by_host[6]), (expected[1], 5.960_464_5e-8));
    for name in ["rms_norm_forward", "attention_forward", "swiglu_forward", "matmul_forward"] {
        let op = table().into_iter().find(|op| op.name == name).unwrap();
        let mut case = (op.draw)(&mut Draw::new(3, Size::Small));
        case.inputs.iter_mut().for_each(|(_, values)| values.fill(f32::NAN));
        let mut wgpu = Wgpu::on(gpu_again(), case.weights())?;
        assert!(case.run(&mut wgpu)?[0].iter().all(|x| x.is_nan()), "{name}");
    }
    Ok(())
}

fn gpu_again() -> Arc<Gpu> {
    gpu().expect("it was there before")
}

#[test]
fn the_plan_counts_two_bytes() {
    let Some(narrow) = gpu() else { return };
    let wide = Gpu::open(&Options::default()).unwrap();
    let rope = Rope { theta: 10_000.0, scaling: RopeScaling::Default };
    let (dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim) = (32, 48, 2, 4, 2, 8);
    let (vocab_size, max_seq_len, rms_norm_eps, tied) = (64, 32, 1e-5, false);
    let config = Config {
        dim,
        hidden_dim,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim,
        vocab_size,
        max_seq_len,
        rms_norm_eps,
        rope,
        tied,
    };
    let model = Model::new(config, Method::Full).unwrap();
    let (tokens, cache_rows, logit_rows) = (32, 16, 1);
    let capacity = Capacity {
        tokens,
        kept: tokens,
        entries: tokens,
        positions: tokens,
        cache_rows,
        logit_rows,
    };
    let planned = |gpu: Arc<Gpu>| {
        let b = Wgpu::on(gpu, Weights::default()).unwrap();
        let plan = Plan::new(&model, capacity, Recompute::Cheap, true, &b);
        let halves = [Region::Acts, Region::ActGrads, Region::Kv].map(|r| plan.sizes.len(r));
        assert_eq!(b.has_narrow_range(), plan.sizes.bytes(Region::Acts, &b) == 2 * halves[0]);
        (plan.sizes.total_bytes(&b), halves.iter().sum::<u64>())
    };
    let ((all, halves), (before, _)) = (planned(narrow), planned(wide));
    assert!(halves > 0);
    assert_eq!(all, before - 2 * halves);
}

#[test]
fn bf16_is_refused_in_one_line() {
    let options = Options { precision: Precision::Bf16, ..Options::default() };
    if describe_adapters().is_empty() {
        eprintln!("SKIPPED: what wgpu refuses is not tested: no graphics adapter");
        return;
    }
    let Err(Error::Device(why)) = Gpu::open(&options) else { panic!("not refused") };
    assert!(
        why.contains("bf16") && why.contains("--precision f16") && !why.contains('\n'),
        "{why}"
    );
}
