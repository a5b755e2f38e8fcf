//! Attention on tensor cores over random forests and caches, executed and compared with f64.

#[path = "common/attention.rs"]
mod attention;
mod common;
#[path = "common/data.rs"]
mod data;
#[path = "../../src/cuda/attention_groups.rs"]
mod groups;
#[path = "../../src/attention_tiles.rs"]
mod tiles;

use attention::{Sizes, reference};
use common::{Arg, Gpu};
use data::{Numbers, assert_f32, exact};
use paddock_core::batch::{Batch, KeyRange, Piece, Visibility};
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_ptx_emulator::{
    Counters, DeviceConfig, FaultKind, LaunchError, Machine, Report, Shape,
};
use tiles::Tiles;

const FORWARD: &str = include_str!("../../src/cuda/attention_forward.ptx");
const FORWARD_SM90: &str = include_str!("../../src/cuda/sm90/attention_forward.ptx");
const BACKWARD_SM90: &str = include_str!("../../src/cuda/sm90/attention_backward.ptx");
const BACKWARD: &str = include_str!("../../src/cuda/attention_backward.ptx");

/// The key rows that each query sees.
fn keys_of(v: &Visibility) -> Vec<Vec<usize>> {
    let mut seen = Vec::new();
    for s in &v.spans {
        let ranges = &v.ranges[s.first_range as usize..(s.first_range + s.n_ranges) as usize];
        for &at in &v.at[s.q_start as usize..(s.q_start + s.q_len) as usize] {
            let ranges = ranges.iter().map(|r| r.start as usize..(r.start + r.len) as usize);
            seen.push(
                ranges
                    .chain(std::iter::once(s.self_start as usize..at as usize + 1))
                    .flatten()
                    .collect(),
            );
        }
    }
    seen
}

/// A forest of about `rows` rows: each segment continues one of those before it, or none.
fn forest(numbers: &mut Numbers, rows: u32) -> Batch {
    let mut uniform = |below: u32| ((numbers.next() + 1.0) / 2.0 * f64::from(below)) as u32;
    let mut segments: Vec<Segment> = Vec::new();
    let mut path: Vec<u32> = Vec::new();
    let mut start = 0;
    while start < rows {
        // Depth first: the parent is on the way from the root to the segment before.
        path.truncate(uniform(path.len() as u32 + 2) as usize);
        let len = (1 + uniform(rows / 2 + 1)).min(rows - start);
        path.push(segments.len() as u32);
        let parent = path.len().checked_sub(2).map(|at| path[at]);
        segments.push(Segment { start, len, parent });
        start += len;
    }
    let kept = (0..rows).filter(|position| rows == 1 || position % 5 == 3 || position % 7 == 0);
    let entries = kept.map(|position| Entry { position, target: 1, weight: 1.0 }).collect();
    let forest = Forest { tokens: vec![1; rows as usize], segments, entries };
    Batch::from_forest(&forest, 10).expect("a forest")
}

/// The rows of a tile are 64 or 128 columns wide.
fn width(s: Sizes) -> usize {
    if s.d <= 64 { 64 } else { 128 }
}

