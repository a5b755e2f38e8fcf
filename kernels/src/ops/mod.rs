//! The op table: for each op how to draw a case, and how far a back-end may be from the truth.
//!
//! One list drives the property tests, the test that threads change nothing, `core-cli verify` and
//! `core-cli bench ops`.
//!
//! # Tolerance
//!
//! Each case runs on the reference in f64 (the truth), on the reference in f32 (a plain
//! implementation) and on the back-end. The back-end's largest error may be at most twice that of the
//! plain implementation, plus a few roundings of the largest value (or of the terms, where they cancel): on
//! tiny cases the plain loop is sometimes exact by luck. Ops that only move numbers must be exact.
//!
//! A back-end that stores activations in bf16 or f16 ([`Storage`]) is compared on numbers that are so already,
//! with a plain implementation that rounds what it stores in the same way ([`Rounding`]). Added to twice its
//! error are then half a unit in the last place of the largest value where the output itself is narrow, and
//! the op's [`Op::narrow`] roundings, where kernels round operands of an inner product.
//!
//! A back-end whose matrix products round their operands to f16 ([`Storage::F16Products`]) may be off by
//! 2^-11 of the largest value or term more for each of the op's [`Op::products`] in a row (that is what an
//! operand is off by at most, and in a sum most of it cancels); with bf16 by 2^-7, for short sums are rounded too.

use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::error::Result;
use paddock_core::plan::RegionSizes;
use paddock_core::reference::Reference;
use paddock_core::slot::Slot;
use paddock_core::weights::{Dtype, Weight, WeightView, Weights};

pub mod draw;
mod fused;
mod measure;
mod storage;
mod table;
pub mod whole;

use crate::Device;
use draw::Size;

pub use draw::Draw;
pub use measure::{Speed, measure};
pub use storage::{Rounding, Storage};
pub use table::table;

/// One op (or pair of arguments of one) in the table.
pub struct Op {
    /// The trait method's name, with what is special about the case.
    pub name: &'static str,
    /// Roundings of the largest value that are always allowed.
    pub roundings: f64,
    /// Size of the terms that may cancel in an output (0: they do not): a gradient that is zero in
    /// exact arithmetic is only as small as the roundings of its terms.
    pub terms: f64,
    /// Roundings to 16 bits, in [units](Storage::unit) of the largest value or term, that a back-end with 16-bit
    /// operands makes on the way to a result (probabilities before they meet the values, say).
    pub narrow: f64,
    /// Matrix products in a row on the way to a result.
    pub products: f64,
    /// Draws a case.
    pub draw: fn(&mut Draw) -> Case,
}

/// A frozen tensor of a case.
pub struct Tensor {
    /// Element type.
    pub dtype: Dtype,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// The elements, little-endian, in memory aligned for f32.
    words: Vec<u32>,
}

/// What a case calls.
pub type Call = Box<dyn Fn(&mut dyn Backend) -> Result<()>>;

/// Everything that a back-end needs to run one op on drawn values.
pub struct Case {
    /// Frozen tensors; `Weight(i)` is number i.
    pub tensors: Vec<Tensor>,
    /// The batch.
    pub batch: Batch,
    /// Memory.
    pub sizes: RegionSizes,
    /// What to upload first.
    pub inputs: Vec<(Slot, Vec<f32>)>,
    /// What to compare afterwards.
    pub outputs: Vec<(&'static str, Slot)>,
    /// The op.
    pub call: Call,
    /// Arithmetic operations, about (0: it only moves numbers).
    pub flops: f64,
    /// Bytes read and written at least.
    pub bytes: f64,
    /// The shape, for people.
    pub shape: String,
}

impl Case {
    /// The frozen tensors as a back-end takes them.
    pub fn weights(&self) -> Weights<'_> {
        let mut weights = Weights::default();
        for (i, tensor) in self.tensors.iter().enumerate() {
            let bytes: &[u8] = bytemuck::cast_slice(&tensor.words);
            let len = u64::from(tensor.rows) * u64::from(tensor.cols) * tensor.dtype.bytes();
            let _: Weight = weights.push(WeightView {
                name: format!("case.{i}"),
                dtype: tensor.dtype,
                rows: tensor.rows,
                cols: tensor.cols,
                bytes: &bytes[..len as usize],
            });
        }
        weights
    }

    /// Gives `backend` the case's memory, values and batch.
    pub fn load(&self, backend: &mut dyn Backend) -> Result<()> {
        backend.reserve(&self.sizes)?;
        for (slot, values) in &self.inputs {
            backend.upload(*slot, values)?;
        }
        backend.set_batch(&self.batch)
    }

