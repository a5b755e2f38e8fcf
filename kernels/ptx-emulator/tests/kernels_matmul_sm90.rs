//! The matrix products for Hopper, executed and compared with a triple loop in f64.

mod common;
#[path = "common/data.rs"]
mod data;

use common::{Arg, Gpu};
use data::{Numbers, assert_bf16, assert_f32, exact};
use half::bf16;
use paddock_ptx_emulator::{Element, FaultKind, LaunchError, Report, Shape, TensorMap};
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

const FORWARD: &str = include_str!("../../src/cuda/sm90/matmul_forward.ptx");
const BACKWARD_INPUT: &str = include_str!("../../src/cuda/sm90/matmul_backward_input.ptx");
const SUM: &str = include_str!("../../src/cuda/matmul_sum.ptx");
const BACKWARD_WEIGHT: &str = include_str!("../../src/cuda/sm90/matmul_backward_weight.ptx");

/// A kernel: its text and name, and whether A and B are stored with k as the slow axis.
#[derive(Clone, Copy)]
struct Pass {
    source: &'static str,
    entry: &'static str,
    a_by_k: bool,
    b_by_k: bool,
    wide: bool,
}

/// The passes; those with two kinds of out twice.
fn passes() -> [Pass; 5] {
    let pass = |source, entry, a_by_k, b_by_k, wide| Pass { source, entry, a_by_k, b_by_k, wide };
    [
        pass(FORWARD, "matmul_forward_sm90", false, false, false),
        pass(FORWARD, "matmul_forward_sm90", false, false, true),
        pass(BACKWARD_INPUT, "matmul_backward_input_sm90", false, true, false),
        pass(BACKWARD_INPUT, "matmul_backward_input_sm90", false, true, true),
        pass(BACKWARD_WEIGHT, "matmul_backward_weight_sm90", true, true, true),
    ]
}

#[derive(Clone, Copy)]
struct Job {
    m: usize,
    n: usize,
    k: usize,
    /// Terms of the second pair.
    k2: usize,
    add: bool,
    alpha: f32,
    /// CTAs, two a cluster.
    ctas: u32,
    /// Into how many parts k is cut; more than one with f32 results alone.
    parts: usize,
}

/// What a launch works on.
struct Memory {
    gpu: Gpu,
    out: u64,
    /// A and B of both pairs.
    pairs: [[Vec<f64>; 2]; 2],
    before: Vec<f64>,
    args: Vec<Arg>,
    /// Those of the kernel that adds up parts.
    sum_args: Vec<Arg>,
}

fn map(element: Element, address: u64, rows: usize, columns: usize) -> Arg {
    let bytes = element.bytes();
    let sizes = [columns as u64, rows as u64];
    let row = columns as u64 * u64::from(bytes);
    let map = TensorMap::new(element, address, &sizes, &[row], &[128 / bytes, 64], 128);
    Arg::Map(map.expect("the matrix fits").to_bytes())
}

fn prepare(pass: Pass, j: Job) -> Memory {
    let mut gpu = Gpu::hopper();
    let mut numbers = Numbers((j.m * 31 + j.n * 7 + j.k) as u64);
    let (narrow, wide) = (numbers.bf16s(j.m * j.n), numbers.f32s(j.m * j.n));
    let out = if pass.wide { gpu.f32s(&wide) } else { gpu.u16s(&narrow) };
    let mut maps = Vec::new();
    let pairs = [j.k, j.k2].map(|k| {
        let (a, b) = (numbers.bf16s(j.m * k), numbers.bf16s(k * j.n));
        let places = [(gpu.u16s(&a), j.m, pass.a_by_k), (gpu.u16s(&b), j.n, pass.b_by_k)];
        for (address, length, by_k) in places {
            // A pair that is not there needs no map; the kernel does not look at it.
            maps.push(match (k, by_k) {
                (0, _) => Arg::Map([0; 128]),
                (_, true) => map(Element::Bf16, address, k, length),
                (_, false) => map(Element::Bf16, address, length, k),
            });
        }
        [exact(&a), exact(&b)]
    });
    let kind = if pass.wide { Element::F32 } else { Element::Bf16 };
    let size = |number: usize| Arg::U32(number as u32);
    let rows = j.m.next_multiple_of(64);
    let (place, height, add) = if j.parts > 1 {
        (gpu.room(4 * j.parts * rows * j.n), j.parts * rows, false)
    } else {
        (out, j.m, j.add)
    };
    let mut args = vec![map(kind, place, height, j.n)];
    args.append(&mut maps);
    args.extend([j.m, j.n, j.k, j.k2, 2, j.parts, rows].map(size));
    args.extend([Arg::F32(j.alpha), Arg::U32(u32::from(add))]);
    let mut sum_args = vec![Arg::U64(out), Arg::U64(place)];
    sum_args.extend([j.parts, rows, j.m, j.n, usize::from(j.add), 1].map(size));
    if pass.entry != "matmul_backward_weight_sm90" {
        args.push(Arg::U32(u32::from(pass.wide)));
    }
    let before =
        if pass.wide { wide.iter().map(|&x| f64::from(x)).collect() } else { exact(&narrow) };
    Memory { gpu, out, pairs, before, args, sum_args }
}

