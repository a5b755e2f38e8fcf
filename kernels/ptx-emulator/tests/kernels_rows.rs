//! The kernels that work on rows, executed and compared with their formulas in f64.

mod common;
#[path = "common/data.rs"]
mod data;

use common::{Arg, Gpu};
use data::{Numbers, assert_bf16, assert_f32, exact};
use paddock_ptx_emulator::{Report, Shape};

const RMS_NORM: &str = include_str!("../../src/cuda/rms_norm.ptx");
const SWIGLU: &str = include_str!("../../src/cuda/swiglu.ptx");
const ROPE: &str = include_str!("../../src/cuda/rope.ptx");

fn line(grid: usize, block: u32) -> Shape {
    Shape { grid: [grid.max(1) as u32, 1, 1], block: [block, 1, 1], shared: 0 }
}

/// (n, C): odd ones, single ones, a real width, and one that needs two turns of a warp.
const SHAPES: [(usize, usize); 8] =
    [(1, 1), (3, 7), (5, 8), (4, 30), (9, 64), (130, 24), (2, 264), (3, 1000)];

#[test]
fn rms_norm_forward() {
    for (n, c) in SHAPES {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(n as u64));
        let (inp, weight) = (numbers.bf16s(n * c), numbers.f32s(c));
        let (p_inp, p_weight) = (gpu.u16s(&inp), gpu.f32s(&weight));
        let (out, rstd) = (gpu.room(2 * n * c), gpu.room(4 * n));
        let eps = 1e-5_f32;
        let args = [
            Arg::U64(out),
            Arg::U64(rstd),
            Arg::U64(p_inp),
            Arg::U64(p_weight),
            Arg::U32(n as u32),
            Arg::U32(c as u32),
            Arg::F32(eps),
        ];
        gpu.launch(RMS_NORM, "rms_norm_forward", line(n.div_ceil(4), 128), &args);
        let x = exact(&inp);
        let scale: Vec<f64> = x
            .chunks(c)
            .map(|row| {
                let mean = row.iter().map(|x| x * x).sum::<f64>() / c as f64;
                1.0 / (mean + f64::from(eps)).sqrt()
            })
            .collect();
        let expected: Vec<f64> =
            (0..n * c).map(|i| x[i] * scale[i / c] * f64::from(weight[i % c])).collect();
        assert_f32(&gpu.read_f32(rstd, n), &scale, 1e-6, 0.0, "rstd");
        assert_bf16(&gpu.read_u16(out, n * c), &expected, 1e-7, &format!("out {n} {c}"));
    }
}

