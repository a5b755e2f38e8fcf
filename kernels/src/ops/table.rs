//! The table itself: one function an op, which draws its shapes and values.

use paddock_core::backend::{AdamW, AttentionGrads, AttentionSaved, Dropout, Write};
use paddock_core::batch::{Batch, Rows, Span};
use paddock_core::philox::Stream;
use paddock_core::slot::Region::{ActGrads, Acts, Grads, Kv, Moments, Params, Stats};
use paddock_core::slot::Slot;

use super::draw::{Draw, Size, call};
use super::{Case, Op, fused};

/// Every op. Roundings: 0 where numbers are only moved; 4 for a few operations an element; 16
/// where sums of random length are taken in another order than the plain loop's.
pub fn table() -> Vec<Op> {
    let terms = |terms| {
        move |name, roundings, draw| {
            let products = products(name);
            Op { name, roundings, terms, narrow: 0.0, products, draw }
        }
    };
    let (op, cancels) = (terms(0.0), terms(1.0));
    let narrow = |narrow, op| Op { narrow, ..op };
    vec![
        op("add", 4.0, add),
        op("accumulate", 4.0, accumulate),
        op("gather_rows", 0.0, gather_rows),
        op("scatter_rows", 4.0, scatter_rows),
        op("cache_write", 0.0, cache_write),
        op("embed_forward", 0.0, embed_forward),
        op("embed_backward", 16.0, embed_backward),
        op("rms_norm_forward", 8.0, rms_norm_forward),
        cancels("rms_norm_backward", 16.0, rms_norm_backward),
        op("matmul_forward", 16.0, matmul_forward),
        op("matmul_backward_input", 16.0, matmul_backward_input),
        op("matmul_backward_weight", 16.0, matmul_backward_weight),
        op("rope_forward", 4.0, rope_forward),
        op("rope_backward", 4.0, rope_backward),
        // Probabilities and their gradients meet the values as bf16.
        narrow(1.0, op("attention_forward", 16.0, attention_forward)),
        narrow(1.0, op("attention_forward decoding", 16.0, attention_decoding)),
        narrow(2.0, cancels("attention_backward", 32.0, attention_backward)),
        op("swiglu_forward", 8.0, swiglu_forward),
        op("swiglu_backward", 8.0, swiglu_backward),
        op("dropout_forward", 4.0, dropout_forward),
        op("dropout_backward", 4.0, dropout_backward),
        op("linear_cross_entropy_forward", 16.0, fused::linear_cross_entropy_forward),
        // Gradients of logits meet the weights as bf16.
        narrow(2.0, cancels(LOSS_BACKWARD, 32.0, fused::linear_cross_entropy_backward)),
        narrow(2.0, cancels("linear_cross_entropy", 32.0, fused::linear_cross_entropy)),
        op("norm_squared", 16.0, norm_squared),
        op("adamw", 8.0, adamw),
        op("lora_linear_forward", 16.0, fused::lora_linear_forward),
        op("lora_linear_backward", 32.0, fused::lora_linear_backward),
    ]
}

/// Matrix products in a row: a loss has its logits' and theirs, LoRA has two, attention its scores' and its
/// values', and going back that of the weights' gradients.
fn products(name: &str) -> f64 {
    match name {
        name if name.starts_with("matmul") => 1.0,
        name if name.starts_with("linear_cross_entropy") || name.starts_with("lora") => 2.0,
        "attention_forward" => 2.0,
        "attention_backward" => 3.0,
        _ => 0.0,
    }
}

const LOSS_BACKWARD: &str = "linear_cross_entropy_backward";

/// Two extents as a number of elements.
pub(super) fn area(a: u32, b: u32) -> u64 {
    u64::from(a) * u64::from(b)
}

fn flat(d: &mut Draw) -> u64 {
    area(d.extent(20, 400), d.extent(40, 500))
}

