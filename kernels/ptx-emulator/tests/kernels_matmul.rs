//! The matrix products, executed and compared with a triple loop in f64.

mod common;
#[path = "common/data.rs"]
mod data;

use common::{Arg, Gpu};
use data::{Numbers, assert_bf16, assert_f32, exact};
use paddock_ptx_emulator::{FaultKind, LaunchError, Report, Shape};
use std::collections::HashMap;
use std::time::Instant;

const FORWARD: &str = include_str!("../../src/cuda/matmul_forward.ptx");
const BACKWARD_INPUT: &str = include_str!("../../src/cuda/matmul_backward_input.ptx");
const BACKWARD_WEIGHT: &str = include_str!("../../src/cuda/matmul_backward_weight.ptx");
const ANY: &str = include_str!("../../src/cuda/matmul_any.ptx");

/// One product: sizes, whether A and B are stored with k as the slow axis, and what to do with out.
#[derive(Clone, Copy)]
struct Product {
    m: usize,
    n: usize,
    k: usize,
    a_by_k: bool,
    b_by_k: bool,
    wide: bool,
    add: bool,
    alpha: f32,
}

/// Runs `entry` and checks every element. `any` passes the strides that matmul_any wants.
fn check(source: &str, entry: &str, p: Product, any: bool) -> Report {
    let (mut gpu, mut numbers) = (Gpu::new(), Numbers((p.m * 31 + p.n * 7 + p.k) as u64));
    let (a, b) = (numbers.bf16s(p.m * p.k), numbers.bf16s(p.k * p.n));
    let (narrow, wide) = (numbers.bf16s(p.m * p.n), numbers.f32s(p.m * p.n));
    let out = if p.wide { gpu.f32s(&wide) } else { gpu.u16s(&narrow) };
    let (p_a, p_b) = (gpu.u16s(&a), gpu.u16s(&b));
    let size = |number: usize| Arg::U32(number as u32);
    let a_strides = if p.a_by_k { [1, p.m] } else { [p.k, 1] };
    let b_strides = if p.b_by_k { [p.n, 1] } else { [1, p.k] };
    let mut args =
        vec![Arg::U64(out), Arg::U64(p_a), Arg::U64(p_b), size(p.m), size(p.n), size(p.k)];
    if any {
        args.extend(a_strides.into_iter().chain(b_strides).map(size));
    }
    args.extend([Arg::F32(p.alpha), Arg::U32(u32::from(p.add))]);
    if any || entry == "matmul_forward" {
        args.push(Arg::U32(u32::from(p.wide)));
    }
    let shape = if any {
        let grid = (p.m * p.n).div_ceil(128).max(1) as u32;
        Shape { grid: [grid, 1, 1], block: [128, 1, 1], shared: 0 }
    } else {
        let grid = [p.m.div_ceil(128) as u32, p.n.div_ceil(128) as u32, 1];
        Shape { grid, block: [128, 1, 1], shared: 98_304 }
    };
    let report = gpu.launch(source, entry, shape, &args);

    let (a, b) = (exact(&a), exact(&b));
    let before: Vec<f64> =
        if p.wide { wide.iter().map(|&x| f64::from(x)).collect() } else { exact(&narrow) };
    let mut expected = vec![0.0; p.m * p.n];
    for (at, value) in expected.iter_mut().enumerate() {
        let (i, j) = (at / p.n, at % p.n);
        let sum: f64 = (0..p.k)
            .map(|k| {
                a[i * a_strides[0] + k * a_strides[1]] * b[k * b_strides[0] + j * b_strides[1]]
            })
            .sum();
        *value = f64::from(p.alpha) * sum + if p.add { before[at] } else { 0.0 };
    }
    let name = format!("{entry} {} {} {}", p.m, p.n, p.k);
    // Each of the k/8 partial sums loses at most one unit in the last place of a sum of size
    // ~sqrt(k).
    let slack = 2.0_f64.powi(-22) * (p.k as f64) * f64::from(p.alpha.abs());
    if p.wide {
        assert_f32(&gpu.read_f32(out, p.m * p.n), &expected, 1e-6, slack, &name);
    } else {
        assert_bf16(&gpu.read_u16(out, p.m * p.n), &expected, slack, &name);
    }
    report
}

/// The passes: storage order of A and B, and the kind of out.
fn passes() -> [(&'static str, &'static str, bool, bool, bool); 4] {
    [
        (FORWARD, "matmul_forward", false, false, false),
        (FORWARD, "matmul_forward", false, false, true),
        (BACKWARD_INPUT, "matmul_backward_input", false, true, false),
        (BACKWARD_WEIGHT, "matmul_backward_weight", true, true, true),
    ]
}

