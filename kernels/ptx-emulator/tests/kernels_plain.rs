//! Plain arithmetic, embedding, dropout, the optimizer: executed and compared with their formulas.

mod common;
#[path = "common/data.rs"]
mod data;

use common::{Arg, Gpu};
use data::{Numbers, assert_bf16, assert_f32, exact};
use half::{bf16, f16};
use paddock_core::philox::{Philox, Stream};
use paddock_ptx_emulator::Shape;

const ELEMENTWISE: &str = include_str!("../../src/cuda/elementwise.ptx");
const CONVERT: &str = include_str!("../../src/cuda/convert.ptx");
const EMBED: &str = include_str!("../../src/cuda/embed.ptx");
const DROPOUT: &str = include_str!("../../src/cuda/dropout.ptx");
const ADAMW: &str = include_str!("../../src/cuda/adamw.ptx");
const ADAMW_NARROW: &str = include_str!("../../src/cuda/adamw_narrow.ptx");
const TO_F16: &str = include_str!("../../src/cuda/bf16_to_f16.ptx");

fn line(grid: usize, block: u32) -> Shape {
    Shape { grid: [grid.max(1) as u32, 1, 1], block: [block, 1, 1], shared: 0 }
}

const COUNTS: [usize; 6] = [1, 7, 8, 1023, 2048, 4099];

fn sum_of(a: &[f64], b: &[f64], scale: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + scale * b).collect()
}

#[test]
fn add_and_accumulate() {
    for count in COUNTS {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(count as u64));
        let (a, b) = (numbers.bf16s(count), numbers.bf16s(count));
        let (p_a, p_b) = (gpu.u16s(&a), gpu.u16s(&b));
        let (a, b) = (exact(&a), exact(&b));
        let shape = line(count.div_ceil(2048), 256);
        let length = Arg::U64(count as u64);
        let args = [Arg::U64(p_b), Arg::U64(p_a), length, Arg::F32(-0.25)];
        gpu.launch(ELEMENTWISE, "accumulate", shape, &args);
        let found = gpu.read_u16(p_b, count);
        assert_bf16(&found, &sum_of(&b, &a, -0.25), 1e-7, "accumulate");
        // out is the first operand.
        let args = [Arg::U64(p_a), Arg::U64(p_a), Arg::U64(p_b), length];
        gpu.launch(ELEMENTWISE, "add", shape, &args);
        assert_bf16(&gpu.read_u16(p_a, count), &sum_of(&a, &exact(&found), 1.0), 1e-7, "add");

        let (a, b) = (numbers.f32s(count), numbers.f32s(count));
        let (p_a, p_b) = (gpu.f32s(&a), gpu.f32s(&b));
        let args = [Arg::U64(p_a), Arg::U64(p_b), length, Arg::F32(3.0)];
        gpu.launch(ELEMENTWISE, "accumulate_f32", line(count.div_ceil(1024), 256), &args);
        let expected: Vec<f64> =
            a.iter().zip(&b).map(|(a, b)| f64::from(b.mul_add(3.0, *a))).collect();
        assert_f32(&gpu.read_f32(p_a, count), &expected, 0.0, 0.0, "accumulate_f32");
    }
}

#[test]
fn rows_come_and_go() {
    for (n, dim) in [(4, 8), (6, 5), (9, 1032), (3, 130)] {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(dim as u64));
        let rows: Vec<u32> = (0..n as u32).rev().step_by(2).collect();
        let inp = numbers.bf16s(n * dim);
        let (p_inp, p_rows) = (gpu.u16s(&inp), gpu.u32s(&rows));
        let out = gpu.room(2 * rows.len() * dim);
        let shape = line(rows.len(), 128);
        let width = Arg::U32(dim as u32);
        for (source, entry) in [(ELEMENTWISE, "gather_rows"), (EMBED, "embed_forward")] {
            let args = [Arg::U64(out), Arg::U64(p_inp), Arg::U64(p_rows), width];
            gpu.launch(source, entry, shape, &args);
            let expected: Vec<u16> = rows
                .iter()
                .flat_map(|&row| inp[row as usize * dim..][..dim].iter().copied())
                .collect();
            assert_eq!(gpu.read_u16(out, rows.len() * dim), expected, "{entry}");
        }
        let cache = gpu.u16s(&vec![0; n * dim]);
        let args = [Arg::U64(cache), Arg::U64(out), Arg::U64(p_rows), width];
        gpu.launch(ELEMENTWISE, "cache_write", shape, &args);
        let found = gpu.read_u16(cache, n * dim);
        for (row, values) in found.chunks(dim).enumerate() {
            let listed = rows.contains(&(row as u32));
            let expected = if listed { &inp[row * dim..][..dim] } else { &vec![0; dim] };
            assert_eq!(values, expected, "cache_write, row {row}");
        }
        let dout = numbers.bf16s(rows.len() * dim);
        let p_dout = gpu.u16s(&dout);
        let args = [Arg::U64(p_inp), Arg::U64(p_dout), Arg::U64(p_rows), width];
        gpu.launch(ELEMENTWISE, "scatter_rows", shape, &args);
        let mut expected = exact(&inp);
        for (values, &row) in exact(&dout).chunks(dim).zip(&rows) {
            for (slot, value) in expected[row as usize * dim..].iter_mut().zip(values) {
                *slot += value;
            }
        }
        assert_bf16(&gpu.read_u16(p_inp, n * dim), &expected, 1e-7, "scatter_rows");
    }
}