fn add(d: &mut Draw) -> Case {
    let n = flat(d);
    let (a, b) = (d.input(Acts, n), d.input(Acts, n));
    let out = if d.coin() { a } else { d.input(Acts, n) };
    d.compare("out", out);
    let run = call(move |x| x.add(out, a, b));
    d.case(Default::default(), format!("{n}"), n as f64, run)
}

fn accumulate(d: &mut Draw) -> Case {
    let n = flat(d);
    let (src, dst) = (d.input(Acts, n), d.output("dst", ActGrads, n));
    let run = call(move |x| x.accumulate(dst, src, 0.37));
    d.case(Default::default(), format!("{n}"), 2.0 * n as f64, run)
}

fn gather_rows(d: &mut Draw) -> Case {
    let (batch, dim) = (d.batch(9), d.extent(40, 300));
    let width = u64::from(dim);
    let inp = d.input(Acts, batch.rows() * width);
    let out = d.output("out", Acts, batch.kept() * width);
    let shape = format!("{} of {} rows x {dim}", batch.kept(), batch.rows());
    d.case(batch, shape, 0.0, call(move |x| x.gather_rows(out, inp, dim)))
}

fn scatter_rows(d: &mut Draw) -> Case {
    let (batch, dim) = (d.batch(9), d.extent(40, 300));
    let (width, write) = (u64::from(dim), write(d));
    let dout = d.input(ActGrads, batch.kept() * width);
    let dinp = d.output("dinp", ActGrads, batch.rows() * width);
    let shape = format!("{} of {} rows x {dim} {write:?}", batch.kept(), batch.rows());
    d.case(batch, shape, 0.0, call(move |x| x.scatter_rows(dinp, dout, dim, write)))
}

pub(super) fn write(d: &mut Draw) -> Write {
    if d.coin() { Write::Set } else { Write::Add }
}

fn cache_write(d: &mut Draw) -> Case {
    let (batch, dim) = (d.pieces(9, 64), d.extent(40, 300));
    let inp = d.input(Acts, batch.rows() * u64::from(dim));
    let cache = d.output("cache", Kv, area(64, dim));
    let shape = format!("{} rows x {dim}", batch.rows());
    d.case(batch, shape, 0.0, call(move |x| x.cache_write(cache, inp, dim)))
}

fn embed_forward(d: &mut Draw) -> Case {
    let (vocab, dim) = (d.extent(30, 500), d.extent(40, 300));
    let (batch, table) = (d.batch(vocab), d.matrix(vocab, dim));
    let out = d.output("out", Acts, batch.rows() * u64::from(dim));
    let shape = format!("{} rows x {dim} of {vocab}", batch.rows());
    d.case(batch, shape, 0.0, call(move |x| x.embed_forward(out, table)))
}

fn embed_backward(d: &mut Draw) -> Case {
    let (vocab, dim) = (d.extent(30, 500), d.extent(90, 300));
    let batch = d.batch(vocab);
    let dout = d.input(ActGrads, batch.rows() * u64::from(dim));
    let dtable = d.output("dtable", Grads, area(vocab, dim));
    let shape = format!("{} rows x {dim} of {vocab}", batch.rows());
    let flops = dout.len as f64;
    d.case(batch, shape, flops, call(move |x| x.embed_backward(dtable, dout, dim)))
}

fn rms_norm_forward(d: &mut Draw) -> Case {
    let (n, dim) = (d.extent(20, 300), d.extent(90, 700));
    let (weight, inp) = (d.matrix(1, dim), d.input(Acts, area(n, dim)));
    let out = d.output("out", Acts, area(n, dim));
    let rstd = d.output("rstd", Stats, u64::from(n));
    let run = call(move |x| x.rms_norm_forward(out, rstd, inp, weight, 1e-5));
    d.case(Default::default(), format!("{n} x {dim}"), 4.0 * area(n, dim) as f64, run)
}

