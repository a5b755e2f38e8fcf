//! Every op of the wgpu back-end against the core's reference, on any adapter (a software one will
//! do), and its promises: the same bits twice, cut weights, errors in words.

use std::sync::{Arc, OnceLock};

use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::error::Error;
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::plan::RegionSizes;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Dtype, Mat, WeightView, Weights};
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::whole::verify_steps;
use paddock_kernels::ops::{Case, Draw, Expected, Storage, Verdict, compare, table, verify};
use paddock_kernels::wgpu::{Gpu, Tier, Wgpu, describe_adapters};
use paddock_kernels::{Device, Options};
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
fn every_tier_equals_the_reference() {
    if gpu().is_none() {
        return;
    }
    let mut tested = Vec::new();
    for tier in Tier::ALL {
        let Ok(gpu) = Gpu::with_tier(&Options::default(), tier) else {
            eprintln!("SKIPPED: the tier \"{tier}\" is not tested: the adapter does not offer it");
            continue;
        };
        let device = Device::Wgpu(gpu);
        let mut judge = |verdict: Verdict| assert!(verdict.passes(), "{tier}: {verdict:?}");
        verify(&device, 20..22, Size::Small, &mut judge).unwrap();
        verify_steps(&device, 3, &mut judge).unwrap();
        tested.push(tier);
    }
    assert!(tested.contains(&Tier::Plain), "{tested:?}");
}

/// Products of many tiles have a kernel of their own.
#[test]
fn large_products_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    let mut large = 0;
    for op in table().iter().filter(|op| op.name.starts_with("matmul")) {
        for seed in 0..6 {
            let case = (op.draw)(&mut Draw::new(seed, Size::Large));
            let numbers = case.shape.split(' ').filter_map(|word| word.parse::<u32>().ok());
            let tiles: Vec<u32> = numbers.map(|n| n.div_ceil(128)).collect();
            if tiles[0] * tiles[1] < 24 {
                continue;
            }
            large += 1;
            let expected = Expected::of(&case).unwrap();
            let mut wgpu = Wgpu::on(gpu.clone(), case.weights()).unwrap();
            for verdict in compare(op, &case, &expected, &mut wgpu).unwrap() {
                assert!(verdict.passes(), "seed {seed}: {verdict:?}");
            }
        }
    }
    assert!(large >= 2, "only {large} large products drawn");
}

/// Products with few columns or rows, as LoRA's, have kernels of their own.
#[test]
fn thin_products_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    let mut thin = 0;
    for op in table().iter().filter(|op| op.name.starts_with("lora")) {
        for seed in 0..60 {
            let case = (op.draw)(&mut Draw::new(seed, Size::Large));
            let words = case.shape.split(' ').filter_map(|word| word.parse::<u32>().ok());
            let extents: Vec<u32> = words.collect();
            let [rows, out, inp, rank] = extents[..] else { panic!("{}", case.shape) };
            let whole = [out, inp, rank].iter().all(|x| x.is_multiple_of(4));
            if !whole || rows.min(out).min(inp) < 128 || thin >= 8 {
                continue;
            }
            thin += 1;
            let expected = Expected::of(&case).unwrap();
            let mut wgpu = Wgpu::on(gpu.clone(), case.weights()).unwrap();
            for verdict in compare(op, &case, &expected, &mut wgpu).unwrap() {
                assert!(verdict.passes(), "seed {seed}: {verdict:?}");
            }
        }
    }
    assert!(thin >= 4, "only {thin} thin products drawn");
}

