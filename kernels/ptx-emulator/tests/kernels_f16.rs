//! The matrix product in f16, executed and compared with a triple loop in f64.

mod common;
#[path = "common/data.rs"]
mod data;

use common::{Arg, Gpu};
use data::{Numbers, assert_f32};
use half::f16;
use paddock_ptx_emulator::{FaultKind, LaunchError, Report, Shape};

const PRODUCT: &str = include_str!("../../src/cuda/matmul_f16.ptx");

/// Sizes, whether A and B are stored with k as the slow axis, and what to do with out.
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

fn halves(numbers: &mut Numbers, count: usize) -> Vec<u16> {
    numbers.f32s(count).iter().map(|&x| f16::from_f32(x).to_bits()).collect()
}

fn values(halves: &[u16]) -> Vec<f64> {
    halves.iter().map(|&x| f64::from(f16::from_bits(x).to_f32())).collect()
}

/// What a launch needs: device, arguments, grid.
fn prepare(p: Product) -> (Gpu, Vec<Arg>, Shape, u64, Vec<f64>) {
    let (mut gpu, mut numbers) = (Gpu::new(), Numbers((p.m * 31 + p.n * 7 + p.k) as u64));
    let (a, b) = (halves(&mut numbers, p.m * p.k), halves(&mut numbers, p.k * p.n));
    let (narrow, wide) = (halves(&mut numbers, p.m * p.n), numbers.f32s(p.m * p.n));
    let out = if p.wide { gpu.f32s(&wide) } else { gpu.u16s(&narrow) };
    let a_strides = if p.a_by_k { [1, p.m] } else { [p.k, 1] };
    let b_strides = if p.b_by_k { [p.n, 1] } else { [1, p.k] };
    let mut args = vec![Arg::U64(out), Arg::U64(gpu.u16s(&a)), Arg::U64(gpu.u16s(&b))];
    let sizes = [p.m, p.n, p.k].into_iter().chain(a_strides).chain(b_strides);
    args.extend(sizes.map(|size| Arg::U32(size as u32)));
    args.push(Arg::F32(p.alpha));
    args.extend([p.add, p.wide].map(|flag| Arg::U32(u32::from(flag))));
    let grid = [p.m.div_ceil(64) as u32, p.n.div_ceil(64) as u32, 1];
    let (a, b) = (values(&a), values(&b));
    let before: Vec<f64> =
        if p.wide { wide.iter().map(|&x| f64::from(x)).collect() } else { values(&narrow) };
    let expected = (0..p.m * p.n).map(|at| {
        let (i, j) = (at / p.n, at % p.n);
        let [a, b] = [(&a, i, a_strides), (&b, j, [b_strides[1], b_strides[0]])]
            .map(|(x, at, [slow, fast])| move |k: usize| x[at * slow + k * fast]);
        let sum: f64 = (0..p.k).map(|k| a(k) * b(k)).sum();
        f64::from(p.alpha) * sum + if p.add { before[at] } else { 0.0 }
    });
    let expected = expected.collect();
    (gpu, args, Shape { grid, block: [128, 1, 1], shared: 0 }, out, expected)
}

fn check(p: Product) -> Report {
    let (mut gpu, args, shape, out, expected) = prepare(p);
    let report = gpu.launch(PRODUCT, "matmul_f16", shape, &args);
    let name = format!("{} {} {}", p.m, p.n, p.k);
    let slack = 2.0_f64.powi(-22) * (p.k as f64) * f64::from(p.alpha.abs());
    if p.wide {
        assert_f32(&gpu.read_f32(out, p.m * p.n), &expected, 1e-6, slack, &name);
    } else {
        let found: Vec<f32> =
            gpu.read_u16(out, p.m * p.n).iter().map(|&x| f16::from_bits(x).to_f32()).collect();
        // Half a unit in the last of eleven bits.
        assert_f32(&found, &expected, 2.0_f64.powi(-11), slack + 1e-7, &name);
    }
    report
}

/// All storage orders and kinds of out, on odd shapes, single rows and empty sums.
#[test]
fn products_of_any_shape() {
    for order in 0..4 {
        for (i, (m, n, k)) in
            [(1, 1, 1), (3, 5, 7), (13, 17, 0), (64, 64, 64), (65, 130, 33), (100, 40, 96)]
                .into_iter()
                .enumerate()
        {
            let (a_by_k, b_by_k, wide) = (order % 2 == 1, order / 2 == 1, (i + order) % 2 == 0);
            let (add, alpha) = (i % 3 == 1, if i % 2 == 0 { 1.0 } else { -0.5 });
            check(Product { m, n, k, a_by_k, b_by_k, wide, add, alpha });
        }
    }
}

#[test]
fn every_line_is_reached_and_fragments_touch_each_bank_once() {
    let mut missed: Option<Vec<u32>> = None;
    // The result ends within each of the pieces that a thread writes.
    let cases =
        [(false, true, 71, 70), (true, true, 79, 70), (true, false, 87, 33), (false, false, 95, 0)];
    for (wide, add, n, k) in cases {
        let (a_by_k, b_by_k, alpha) = (false, false, 1.0);
        let report = check(Product { m: 70, n, k, a_by_k, b_by_k, wide, add, alpha });
        assert_eq!(report.counters.bank_conflicts, 0);
        let unreached = report.unreached();
        match &mut missed {
            Some(lines) => lines.retain(|line| unreached.contains(line)),
            None => missed = Some(unreached),
        }
    }
    assert_eq!(missed, Some(Vec::new()), "lines that no case reaches");
}

/// Without either barrier one warp reads what another has not written yet, or writes what is still read.
#[test]
fn both_barriers_are_needed() {
    let (add, alpha) = (false, 1.0);
    let p = Product { m: 64, n: 64, k: 96, a_by_k: false, b_by_k: true, wide: true, add, alpha };
    for number in 0..2 {
        let (mut gpu, args, shape, ..) = prepare(p);
        let mut parts: Vec<&str> = PRODUCT.split("bar.sync 0;").collect();
        assert_eq!(parts.len(), 3);
        let joined = format!("{}{}", parts[number], parts[number + 1]);
        parts.splice(number..=number + 1, [joined.as_str()]);
        let source = parts.join("bar.sync 0;");
        let Err(LaunchError::Fault(fault)) = gpu.try_launch(&source, "matmul_f16", shape, &args)
        else {
            panic!("a missing barrier was not found");
        };
        let found =
            matches!(fault.kind, FaultKind::Race { .. } | FaultKind::UninitialisedMemory { .. });
        assert!(found, "{fault}");
    }
}
