//! [`Checked`] refuses what would go wrong silently: every op with operands of a wrong length, beyond
//! their region, overlapping what is written, or not finite.

mod common;

use paddock_core::Error;
use paddock_core::backend::{
    AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, LoraGrads, LoraMats, LoraSlots,
    LossSlots, Write,
};
use paddock_core::batch::{Batch, Rows};
use paddock_core::checked::Checked;
use paddock_core::error::Result;
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::philox::Stream;
use paddock_core::plan::RegionSizes;
use paddock_core::reference::Reference;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Mat, Weights};

/// Rows, kept rows, loss entries; widths.
const N: u64 = 5;
const M: u64 = 2;
const E: u64 = 3;
const C: u32 = 4;
const V: u32 = 7;
const HEADS: Heads = Heads { n_heads: 2, n_kv_heads: 1, head_dim: 2 };
/// Elements reserved of each region.
const SIZE: u64 = 1024;

/// How an op uses an operand.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Use {
    /// Written, and checked to be finite.
    Out,
    /// Written without that check.
    Quiet,
    /// Read; the op's output shows what is not finite in it.
    In,
    /// Read; not finite here need not show.
    Hidden,
}

use Use::{Hidden, In, Out, Quiet};

/// An op on slots of these lengths, and whether the op fixes each length.
struct Op {
    name: &'static str,
    operands: Vec<(Use, u64)>,
    call: fn(&mut dyn Backend, &[Slot]) -> Result<()>,
}

fn op(
    name: &'static str,
    operands: &[(Use, u64)],
    call: fn(&mut dyn Backend, &[Slot]) -> Result<()>,
) -> Op {
    Op { name, operands: operands.to_vec(), call }
}

fn mat(slot: Slot, rows: u32, cols: u32) -> Mat {
    Mat::trained(slot, rows, cols)
}

const DROPOUT: Dropout =
    Dropout { p: 0.1, seed: 1, stream: Stream::dropout(0), step: 0, rows: Rows::All };

fn lora(a: Slot, b: Slot) -> LoraMats {
    LoraMats { a: mat(a, 2, C), b: mat(b, 3, 2), scale: 1.0 }
}

fn lora_slots(s: Slot, ds: Slot, dropped: Slot) -> LoraSlots {
    LoraSlots { s, ds, dropped, dropout: Some(DROPOUT) }
}

fn plain_ops() -> Vec<Op> {
    let (nc, mc) = (N * 4, M * 4);
    let adam = |b: &mut dyn Backend, s: &[Slot]| {
        let step = AdamW {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.9,
            eps: 1e-8,
            weight_decay: 0.0,
            t: 1,
            grad_scale: 1.0,
            seed: 5,
        };
        b.adamw(s[0], s[1], s[2], s[3], step)
    };
    vec![
        op("copy", &[(Quiet, 9), (Hidden, 9)], |b, s| b.copy(s[0], s[1])),
        op("add", &[(Out, 9), (In, 9), (In, 9)], |b, s| b.add(s[0], s[1], s[2])),
        op("accumulate", &[(Out, 9), (In, 9)], |b, s| b.accumulate(s[0], s[1], 2.0)),
        op("gather", &[(Quiet, mc), (Hidden, nc)], |b, s| b.gather_rows(s[0], s[1], C)),
        op("scatter", &[(Out, nc), (In, mc)], |b, s| b.scatter_rows(s[0], s[1], C, Write::Set)),
        op("embed_forward", &[(Out, nc), (In, 28)], |b, s| b.embed_forward(s[0], mat(s[1], V, C))),
        op("embed_backward", &[(Out, 28), (In, nc)], |b, s| b.embed_backward(s[0], s[1], C)),
        op("norm_forward", &[(Out, nc), (Out, N), (In, nc), (In, 4)], |b, s| {
            b.rms_norm_forward(s[0], s[1], s[2], mat(s[3], 1, C), 1e-5)
        }),
        op(
            "norm_backward",
            &[(Out, nc), (Out, 4), (In, nc), (In, nc), (In, 4), (In, N)],
            |b, s| {
                let w = mat(s[4], 1, C);
                b.rms_norm_backward(s[0], Some(s[1]), s[2], s[3], w, s[5])
            },
        ),
        op("matmul_forward", &[(Out, 15), (In, nc), (In, 12)], |b, s| {
            b.matmul_forward(s[0], s[1], mat(s[2], 3, C), 1.0, Write::Set)
        }),
        op("matmul_backward_input", &[(Out, nc), (In, 15), (In, 12)], |b, s| {
            b.matmul_backward_input(s[0], s[1], mat(s[2], 3, C), 1.0, Write::Set)
        }),
        op("matmul_backward_weight", &[(Out, 12), (In, 15), (In, nc)], |b, s| {
            b.matmul_backward_weight(s[0], s[1], s[2], 3, C, 1.0)
        }),
        op("dropout_forward", &[(Quiet, nc), (Hidden, nc)], |b, s| {
            b.dropout_forward(s[0], s[1], C, DROPOUT)
        }),
        op("dropout_backward", &[(Quiet, nc), (Hidden, nc)], |b, s| {
            b.dropout_backward(s[0], s[1], C, DROPOUT)
        }),
        op("norm_squared", &[(Quiet, 1), (Hidden, 9)], |b, s| b.norm_squared(s[0], s[1])),
        op("adamw", &[(Out, 9), (In, 9), (Out, 9), (Out, 9)], adam),
        op("swiglu_forward", &[(Out, 15), (In, 15), (In, 15)], |b, s| {
            b.swiglu_forward(s[0], s[1], s[2])
        }),
        op("swiglu_backward", &[(Out, 15), (Out, 15), (In, 15), (In, 15), (In, 15)], |b, s| {
            b.swiglu_backward(s[0], s[1], s[2], s[3], s[4])
        }),
    ]
}