#[test]
fn conversions() {
    for count in COUNTS {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(count as u64));
        let x: Vec<f32> = numbers.f32s(count).iter().map(|x| x * 70_000.0).collect();
        let halves: Vec<u16> = x.iter().map(|&x| f16::from_f32(x / 4.0).to_bits()).collect();
        let (p_x, p_halves, out) = (gpu.f32s(&x), gpu.u16s(&halves), gpu.room(2 * count));
        let (length, shape) = (Arg::U64(count as u64), line(count.div_ceil(256), 256));
        gpu.launch(CONVERT, "f32_to_bf16", shape, &[Arg::U64(out), Arg::U64(p_x), length]);
        let expected: Vec<u16> = x.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
        assert_eq!(gpu.read_u16(out, count), expected);
        gpu.launch(CONVERT, "bf16_to_f32", shape, &[Arg::U64(p_x), Arg::U64(out), length]);
        let back: Vec<f32> = expected.iter().map(|&bits| bf16::from_bits(bits).to_f32()).collect();
        assert_eq!(gpu.read_f32(p_x, count), back);
        gpu.launch(CONVERT, "f16_to_bf16", shape, &[Arg::U64(out), Arg::U64(p_halves), length]);
        let narrow = |bits: u16| bf16::from_f32(f16::from_bits(bits).to_f32()).to_bits();
        let expected: Vec<u16> = halves.iter().map(|&bits| narrow(bits)).collect();
        assert_eq!(gpu.read_u16(out, count), expected);
    }
}

#[test]
fn norm_squared_is_a_sum_of_squares() {
    for count in [1, 31, 4096, 4097, 20_000] {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(count as u64));
        let x = numbers.f32s(count);
        let parts = count.div_ceil(4096);
        let (p_x, partial, out) = (gpu.f32s(&x), gpu.room(4 * parts), gpu.room(4));
        let args = [Arg::U64(partial), Arg::U64(p_x), Arg::U64(count as u64)];
        let report = gpu.launch(ELEMENTWISE, "norm_squared", line(parts, 256), &args);
        assert_eq!(report.counters.bank_conflicts, 0);
        let args = [Arg::U64(out), Arg::U64(partial), Arg::U32(parts as u32)];
        gpu.launch(ELEMENTWISE, "sum_partials", line(1, 32), &args);
        let expected: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        assert_f32(&gpu.read_f32(out, 1), &[expected], 2e-6, 0.0, "norm_squared");
    }
}

#[test]
fn embed_backward_adds_rows_in_order() {
    let (n, dim, vocab) = (11, 200, 7);
    let (mut gpu, mut numbers) = (Gpu::new(), Numbers(3));
    let tokens: Vec<u32> = (0..n as u32).map(|row| [2, 5, 2, 6][row as usize % 4]).collect();
    let (dout, dtable) = (numbers.bf16s(n * dim), numbers.f32s(vocab * dim));
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.sort_by_key(|&row| tokens[row as usize]);
    let mut first = vec![0];
    let mut unique: Vec<u32> = Vec::new();
    for (at, &row) in order.iter().enumerate() {
        let token = tokens[row as usize];
        if unique.last().is_some_and(|&last| last != token) {
            first.push(at as u32);
        }
        if unique.last() != Some(&token) {
            unique.push(token);
        }
    }
    first.push(n as u32);
    let (p_dout, p_dtable) = (gpu.u16s(&dout), gpu.f32s(&dtable));
    let lists = [gpu.u32s(&order), gpu.u32s(&first), gpu.u32s(&unique)].map(Arg::U64);
    let args =
        [Arg::U64(p_dtable), Arg::U64(p_dout), lists[0], lists[1], lists[2], Arg::U32(dim as u32)];
    let shape = Shape {
        grid: [unique.len() as u32, dim.div_ceil(128) as u32, 1],
        block: [128, 1, 1],
        shared: 0,
    };
    gpu.launch(EMBED, "embed_backward", shape, &args);
    let mut expected: Vec<f64> = dtable.iter().map(|&x| f64::from(x)).collect();
    for (row, values) in exact(&dout).chunks(dim).enumerate() {
        for (slot, value) in expected[tokens[row] as usize * dim..].iter_mut().zip(values) {
            *slot += value;
        }
    }
    assert_f32(&gpu.read_f32(p_dtable, vocab * dim), &expected, 1e-6, 1e-6, "dtable");
}

