//! The wgpu back-end: every op of [`Backend`] in WGSL, for any card with a Vulkan, Metal or Direct3D
//! 12 driver.
//!
//! * A region is one buffer, bound once; slots travel as offsets in a small block of parameters
//!   ([`pipeline`]). All numbers on the device are f32, or activations f16 on request ([`activations`]);
//!   frozen weights keep their own element type and are widened as they are read.
//! * Ops are recorded and submitted together ([`queue`]); `download` and `sync` wait. A lost device
//!   or a refused command becomes an error there.
//! * No two threads ever write one number and every sum has one order, so the same calls give the
//!   same bits on one device.
//! * Drivers may assume that numbers are finite, so kernels tell NaN by its bits and use no infinity.

use std::collections::HashMap;
use std::sync::Arc;

use paddock_core::backend::{
    AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, LossSlots, Write,
};
use paddock_core::batch::{Batch, Rows};
use paddock_core::config::Config;
use paddock_core::error::Result;
use paddock_core::plan::{Capacity, RegionSizes};
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Mat, Weights};

mod activations;
mod adamw;
mod adapters;
mod attention;
mod cache;
mod device;
mod dropout;
mod elementwise;
mod embed;
mod linear_cross_entropy;
mod matmul;
mod matmul_thin;
mod memory;
mod pace;
mod pipeline;
mod queue;
mod rms_norm;
mod rope;
mod swiglu;
mod tables;
mod text;
mod tier;
mod transfer;
mod trusted;

pub use activations::Activations;
pub use adapters::{AdapterReport, describe_adapters};
pub use device::Gpu;
pub use tier::Tier;

use memory::Memory;
use pace::Pace;
use queue::Queue;
use tables::Tables;

use crate::Options;

/// The back-end over borrowed checkpoint bytes, which are copied to the device tensor by tensor at
/// their first use.
pub struct Wgpu<'w> {
    gpu: Arc<Gpu>,
    weights: Weights<'w>,
    memory: Memory,
    queue: Queue,
    batch: wgpu::Buffer,
    tables: Tables,
    bound: HashMap<queue::BoundKey, queue::Bound>,
    /// The slot whose largest exponents stand in [`memory::Place::Partials`], where it is unchanged since.
    ranged: Option<Slot>,
}

impl<'w> Wgpu<'w> {
    /// Opens the adapter that the options name, or the best.
    pub fn open(weights: Weights<'w>, options: &Options) -> Result<Wgpu<'w>> {
        Wgpu::on(Gpu::open(options)?, weights)
    }

    /// A back-end on an open device; several may share one, with their own memory.
    pub fn on(gpu: Arc<Gpu>, weights: Weights<'w>) -> Result<Wgpu<'w>> {
        let most = gpu.max_binding_bytes;
        Wgpu::with_binding_limit(gpu, weights, most)
    }

    /// Dispatches of at most so many operations, instead of what the device's speed calls for.
    pub fn with_work(mut self, operations: u64) -> Wgpu<'w> {
        self.queue.pace = Pace::fixed(operations);
        self
    }

    /// Like [`Wgpu::on`], but regions and parts of weights have at most `max_binding_bytes`, as on
    /// an adapter that binds no more.
    pub fn with_binding_limit(
        gpu: Arc<Gpu>,
        weights: Weights<'w>,
        max_binding_bytes: u64,
    ) -> Result<Wgpu<'w>> {
        let most = max_binding_bytes.min(gpu.max_binding_bytes);
        let memory = Memory::new(&gpu, weights.tensors.len(), most);
        let batch = memory::storage(&gpu, "batch", 4096);
        let queue = Queue::new(&gpu);
        gpu.check()?;
        let (tables, bound) = (Tables::default(), HashMap::new());
        Ok(Wgpu { gpu, weights, memory, queue, batch, tables, bound, ranged: None })
    }
}

impl Backend for Wgpu<'_> {
    fn name(&self) -> &str {
        self.gpu.name()
    }

    fn element_bytes(&self, region: Region) -> u64 {
        self.memory.bytes_of(region)
    }

    fn has_narrow_range(&self) -> bool {
        self.gpu.activations() == Activations::F16
    }

    fn scratch_len(&self, config: &Config, capacity: &Capacity) -> u64 {
        linear_cross_entropy::scratch_len(
            config.vocab_size,
            capacity.kept,
            self.gpu.max_binding_bytes,
        )
    }

    fn reserve(&mut self, sizes: &RegionSizes) -> Result<()> {
        self.sync()?;
        self.ranged = None;
        self.bound.clear();
        self.memory.reserve(&self.gpu, sizes)
    }

    fn upload(&mut self, dst: Slot, data: &[f32]) -> Result<()> {
        self.flush()?;
        self.ranged = None;
        self.memory.upload(&self.gpu, dst, data)
    }

    fn download(&mut self, src: Slot, data: &mut [f32]) -> Result<()> {
        self.flush()?;
        self.memory.download(&self.gpu, src, data)
    }

    fn set_batch(&mut self, batch: &Batch) -> Result<()> {
        self.flush()?;
        let (tables, words) = Tables::of(batch);
        let bytes = 4 * words.len() as u64;
        if bytes > self.batch.size() {
            self.batch = memory::storage(&self.gpu, "batch", bytes.next_power_of_two());
            self.bound.clear();
        }
        self.gpu.queue.write_buffer(&self.batch, 0, bytemuck::cast_slice(&words));
        self.tables = tables;
        self.gpu.check()
    }

    fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.gpu.wait(None)
    }

    fn end_step(&mut self) -> Result<()> {
        self.flush()?;
        self.gpu.keep_compiled();
        Ok(())
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
        self.run_rope(x, table, head_dim, rows, 1.0)
    }

    fn rope_backward(&mut self, dx: Slot, table: Slot, head_dim: u32, rows: Rows) -> Result<()> {
        self.run_rope(dx, table, head_dim, rows, -1.0)
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

    fn norm_squared(&mut self, out: Slot, x: Slot) -> Result<()> {
        self.run_norm_squared(out, x)
    }

    fn adamw(&mut self, param: Slot, grad: Slot, m: Slot, v: Slot, step: AdamW) -> Result<()> {
        self.run_adamw(param, grad, m, v, step)
    }
}
