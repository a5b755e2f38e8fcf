//! What a back-end stores numbers in, and a plain implementation that stores them the same way.

use half::{bf16, f16};
use paddock_core::backend::{
    AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, Write,
};
use paddock_core::batch::{Batch, Rows};
use paddock_core::config::Config;
use paddock_core::error::Result;
use paddock_core::plan::{Capacity, RegionSizes};
use paddock_core::reference::Reference;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Dtype, Mat, MatData, Weights};

use super::Case;
use crate::wgpu::{Activations, Tier};
use crate::{Device, Precision};

/// The element type of activations, of their gradients and of the cache. Gradients of parameters, moments and
/// statistics are f32 everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Everything is f32.
    F32,
    /// Activations are bf16, and so is what products and embeddings read of frozen and trained matrices.
    Bf16,
    /// Parameters are bf16, too.
    Bf16Parameters,
    /// As bf16, but f16.
    F16,
    /// Everything is f32, but large matrix products round their operands to f16.
    F16Products,
    /// The same with bf16.
    Bf16Products,
}

impl Storage {
    /// What back-ends on `device` store numbers in.
    pub fn on(device: &Device) -> Result<Storage> {
        match device {
            Device::Wgpu(gpu)
                if gpu.tier() == Tier::Cooperative && gpu.activations() == Activations::F32 =>
            {
                Ok(Storage::F16Products)
            }
            Device::Cpu { precision: Precision::Bf16, .. } => Ok(Storage::Bf16Products),
            other => Ok(Storage::of(&*other.backend(Weights::default())?)),
        }
    }

    /// What `backend` says of itself.
    pub fn of(backend: &dyn Backend) -> Storage {
        let bytes = [Region::Acts, Region::Params].map(|region| backend.element_bytes(region));
        match bytes {
            [2, _] if backend.has_narrow_range() => Storage::F16,
            [2, 2] => Storage::Bf16Parameters,
            [2, _] => Storage::Bf16,
            _ => Storage::F32,
        }
    }

    /// Whether it stores anything in 16 bits.
    pub fn is_narrow(self) -> bool {
        !matches!(self, Storage::F32 | Storage::F16Products | Storage::Bf16Products)
    }

    /// Where everything is f32 but the operands of matrix products: what a product is off by for that, of its size.
    /// In f16 large products alone are rounded, and in their long sums most of it cancels; in bf16 all are, and a
    /// term's two operands may be off by 2^-8 each.
    pub fn product_error(self) -> f64 {
        match self {
            Storage::F16Products => 1.0 / 2048.0,
            Storage::Bf16Products => 2.0 / 256.0,
            _ => 0.0,
        }
    }

    /// Whether `region` holds numbers of 16 bits.
    pub fn narrows(self, region: Region) -> bool {
        match region {
            Region::Acts | Region::ActGrads | Region::Kv => self.is_narrow(),
            Region::Params => self == Storage::Bf16Parameters,
            _ => false,
        }
    }

    /// The unit in which its roundings are counted: twice the largest relative error of one.
    pub fn unit(self) -> f64 {
        match self {
            Storage::F32 => f64::from(f32::EPSILON),
            Storage::Bf16 | Storage::Bf16Parameters | Storage::Bf16Products => 1.0 / 256.0,
            Storage::F16 | Storage::F16Products => 1.0 / 2048.0,
        }
    }

    /// The nearest of its numbers of 16 bits.
    fn round(self, x: f32) -> f32 {
        match self {
            Storage::F32 | Storage::F16Products | Storage::Bf16Products => x,
            Storage::Bf16 | Storage::Bf16Parameters => bf16::from_f32(x).to_f32(),
            Storage::F16 => f16::from_f32(x).to_f32(),
        }
    }
}

impl Case {
    /// The case with every number that the back-end reads in 16 bits rounded to them, so that what is compared
    /// is the arithmetic. (Conversions of weights have their own test.)
    pub fn stored(mut self, storage: Storage) -> Case {
        if !storage.is_narrow() {
            return self;
        }
        for (slot, values) in &mut self.inputs {
            if storage.narrows(slot.region) || slot.region == Region::Params {
                values.iter_mut().for_each(|x| *x = storage.round(*x));
            }
        }
        for tensor in &mut self.tensors {
            let f16s = |bits: u32| {
                let rounded = storage.round(f16::from_bits(bits as u16).to_f32());
                u32::from(f16::from_f32(rounded).to_bits())
            };
            let bf16s = |bits: u32| {
                let rounded = storage.round(bf16::from_bits(bits as u16).to_f32());
                u32::from(bf16::from_f32(rounded).to_bits())
            };
            for word in &mut tensor.words {
                let (low, high) = (*word & 0xFFFF, *word >> 16);
                *word = match tensor.dtype {
                    Dtype::F32 => storage.round(f32::from_bits(*word)).to_bits(),
                    Dtype::F16 => f16s(low) | f16s(high) << 16,
                    Dtype::Bf16 => bf16s(low) | bf16s(high) << 16,
                }
            }
        }
        self
    }
}

/// The reference in f32 which rounds what it stores in a [`Storage`]'s narrow regions, and reads trained
/// matrices rounded: a plain implementation in that type.
pub struct Rounding<'w> {
    inner: Reference<'w, f32>,
    storage: Storage,
    sizes: RegionSizes,
}