/// Philox 4x32-10, written down once more: ten rounds of two 32x32 multiplications.
fn philox(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p = u64::from(c[0]) * 0xD251_1F53;
        let q = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(q >> 32) as u32 ^ c[1] ^ k[0], q as u32, (p >> 32) as u32 ^ c[3] ^ k[1], p as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[test]
fn dropout_draws_the_words_of_philox() {
    // A known answer of Random123: all counters and keys zero.
    assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    let (key, step, least) = ([0x1234_5678, 0x9ABC_DEF0], 17, 0x4000_0000);
    for (n, dim) in [(1, 1), (5, 7), (40, 16)] {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(dim as u64));
        let (inp, out) = (numbers.bf16s(n * dim), numbers.bf16s(n * dim));
        let hashes: Vec<u64> =
            (0..n as u64).map(|row| row.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let (p_inp, p_out, p_hashes) = (gpu.u16s(&inp), gpu.u16s(&out), gpu.u64s(&hashes));
        for add in [1, 0] {
            let before = exact(&gpu.read_u16(p_out, n * dim));
            let args = [
                Arg::U64(p_out),
                Arg::U64(p_inp),
                Arg::U64(p_hashes),
                Arg::U32(n as u32),
                Arg::U32(dim as u32),
                Arg::U32(key[0]),
                Arg::U32(key[1]),
                Arg::U32(step),
                Arg::U32(least),
                Arg::F32(1.5),
                Arg::U32(add),
            ];
            gpu.launch(DROPOUT, "dropout", line((n * dim.div_ceil(4)).div_ceil(128), 128), &args);
            let expected: Vec<f64> = (0..n * dim)
                .map(|at| {
                    let (row, c) = (at / dim, at % dim);
                    let counter =
                        [hashes[row] as u32, (hashes[row] >> 32) as u32, step, c as u32 / 4];
                    let kept = philox(counter, key)[c % 4] >= least;
                    let value = if kept { bf16::from_bits(inp[at]).to_f64() * 1.5 } else { 0.0 };
                    value + if add == 1 { before[at] } else { 0.0 }
                })
                .collect();
            assert_bf16(&gpu.read_u16(p_out, n * dim), &expected, 1e-7, "dropout");
        }
    }
}

#[test]
fn adamw_is_the_formula() {
    let (lr, beta1, beta2, eps, decay, t, scale) = (1e-2, 0.9, 0.95, 1e-8, 0.1, 3, 0.5);
    let numbers_of = |values: [f64; 9]| values.map(|value| Arg::F32(value as f32));
    let (rate, root) = (lr / (1.0 - f64::powi(beta1, t)), (1.0 - f64::powi(beta2, t)).sqrt());
    let keep = 1.0 - lr * decay;
    for count in COUNTS {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(count as u64));
        let [p, g, m] = [0, 1, 2].map(|_| numbers.f32s(count));
        let v: Vec<f32> = numbers.f32s(count).iter().map(|x| x * x).collect();
        let [p_p, p_g, p_m, p_v] = [&p, &g, &m, &v].map(|list| gpu.f32s(list));
        let p_copy = gpu.room(2 * count);
        let mut args = vec![Arg::U64(p_p), Arg::U64(p_g), Arg::U64(p_m), Arg::U64(p_v)];
        args.extend([Arg::U64(p_copy), Arg::U64(count as u64)]);
        args.extend(numbers_of([
            scale,
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            rate,
            root,
            eps,
            keep,
        ]));
        gpu.launch(ADAMW, "adamw", line(count.div_ceil(1024), 256), &args);
        let wide = |list: &[f32], at: usize| f64::from(list[at]);
        let mut expected = [vec![], vec![], vec![]];
        for at in 0..count {
            let gradient = wide(&g, at) * scale;
            let first = beta1 * wide(&m, at) + (1.0 - beta1) * gradient;
            let second = beta2 * wide(&v, at) + (1.0 - beta2) * gradient * gradient;
            expected[0].push(wide(&p, at) * keep - rate * first / (second.sqrt() / root + eps));
            expected[1].push(first);
            expected[2].push(second);
        }
        let rounded: Vec<u16> =
            gpu.read_f32(p_p, count).iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
        assert_eq!(gpu.read_u16(p_copy, count), rounded);
        for (address, expected, what) in
            [(p_p, &expected[0], "param"), (p_m, &expected[1], "m"), (p_v, &expected[2], "v")]
        {
            assert_f32(&gpu.read_f32(address, count), expected, 1e-6, 2e-7, what);
        }
    }
}