/// Matrix instructions, where the adapter has them: products of many shapes, and attention.
#[test]
fn products_by_matrix_instructions_equal_the_reference() {
    let Ok(gpu) = Gpu::with_tier(&Options::default(), Tier::Cooperative) else {
        eprintln!("SKIPPED: matrix instructions are not tested: the adapter does not offer them");
        return;
    };
    let mut used = 0;
    for op in table().iter().filter(|op| op.products > 0.0) {
        let mut left = 2;
        for seed in 0..40 {
            let case = (op.draw)(&mut Draw::new(seed, Size::Large));
            // The products' rows, columns and depth, where the shape is no more than that.
            let words = case.shape.split([' ', ',']).filter_map(|word| word.parse::<u32>().ok());
            let extents: Vec<u32> = words.collect();
            let fits = extents.iter().all(|x| x.is_multiple_of(4))
                && extents.iter().take(3).all(|&x| x >= 32);
            // Heads that fit workgroup memory everywhere, and enough queries in a tile.
            let tiles = case.shape.contains("head_dim: 64") && extents[0] >= 40;
            let meets = match op.name {
                name if name.starts_with("matmul") => fits,
                name if name.starts_with("attention") => tiles,
                _ => true,
            };
            if left == 0 || !meets {
                continue;
            }
            left -= 1;
            let expected = Expected::stored(&case, Storage::F16Products).unwrap();
            let mut wgpu = Wgpu::on(gpu.clone(), case.weights()).unwrap();
            let mut worst = 0.0f64;
            for verdict in compare(op, &case, &expected, &mut wgpu).unwrap() {
                assert!(verdict.passes(), "seed {seed}: {verdict:?}");
                worst = worst.max(verdict.error / verdict.largest.max(1e-9));
            }
            // Plain sums in f32 are closer than this.
            used += u32::from(worst > 1e-5);
        }
    }
    assert!(used >= 10, "only {used} cases met matrix instructions");
}

/// Operands far from 1 are scaled, not lost.
#[test]
fn matrix_instructions_take_numbers_of_any_size() {
    let Ok(gpu) = Gpu::with_tier(&Options::default(), Tier::Cooperative) else {
        eprintln!("SKIPPED: matrix instructions are not tested: the adapter does not offer them");
        return;
    };
    let mut wgpu = Wgpu::on(gpu, Weights::default()).unwrap();
    let mut sizes = RegionSizes::default();
    let (dout, inp) = (sizes.take(Region::ActGrads, 64 * 128), sizes.take(Region::Acts, 64 * 64));
    let dw = sizes.take(Region::Grads, 128 * 64);
    wgpu.reserve(&sizes).unwrap();
    for (a, b) in [(1e-30, 1e3), (3e12, 1e-9), (1e-8, 1e-8), (0.0, 1.0)] {
        wgpu.upload(dout, &vec![a; 64 * 128]).unwrap();
        wgpu.upload(inp, &vec![b; 64 * 64]).unwrap();
        wgpu.fill(dw, 0.0).unwrap();
        wgpu.matmul_backward_weight(dw, dout, inp, 128, 64, 0.5).unwrap();
        let mut found = vec![0.0; 128 * 64];
        wgpu.download(dw, &mut found).unwrap();
        let expected = 0.5 * 64.0 * a * b;
        for x in found {
            assert!((x - expected).abs() <= 2e-3 * expected, "{a:e} x {b:e}: {x:e}");
        }
    }
}

fn bits(case: &Case, wgpu: &mut Wgpu<'_>) -> Vec<u32> {
    case.run(wgpu).unwrap().concat().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn where_long_kernels_are_cut_changes_no_bit() {
    let Some(gpu) = gpu() else { return };
    for op in table() {
        let case = (op.draw)(&mut Draw::new(11, Size::Small));
        let whole =
            bits(&case, &mut Wgpu::on(gpu.clone(), case.weights()).unwrap().with_work(u64::MAX));
        // Every workgroup in a dispatch of its own.
        let cut = bits(&case, &mut Wgpu::on(gpu.clone(), case.weights()).unwrap().with_work(1));
        assert_eq!(whole, cut, "{}", op.name);
    }
}

#[test]
fn two_runs_give_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    for op in table() {
        let case = (op.draw)(&mut Draw::new(7, Size::Small));
        let [first, second] =
            [0, 1].map(|_| bits(&case, &mut Wgpu::on(gpu.clone(), case.weights()).unwrap()));
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
            let most = region.max(weight / 3 + 2000).next_multiple_of(512);
            let mut wgpu = Wgpu::with_binding_limit(gpu.clone(), case.weights(), most).unwrap();
            for verdict in compare(op, &case, &expected, &mut wgpu).unwrap() {
                assert!(verdict.passes(), "seed {seed}: {verdict:?}");
            }
        }
    }
}