fn shape(j: Job) -> Shape {
    Shape { grid: [j.ctas, 1, 1], block: [384, 1, 1], shared: 229_440 }
}

/// alpha * (A B + A2 B2) as a loop.
fn products(pass: Pass, j: Job, pairs: &[[Vec<f64>; 2]; 2]) -> Vec<f64> {
    let mut out = vec![0.0; j.m * j.n];
    for ([a, b], terms) in pairs.iter().zip([j.k, j.k2]) {
        let (a_row, a_k) = if pass.a_by_k { (1, j.m) } else { (terms, 1) };
        let (b_column, b_k) = if pass.b_by_k { (1, j.n) } else { (terms, 1) };
        for (at, sum) in out.iter_mut().enumerate() {
            let (row, column) = (at / j.n, at % j.n);
            let terms =
                (0..terms).map(|k| a[row * a_row + k * a_k] * b[column * b_column + k * b_k]);
            *sum += f64::from(j.alpha) * terms.sum::<f64>();
        }
    }
    out
}

/// Runs a pass and checks every element.
fn check(pass: Pass, j: Job) -> Report {
    let mut memory = prepare(pass, j);
    let start = Instant::now();
    let report = memory.gpu.launch(pass.source, pass.entry, shape(j), &memory.args);
    println!("{} {} {} {}: {:?}", pass.entry, j.m, j.n, j.k, start.elapsed());
    if j.parts > 1 {
        let grid = [(j.m * j.n).div_ceil(4 * 256) as u32, 1, 1];
        let shape = Shape { grid, block: [256, 1, 1], shared: 0 };
        memory.gpu.launch(SUM, "matmul_sum", shape, &memory.sum_args);
    }
    let products = products(pass, j, &memory.pairs);
    let name = format!("{} {} {} {}", pass.entry, j.m, j.n, j.k);
    let slack = 2.0_f64.powi(-22) * ((j.k + j.k2) as f64) * f64::from(j.alpha.abs());
    let added = |at: usize| if j.add { memory.before[at] } else { 0.0 };
    let expected: Vec<f64> =
        products.iter().enumerate().map(|(at, product)| product + added(at)).collect();
    if pass.wide {
        assert_f32(&memory.gpu.read_f32(memory.out, j.m * j.n), &expected, 1e-6, slack, &name);
        return report;
    }
    // Rounded once, and when it is added to out the product is rounded before.
    for (at, bits) in memory.gpu.read_u16(memory.out, j.m * j.n).into_iter().enumerate() {
        let found = bf16::from_bits(bits).to_f64();
        let half_unit = |x: f64| if x == 0.0 { 0.0 } else { x.abs().log2().floor().exp2() / 256.0 };
        let bound = if j.add {
            let product = half_unit(products[at]);
            product + half_unit(expected[at].abs() + product)
        } else {
            half_unit(expected[at])
        };
        let error = (found - expected[at]).abs();
        assert!(error <= bound + slack, "{name}: {at} is {found}, exact {}", expected[at]);
    }
    report
}