#[test]
fn rms_norm_backward() {
    for (n, c) in SHAPES {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(7 + n as u64));
        let (inp, dout, dinp) = (numbers.bf16s(n * c), numbers.bf16s(n * c), numbers.bf16s(n * c));
        let (weight, dweight) = (numbers.f32s(c), numbers.f32s(c));
        let rstd: Vec<f32> = (0..n).map(|row| 1.0 + row as f32 / 16.0).collect();
        let (p_inp, p_dout, p_dinp) = (gpu.u16s(&inp), gpu.u16s(&dout), gpu.u16s(&dinp));
        let (p_weight, p_rstd, p_dweight) =
            (gpu.f32s(&weight), gpu.f32s(&rstd), gpu.f32s(&dweight));
        let (rows, width) = (Arg::U32(n as u32), Arg::U32(c as u32));
        let args = [
            Arg::U64(p_dinp),
            Arg::U64(p_dout),
            Arg::U64(p_inp),
            Arg::U64(p_weight),
            Arg::U64(p_rstd),
            rows,
            width,
        ];
        gpu.launch(RMS_NORM, "rms_norm_backward", line(n.div_ceil(4), 128), &args);
        let (x, d, before) = (exact(&inp), exact(&dout), exact(&dinp));
        let mut expected = before;
        let mut sums: Vec<f64> = dweight.iter().map(|&x| f64::from(x)).collect();
        for (row, &scale) in rstd.iter().enumerate() {
            let scale = f64::from(scale);
            let at = |column: usize| row * c + column;
            let g = |column: usize| d[at(column)] * f64::from(weight[column]);
            let mean = (0..c).map(|i| g(i) * x[at(i)] * scale).sum::<f64>() / c as f64;
            for i in 0..c {
                expected[at(i)] += scale * (g(i) - x[at(i)] * scale * mean);
                sums[i] += d[at(i)] * x[at(i)] * scale;
            }
        }
        let name = format!("{n} {c}");
        assert_bf16(&gpu.read_u16(p_dinp, n * c), &expected, 1e-4 / 64.0, &format!("dinp {name}"));

        let parts = n.div_ceil(128);
        let partial = gpu.room(4 * parts * c);
        let args =
            [Arg::U64(partial), Arg::U64(p_dout), Arg::U64(p_inp), Arg::U64(p_rstd), rows, width];
        let shape =
            Shape { grid: [c.div_ceil(64) as u32, parts as u32, 1], block: [64, 1, 1], shared: 0 };
        gpu.launch(RMS_NORM, "rms_norm_backward_weight", shape, &args);
        let args = [Arg::U64(p_dweight), Arg::U64(partial), Arg::U32(parts as u32), width];
        gpu.launch(RMS_NORM, "rms_norm_add_partials", line(c.div_ceil(128), 128), &args);
        assert_f32(&gpu.read_f32(p_dweight, c), &sums, 1e-5, 1e-4, &format!("dweight {name}"));
    }
}

#[test]
fn swiglu_forward_and_backward() {
    for count in [1, 7, 8, 9, 64, 2047, 2048, 5001] {
        let (mut gpu, mut numbers) = (Gpu::new(), Numbers(count as u64));
        let wide = |bits: Vec<u16>| -> Vec<u16> {
            // Gates up to ±8, so that both ends of the sigmoid are met.
            bits.iter()
                .map(|&b| half::bf16::from_f64(half::bf16::from_bits(b).to_f64() * 8.0).to_bits())
                .collect()
        };
        let gate = wide(numbers.bf16s(count));
        let (up, dout) = (numbers.bf16s(count), numbers.bf16s(count));
        let (p_gate, p_up, p_dout) = (gpu.u16s(&gate), gpu.u16s(&up), gpu.u16s(&dout));
        let (out, dgate) = (gpu.room(2 * count), gpu.room(2 * count));
        let shape = line(count.div_ceil(2048), 256);
        let args = [Arg::U64(out), Arg::U64(p_gate), Arg::U64(p_up), Arg::U64(count as u64)];
        gpu.launch(SWIGLU, "swiglu_forward", shape, &args);
        // dup takes the place of dout.
        let args = [
            Arg::U64(dgate),
            Arg::U64(p_dout),
            Arg::U64(p_dout),
            Arg::U64(p_gate),
            Arg::U64(p_up),
            Arg::U64(count as u64),
        ];
        gpu.launch(SWIGLU, "swiglu_backward", shape, &args);
        let (g, u, d) = (exact(&gate), exact(&up), exact(&dout));
        let s: Vec<f64> = g.iter().map(|g| 1.0 / (1.0 + (-g).exp())).collect();
        let all = |f: &dyn Fn(usize) -> f64| (0..count).map(f).collect::<Vec<f64>>();
        let slack = 1e-6;
        assert_bf16(&gpu.read_u16(out, count), &all(&|i| g[i] * s[i] * u[i]), slack, "out");
        let expected = all(&|i| d[i] * u[i] * s[i] * (1.0 + g[i] * (1.0 - s[i])));
        assert_bf16(&gpu.read_u16(dgate, count), &expected, slack, "dgate");
        assert_bf16(&gpu.read_u16(p_dout, count), &all(&|i| d[i] * g[i] * s[i]), slack, "dup");
    }
}

