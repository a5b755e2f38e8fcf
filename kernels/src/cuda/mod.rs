//! The CUDA back-end: every op of [`Backend`] in hand-written PTX, through cust, for NVIDIA cards from
//! compute capability 8.0 on (from 7.5 on in f16).
//!
//! * The driver is looked for when the program runs (`paddock-cuda-shim`); without one, opening a device
//!   fails in words. The same table lets the tests run this code and the kernels on an emulator.
//! * Activations, their gradients and the cache are bf16 (or f16, for older cards: `spelling.rs`);
//!   parameters, gradients of parameters, moments and statistics f32. Products read parameters from a copy
//!   in 16 bits, which every write refreshes: so an element of `Params` costs six bytes, or two where
//!   parameters are bf16 alone and rounded at random. Frozen matrices have 16 bits on the device, norms f32.
//! * A region is one buffer; slots become addresses, checked against the region's length. Launches are
//!   checked against the kernels' own declarations. All unsafe code is in [`driver`] and
//!   [`tensor_map`].
//! * One stream in the order of calls; nothing waits but `download` and `sync`, and nothing is allocated
//!   in a step, the batch's tables excepted where a batch is the largest so far.
//! * No two threads write one number and every sum has one order: the same calls give the same bits.

use std::rc::Rc;

use paddock_core::backend::{
    AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, LoraGrads, LoraMats, LoraSlots,
    LossSlots, Write,
};
use paddock_core::batch::{Batch, Rows};
use paddock_core::config::Config;
use paddock_core::error::{Error, Result};
use paddock_core::plan::{Capacity, RegionSizes};
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Mat, Weights};

mod adamw;
mod attention;
mod attention_groups;
mod convert;
mod device;
mod driver;
mod dropout;
mod elementwise;
mod embed;
mod kernels;
mod linear_cross_entropy;
mod lora;
mod machine;
mod matmul;
mod matmul_sm90;
mod memory;
mod profile;
mod rms_norm;
mod rope;
mod spelling;
mod swiglu;
mod tables;
mod tensor_map;
mod trouble;
mod wait;

pub use device::Gpu;
pub use machine::{DeviceReport, available, cards, describe_devices, why_not};
pub use profile::Line;

use convert::Half;
use memory::Memory;
use tables::Tables;

/// The arguments of a launch.
macro_rules! args {
    ($($x:expr),* $(,)?) => {
        &[$($crate::cuda::driver::Arg::from($x)),*]
    };
}
use args;

/// The back-end over borrowed checkpoint bytes, which are copied to the device tensor by tensor at
/// their first use.
pub struct Cuda<'w> {
    memory: Memory,
    tables: Tables,
    weights: Weights<'w>,
    gpu: Rc<Gpu>,
}