#[test]
fn products_of_many_shapes() {
    for pass in passes() {
        let shapes: [(usize, usize, usize, u32); 4] =
            [(1, 8, 8, 2), (130, 136, 200, 2), (264, 264, 72, 2), (64, 520, 320, 4)];
        for (at, (m, n, k, ctas)) in shapes.into_iter().enumerate() {
            // A stored by k has rows of M elements, which must be multiples of 16 bytes; its K is
            // free.
            let (m, k) = if pass.a_by_k { (m.next_multiple_of(8), k - at) } else { (m, k) };
            let (add, alpha) = (at % 2 == 1, if at % 3 == 2 { 0.5 } else { 1.0 });
            let k2 = if at == 1 || at == 3 { 16 * at } else { 0 };
            let report = check(pass, Job { m, n, k, k2, add, alpha, ctas, parts: 1 });
            assert_eq!(report.counters.bank_conflicts, 0, "{} {m} {n} {k}", pass.entry);
        }
    }
}

/// An adapter's gradients: few tiles, long sums.
#[test]
fn products_in_parts() {
    for pass in passes().into_iter().filter(|pass| pass.wide) {
        for (m, n, k, parts, add) in
            [(16, 264, 650, 3, false), (264, 16, 1000, 2, true), (72, 72, 320, 5, true)]
        {
            let k = if pass.a_by_k { k } else { k / 8 * 8 };
            let job = Job { m, n, k, k2: 0, add, alpha: 0.5, ctas: 4, parts };
            check(pass, job);
        }
    }
}

/// The kernel that adds up parts: all of its lines, both kinds of result.
#[test]
fn parts_are_added_up() {
    let (parts, rows, m, n) = (3, 64, 5, 264);
    let mut numbers = Numbers(11);
    let (given, wide) = (numbers.f32s(parts * rows * n), numbers.f32s(m * n));
    let narrow = numbers.bf16s(m * n);
    let mut missed: Option<Vec<u32>> = None;
    for (add, is_wide) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut gpu = Gpu::new();
        let out = if is_wide { gpu.f32s(&wide) } else { gpu.u16s(&narrow) };
        let mut args = vec![Arg::U64(out), Arg::U64(gpu.f32s(&given))];
        let sizes = [parts, rows, m, n, usize::from(add), usize::from(is_wide)];
        args.extend(sizes.map(|size| Arg::U32(size as u32)));
        let shape = Shape { grid: [2, 1, 1], block: [256, 1, 1], shared: 0 };
        let unreached = gpu.launch(SUM, "matmul_sum", shape, &args).unreached();
        let before: Vec<f64> =
            if is_wide { wide.iter().map(|&x| f64::from(x)).collect() } else { exact(&narrow) };
        let expected: Vec<f64> = (0..m * n)
            .map(|at| {
                let sum: f64 = (0..parts).map(|p| f64::from(given[p * rows * n + at])).sum();
                sum + if add { before[at] } else { 0.0 }
            })
            .collect();
        if is_wide {
            assert_f32(&gpu.read_f32(out, m * n), &expected, 1e-6, 1e-6, "wide");
        } else {
            assert_bf16(&gpu.read_u16(out, m * n), &expected, 1e-6, "narrow");
        }
        let lines = missed.get_or_insert_with(|| unreached.clone());
        lines.retain(|line| unreached.contains(line));
    }
    assert_eq!(missed, Some(Vec::new()), "these lines never ran");
}

#[test]
fn every_line_of_the_products_is_reached() {
    let mut missed: HashMap<&str, Vec<u32>> = HashMap::new();
    for pass in passes() {
        let job = Job { m: 272, n: 264, k: 328, k2: 16, add: false, alpha: 0.5, ctas: 2, parts: 1 };
        let whole = Job { m: 256, n: 256, k: 64, k2: 0, ..job };
        for job in [job, Job { add: true, alpha: 1.0, ..job }, whole] {
            let report = check(pass, job);
            let unreached = report.unreached();
            let lines = missed.entry(pass.entry).or_insert_with(|| unreached.clone());
            lines.retain(|line| unreached.contains(line));
        }
    }
    for (entry, lines) in missed {
        let source = passes().into_iter().find(|pass| pass.entry == entry).expect("one").source;
        // The watchdogs' last lines are for bugs.
        let lines: Vec<_> = lines
            .into_iter()
            .filter(|&line| !source.lines().nth(line as usize - 1).unwrap_or("").contains("trap;"))
            .collect();
        assert_eq!(lines, [0_u32; 0], "{entry}: these lines never ran");
    }
}