/// The same arithmetic in f32, then a random word for each element: exact to the bit.
#[test]
fn adamw_narrow_rounds_by_the_random_words() {
    let seed = 0x1234_5678_9ABC;
    let random = Philox::new(seed, Stream::ROUND);
    let numbers = [0.5, 0.9, 0.1, 0.95, 0.05, 1e-4, 0.7, 1e-8, 0.999].map(Arg::F32);
    let (mut sum, mut all) = (0.0, 0.0);
    for (count, first) in [(1, 0), (7, 5), (1023, 64), (4099, 3), (2048, (1_u64 << 34) + 64)] {
        let (mut gpu, mut values) = (Gpu::new(), Numbers(count as u64));
        let start = values.bf16s(count);
        let wide: Vec<f32> = start.iter().map(|&x| bf16::from_bits(x).to_f32()).collect();
        let [g, m] = [0, 1].map(|_| values.f32s(count));
        let v: Vec<f32> = values.f32s(count).iter().map(|x| x * x).collect();
        let [p_wide, p_g] = [&wide, &g].map(|list| gpu.f32s(list));
        let [p_m, p_v, p_m2, p_v2] = [&m, &v, &m, &v].map(|list| gpu.f32s(list));
        let p = gpu.u16s(&start);
        let shape = line(count.div_ceil(1024), 256);
        let length = Arg::U64(count as u64);
        let at = [p_wide, p_g, p_m, p_v, 0].map(Arg::U64);
        gpu.launch(ADAMW, "adamw", shape, &[&at[..], &[length], &numbers].concat());
        let at = [p, p_g, p_m2, p_v2].map(Arg::U64);
        let key = [seed as u32, (seed >> 32) as u32, 9, Stream::ROUND.0].map(Arg::U32);
        let lengths = [length, Arg::U64(first)];
        let args = [&at[..], &lengths, &numbers, &key].concat();
        gpu.launch(ADAMW_NARROW, "adamw_narrow", shape, &args);
        let exact = gpu.read_f32(p_wide, count);
        let word = |i: usize| random.word(9, first + i as u64) & 0xFFFF;
        let expected: Vec<u16> =
            (0..count).map(|i| ((exact[i].to_bits() + word(i)) >> 16) as u16).collect();
        let found = gpu.read_u16(p, count);
        assert_eq!(found, expected, "{count} from {first}");
        assert_eq!(gpu.read_f32(p_m, count), gpu.read_f32(p_m2, count));
        assert_eq!(gpu.read_f32(p_v, count), gpu.read_f32(p_v2, count));
        for (x, found) in exact.iter().zip(found) {
            // The distance between neighbours in bf16 near x.
            let step = f32::from_bits((x.to_bits() >> 23 << 23) | 1 << 16)
                - f32::from_bits(x.to_bits() >> 23 << 23);
            let error = f64::from((bf16::from_bits(found).to_f32() - x) / step.abs());
            assert!(error.abs() < 1.0, "{x} became {error} steps more");
            sum += error;
            all += 1.0;
        }
    }
    // Right on average: a mean of uniform errors is off by 0.4 / sqrt(7178).
    assert!(f64::abs(sum / all) < 0.02, "{}", sum / all);
}

#[test]
fn bf16_becomes_f16() {
    let (mut gpu, mut numbers) = (Gpu::new(), Numbers(9));
    let mut values = numbers.bf16s(1000);
    values.extend([1e-6, -3e-8, 65_280.0, 1e30, -1e30].map(|x| bf16::from_f32(x).to_bits()));
    let (inp, out) = (gpu.u16s(&values), gpu.room(2 * values.len()));
    let args = [Arg::U64(out), Arg::U64(inp), Arg::U64(values.len() as u64)];
    gpu.launch(TO_F16, "bf16_to_f16", line(values.len().div_ceil(256), 256), &args);
    let expected: Vec<u16> =
        values.iter().map(|&x| f16::from_f32(bf16::from_bits(x).to_f32()).to_bits()).collect();
    assert_eq!(gpu.read_u16(out, values.len()), expected);
}