fn attention_ops() -> Vec<Op> {
    let (q, kv) = (N * 4, N * 2);
    vec![
        op("rope_forward", &[(Out, q), (In, 6)], |b, s| b.rope_forward(s[0], s[1], 2, Rows::All)),
        op("rope_backward", &[(Out, q), (In, 6)], |b, s| b.rope_backward(s[0], s[1], 2, Rows::All)),
        op("attention_forward", &[(Out, q), (Out, N * 2), (In, q), (In, kv), (In, kv)], |b, s| {
            b.attention_forward(s[0], s[1], s[2], s[3], s[4], HEADS, Rows::All)
        }),
        op(
            "attention_backward",
            &[
                (Out, q),
                (Out, kv),
                (Out, kv),
                (In, q),
                (In, q),
                (In, N * 2),
                (In, q),
                (In, kv),
                (In, kv),
            ],
            |b, s| {
                let grads = AttentionGrads { dq: s[0], dk: s[1], dv: s[2] };
                let (dout, out, lse, q, k, v) = (s[3], s[4], s[5], s[6], s[7], s[8]);
                let (heads, rows) = (HEADS, Rows::All);
                let saved = AttentionSaved { dout, out, lse, q, k, v, heads, rows };
                b.attention_backward(grads, saved)
            },
        ),
        op("cache_write", &[(Quiet, kv), (Hidden, kv)], |b, s| b.cache_write(s[0], s[1], 2)),
    ]
}

fn loss_and_lora_ops() -> Vec<Op> {
    let (mc, q) = (M * 4, N * 4);
    vec![
        op("cross_entropy_forward", &[(Out, E), (Out, M), (Out, M), (In, mc), (In, 28)], |b, s| {
            let w = mat(s[4], V, C);
            b.linear_cross_entropy_forward(s[0], s[1], Some(s[2]), s[3], w)
        }),
        op(
            "cross_entropy_backward",
            &[(Out, mc), (Out, 28), (In, E), (In, M), (In, mc), (In, 28)],
            |b, s| {
                let w = mat(s[5], V, C);
                b.linear_cross_entropy_backward(s[0], Some(s[1]), s[2], s[3], s[4], w)
            },
        ),
        op(
            "cross_entropy",
            &[(Out, E), (Out, M), (Out, mc), (Out, 28), (In, E), (In, mc), (In, 28)],
            |b, s| {
                let (nll, lse, dinp, dw, coeff) = (s[0], s[1], s[2], Some(s[3]), s[4]);
                let out = LossSlots { nll, lse, coeff, dinp, dw };
                b.linear_cross_entropy(out, s[5], mat(s[6], V, C))
            },
        ),
        op(
            "lora_forward",
            &[(Out, 15), (Out, 10), (In, q), (In, 12), (In, 8), (In, 6), (Out, q)],
            |b, s| {
                let slots = lora_slots(s[1], Slot::new(Region::Acts, 0, 0), s[6]);
                b.lora_linear_forward(s[0], s[2], mat(s[3], 3, C), lora(s[4], s[5]), slots)
            },
        ),
        op(
            "lora_backward",
            &[
                (Out, 8),
                (Out, 6),
                (Out, 10),
                (Out, q),
                (In, 15),
                (In, q),
                (In, 10),
                (In, 12),
                (In, 8),
                (In, 6),
                (Out, q),
            ],
            |b, s| {
                let grads = LoraGrads { da: s[0], db: s[1], dinp: Some((s[3], Write::Set)) };
                let (w, mats) = (mat(s[7], 3, C), lora(s[8], s[9]));
                b.lora_linear_backward(grads, s[4], s[5], w, mats, lora_slots(s[6], s[2], s[10]))
            },
        ),
    ]
}