/// The first fault of a product whose text was changed.
fn fault(pass: Pass, source: &str) -> FaultKind {
    let job = Job { m: 256, n: 256, k: 704, k2: 0, add: false, alpha: 1.0, ctas: 2, parts: 1 };
    let mut memory = prepare(pass, job);
    match memory.gpu.try_launch(source, pass.entry, shape(job), &memory.args) {
        Err(LaunchError::Fault(fault)) => fault.kind,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{}: the change went unnoticed", pass.entry),
    }
}

/// What would be wrong only sometimes on a device is always found here.
#[test]
fn a_missing_wait_fence_or_barrier_is_found() {
    let pass = passes()[0];
    for (from, to) in [
        // Reading a stage before it is filled; filling it before it is read.
        ("    @%p bra FULL;\n", "    bra FULL_DONE;\n"),
        ("    @%p bra EMPTY;\n", "    bra EMPTY_DONE;\n"),
        // Releasing a stage whose products are still under way.
        ("wgmma.wait_group.sync.aligned 1;", "wgmma.wait_group.sync.aligned 2;"),
        // Storing what this thread's proxy has not seen, or other threads have not written.
        ("fence.proxy.async.shared::cta;", ""),
        (
            "fence.proxy.async.shared::cta;\n    bar.sync %named, 128;",
            "fence.proxy.async.shared::cta;",
        ),
        // Overwriting a piece that is still going out.
        ("    @%issuer cp.async.bulk.wait_group.read 1;\n", ""),
    ] {
        assert!(pass.source.contains(from), "{from}");
        println!("{from:?}: {:?}", fault(pass, &pass.source.replace(from, to)));
    }
}

/// The rank of a CTA stands in the upper bits of its addresses; a descriptor that keeps them was wrong
/// on a device, in the second CTA of a cluster.
#[test]
fn a_descriptor_with_the_rank_is_found() {
    for pass in passes() {
        let job = Job { m: 256, n: 256, k: 64, k2: 0, add: false, alpha: 1.0, ctas: 2, parts: 1 };
        let mut memory = prepare(pass, job);
        let source = pass
            .source
            .replace("bfe.u32 %a_lo, %t, 4, 14;", "shr.u32 %a_lo, %t, 4;")
            .replace("bfe.u32 %b_lo, %t, 4, 14;", "shr.u32 %b_lo, %t, 4;");
        assert_ne!(source, pass.source);
        let found = memory.gpu.try_launch(&source, pass.entry, shape(job), &memory.args);
        println!("{}: {:?}", pass.entry, found.as_ref().err().map(ToString::to_string));
        // Where k is the fast axis the descriptor's field that is spoilt is not used.
        assert_eq!(found.is_err(), pass.a_by_k || pass.b_by_k, "{}", pass.entry);
    }
}

/// Text between two lines that begin with `// ==`, by its name.
fn blocks(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in source.split("// == ").skip(1) {
        let (name, text) = part.split_once('\n').expect("a line");
        found.push((name.to_owned(), text.trim_end().to_owned()));
    }
    found
}

/// The three files are one text but for what stands under "(its own)".
#[test]
fn the_products_differ_where_they_say_so() {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut shared = 0;
    for source in [FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT] {
        let blocks = blocks(source);
        assert!(blocks.len() > 12, "{} blocks", blocks.len());
        for (name, text) in blocks {
            if name.contains("(its own)") {
                continue;
            }
            let first = known.entry(name.clone()).or_insert_with(|| text.clone());
            assert_eq!(*first, text, "block `{name}`");
            shared += 1;
        }
    }
    assert!(shared >= 3 * 10, "{shared}");
}