    /// Runs the op once on fresh values and reads the outputs.
    pub fn run(&self, backend: &mut dyn Backend) -> Result<Vec<Vec<f32>>> {
        self.load(backend)?;
        (self.call)(backend)?;
        self.read(backend)
    }

    /// Reads the outputs.
    pub fn read(&self, backend: &mut dyn Backend) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::new();
        for (_, slot) in &self.outputs {
            let mut values = vec![0.0; slot.len as usize];
            backend.download(*slot, &mut values)?;
            all.push(values);
        }
        Ok(all)
    }

    /// The outputs of the reference in f64, not rounded.
    fn truth(&self) -> Result<Vec<Vec<f64>>> {
        let mut reference = Reference::<f64>::new(self.weights());
        self.load(&mut reference)?;
        (self.call)(&mut reference)?;
        let slices = self.outputs.iter().map(|(_, slot)| Ok(reference.slice_mut(*slot)?.to_vec()));
        slices.collect()
    }
}

/// How one output of a case came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The op.
    pub op: &'static str,
    /// The output.
    pub output: &'static str,
    /// The case's shape.
    pub shape: String,
    /// Largest error of the back-end against f64.
    pub error: f64,
    /// Largest error of the plain implementation.
    pub plain: f64,
    /// Largest value.
    pub largest: f64,
    /// What `error` may be.
    pub allowed: f64,
}

impl Verdict {
    /// Whether the output is good enough.
    pub fn passes(&self) -> bool {
        self.error <= self.allowed
    }
}

/// What a case should give, and what a plain implementation gives.
pub struct Expected {
    storage: Storage,
    truth: Vec<Vec<f64>>,
    plain: Vec<Vec<f32>>,
}

impl Expected {
    /// Runs a case on both references, for a back-end that stores everything in f32.
    pub fn of(case: &Case) -> Result<Expected> {
        Expected::stored(case, Storage::F32)
    }

    /// Runs a case ([`Case::stored`] in the same way) on both references, for a back-end of this storage.
    pub fn stored(case: &Case, storage: Storage) -> Result<Expected> {
        let plain = match storage {
            narrow if narrow.is_narrow() => case.run(&mut Rounding::new(case.weights(), narrow))?,
            _ => case.run(&mut Reference::<f32>::new(case.weights()))?,
        };
        Ok(Expected { storage, truth: case.truth()?, plain })
    }
}

/// Runs every op of the table on cases drawn from each seed, and reports how each output came out.
pub fn verify(
    device: &Device,
    seeds: std::ops::Range<u64>,
    size: Size,
    report: &mut dyn FnMut(Verdict),
) -> Result<()> {
    let storage = Storage::on(device)?;
    for op in table() {
        for seed in seeds.clone() {
            let case = (op.draw)(&mut Draw::new(seed, size)).stored(storage);
            let expected = Expected::stored(&case, storage)?;
            let mut backend = device.backend(case.weights())?;
            compare(&op, &case, &expected, &mut *backend)?.into_iter().for_each(&mut *report);
        }
    }
    Ok(())
}

/// Runs a case on `backend` (opened over [`Case::weights`]) and judges every output.
pub fn compare(
    op: &Op,
    case: &Case,
    expected: &Expected,
    backend: &mut dyn Backend,
) -> Result<Vec<Verdict>> {
    let found = case.run(backend)?;
    let mut verdicts = Vec::new();
    for (i, (output, slot)) in case.outputs.iter().enumerate() {
        if *output == "best" && expected.storage == Storage::Bf16Products {
            // Which of two nearly equal logits is the larger is then a matter of rounding.
            continue;
        }
        let truth = &expected.truth[i];
        let error = distance(&found[i], truth);
        let plain = distance(&expected.plain[i], truth);
        let largest = truth.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let terms = largest.max(op.terms);
        let mut allowed = 2.0 * plain + op.roundings * f64::from(f32::EPSILON) * terms;
        if expected.storage.is_narrow() && op.roundings > 0.0 {
            let last = if expected.storage.narrows(slot.region) { largest } else { 0.0 };
            allowed += (last + op.narrow * terms) * expected.storage.unit();
        }
        allowed += op.products * terms * expected.storage.product_error();
        let shape = case.shape.clone();
        verdicts.push(Verdict { op: op.name, output, shape, error, plain, largest, allowed });
    }
    Ok(verdicts)
}

/// The largest difference; infinite if a value is not a number on one side only.
fn distance(found: &[f32], truth: &[f64]) -> f64 {
    found.iter().zip(truth).fold(0.0, |most: f64, (&x, &y)| {
        let difference = (f64::from(x) - y).abs();
        match (x.is_nan(), y.is_nan()) {
            (true, true) => most,
            (false, false) if f64::from(x) == y => most,
            (false, false) => most.max(difference),
            _ => f64::INFINITY,
        }
    })
}