fn all_ops() -> Vec<Op> {
    plain_ops().into_iter().chain(attention_ops()).chain(loss_and_lora_ops()).collect()
}

/// A fresh back-end with a batch of N rows, M kept, E entries; everything holds small numbers.
fn fresh() -> Checked<'static> {
    let mut b = Checked::new(Box::new(Reference::<f32>::new(Weights::default())));
    let mut sizes = RegionSizes::default();
    Region::ALL.iter().for_each(|&r| sizes.grow(r, SIZE));
    b.reserve(&sizes).unwrap();
    let segment = |start, len, parent| Segment { start, len, parent };
    let entry = |position, target| Entry { position, target, weight: 1.0 };
    let forest = Forest {
        tokens: vec![1, 2, 3, 6, 4],
        segments: vec![segment(0, 2, None), segment(2, 1, Some(0)), segment(3, 2, None)],
        entries: vec![entry(1, 3), entry(1, 0), entry(3, 4)],
    };
    b.set_batch(&Batch::from_forest(&forest, V).unwrap()).unwrap();
    let values: Vec<f32> = (0..SIZE).map(|i| 0.25 + (i % 13) as f32 / 16.0).collect();
    b.upload(Slot::new(Region::Acts, 0, SIZE), &values).unwrap();
    b
}

/// Operands one after another.
fn places(op: &Op) -> Vec<Slot> {
    let mut next = 0;
    let mut place = |len: u64| {
        let slot = Slot::new(Region::Acts, next, len);
        next += len.next_multiple_of(16);
        slot
    };
    op.operands.iter().map(|&(_, len)| place(len)).collect()
}

