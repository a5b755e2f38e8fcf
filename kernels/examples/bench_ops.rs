//! Milliseconds, GFLOP/s and GB/s of the ops of a training step, through the core's trait.
//!
//! `cargo run --release -p paddock-kernels --example bench_ops [threads] [dim] [rows] [length]`
//! (default: all cores, 768, 4 rows of 512 tokens). Bytes are those an op must read and write once.

use std::time::Instant;

use paddock_core::backend::{
    AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, LoraGrads, LoraMats, LoraSlots,
    LossSlots, Write,
};
use paddock_core::batch::{Batch, Rows};
use paddock_core::error::Result;
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::philox::Stream;
use paddock_core::plan::RegionSizes;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Mat, Weights};
use paddock_kernels::cpu::Cpu;
use paddock_kernels::describe_machine;

fn main() -> Result<()> {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let get = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    let (threads, c, rows, length) = (get(0, 0), get(1, 768), get(2, 4), get(3, 512));
    let head_dim = if c % 64 == 0 { 64 } else { 48 };
    let (f, v, n) = (c * 8 / 3 / 32 * 32, 32_000, rows * length);
    let heads = Heads { n_heads: c / head_dim, n_kv_heads: c / head_dim, head_dim };

    let mut sizes = RegionSizes::default();
    let mut slot =
        |rows: u32, cols: u32| sizes.take(Region::Acts, u64::from(rows) * u64::from(cols));
    let w = Mat::trained(slot(c, c), c, c);
    let wide = Mat::trained(slot(f, c), f, c);
    let table = Mat::trained(slot(v, c), v, c);
    let norm = Mat::trained(slot(1, c), 1, c);
    let [x, y, z, q, k, val, out, dout, dq, dk, dv] = std::array::from_fn(|_| slot(n, c));
    let [g1, g2, g3, g4] = std::array::from_fn(|_| slot(n, f));
    let (rstd, lse, nll, coeff) = (slot(1, n), slot(n, heads.n_heads), slot(1, n), slot(1, n));
    let (rope, dw, s, ds) = (slot(length, head_dim), slot(f, c), slot(n, 16), slot(n, 16));
    let a = Mat::trained(slot(16, c), 16, c);
    let b = Mat::trained(slot(c, 16), c, 16);
    let (da, db, m, mv, param) = (slot(16, c), slot(c, 16), slot(f, c), slot(f, c), slot(f, c));
    sizes.grow(Region::Scratch, 512 * u64::from(v));

    let mut cpu = Cpu::new(Weights::default(), threads as usize, None)?;
    cpu.reserve(&sizes)?;
    fill(&mut cpu, sizes.len(Region::Acts))?;
    cpu.fill(mv, 0.1)?;
    cpu.set_batch(&batch(rows, length, v)?)?;

    headline(&cpu, &format!("dim {c}, {rows} rows of {length} tokens"));
    let square = 2.0 * f64::from(n) * f64::from(c) * f64::from(c);
    let (nc, nf) = (4.0 * f64::from(n * c), 4.0 * f64::from(n * f));
    let pairs = 2.0 * f64::from(n) * f64::from(length) * f64::from(c);
    let mats = LoraMats { a, b, scale: 2.0 };
    let slots = LoraSlots { s, ds, dropped: x, dropout: None };
    let drop = Dropout { p: 0.1, seed: 1, stream: Stream::dropout(0), step: 0, rows: Rows::All };
    let saved = AttentionSaved { dout, out, lse, q, k, v: val, heads, rows: Rows::All };
    let step = AdamW {
        lr: 1e-6,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        t: 5,
        grad_scale: 1.0,
        seed: 5,
    };
    let loss = LossSlots { nll, lse: rstd, coeff, dinp: y, dw: None };
    let grads = LoraGrads { da, db, dinp: Some((y, Write::Set)) };
    let p = f64::from(f * c);
    type Op<'a> = (&'a str, f64, f64, &'a dyn Fn(&mut Cpu<'_>) -> Result<()>);
    let ops: [Op<'_>; 17] = [
        ("matmul forward C x C", square, 2.0 * nc, &|d| d.matmul_forward(y, x, w, 1.0, Write::Set)),
        ("matmul forward F x C", square / f64::from(c) * f64::from(f), nc + nf, &|d| {
            d.matmul_forward(g1, x, wide, 1.0, Write::Set)
        }),
        ("matmul backward input C x C", square, 2.0 * nc, &|d| {
            d.matmul_backward_input(y, x, w, 1.0, Write::Set)
        }),
        ("matmul backward weight F x C", square / f64::from(c) * f64::from(f), nc + nf, &|d| {
            d.matmul_backward_weight(dw, g1, x, f, c, 1.0)
        }),
        ("LoRA linear forward C x C", square, 2.0 * nc, &|d| {
            d.lora_linear_forward(y, x, w, mats, slots)
        }),
        ("LoRA linear backward C x C", square, 4.0 * nc, &|d| {
            d.lora_linear_backward(grads, dout, x, w, mats, slots)
        }),
        ("attention forward (causal flops)", pairs, 4.0 * nc, &|d| {
            d.attention_forward(out, lse, q, k, val, heads, Rows::All)
        }),
        ("attention backward", 2.5 * pairs, 9.0 * nc, &|d| {
            d.attention_backward(AttentionGrads { dq, dk, dv }, saved)
        }),
        ("loss with dinp, V 32000", 2.0 * square / f64::from(c) * f64::from(v), 2.0 * nc, &|d| {
            d.linear_cross_entropy(loss, z, table)
        }),
        ("rms_norm forward", 4.0 * nc / 4.0, 2.0 * nc, &|d| {
            d.rms_norm_forward(y, rstd, x, norm, 1e-5)
        }),
        ("rms_norm backward", 8.0 * nc / 4.0, 4.0 * nc, &|d| {
            d.rms_norm_backward(y, None, dout, x, norm, rstd)
        }),
        ("rope forward", 6.0 * nc / 4.0, 2.0 * nc, &|d| {
            d.rope_forward(z, rope, head_dim, Rows::All)
        }),
        ("swiglu forward", nf, 3.0 * nf, &|d| d.swiglu_forward(g1, g2, g3)),
        ("swiglu backward", 2.0 * nf, 6.0 * nf, &|d| d.swiglu_backward(g1, g3, g3, g2, g4)),
        ("add", nc / 4.0, 3.0 * nc, &|d| d.add(y, x, z)),
        ("dropout forward", nc / 4.0, 2.0 * nc, &|d| d.dropout_forward(y, x, c, drop)),
        ("adamw", 14.0 * p, 28.0 * p, &|d| d.adamw(param, dw, m, mv, step)),
    ];
    for (name, flops, bytes, op) in ops {
        let seconds = median(&mut cpu, op)?;
        let (ms, rate, band) = (seconds * 1e3, flops / seconds / 1e9, bytes / seconds / 1e9);
        println!("{name:34} {ms:9.3} {rate:9.1} {band:8.1}");
    }
    Ok(())
}