fn rms_norm_backward(d: &mut Draw) -> Case {
    let (n, dim) = (d.extent(20, 300), d.extent(150, 700));
    let (weight, inp) = (d.matrix(1, dim), d.input(Acts, area(n, dim)));
    let (dout, out) = (d.input(ActGrads, area(n, dim)), d.input(Acts, area(n, dim)));
    let dinp = d.output("dinp", ActGrads, area(n, dim));
    let rstd = d.input(Stats, u64::from(n));
    d.scratch(area(n, dim));
    let dweight = d.coin().then(|| d.output("dweight", Grads, u64::from(dim)));
    let run = call(move |x| {
        x.rms_norm_forward(out, rstd, inp, weight, 1e-5)?;
        x.rms_norm_backward(dinp, dweight, dout, inp, weight, rstd)
    });
    d.case(Default::default(), format!("{n} x {dim}"), 12.0 * area(n, dim) as f64, run)
}

/// n, O, I: thin, square or long in one direction.
fn product_shape(d: &mut Draw) -> (u32, u32, u32) {
    let (n, o, i) = match (d.size, d.int(0, 3)) {
        (Size::Real, _) => (2048, 2048, 2048),
        (Size::Large, 0) => (d.extent(1, 400), d.int(4, 64), d.extent(1, 300)),
        (Size::Large, 1) => (d.extent(1, 300), d.extent(1, 400), d.int(4, 64)),
        (Size::Large, 2) => (d.int(1, 9), d.extent(1, 700), d.extent(1, 700)),
        (Size::Large, _) => (d.extent(1, 720), d.extent(1, 760), d.extent(1, 40)),
        (Size::Small, 0) => (d.int(1, 9), d.int(1, 70), d.int(380, 800)),
        (Size::Small, 1) => (d.int(1, 60), d.int(1, 400), d.int(1, 20)),
        (Size::Small, 2) => (d.int(360, 800), d.int(1, 40), d.int(1, 40)),
        (Size::Small, _) => (d.int(1, 40), d.int(1, 70), d.int(1, 70)),
    };
    let [o, i] = d.even([o, i]);
    (n, o, i)
}

fn product_case(d: &mut Draw, (n, o, i): (u32, u32, u32), run: super::Call) -> Case {
    let flops = 2.0 * area(n, o) as f64 * f64::from(i);
    d.case(Default::default(), format!("n {n} o {o} i {i}"), flops, run)
}

fn matmul_forward(d: &mut Draw) -> Case {
    let shape = product_shape(d);
    let (n, o, i) = shape;
    let (w, inp, write) = (d.matrix(o, i), d.input(Acts, area(n, i)), write(d));
    let out = d.output("out", Acts, area(n, o));
    let alpha = if d.coin() { 1.0 } else { -0.7 };
    product_case(d, shape, call(move |x| x.matmul_forward(out, inp, w, alpha, write)))
}

fn matmul_backward_input(d: &mut Draw) -> Case {
    let shape = product_shape(d);
    let (n, o, i) = shape;
    let (w, dout, write) = (d.matrix(o, i), d.input(ActGrads, area(n, o)), write(d));
    let dinp = d.output("dinp", ActGrads, area(n, i));
    let alpha = if d.coin() { 1.0 } else { 1.3 };
    product_case(d, shape, call(move |x| x.matmul_backward_input(dinp, dout, w, alpha, write)))
}

fn matmul_backward_weight(d: &mut Draw) -> Case {
    let shape = product_shape(d);
    let (n, o, i) = shape;
    let (dout, inp) = (d.input(ActGrads, area(n, o)), d.input(Acts, area(n, i)));
    let dw = d.output("dw", Grads, area(o, i));
    product_case(d, shape, call(move |x| x.matmul_backward_weight(dw, dout, inp, o, i, 0.9)))
}

/// A rotary table of `positions` rows: any angles will do.
fn rope_table(d: &mut Draw, positions: u32, dim: u32) -> Slot {
    let angles = d.values(area(positions, dim / 2));
    let mut table = Vec::new();
    for row in angles.chunks(dim as usize / 2) {
        table.extend(row.iter().map(|a| a.cos()));
        table.extend(row.iter().map(|a| a.sin()));
    }
    d.given(Stats, table)
}