#[test]
fn right_calls_pass() {
    let ops = all_ops();
    assert_eq!(ops.len(), 28);
    for op in ops {
        (op.call)(&mut fresh(), &places(&op)).unwrap_or_else(|e| panic!("{}: {e}", op.name));
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for op in all_ops() {
        let right = places(&op);
        for i in 0..right.len() {
            for longer in [true, false] {
                // The one operand of any length.
                if op.name == "norm_squared" && i == 1 {
                    continue;
                }
                let mut wrong = right.clone();
                let len = if longer { right[i].len + 1 } else { right[i].len - 1 };
                wrong[i] = Slot { len, ..right[i] };
                let found = (op.call)(&mut fresh(), &wrong);
                let refused = matches!(found, Err(Error::Shape { .. }));
                assert!(refused, "{}: operand {i} with {len} elements: {found:?}", op.name);
            }
        }
    }
}

#[test]
fn slots_beyond_their_region_are_refused() {
    for op in all_ops() {
        let right = places(&op);
        for i in 0..right.len() {
            let mut wrong = right.clone();
            wrong[i].offset = SIZE - wrong[i].len + 1;
            let found = (op.call)(&mut fresh(), &wrong);
            let expected = Error::OutOfRegion { region: Region::Acts, end: SIZE + 1, len: SIZE };
            assert_eq!(found, Err(expected), "{}: operand {i}", op.name);
        }
    }
}

/// A written operand may not share an element with another, except where the op says so.
#[test]
fn overlaps_are_refused() {
    for op in all_ops() {
        let right = places(&op);
        for (i, _) in op.operands.iter().enumerate().filter(|(_, o)| matches!(o.0, Out | Quiet)) {
            for j in (0..right.len()).filter(|&j| j != i) {
                let mut wrong = right.clone();
                // One element in common.
                wrong[j].offset = 512;
                wrong[i].offset = 512 + wrong[j].len - 1;
                let found = (op.call)(&mut fresh(), &wrong);
                let refused = matches!(found, Err(Error::Alias { .. }));
                assert!(refused, "{}: operands {i} and {j}: {found:?}", op.name);
            }
        }
    }
}

/// The two places where the trait allows an operand to be the output.
#[test]
fn allowed_aliases_pass() {
    let mut b = fresh();
    let slot = |i: u64| Slot::new(Region::Acts, 16 * i, 15);
    b.add(slot(0), slot(0), slot(1)).unwrap();
    b.swiglu_backward(slot(0), slot(1), slot(1), slot(2), slot(3)).unwrap();
    assert!(matches!(b.add(slot(0), slot(0), slot(0)), Err(Error::Alias { .. })));
    assert!(matches!(b.add(slot(0), slot(1), slot(0)), Err(Error::Alias { .. })));
}

#[test]
fn what_is_not_finite_is_found() {
    for op in all_ops() {
        let slots = places(&op);
        for (i, slot) in slots.iter().enumerate().filter(|(i, _)| op.operands[*i].0 == In) {
            for value in [f32::NAN, f32::INFINITY] {
                let mut b = fresh();
                let values = vec![value; slot.len as usize];
                b.upload(*slot, &values).unwrap();
                let found = (op.call)(&mut b, &slots);
                // exp(-inf) and 1/inf are numbers: an infinite operand may vanish.
                let vanishes = value.is_infinite() && found.is_ok();
                let seen = matches!(found, Err(Error::NotFinite { .. }));
                assert!(seen || vanishes, "{}: operand {i} {value}: {found:?}", op.name);
                assert!(seen || value.is_infinite(), "{}: operand {i}: {found:?}", op.name);
            }
        }
    }
}

/// Uploads and downloads are checked too.
#[test]
fn transfers() {
    let mut b = fresh();
    let slot = Slot::new(Region::Acts, 0, 4);
    assert!(matches!(b.upload(slot, &[0.0; 3]), Err(Error::Shape { .. })));
    assert!(matches!(b.download(slot, &mut [0.0; 5]), Err(Error::Shape { .. })));
    let beyond = Slot::new(Region::Acts, SIZE, 1);
    assert!(matches!(b.fill(beyond, 1.0), Err(Error::OutOfRegion { .. })));
}

/// Training, judging and answering make no call that would be refused.
#[test]
fn the_models_own_calls_pass() {
    use paddock_core::decode::{Cache, extend};
    use paddock_core::model::{Method, Model, init};
    use paddock_core::plan::{Capacity, Plan, Recompute};
    use paddock_core::train::{Adam, Outcome, StepSettings, evaluate, step};

    let config = common::config();
    let checkpoint = common::Checkpoint::new(&config, 5);
    let rows = common::random_rows(3, 8, config.vocab_size);
    let batch = Batch::from_forest(&common::trie(&rows), config.vocab_size).unwrap();
    let room = Capacity { cache_rows: 20, logit_rows: 2, ..common::capacity(&rows) };
    for method in [Method::Full, common::lora(0.0), common::lora(0.2)] {
        for recompute in [Recompute::Nothing, Recompute::Cheap, Recompute::Layers] {
            let mut b = Checked::new(Box::new(Reference::<f32>::new(checkpoint.weights())));
            let model = Model::new(config.clone(), method).unwrap();
            let plan = Plan::new(&model, room, recompute, true, &b);
            b.reserve(&plan.sizes).unwrap();
            init::init(&mut b, &model, &checkpoint.weights(), 3).unwrap();
            init::clear_optimizer(&mut b, &model).unwrap();
            init::upload_rope(&mut b, &model, &plan, 0).unwrap();
            let adam = Adam::default();
            let settings = StepSettings { adam, lr: 0.01, max_grad_norm: 1.0, step: 0, seed: 1 };
            let batches = std::slice::from_ref(&batch);
            let outcome = step(&mut b, &model, &plan, batches, &settings, &mut ()).unwrap();
            assert!(matches!(outcome, Outcome::Updated(_)), "{outcome:?}");
            evaluate(&mut b, &model, &plan, &batch).unwrap();
            let mut cache = Cache::new(20);
            let node = cache.add(None, 9).unwrap();
            extend(&mut b, &model, &plan, &mut cache, &[(node, &[1, 2, 3])]).unwrap();
            let child = cache.add(Some(node), 5).unwrap();
            let new: [(_, &[u32]); 2] = [(child, &[4, 5]), (node, &[6])];
            extend(&mut b, &model, &plan, &mut cache, &new).unwrap();
        }
    }
}