fn run_rope(
    entry: &str,
    x: &[u16],
    table: &[f32],
    positions: &[u32],
    shape: [usize; 3],
) -> (Vec<u16>, Report) {
    let [n, heads, half] = shape;
    let mut gpu = Gpu::new();
    let (p_x, p_table, p_positions) = (gpu.u16s(x), gpu.f32s(table), gpu.u32s(positions));
    let each = if half % 8 == 0 { 8 } else { 1 };
    let args = [
        Arg::U64(p_x),
        Arg::U64(p_table),
        Arg::U64(p_positions),
        Arg::U32(n as u32),
        Arg::U32(heads as u32),
        Arg::U32(half as u32),
        Arg::U32(each as u32),
    ];
    let report = gpu.launch(ROPE, entry, line((n * heads * half / each).div_ceil(128), 128), &args);
    (gpu.read_u16(p_x, x.len()), report)
}

#[test]
fn rope_forward_and_backward() {
    for [n, heads, half] in [[1, 1, 1], [5, 3, 2], [7, 2, 32], [3, 4, 64], [40, 2, 8], [2, 3, 5]] {
        let mut numbers = Numbers(half as u64);
        let width = 2 * half;
        let x = numbers.bf16s(n * heads * width);
        let positions: Vec<u32> = (0..n as u32).map(|row| (row * 5) % 11).collect();
        let angle = |p: usize, j: usize| p as f64 * 10_000_f64.powf(-(j as f64) / half as f64);
        let table: Vec<f32> = (0..11)
            .flat_map(|p| {
                let cosines = (0..half).map(move |j| angle(p, j).cos() as f32);
                cosines.chain((0..half).map(move |j| angle(p, j).sin() as f32))
            })
            .collect();
        for (entry, sign) in [("rope_forward", 1.0), ("rope_backward", -1.0)] {
            let values = exact(&x);
            let mut expected = vec![0.0; x.len()];
            for (row, &position) in positions.iter().enumerate() {
                let at = position as usize * width;
                for head in 0..heads {
                    for j in 0..half {
                        let first = (row * heads + head) * width + j;
                        let (a, b) = (values[first], values[first + half]);
                        let (cos, sin) =
                            (f64::from(table[at + j]), sign * f64::from(table[at + half + j]));
                        expected[first] = a * cos - b * sin;
                        expected[first + half] = b * cos + a * sin;
                    }
                }
            }
            let (found, report) = run_rope(entry, &x, &table, &positions, [n, heads, half]);
            assert_bf16(&found, &expected, 1e-6, &format!("{entry} {n} {heads} {half}"));
            assert_eq!(report.counters.bank_conflicts, 0);
        }
    }
}

#[test]
fn whole_rows_are_read_in_whole_sectors() {
    let (n, c) = (8, 1024);
    let (mut gpu, mut numbers) = (Gpu::new(), Numbers(1));
    let (inp, weight) = (numbers.bf16s(n * c), numbers.f32s(c));
    let (p_inp, p_weight) = (gpu.u16s(&inp), gpu.f32s(&weight));
    let (out, rstd) = (gpu.room(2 * n * c), gpu.room(4 * n));
    let args = [
        Arg::U64(out),
        Arg::U64(rstd),
        Arg::U64(p_inp),
        Arg::U64(p_weight),
        Arg::U32(n as u32),
        Arg::U32(c as u32),
        Arg::F32(1e-5),
    ];
    let counters = gpu.launch(RMS_NORM, "rms_norm_forward", line(2, 128), &args).counters;
    println!("rms_norm_forward ({n},{c}): {counters}");
    // inp is read twice; a lane takes the 32 bytes of its weights in two halves.
    let (inp, weights) = (2 * 2 * n * c / 32, 2 * 4 * n * c / 32);
    assert_eq!(counters.sectors_read, (inp + weights) as u64);
    // One sector a row holds rstd's four bytes alone.
    assert_eq!(counters.sectors_written, (2 * n * c / 32 + n) as u64);
}