impl<'w> Cuda<'w> {
    /// A back-end on an open device; several may share one, with their own memory.
    pub fn on(gpu: Rc<Gpu>, weights: Weights<'w>) -> Cuda<'w> {
        let memory = Memory::new(weights.tensors.len(), gpu.narrow_parameters);
        Cuda { memory, tables: Tables::default(), weights, gpu }
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The address of a slot of f32 numbers.
    fn wide(&self, slot: Slot) -> Result<u64> {
        self.typed(slot, 4)
    }

    /// The address of a slot of bf16 numbers.
    fn narrow(&self, slot: Slot) -> Result<u64> {
        self.typed(slot, 2)
    }

    fn typed(&self, slot: Slot, bytes: u64) -> Result<u64> {
        let found = self.memory.bytes_of(slot.region);
        if found != bytes {
            return Err(Error::Device(format!(
                "cuda: the region {:?} has elements of {found} bytes; the op takes {bytes}",
                slot.region
            )));
        }
        self.memory.at(slot)
    }

    /// The address of the working space, which must have at least `len` elements.
    fn scratch(&self, op: &'static str, len: u64) -> Result<u64> {
        let found = self.scratch_room();
        if found < len {
            return Err(Error::Shape { op, operand: "scratch", found, expected: len });
        }
        self.memory.at(Slot::new(Region::Scratch, 0, len))
    }

    /// Elements of working space for ops.
    fn scratch_room(&self) -> u64 {
        self.memory.len(Region::Scratch) - self.parts_len()
    }

    /// The address of word `word` of the batch's tables.
    fn table(&self, word: u64) -> Result<u64> {
        self.memory.tables_at(word)
    }

    /// The address of a matrix in bf16.
    fn matrix(&mut self, w: Mat) -> Result<u64> {
        self.memory.matrix(&self.gpu, &self.weights, w)
    }

    /// The address of a vector in f32.
    fn vector(&mut self, w: Mat) -> Result<u64> {
        self.memory.vector(&self.gpu, &self.weights, w)
    }
}

impl Backend for Cuda<'_> {
    fn name(&self) -> &str {
        self.gpu.name()
    }

    /// Parameters count with their copy in 16 bits.
    fn element_bytes(&self, region: Region) -> u64 {
        match region {
            Region::Params if !self.gpu.narrow_parameters => 6,
            other => self.memory.bytes_of(other),
        }
    }

    fn has_narrow_range(&self) -> bool {
        self.gpu.half == Half::F16
    }

    fn scratch_len(&self, config: &Config, capacity: &Capacity) -> u64 {
        let parameters = paddock_core::model::tensors(config);
        let parameters = parameters.iter().map(|t| u64::from(t.rows) * u64::from(t.cols)).sum();
        let parts = if self.gpu.has(matmul::Pass::Forward.entry()) { matmul::PARTS_LEN } else { 0 };
        let most = linear_cross_entropy::scratch_len(config.vocab_size, capacity.kept)
            .max(attention::scratch_len(capacity.tokens, config.n_heads))
            .max(rms_norm::scratch_len(capacity.tokens, config.dim))
            .max(elementwise::scratch_len(parameters));
        most + parts
    }

    fn reserve(&mut self, sizes: &RegionSizes) -> Result<()> {
        self.gpu.wait()?;
        self.memory.reserve(&self.gpu, &self.weights, sizes)
    }

    fn upload(&mut self, dst: Slot, data: &[f32]) -> Result<()> {
        self.memory.upload(&self.gpu, dst, data)
    }

    fn download(&mut self, src: Slot, data: &mut [f32]) -> Result<()> {
        self.memory.download(&self.gpu, src, data)
    }

    fn set_batch(&mut self, batch: &Batch) -> Result<()> {
        let (tables, words) = Tables::of(batch);
        self.memory.set_tables(&self.gpu, &words)?;
        self.tables = tables;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.gpu.wait()
    }

    fn fill(&mut self, dst: Slot, value: f32) -> Result<()> {
        self.run_fill(dst, value)
    }

    fn copy(&mut self, dst: Slot, src: Slot) -> Result<()> {
        self.run_copy(dst, src)
    }

    fn add(&mut self, out: Slot, a: Slot, b: Slot) -> Result<()> {
        self.run_add(out, a, b)
    }

    fn accumulate(&mut self, dst: Slot, src: Slot, scale: f32) -> Result<()> {
        self.run_accumulate(dst, src, scale)
    }

    fn gather_rows(&mut self, out: Slot, inp: Slot, dim: u32) -> Result<()> {
        self.run_gather_rows(out, inp, dim)
    }

    fn scatter_rows(&mut self, dinp: Slot, dout: Slot, dim: u32, write: Write) -> Result<()> {
        self.run_scatter_rows(dinp, dout, dim, write)
    }

    fn embed_forward(&mut self, out: Slot, table: Mat) -> Result<()> {
        self.run_embed_forward(out, table)
    }

    fn embed_backward(&mut self, dtable: Slot, dout: Slot, dim: u32) -> Result<()> {
        self.run_embed_backward(dtable, dout, dim)
    }

    fn rms_norm_forward(
        &mut self,
        out: Slot,
        rstd: Slot,
        inp: Slot,
        weight: Mat,
        eps: f32,
    ) -> Result<()> {
        self.run_rms_norm_forward(out, rstd, inp, weight, eps)
    }

    fn rms_norm_backward(
        &mut self,
        dinp: Slot,
        dweight: Option<Slot>,
        dout: Slot,
        inp: Slot,
        weight: Mat,
        rstd: Slot,
    ) -> Result<()> {
        self.run_rms_norm_backward(dinp, dweight, dout, inp, weight, rstd)
    }

    fn matmul_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        self.run_matmul_forward(out, inp, w, alpha, write)
    }