struct Run {
    gpu: Gpu,
    sizes: Sizes,
    counters: Counters,
    unreached: Vec<(&'static str, Vec<u32>)>,
}

impl Run {
    fn launch(
        &mut self,
        kernel: &'static str,
        tables: &Tiles,
        pointers: &[u64],
        threads: u32,
        row_bytes: usize,
    ) {
        let (source, heads) = match kernel {
            "forward" => (FORWARD, self.sizes.heads),
            "forward_sm90" => (FORWARD_SM90, self.sizes.heads),
            "backward_query" => (BACKWARD, self.sizes.heads),
            "backward_query_sm90" => (BACKWARD_SM90, self.sizes.heads),
            "backward_key_sm90" => (BACKWARD_SM90, self.sizes.kv),
            _ => (BACKWARD, self.sizes.kv),
        };
        let lists = [
            self.gpu.u32s(tables.tiles.as_flattened()),
            self.gpu.u32s(tables.entries.as_flattened()),
            self.gpu.u64s(if tables.masks.is_empty() { &[0] } else { &tables.masks }),
        ];
        let Sizes { heads: h, kv, d } = self.sizes;
        let pointers = pointers.iter().chain(&lists).map(|&address| Arg::U64(address));
        let sizes = [h, kv, d].map(|number| Arg::U32(number as u32));
        let scale = Arg::F32(1.0 / (d as f32).sqrt());
        let args: Vec<Arg> = pointers.chain(sizes).chain([scale]).collect();
        // With many tiles the heads come in groups.
        let group = groups::heads_at_once(heads as u32, tables.tiles.len() as u64, 1);
        let shape = Shape {
            grid: [group, tables.tiles.len() as u32, heads as u32 / group],
            block: [threads, 1, 1],
            shared: row_bytes as u32,
        };
        let name = format!("attention_{kernel}_{}", width(self.sizes));
        let report: Report = self.gpu.launch(source, &name, shape, &args);
        assert_eq!(report.counters.bank_conflicts, 0, "{name}");
        self.unreached.push((kernel, report.unreached()));
        self.counters += &report.counters;
    }
}

/// Forward, and backward where the visibility has one, against the formulas.
fn check(v: &Visibility, keys: usize, s: Sizes, seed: u64, written: &[bool]) -> Run {
    let mut numbers = Numbers(seed);
    let (queries, rows) = (v.at.len() * s.heads, keys * s.kv);
    // Large scores, so that weights differ by much.
    let q: Vec<u16> = numbers.bf16s(queries * s.d).iter().map(|bits| bits + (2 << 7)).collect();
    let [mut k, mut v_] = [0, 1].map(|_| numbers.bf16s(rows * s.d));
    let dout = numbers.bf16s(queries * s.d);
    let seen = keys_of(v);
    let inputs = [&q, &k, &v_, &dout].map(|list| exact(list));
    let [x, y, z, w] = &inputs;
    let inputs = [&x[..], &y[..], &z[..], &w[..]];
    for key in (0..keys).filter(|&key| !written[key]) {
        // Not a number where nothing was ever written.
        k[key * s.kv * s.d..(key + 1) * s.kv * s.d].fill(0x7FC0);
        v_[key * s.kv * s.d..(key + 1) * s.kv * s.d].fill(0x7FC0);
    }
    let mut gpu = Gpu { machine: Machine::new(DeviceConfig::hopper()) };
    let [p_q, p_k, p_v, p_dout] = [&q, &k, &v_, &dout].map(|list| gpu.u16s(list));
    let mut run = Run { gpu, sizes: s, counters: Counters::default(), unreached: Vec::new() };
    let by_query = tiles::by_query(v);
    let row = 2 * width(s);
    let e = reference(&seen, s, inputs, None);
    let mut forward = |kernel, threads, shared| {
        let (out, lse) = (run.gpu.room(2 * queries * s.d), run.gpu.room(4 * queries));
        run.launch(kernel, &by_query, &[out, lse, p_q, p_k, p_v], threads, shared);
        assert_f32(&run.gpu.read_f32(lse, queries), &e.lse, 2e-6, 4e-6, "lse");
        let found = run.gpu.read_u16(out, queries * s.d);
        e.out.assert(&found, true, 2e-6, kernel);
        (out, lse, found)
    };
    if width(s) == 128 {
        forward("forward_sm90", 256, 448 * row);
    }
    let (out, lse, found) = forward("forward", 128, 256 * row);
    if v.blocks.is_empty() {
        return run;
    }
    // Backward's input is the out that forward rounded to bf16.
    let e = reference(&seen, s, inputs, Some(&exact(&found)));
    let by_key = tiles::by_key(v, keys as u32);
    let mut backward = |kernels: [&'static str; 2], threads, shared: [usize; 2]| {
        let (dq, delta) = (run.gpu.room(2 * queries * s.d), run.gpu.room(4 * queries));
        let [dk, dv] = [0, 1].map(|_| run.gpu.room(2 * rows * s.d));
        let pointers = [dq, delta, p_dout, out, lse, p_q, p_k, p_v];
        run.launch(kernels[0], &by_query, &pointers, threads, shared[0]);
        let pointers = [dk, dv, delta, p_dout, lse, p_q, p_k, p_v];
        run.launch(kernels[1], &by_key, &pointers, 256, shared[1]);
        e.dq.assert(&run.gpu.read_u16(dq, queries * s.d), true, 2e-5, kernels[0]);
        e.dk.assert(&run.gpu.read_u16(dk, rows * s.d), true, 2e-5, kernels[1]);
        e.dv.assert(&run.gpu.read_u16(dv, rows * s.d), true, 2e-5, kernels[1]);
    };
    backward(["backward_query", "backward_key"], 128, [384 * row + 512, 384 * row + 1024]);
    let (query, threads, rows) = match width(s) {
        64 => ("backward_query", 128, 384),
        _ => ("backward_query_sm90", 256, 512),
    };
    backward([query, "backward_key_sm90"], threads, [rows * row + 512, 512 * row + 1024]);
    run
}

#[test]
fn forests_of_any_shape() {
    let mut numbers = Numbers(7);
    for (rows, heads, kv, d) in [
        (1, 1, 1, 64),
        (1, 2, 1, 128),
        (70, 2, 2, 128),
        (129, 1, 1, 128),
        (150, 2, 1, 64),
        (300, 2, 1, 128),
        (131, 1, 1, 40),
        (200, 3, 1, 96),
    ] {
        let batch = forest(&mut numbers, rows);
        let s = Sizes { heads, kv, d };
        let (keys, seed) = (rows as usize, u64::from(rows));
        for v in [&batch.all, &batch.kept] {
            let run = check(v, keys, s, seed, &vec![true; keys]);
            println!("{rows} rows, {s:?}: {}", run.counters);
        }
    }
}

#[test]
fn pieces_that_continue_a_cache() {
    let ranges = [KeyRange { start: 0, len: 70 }, KeyRange { start: 200, len: 3 }];
    let piece = |tokens, ranges, first_row| Piece {
        tokens,
        first_position: 5,
        ranges,
        first_row,
        wanted: true,
    };
    let long = [7; 140];
    let pieces = [
        piece(&long[..], &ranges[..], 203),
        piece(&[7], &ranges[..1], 400),
        piece(&[8, 9], &[], 90),
    ];
    let batch = Batch::from_pieces(&pieces, 10).expect("pieces");
    let keys = 410;
    let mut written = vec![false; keys];
    keys_of(&batch.all).into_iter().flatten().for_each(|key| written[key] = true);
    for s in [Sizes { heads: 2, kv: 1, d: 64 }, Sizes { heads: 1, kv: 1, d: 128 }] {
        for v in [&batch.all, &batch.kept] {
            check(v, keys, s, 3, &written);
        }
    }
}

/// A root and two children; the row `kept` has a loss.
fn batch(lengths: [u32; 3], kept: u32) -> Batch {
    let [a, b, c] = lengths;
    let segments = vec![
        Segment { start: 0, len: a, parent: None },
        Segment { start: a, len: b, parent: Some(0) },
        Segment { start: a + b, len: c, parent: Some(0) },
    ];
    let entries = vec![Entry { position: kept, target: 1, weight: 1.0 }];
    let forest = Forest { tokens: vec![1; (a + b + c) as usize], segments, entries };
    Batch::from_forest(&forest, 10).expect("a forest")
}

#[test]
fn every_line_of_attention_is_reached() {
    for d in [64, 128] {
        let s = Sizes { heads: 2, kv: 1, d };
        let run = check(&batch([150, 70, 40], 3).all, 260, s, 5, &[true; 260]);
        println!("260 rows, 2 heads of {d}: {}", run.counters);
        let mut never = run.unreached;
        // One query, which sees one to five whole blocks; most keys are seen by nobody.
        for kept in [3, 63, 127, 191, 255, 319] {
            let one = check(&batch([320, 1, 1], kept).kept, 322, s, 5, &[true; 322]).unreached;
            for ((_, lines), (_, others)) in never.iter_mut().zip(&one) {
                lines.retain(|line| others.contains(line));
            }
        }
        for (kernel, lines) in never {
            assert_eq!(lines, [0_u32; 0], "{kernel} {d}: these lines never ran");
        }
    }
}

/// The first fault of a kernel whose text was changed, over tiles of one to four blocks.
fn fault(source: &str, kernel: &str) -> FaultKind {
    let forests = [[128, 128, 40], [30, 5, 5]];
    let found = forests.into_iter().find_map(|lengths| fault_in(source, kernel, lengths));
    found.unwrap_or_else(|| panic!("a change went unnoticed in {kernel}"))
}

fn fault_in(source: &str, kernel: &str, lengths: [u32; 3]) -> Option<FaultKind> {
    let batch = batch(lengths, 3);
    let keys = lengths.iter().sum();
    let mut gpu = Gpu { machine: Machine::new(DeviceConfig::hopper()) };
    let (tables, pointers, threads, shared) = match kernel {
        "attention_forward_128" => (tiles::by_query(&batch.all), 5, 128, 65_536),
        "attention_forward_sm90_128" => (tiles::by_query(&batch.all), 5, 256, 114_688),
        "attention_backward_query_128" => (tiles::by_query(&batch.all), 8, 128, 98_816),
        "attention_backward_query_sm90_128" => (tiles::by_query(&batch.all), 8, 256, 131_584),
        "attention_backward_key_sm90_128" => (tiles::by_key(&batch.all, keys), 8, 256, 132_096),
        _ => (tiles::by_key(&batch.all, keys), 8, 256, 99_328),
    };
    let mut args: Vec<Arg> = (0..pointers).map(|_| Arg::U64(gpu.u16s(&[0; 296 * 128]))).collect();
    args.push(Arg::U64(gpu.u32s(tables.tiles.as_flattened())));
    args.push(Arg::U64(gpu.u32s(tables.entries.as_flattened())));
    args.push(Arg::U64(gpu.u64s(&tables.masks)));
    args.extend([Arg::U32(1), Arg::U32(1), Arg::U32(128), Arg::F32(1.0)]);
    let grid = [1, tables.tiles.len() as u32, 1];
    let shape = Shape { grid, block: [threads, 1, 1], shared };
    match gpu.try_launch(source, kernel, shape, &args) {
        Err(LaunchError::Fault(fault)) => Some(fault.kind),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    }
}

/// What would be wrong only sometimes on a device is always found here.
#[test]
fn a_missing_wait_or_barrier_is_found() {
    for (source, kernel) in [
        (FORWARD, "attention_forward_128"),
        (FORWARD_SM90, "attention_forward_sm90_128"),
        (BACKWARD, "attention_backward_query_128"),
        (BACKWARD, "attention_backward_key_128"),
        (BACKWARD_SM90, "attention_backward_query_sm90_128"),
        (BACKWARD_SM90, "attention_backward_key_sm90_128"),
    ] {
        let (head, body) = source.split_once(&format!(".entry {kernel}(")).expect("the kernel");
        let changed = |from: &'static str, to: &'static str| {
            let places = body.split("\n}").next().expect("a body").matches(from).count();
            (0..places).map(move |place| (place, from, to))
        };
        let waits = changed("cp.async.wait_group 0;", "cp.async.wait_group 9;");
        let barriers = changed("bar.sync 0;", "bar.warp.sync -1;");
        let fences = changed("fence.proxy.async.shared::cta;", "");
        let products = changed("wgmma.wait_group.sync.aligned 0;", "");
        for (place, from, to) in waits.chain(barriers).chain(fences).chain(products) {
            let at = body.match_indices(from).nth(place).expect("counted").0;
            let (before, after) = body.split_at(at);
            let text = format!("{head}.entry {kernel}({before}{to}{}", &after[from.len()..]);
            println!("{kernel}: {from} {place}");
            let found = fault(&text, kernel);
            assert!(
                matches!(
                    found,
                    FaultKind::AsyncPending { .. }
                        | FaultKind::UninitialisedMemory { .. }
                        | FaultKind::Race { .. }
                        | FaultKind::NotFenced { .. }
                        | FaultKind::RegisterInFlight { .. }
                ),
                "{kernel}, {from} {place}: {found:?}"
            );
        }
    }
}
