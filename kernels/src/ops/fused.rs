//! Cases of the fused ops: the loss and adapted linear layers.

use paddock_core::backend::{Dropout, LoraGrads, LoraMats, LoraSlots, LossSlots};
use paddock_core::batch::Rows;
use paddock_core::slot::Region::{ActGrads, Acts, Grads, Params, Stats};
use paddock_core::weights::Mat;

use super::Case;
use super::draw::{Draw, call};
use super::table::{area, mask, write};

/// Which of the loss's ops.
#[derive(Clone, Copy, PartialEq)]
enum Loss {
    Forward,
    Backward,
    Both,
}

fn loss(d: &mut Draw, which: Loss) -> Case {
    let (vocab, dim) = (d.extent(90, 300), d.extent(50, 100));
    let [vocab, dim] = d.even([vocab, dim]);
    let (batch, w) = (d.batch(vocab), d.matrix(vocab, dim));
    let (m, e) = (batch.kept(), batch.entries());
    let inp = d.input(Acts, m * u64::from(dim));
    let (nll, lse) = (d.output("nll", Stats, e), d.output("lse", Stats, m));
    let coeff = d.input(Stats, e);
    d.scratch(2 * u64::from(vocab) * m.max(1) + 4);
    let shape = format!("{m} rows, {e} entries, {vocab} x {dim}");
    let flops = 2.0 * m as f64 * area(vocab, dim) as f64;
    if which == Loss::Forward {
        let best = d.coin().then(|| d.output("best", Stats, m));
        let run = call(move |x| x.linear_cross_entropy_forward(nll, lse, best, inp, w));
        return d.case(batch, shape, flops, run);
    }
    let dinp = d.output("dinp", ActGrads, inp.len);
    let dw = d.coin().then(|| d.output("dw", Grads, area(vocab, dim)));
    let run = call(move |x| match which {
        Loss::Both => x.linear_cross_entropy(LossSlots { nll, lse, coeff, dinp, dw }, inp, w),
        _ => {
            x.linear_cross_entropy_forward(nll, lse, None, inp, w)?;
            x.linear_cross_entropy_backward(dinp, dw, coeff, lse, inp, w)
        }
    });
    d.case(batch, shape, 3.0 * flops, run)
}

pub(super) fn linear_cross_entropy_forward(d: &mut Draw) -> Case {
    loss(d, Loss::Forward)
}

pub(super) fn linear_cross_entropy_backward(d: &mut Draw) -> Case {
    loss(d, Loss::Backward)
}

pub(super) fn linear_cross_entropy(d: &mut Draw) -> Case {
    loss(d, Loss::Both)
}

/// A frozen or trained matrix with an adapter.
fn adapter(d: &mut Draw, o: u32, i: u32) -> (Mat, LoraMats, u32) {
    let w = d.matrix(o, i);
    let rank =
        if o.is_multiple_of(8) && i.is_multiple_of(8) { 8 * d.int(1, 3) } else { d.int(1, 20) };
    let (a, b) = (d.input(Params, area(rank, i)), d.input(Params, area(o, rank)));
    let mats = LoraMats { a: Mat::trained(a, rank, i), b: Mat::trained(b, o, rank), scale: 0.5 };
    (w, mats, rank)
}

fn lora(d: &mut Draw, back: bool) -> Case {
    let mut batch = d.batch(9);
    let (o, i) = (d.extent(60, 300), d.extent(60, 300));
    let [o, i] = d.even([o, i]);
    let (w, mats, rank) = adapter(d, o, i);
    let dropout = d.coin().then(|| Dropout { rows: Rows::All, ..mask(d) });
    batch.kept_rows.clear();
    let n = batch.rows() as u32;
    let (inp, ds) = (d.input(Acts, area(n, i)), d.input(ActGrads, area(n, rank)));
    let dropped = d.input(Acts, area(n, i.max(o)));
    let s = d.output("s", Acts, area(n, rank));
    let out = d.output("out", Acts, area(n, o));
    let dropped = dropped.first(area(n, i));
    let slots = LoraSlots { s, ds, dropped, dropout };
    let shape = format!("n {n} o {o} i {i} rank {rank}");
    let flops = 2.0 * f64::from(n) * (area(o, i) + area(rank, o + i)) as f64;
    if !back {
        let run = call(move |x| x.lora_linear_forward(out, inp, w, mats, slots));
        return d.case(batch, shape, flops, run);
    }
    let dout = d.input(ActGrads, area(n, o));
    let (da, db) = (d.output("da", Grads, area(rank, i)), d.output("db", Grads, area(o, rank)));
    let write = write(d);
    let dinp = d.coin().then(|| (d.output("dinp", ActGrads, area(n, i)), write));
    let run = call(move |x| {
        x.lora_linear_forward(out, inp, w, mats, slots)?;
        x.lora_linear_backward(LoraGrads { da, db, dinp }, dout, inp, w, mats, slots)
    });
    d.case(batch, shape, 3.0 * flops, run)
}

pub(super) fn lora_linear_forward(d: &mut Draw) -> Case {
    lora(d, false)
}

pub(super) fn lora_linear_backward(d: &mut Draw) -> Case {
    lora(d, true)
}