    fn matmul_backward_input(
        &mut self,
        dinp: Slot,
        dout: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        self.run_matmul_backward_input(dinp, dout, w, alpha, write)
    }

    fn matmul_backward_weight(
        &mut self,
        dw: Slot,
        dout: Slot,
        inp: Slot,
        rows: u32,
        cols: u32,
        alpha: f32,
    ) -> Result<()> {
        self.run_matmul_backward_weight(dw, dout, inp, rows, cols, alpha)
    }

    fn rope_forward(&mut self, x: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()> {
        self.run_rope("rope_forward", x, table, head_dim, rows)
    }

    fn rope_backward(&mut self, dx: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()> {
        self.run_rope("rope_backward", dx, table, head_dim, rows)
    }

    fn attention_forward(
        &mut self,
        out: Slot,
        lse: Slot,
        q: Slot,
        k: Slot,
        v: Slot,
        heads: Heads,
        rows: Rows,
    ) -> Result<()> {
        self.run_attention_forward(out, lse, [q, k, v], heads, rows)
    }

    fn attention_backward(&mut self, grads: AttentionGrads, saved: AttentionSaved) -> Result<()> {
        self.run_attention_backward(grads, saved)
    }

    fn cache_write(&mut self, cache: Slot, inp: Slot, dim: u32) -> Result<()> {
        self.run_cache_write(cache, inp, dim)
    }

    fn swiglu_forward(&mut self, out: Slot, gate: Slot, up: Slot) -> Result<()> {
        self.run_swiglu_forward(out, gate, up)
    }

    fn swiglu_backward(
        &mut self,
        dgate: Slot,
        dup: Slot,
        dout: Slot,
        gate: Slot,
        up: Slot,
    ) -> Result<()> {
        self.run_swiglu_backward(dgate, dup, dout, gate, up)
    }

    fn dropout_forward(&mut self, out: Slot, inp: Slot, dim: u32, d: Dropout) -> Result<()> {
        self.run_dropout(out, inp, dim, d, Write::Set)
    }

    fn dropout_backward(&mut self, dinp: Slot, dout: Slot, dim: u32, d: Dropout) -> Result<()> {
        self.run_dropout(dinp, dout, dim, d, Write::Add)
    }

    fn linear_cross_entropy_forward(
        &mut self,
        nll: Slot,
        lse: Slot,
        best: Option<Slot>,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        self.run_loss_forward(nll, lse, best, inp, w)
    }

    fn linear_cross_entropy_backward(
        &mut self,
        dinp: Slot,
        dw: Option<Slot>,
        coeff: Slot,
        lse: Slot,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        self.run_loss_backward(dinp, dw, coeff, lse, inp, w)
    }

    fn linear_cross_entropy(&mut self, out: LossSlots, inp: Slot, w: Mat) -> Result<()> {
        self.run_loss(out, inp, w)
    }

    fn lora_linear_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        lora: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        self.run_lora_forward(out, inp, w, lora, slots)
    }

    fn lora_linear_backward(
        &mut self,
        grads: LoraGrads,
        dout: Slot,
        inp: Slot,
        w: Mat,
        lora: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        self.run_lora_backward(grads, dout, inp, w, lora, slots)
    }

    fn norm_squared(&mut self, out: Slot, x: Slot) -> Result<()> {
        self.run_norm_squared(out, x)
    }

    fn adamw(&mut self, param: Slot, grad: Slot, m: Slot, v: Slot, step: AdamW) -> Result<()> {
        self.run_adamw(param, grad, m, v, step)
    }
}