fn rope(d: &mut Draw, back: bool) -> Case {
    let (batch, heads, rows) = (d.batch(9), d.heads(), d.rows());
    let dim = heads.head_dim;
    let table = rope_table(d, batch.longest, dim);
    let x = d.output("x", Acts, batch.count(rows) * area(heads.n_heads, dim));
    let shape = format!("{} x {} x {dim}", batch.count(rows), heads.n_heads);
    let run = call(move |b| match back {
        false => b.rope_forward(x, table, dim, rows),
        true => b.rope_backward(x, table, dim, rows),
    });
    d.case(batch, shape, 3.0 * x.len as f64, run)
}

fn rope_forward(d: &mut Draw) -> Case {
    rope(d, false)
}

fn rope_backward(d: &mut Draw) -> Case {
    rope(d, true)
}

/// Pairs of a query and a key that it sees.
fn pairs(batch: &Batch, rows: Rows) -> f64 {
    let v = match rows {
        Rows::All => &batch.all,
        Rows::Kept => &batch.kept,
    };
    let seen = |span: &Span| -> u64 {
        let (first, count) = (span.first_range as usize, span.n_ranges as usize);
        let shared: u64 = v.ranges[first..first + count].iter().map(|r| u64::from(r.len)).sum();
        let own = |q: u32| u64::from(v.at[q as usize] - span.self_start) + 1;
        (span.q_start..span.q_start + span.q_len).map(|q| shared + own(q)).sum()
    };
    v.spans.iter().map(seen).sum::<u64>() as f64
}

fn attention_forward(d: &mut Draw) -> Case {
    let (batch, heads, rows) = (d.batch(9), d.heads(), d.rows());
    let (n, keys) = (batch.count(rows), batch.rows());
    let kv = keys * area(heads.n_kv_heads, heads.head_dim);
    let q = d.input(Acts, n * area(heads.n_heads, heads.head_dim));
    let (k, v) = (d.input(Acts, kv), d.input(Acts, kv));
    let out = d.output("out", Acts, q.len);
    let lse = d.output("lse", Stats, n * u64::from(heads.n_heads));
    d.scratch(keys);
    let shape = format!("{n} queries, {keys} keys, {heads:?}");
    let flops = 4.0 * pairs(&batch, rows) * area(heads.n_heads, heads.head_dim) as f64;
    let run = call(move |x| x.attention_forward(out, lse, q, k, v, heads, rows));
    d.case(batch, shape, flops, run)
}

fn attention_decoding(d: &mut Draw) -> Case {
    let cache_rows = match d.size {
        Size::Small => 70,
        Size::Large => 900,
        Size::Real => 4096,
    };
    let (batch, heads) = (d.pieces(9, cache_rows), d.heads());
    let (n, kv) = (batch.rows(), u64::from(cache_rows) * area(heads.n_kv_heads, heads.head_dim));
    let q = d.input(Acts, n * area(heads.n_heads, heads.head_dim));
    let (k, v) = (d.input(Kv, kv), d.input(Kv, kv));
    let out = d.output("out", Acts, q.len);
    let lse = d.output("lse", Stats, n * u64::from(heads.n_heads));
    d.scratch(u64::from(cache_rows));
    let shape = format!("{n} queries, cache of {cache_rows}, {heads:?}");
    let flops = 4.0 * pairs(&batch, Rows::All) * area(heads.n_heads, heads.head_dim) as f64;
    let run = call(move |x| x.attention_forward(out, lse, q, k, v, heads, Rows::All));
    d.case(batch, shape, flops, run)
}