/// Regions larger than a binding are bound in windows.
#[test]
fn regions_larger_than_a_binding_are_bound_in_windows() {
    let Some(gpu) = gpu() else { return };
    let mut windows = 0;
    for op in table() {
        for seed in 0..2 {
            let case = (op.draw)(&mut Draw::new(seed, Size::Small));
            let expected = Expected::of(&case).unwrap();
            // Twice the longest slot, so that every operand fits, and not more than the weights call for.
            let operands = case.inputs.iter().map(|(slot, _)| slot.len);
            let operands = operands.chain(case.outputs.iter().map(|(_, slot)| slot.len));
            let slots = 4 * operands.max().unwrap_or(0).max(case.sizes.len(Region::Scratch));
            let most = (2 * slots).max(case.weights().bytes() + 64).next_multiple_of(512) + 512;
            windows += Region::ALL.iter().filter(|&&r| 4 * case.sizes.len(r) > most).count();
            let mut wgpu = Wgpu::with_binding_limit(gpu.clone(), case.weights(), most).unwrap();
            let verdicts = compare(&op, &case, &expected, &mut wgpu);
            for verdict in verdicts.unwrap_or_else(|e| panic!("{} {}: {e}", op.name, case.shape)) {
                assert!(verdict.passes(), "seed {seed}: {verdict:?}");
            }
        }
    }
    assert!(windows > 10, "only {windows} regions were larger than their binding");
}

/// Ranges that no binding holds go through in pieces.
#[test]
fn long_ranges_go_through_in_pieces() {
    let Some(gpu) = gpu() else { return };
    for name in ["add", "accumulate", "norm_squared", "adamw"] {
        let op = table().into_iter().find(|op| op.name == name).unwrap();
        let case = (op.draw)(&mut Draw::new(2, Size::Large));
        let expected = Expected::of(&case).unwrap();
        let most = 64 << 10;
        assert!(case.inputs[0].0.len * 4 > most, "{name} is short");
        let mut wgpu = Wgpu::with_binding_limit(gpu.clone(), case.weights(), most).unwrap();
        for verdict in compare(&op, &case, &expected, &mut wgpu).unwrap() {
            assert!(verdict.passes(), "{verdict:?}");
        }
    }
}

#[test]
fn an_operand_beyond_a_binding_is_refused_in_words() {
    let Some(gpu) = gpu() else { return };
    let mut wgpu = Wgpu::with_binding_limit(gpu, Weights::default(), 1 << 20).unwrap();
    let mut sizes = RegionSizes::default();
    sizes.grow(Region::Acts, 1 << 20);
    wgpu.reserve(&sizes).unwrap();
    let slot = Slot::new(Region::Acts, 0, 1 << 19);
    let Err(Error::Device(message)) = wgpu.swiglu_forward(slot, slot, slot) else {
        panic!("not refused")
    };
    assert!(message.contains("of 2 MiB") && message.contains("micro-batch"), "{message}");
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

/// Every bit pattern of f16 and bf16, subnormal ones too, is widened exactly.
#[test]
fn sixteen_bit_weights_are_widened_exactly() {
    let Some(gpu) = gpu() else { return };
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let segments = vec![Segment { start: 0, len: 256, parent: None }];
    let entries = vec![Entry { position: 0, target: 0, weight: 1.0 }];
    let forest = Forest { tokens: (0..256).collect(), segments, entries };
    let batch = Batch::from_forest(&forest, 256).unwrap();
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let mut weights = Weights::default();
        let (name, rows, cols) = (String::from("all"), 256, 256);
        let weight = weights.push(WeightView { name, dtype, rows, cols, bytes: &bytes });
        let mut wgpu = Wgpu::on(gpu.clone(), weights).unwrap();
        let mut sizes = RegionSizes::default();
        let out = sizes.take(Region::Acts, 1 << 16);
        wgpu.reserve(&sizes).unwrap();
        wgpu.set_batch(&batch).unwrap();
        wgpu.embed_forward(out, Mat::frozen(weight, rows, cols)).unwrap();
        let mut found = vec![0.0; 1 << 16];
        wgpu.download(out, &mut found).unwrap();
        for (bits, found) in (0..=u16::MAX).zip(found) {
            let expected = match dtype {
                Dtype::F16 => half::f16::from_bits(bits).to_f32(),
                _ => half::bf16::from_bits(bits).to_f32(),
            };
            let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same, "{dtype:?} {bits:#06x}: {found:e} instead of {expected:e}");
        }
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