impl<'w> Rounding<'w> {
    /// Over the checkpoint's bytes, whose matrices should be of the storage's type.
    pub fn new(weights: Weights<'w>, storage: Storage) -> Rounding<'w> {
        Rounding { inner: Reference::new(weights), storage, sizes: RegionSizes::default() }
    }

    /// Rounds every narrow region: what was not written is rounded already.
    fn stored(&mut self, done: Result<()>) -> Result<()> {
        done?;
        let storage = self.storage;
        for region in Region::ALL.into_iter().filter(|&r| storage.narrows(r)) {
            let all = Slot::new(region, 0, self.sizes.len(region));
            self.inner.slice_mut(all)?.iter_mut().for_each(|x| *x = storage.round(*x));
        }
        Ok(())
    }

    /// Runs an op that reads `w` with its numbers rounded, and gives them back afterwards.
    fn reading(
        &mut self,
        w: Mat,
        run: impl FnOnce(&mut Reference<'w, f32>) -> Result<()>,
    ) -> Result<()> {
        let MatData::Trained(slot) = w.data else {
            let done = run(&mut self.inner);
            return self.stored(done);
        };
        let values = self.inner.slice_mut(slot)?;
        let kept = values.to_vec();
        values.iter_mut().for_each(|x| *x = self.storage.round(*x));
        let done = run(&mut self.inner);
        self.inner.slice_mut(slot)?.copy_from_slice(&kept);
        self.stored(done)
    }
}

/// Ops that are the reference's, and then rounded.
macro_rules! rounded {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?);)*) => {
        $(fn $name(&mut self, $($arg: $ty),*) -> Result<()> {
            let done = self.inner.$name($($arg),*);
            self.stored(done)
        })*
    };
}

/// Ops that read the matrix named in brackets.
macro_rules! reading {
    ($(fn $name:ident [$w:ident] ($($arg:ident: $ty:ty),* $(,)?);)*) => {
        $(fn $name(&mut self, $($arg: $ty),*) -> Result<()> {
            self.reading($w, |inner| inner.$name($($arg),*))
        })*
    };
}

impl Backend for Rounding<'_> {
    fn name(&self) -> &str {
        "reference f32, stored in 16 bits"
    }

    fn element_bytes(&self, region: Region) -> u64 {
        if self.storage.narrows(region) { 2 } else { 4 }
    }

    fn has_narrow_range(&self) -> bool {
        self.storage == Storage::F16
    }

    fn scratch_len(&self, config: &Config, capacity: &Capacity) -> u64 {
        self.inner.scratch_len(config, capacity)
    }

    fn reserve(&mut self, sizes: &RegionSizes) -> Result<()> {
        self.sizes = *sizes;
        self.inner.reserve(sizes)
    }

    fn download(&mut self, src: Slot, data: &mut [f32]) -> Result<()> {
        self.inner.download(src, data)
    }

    fn set_batch(&mut self, batch: &Batch) -> Result<()> {
        self.inner.set_batch(batch)
    }

    fn sync(&mut self) -> Result<()> {
        self.inner.sync()
    }

    rounded! {
        fn upload(dst: Slot, data: &[f32]);
        fn fill(dst: Slot, value: f32);
        fn copy(dst: Slot, src: Slot);
        fn add(out: Slot, a: Slot, b: Slot);
        fn accumulate(dst: Slot, src: Slot, scale: f32);
        fn gather_rows(out: Slot, inp: Slot, dim: u32);
        fn scatter_rows(dinp: Slot, dout: Slot, dim: u32, write: Write);
        fn embed_backward(dtable: Slot, dout: Slot, dim: u32);
        fn rms_norm_forward(out: Slot, rstd: Slot, inp: Slot, weight: Mat, eps: f32);
        fn rms_norm_backward(
            dinp: Slot, dweight: Option<Slot>, dout: Slot, inp: Slot, weight: Mat, rstd: Slot,
        );
        fn matmul_backward_weight(
            dw: Slot, dout: Slot, inp: Slot, rows: u32, cols: u32, alpha: f32,
        );
        fn rope_forward(x: Slot, table: Slot, head_dim: u32, rows: Rows);
        fn rope_backward(dx: Slot, table: Slot, head_dim: u32, rows: Rows);
        fn attention_forward(
            out: Slot, lse: Slot, q: Slot, k: Slot, v: Slot, heads: Heads, rows: Rows,
        );
        fn attention_backward(grads: AttentionGrads, saved: AttentionSaved);
        fn cache_write(cache: Slot, inp: Slot, dim: u32);
        fn swiglu_forward(out: Slot, gate: Slot, up: Slot);
        fn swiglu_backward(dgate: Slot, dup: Slot, dout: Slot, gate: Slot, up: Slot);
        fn dropout_forward(out: Slot, inp: Slot, dim: u32, d: Dropout);
        fn dropout_backward(dinp: Slot, dout: Slot, dim: u32, d: Dropout);
        fn norm_squared(out: Slot, x: Slot);
        fn adamw(param: Slot, grad: Slot, m: Slot, v: Slot, step: AdamW);
    }

    reading! {
        fn embed_forward[w](out: Slot, w: Mat);
        fn matmul_forward[w](out: Slot, inp: Slot, w: Mat, alpha: f32, write: Write);
        fn matmul_backward_input[w](dinp: Slot, dout: Slot, w: Mat, alpha: f32, write: Write);
        fn linear_cross_entropy_forward[w](
            nll: Slot, lse: Slot, best: Option<Slot>, inp: Slot, w: Mat,
        );
        fn linear_cross_entropy_backward[w](
            dinp: Slot, dw: Option<Slot>, coeff: Slot, lse: Slot, inp: Slot, w: Mat,
        );
    }
}