fn attention_backward(d: &mut Draw) -> Case {
    let (batch, heads, rows) = (d.batch(9), d.heads(), d.rows());
    let (n, keys) = (batch.count(rows), batch.rows());
    let kv = keys * area(heads.n_kv_heads, heads.head_dim);
    let q = d.input(Acts, n * area(heads.n_heads, heads.head_dim));
    let (k, v) = (d.input(Acts, kv), d.input(Acts, kv));
    let (out, dout) = (d.input(Acts, q.len), d.input(ActGrads, q.len));
    let lse = d.input(Stats, n * u64::from(heads.n_heads));
    let dq = d.output("dq", ActGrads, q.len);
    let (dk, dv) = (d.output("dk", ActGrads, kv), d.output("dv", ActGrads, kv));
    d.scratch(keys.max(n * u64::from(heads.n_heads)));
    let shape = format!("{n} queries, {keys} keys, {heads:?}");
    let flops = 14.0 * pairs(&batch, rows) * area(heads.n_heads, heads.head_dim) as f64;
    let run = call(move |x| {
        x.attention_forward(out, lse, q, k, v, heads, rows)?;
        let saved = AttentionSaved { dout, out, lse, q, k, v, heads, rows };
        x.attention_backward(AttentionGrads { dq, dk, dv }, saved)
    });
    d.case(batch, shape, flops, run)
}

fn swiglu_forward(d: &mut Draw) -> Case {
    let n = flat(d);
    let (gate, up, out) = (d.input(Acts, n), d.input(Acts, n), d.output("out", Acts, n));
    let run = call(move |x| x.swiglu_forward(out, gate, up));
    d.case(Default::default(), format!("{n}"), 4.0 * n as f64, run)
}

fn swiglu_backward(d: &mut Draw) -> Case {
    let n = flat(d);
    let (gate, up, dout) = (d.input(Acts, n), d.input(Acts, n), d.input(ActGrads, n));
    let dgate = d.output("dgate", ActGrads, n);
    let dup = if d.coin() { dout } else { d.input(ActGrads, n) };
    d.compare("dup", dup);
    let run = call(move |x| x.swiglu_backward(dgate, dup, dout, gate, up));
    d.case(Default::default(), format!("{n}"), 8.0 * n as f64, run)
}

pub(super) fn mask(d: &mut Draw) -> Dropout {
    let stream = Stream::dropout(d.int(0, 9) as u16);
    Dropout { p: 0.3, seed: 0x1234_5678_9abc, stream, step: d.int(0, 99), rows: d.rows() }
}

fn dropout(d: &mut Draw, back: bool) -> Case {
    let (batch, dim, mask) = (d.batch(9), d.extent(50, 300), mask(d));
    let len = batch.count(mask.rows) * u64::from(dim);
    let (inp, out) = (d.input(Acts, len), d.output("out", ActGrads, len));
    let shape = format!("{} x {dim}", batch.count(mask.rows));
    let run = call(move |x| match back {
        false => x.dropout_forward(out, inp, dim, mask),
        true => x.dropout_backward(out, inp, dim, mask),
    });
    d.case(batch, shape, len as f64, run)
}

fn dropout_forward(d: &mut Draw) -> Case {
    dropout(d, false)
}

fn dropout_backward(d: &mut Draw) -> Case {
    dropout(d, true)
}

fn norm_squared(d: &mut Draw) -> Case {
    let n = flat(d);
    let (x, out) = (d.input(Grads, n), d.output("out", Stats, 1));
    d.scratch(n.div_ceil(256) + 8);
    let run = call(move |b| b.norm_squared(out, x));
    d.case(Default::default(), format!("{n}"), 2.0 * n as f64, run)
}

fn adamw(d: &mut Draw) -> Case {
    let n = flat(d);
    let (grad, param) = (d.input(Grads, n), d.output("param", Params, n));
    let m = d.output("m", Moments, n);
    let squares = d.values(n).iter().map(|x| x * x).collect();
    let v = d.given(Moments, squares);
    d.compare("v", v);
    let t = d.int(1, 1000);
    let step = AdamW {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        t,
        grad_scale: 0.8,
        seed: 5,
    };
    let run = call(move |x| x.adamw(param, grad, m, v, step));
    d.case(Default::default(), format!("{n}, step {t}"), 14.0 * n as f64, run)
}
