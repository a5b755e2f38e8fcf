//! Attention over a small forest and the loss, executed and compared with their formulas in f64.

#[path = "common/attention.rs"]
mod attention;
mod common;
#[path = "common/data.rs"]
mod data;

use attention::{Sizes, reference};
use common::{Arg, Gpu};
use data::{Numbers, assert_bf16, assert_f32, exact};
use paddock_ptx_emulator::Shape;

const ATTENTION: &str = include_str!("../../src/cuda/attention_any.ptx");
const CROSS_ENTROPY: &str = include_str!("../../src/cuda/linear_cross_entropy.ptx");

/// Who sees whom: a root of 5 rows with children of 4 and 3, a grandchild of 2, and a root of 35.
struct Forest {
    /// (first range, number of ranges, first key of its own segment, own key) of each query.
    visible: Vec<[u32; 4]>,
    ranges: Vec<[u32; 2]>,
    /// Queries that may see each key.
    seen: Vec<[u32; 2]>,
    keys: usize,
}

fn forest() -> Forest {
    // Segment: first row, length, its ranges, the row after the last one that may see it.
    let segments = [
        (0, 5, 0..0, 14),
        (5, 4, 0..1, 11),
        (9, 2, 1..3, 11),
        (11, 3, 0..1, 14),
        (14, 35, 0..0, 49),
    ];
    let ranges = vec![[0, 5], [0, 5], [5, 4]];
    let (mut visible, mut seen) = (Vec::new(), Vec::new());
    for (start, length, range, end) in segments {
        for row in start..start + length {
            visible.push([range.start, range.end - range.start, start, row]);
            seen.push([start, end]);
        }
    }
    Forest { visible, ranges, seen, keys: 49 }
}

impl Forest {
    fn keys_of(&self, query: usize) -> Vec<usize> {
        let [first, count, start, own] = self.visible[query].map(|number| number as usize);
        let ranges = self.ranges[first..first + count].iter();
        let seen =
            ranges.flat_map(|&[start, length]| start..start + length).map(|key| key as usize);
        seen.chain(start..own + 1).collect()
    }
}

fn line(items: usize, shared: usize) -> Shape {
    Shape { grid: [items.div_ceil(4) as u32, 1, 1], block: [128, 1, 1], shared: shared as u32 }
}

#[test]
fn attention_forward_and_backward() {
    let forest = forest();
    for s in [
        Sizes { heads: 4, kv: 2, d: 16 },
        Sizes { heads: 1, kv: 1, d: 3 },
        Sizes { heads: 3, kv: 1, d: 40 },
    ] {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(s.d as u64));
        let (n, keys) = (forest.visible.len(), forest.keys);
        let (queries, rows) = (n * s.heads, keys * s.kv);
        let [q, dout] = [0, 1].map(|_| numbers.bf16s(queries * s.d));
        let [k, v] = [0, 1].map(|_| numbers.bf16s(rows * s.d));
        let inputs = [&q, &k, &v, &dout].map(|list| exact(list));
        let [x, y, z, w] = &inputs;
        let inputs = [&x[..], &y[..], &z[..], &w[..]];
        let keys_of: Vec<_> =
            (0..forest.visible.len()).map(|query| forest.keys_of(query)).collect();
        let e = reference(&keys_of, s, inputs, None);

        let [p_q, p_dout, p_k, p_v] = [&q, &dout, &k, &v].map(|list| Arg::U64(gpu.u16s(list)));
        let visible = Arg::U64(gpu.u32s(forest.visible.as_flattened()));
        let ranges = Arg::U64(gpu.u32s(forest.ranges.as_flattened()));
        let seen = Arg::U64(gpu.u32s(forest.seen.as_flattened()));
        let [out, dq] = [0, 1].map(|_| gpu.room(2 * queries * s.d));
        let [dk, dv] = [0, 1].map(|_| gpu.room(2 * rows * s.d));
        let [lse, delta] = [0, 1].map(|_| gpu.room(4 * queries));
        let sizes = |count: usize| {
            let numbers = [count, s.heads, s.kv, s.d].map(|number| Arg::U32(number as u32));
            numbers.into_iter().chain([Arg::F32(1.0 / (s.d as f32).sqrt())])
        };

        let args = [Arg::U64(out), Arg::U64(lse), p_q, p_k, p_v, visible, ranges];
        let args: Vec<Arg> = args.into_iter().chain(sizes(n)).collect();
        gpu.launch(ATTENTION, "attention_forward", line(queries, 16 * s.d), &args);
        assert_f32(&gpu.read_f32(lse, queries), &e.lse, 1e-6, 2e-6, "lse");
        e.out.assert(&gpu.read_u16(out, queries * s.d), false, 2e-6, "out");

        let (p_out, p_lse, p_delta) = (Arg::U64(out), Arg::U64(lse), Arg::U64(delta));
        let args = [Arg::U64(dq), p_delta, p_dout, p_out, p_lse, p_q, p_k, p_v, visible, ranges];
        let args: Vec<Arg> = args.into_iter().chain(sizes(n)).collect();
        gpu.launch(ATTENTION, "attention_backward_query", line(queries, 16 * s.d), &args);
        let args =
            [Arg::U64(dk), Arg::U64(dv), p_delta, p_dout, p_lse, p_q, p_k, p_v, visible, seen];
        let args: Vec<Arg> = args.into_iter().chain(sizes(keys)).collect();
        gpu.launch(ATTENTION, "attention_backward_key", line(rows, 32 * s.d), &args);
        // Backward's input is the out that forward rounded to bf16.
        let e = reference(&keys_of, s, inputs, Some(&exact(&gpu.read_u16(out, queries * s.d))));
        e.dq.assert(&gpu.read_u16(dq, queries * s.d), false, 1e-5, "dq");
        e.dk.assert(&gpu.read_u16(dk, rows * s.d), false, 1e-5, "dk");
        e.dv.assert(&gpu.read_u16(dv, rows * s.d), false, 1e-5, "dv");
    }
}