#[test]
fn tensor_core_products() {
    for (source, entry, a_by_k, b_by_k, wide) in passes() {
        let shapes: [(usize, usize, usize); 6] =
            [(1, 8, 8), (5, 16, 64), (64, 64, 64), (128, 128, 72), (130, 136, 200), (33, 264, 320)];
        for (at, (m, n, k)) in shapes.into_iter().enumerate() {
            // A is stored by k in one pass: its M must be a multiple of 8 then, and its K need not.
            let (m, k) = if a_by_k { (m.next_multiple_of(8), k - at) } else { (m, k) };
            let (add, alpha) = (at % 2 == 1, if at % 3 == 2 { 0.5 } else { 1.0 });
            let p = Product { m, n, k, a_by_k, b_by_k, wide, add, alpha };
            let report = check(source, entry, p, false);
            assert_eq!(report.counters.bank_conflicts, 0, "{entry} {m} {n} {k}");
        }
    }
}

#[test]
fn products_of_any_shape() {
    for (_, _, a_by_k, b_by_k, wide) in passes() {
        for (m, n, k, add, alpha) in [
            (1, 1, 1, false, 1.0),
            (3, 5, 7, true, 1.0),
            (13, 17, 0, false, 1.0),
            (2, 129, 33, true, -2.0),
        ] {
            check(ANY, "matmul_any", Product { m, n, k, a_by_k, b_by_k, wide, add, alpha }, true);
        }
    }
}

#[test]
fn every_line_of_the_products_is_reached() {
    let mut missed: HashMap<&str, Vec<u32>> = HashMap::new();
    for (source, entry, a_by_k, b_by_k, wide) in passes() {
        for add in [true, false] {
            let p = Product { m: 136, n: 72, k: 264, a_by_k, b_by_k, wide, add, alpha: 1.0 };
            let start = Instant::now();
            let report = check(source, entry, p, false);
            println!("{entry} (136,72,264): {}, {:?}", report.counters, start.elapsed());
            // Two CTAs of 4 warps and 5 turns: 128 mma of 4,096 flops a warp and turn.
            assert_eq!(report.counters.mma_flops, 2 * 4 * 5 * 128 * 4096);
            let unreached = report.unreached();
            let lines = missed.entry(entry).or_insert_with(|| unreached.clone());
            lines.retain(|line| unreached.contains(line));
        }
    }
    for (entry, lines) in missed {
        assert_eq!(lines, [0_u32; 0], "{entry}: these lines never ran");
    }
}

/// The first fault of a product whose text was changed.
fn fault(source: &str, entry: &str) -> FaultKind {
    let mut gpu = Gpu::new();
    let bytes = if entry == "matmul_backward_weight" { 4 } else { 2 };
    let (a, b) = (gpu.u16s(&[0; 128 * 512]), gpu.u16s(&[0; 128 * 512]));
    let out = gpu.room(128 * 128 * bytes);
    let [m, n, k] = [Arg::U32(128), Arg::U32(128), Arg::U32(512)];
    let mut args =
        vec![Arg::U64(out), Arg::U64(a), Arg::U64(b), m, n, k, Arg::F32(1.0), Arg::U32(0)];
    if entry == "matmul_forward" {
        args.push(Arg::U32(0));
    }
    let shape = Shape { grid: [1, 1, 1], block: [128, 1, 1], shared: 98_304 };
    match gpu.try_launch(source, entry, shape, &args) {
        Err(LaunchError::Fault(fault)) => fault.kind,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the change went unnoticed"),
    }
}

/// What would be wrong only sometimes on a device is always found here.
#[test]
fn a_missing_wait_or_barrier_is_found() {
    for (source, entry, ..) in passes() {
        let late = source.replacen("cp.async.wait_group 1;", "cp.async.wait_group 2;", 1);
        assert!(matches!(fault(&late, entry), FaultKind::AsyncPending { .. }), "{entry}");
        let loose = source.replacen("bar.sync 0;", "bar.warp.sync -1;", 1);
        assert!(
            matches!(
                fault(&loose, entry),
                FaultKind::UninitialisedMemory { .. } | FaultKind::Race { .. }
            ),
            "{entry}"
        );
        // Without the barrier after the loop the finished tile overwrites what others still read.
        let (head, tail) = source.split_once("cp.async.wait_all;").expect("the end of the loop");
        let early = format!("{head}cp.async.wait_all;{}", tail.replacen("bar.sync 0;", "", 1));
        assert!(matches!(fault(&early, entry), FaultKind::Race { .. }), "{entry}");
        let small = source.replacen("setp.ge.u32 %p, %row, %t;", "setp.gt.u32 %p, %row, %t;", 1);
        assert!(matches!(fault(&small, entry), FaultKind::OutOfBounds { .. }), "{entry}");
    }
}