fn headline(cpu: &Cpu<'_>, shape: &str) {
    println!("{}, {} threads, {}", describe_machine(), cpu.threads(), cpu.name());
    println!("{shape}; median of the runs of half a second");
    println!("{:34} {:>9} {:>9} {:>8}", "op", "ms", "GFLOP/s", "GB/s");
}

/// Gives all `len` activations values that are neither zero nor large.
fn fill(cpu: &mut Cpu<'_>, len: u64) -> Result<()> {
    let values: Vec<f32> = (0..4_000_037).map(|i| ((i * 7919) % 2003) as f32 / 1e3 - 1.0).collect();
    for at in (0..len).step_by(values.len()) {
        let part = (len - at).min(values.len() as u64);
        cpu.upload(Slot::new(Region::Acts, at, part), &values[..part as usize])?;
    }
    Ok(())
}

fn median(cpu: &mut Cpu<'_>, op: &dyn Fn(&mut Cpu<'_>) -> Result<()>) -> Result<f64> {
    op(cpu)?;
    let (begin, mut times) = (Instant::now(), vec![]);
    while times.len() < 5 || begin.elapsed().as_secs_f64() < 0.5 {
        let start = Instant::now();
        op(cpu)?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Plain rows, every token but the last of a row trained.
fn batch(rows: u32, length: u32, vocab: u32) -> Result<Batch> {
    let mut forest = Forest::default();
    for row in 0..rows {
        let start = row * length;
        forest.tokens.extend((0..length).map(|i| (i * 31 + row) % vocab));
        forest.segments.push(Segment { start, len: length, parent: None });
        let entry = |i| Entry { position: start + i, target: (i * 17) % vocab, weight: 1.0 };
        forest.entries.extend((0..length).map(entry));
    }
    Batch::from_forest(&forest, vocab)
}