#[test]
fn cross_entropy_forward_and_backward() {
    // A row may be longer than the vocabulary; what stands there says nothing.
    for (vocab, stride) in [(1, 1), (2, 8), (31, 32), (300, 300), (1000, 1008)] {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(vocab as u64));
        let rows = 4;
        // No entry, one, three of which two share a target, two.
        let first = [0, 0, 1, 4, 6];
        let last = vocab as u32 - 1;
        let targets = [last / 2, last, 0, last, last / 3, 0];
        let mut logits: Vec<f32> = numbers.f32s(rows * stride).iter().map(|x| x * 20.0).collect();
        for row in logits.chunks_mut(stride) {
            row[vocab..].fill(f32::INFINITY);
        }
        // Two equal largest ones: the first of them is the best.
        logits[vocab - 1] = 50.0;
        logits[vocab / 2] = 50.0;
        let coeff = numbers.f32s(6);
        let [p_logits, p_coeff] = [&logits, &coeff].map(|list| Arg::U64(gpu.f32s(list)));
        let [p_first, p_targets] = [&first[..], &targets[..]].map(|list| Arg::U64(gpu.u32s(list)));
        let (nll, lse, best) = (gpu.room(24), gpu.room(16), gpu.room(16));
        let dlogits = gpu.room(2 * rows * stride);
        let shape = Shape { grid: [rows as u32, 1, 1], block: [256, 1, 1], shared: 0 };
        let [size, wide] = [vocab, stride].map(|n| Arg::U32(n as u32));
        let outs = [nll, lse, best].map(Arg::U64);
        let args = [&outs[..], &[p_logits, p_first, p_targets, size, wide]].concat();
        gpu.launch(CROSS_ENTROPY, "cross_entropy_forward", shape, &args);
        let (out, sums) = (Arg::U64(dlogits), Arg::U64(lse));
        let args = [out, p_coeff, sums, p_logits, p_first, p_targets, size, wide];
        gpu.launch(CROSS_ENTROPY, "cross_entropy_backward", shape, &args);

        let (mut all_nll, mut all_lse, mut all_best) = (vec![0.0; 6], vec![], vec![]);
        let mut expected = vec![];
        for (m, row) in logits.chunks(stride).enumerate() {
            let row: Vec<f64> = row[..vocab].iter().map(|&x| f64::from(x)).collect();
            let max = row.iter().copied().fold(f64::MIN, f64::max);
            all_best.push(row.iter().position(|&x| x == max).unwrap_or(0) as f64);
            let sum = max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            all_lse.push(sum);
            let entries = first[m] as usize..first[m + 1] as usize;
            let total: f64 = entries.clone().map(|e| f64::from(coeff[e])).sum();
            let mut gradient: Vec<f64> = row.iter().map(|x| total * (x - sum).exp()).collect();
            for e in entries {
                all_nll[e] = sum - row[targets[e] as usize];
                gradient[targets[e] as usize] -= f64::from(coeff[e]);
            }
            gradient.resize(stride, 0.0);
            expected.extend(gradient);
        }
        assert_f32(&gpu.read_f32(lse, rows), &all_lse, 1e-6, 1e-6, "lse");
        assert_f32(&gpu.read_f32(best, rows), &all_best, 0.0, 0.0, "best");
        assert_f32(&gpu.read_f32(nll, 6), &all_nll, 1e-6, 5e-6, "nll");
        // exp of a difference of numbers up to 50, each with f32's error.
        assert_bf16(&gpu.read_u16(dlogits, rows * stride), &expected, 2e-5, "dlogits");
    }
}
