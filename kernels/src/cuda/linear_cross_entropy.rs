//! The loss in chunks of rows: logits by the matrix product into scratch, then one kernel over them.

use paddock_core::backend::{LossSlots, Write};
use paddock_core::error::{Error, Result};
use paddock_core::slot::Slot;
use paddock_core::weights::{Mat, MatData};

use super::matmul::{Pass, Product};
use super::memory::EIGHT;
use super::{Cuda, args};

/// Logits of a chunk, about: rows enough for products at full speed.
const CHUNK: u64 = 96 << 20;

/// Elements of scratch for one row of `stride` columns: its logits in f32, their gradients in 16 bits.
fn row_len(stride: u64) -> u64 {
    stride + stride.div_ceil(2)
}

/// Elements of scratch for a vocabulary of `vocab` and `kept` rows.
pub fn scratch_len(vocab: u32, kept: u64) -> u64 {
    let vocab = u64::from(vocab);
    // Sixteen bytes more: the gradients begin at a multiple of them.
    row_len(vocab.next_multiple_of(u64::from(EIGHT))) * kept.min(CHUNK / vocab).max(1) + 4
}

/// Rows of one turn and where their numbers lie.
struct Chunk {
    first: u64,
    rows: u64,
    logits: u64,
    dlogits: u64,
}

/// What the two kernels over logits read and write.
struct Head {
    inp: u64,
    w: u64,
    lse: u64,
    vocab: u32,
    /// Columns of a row of logits, and rows of `w` that may be read: see [`Cuda::stride`].
    stride: u32,
    dim: u32,
}

impl Cuda<'_> {
    /// Columns of a row of logits: the kernels for tensor cores count columns in eights. Behind a frozen head
    /// stand rows of zeros; behind a trained one others of the parameters, whose logits nobody reads. Their
    /// dlogits are 0, so what is added to the gradients behind the head's is 0 too. Where nothing stands behind,
    /// or scratch is too small, there are as many columns as words, and a slow kernel.
    fn stride(&self, w: Mat, dw: Option<Slot>) -> u32 {
        let wide = w.rows.next_multiple_of(EIGHT);
        let fits = |slot: Slot| {
            let end = slot.offset + u64::from(wide) * u64::from(w.cols);
            end <= self.memory.len(slot.region)
        };
        let head_fits = match w.data {
            MatData::Trained(slot) => fits(slot),
            MatData::Frozen(_) => true,
        };
        let room = self.scratch_room() >= row_len(u64::from(wide)) + 4;
        if head_fits && dw.is_none_or(fits) && room { wide } else { w.rows }
    }

    fn head(&mut self, lse: Slot, inp: Slot, w: Mat, dw: Option<Slot>) -> Result<Head> {
        let stride = self.stride(w, dw);
        let matrix = self.matrix(w)?;
        let (inp, lse) = (self.narrow(inp)?, self.wide(lse)?);
        Ok(Head { inp, w: matrix, lse, vocab: w.rows, stride, dim: w.cols })
    }

    /// Cuts `rows` kept rows into chunks that the scratch region holds.
    fn chunks(&self, rows: u64, stride: u32) -> Result<Vec<Chunk>> {
        let stride = u64::from(stride);
        let found = self.scratch_room();
        let step = found.saturating_sub(4) / row_len(stride);
        if step == 0 {
            let (op, operand, expected) = ("linear_cross_entropy", "scratch", row_len(stride) + 4);
            return Err(Error::Shape { op, operand, found, expected });
        }
        let logits = self.scratch("linear_cross_entropy", found)?;
        let dlogits = (logits + 4 * step.min(rows) * stride).next_multiple_of(16);
        let firsts = (0..rows).step_by(step as usize);
        Ok(firsts
            .map(|first| Chunk { first, rows: step.min(rows - first), logits, dlogits })
            .collect())
    }

    /// logits (rows,V) = inp · wᵀ
    fn logits(&mut self, head: &Head, chunk: &Chunk) -> Result<()> {
        self.run_product(&Product {
            pass: Pass::Forward,
            out: chunk.logits,
            wide: true,
            a: head.inp + 2 * chunk.first * u64::from(head.dim),
            b: head.w,
            m: chunk.rows as u32,
            n: head.stride,
            k: head.dim,
            alpha: 1.0,
            write: Write::Set,
            second: None,
        })
    }

    /// lse, nll and, if wanted, the best of a chunk's rows.
    fn rows_forward(&mut self, head: &Head, chunk: &Chunk, nll: u64, best: u64) -> Result<()> {
        let first = self.table(self.tables.entry_first + chunk.first)?;
        let targets = self.table(self.tables.targets)?;
        let offset = 4 * chunk.first;
        let best = if best == 0 { 0 } else { best + offset };
        let (lse, logits) = (head.lse + offset, chunk.logits);
        self.gpu.launch(
            "cross_entropy_forward",
            [chunk.rows, 1, 1],
            256,
            0,
            args!(nll, lse, best, logits, first, targets, head.vocab, head.stride),
        )
    }

    /// dlogits of a chunk's rows, then dinp and, if wanted, dw.
    fn rows_backward(
        &mut self,
        head: &Head,
        chunk: &Chunk,
        [coeff, dinp]: [u64; 2],
        dw: Option<u64>,
    ) -> Result<()> {
        let first = self.table(self.tables.entry_first + chunk.first)?;
        let targets = self.table(self.tables.targets)?;
        let lse = head.lse + 4 * chunk.first;
        self.gpu.launch(
            "cross_entropy_backward",
            [chunk.rows, 1, 1],
            256,
            0,
            args!(chunk.dlogits, coeff, lse, chunk.logits, first, targets, head.vocab, head.stride),
        )?;
        let offset = 2 * chunk.first * u64::from(head.dim);
        self.run_product(&Product {
            pass: Pass::BackwardInput,
            out: dinp + offset,
            wide: false,
            a: chunk.dlogits,
            b: head.w,
            m: chunk.rows as u32,
            n: head.dim,
            k: head.stride,
            alpha: 1.0,
            write: Write::Set,
            second: None,
        })?;
        let Some(dw) = dw else { return Ok(()) };
        self.run_product(&Product {
            pass: Pass::BackwardWeight,
            out: dw,
            wide: true,
            a: chunk.dlogits,
            b: head.inp + offset,
            m: head.stride,
            n: head.dim,
            k: chunk.rows as u32,
            alpha: 1.0,
            write: Write::Add,
            second: None,
        })
    }

    pub(super) fn run_loss_forward(
        &mut self,
        nll: Slot,
        lse: Slot,
        best: Option<Slot>,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        let head = self.head(lse, inp, w, None)?;
        let best = best.map_or(Ok(0), |slot| self.wide(slot))?;
        let nll = self.wide(nll)?;
        for chunk in self.chunks(lse.len, head.stride)? {
            self.logits(&head, &chunk)?;
            self.rows_forward(&head, &chunk, nll, best)?;
        }
        Ok(())
    }

    pub(super) fn run_loss_backward(
        &mut self,
        dinp: Slot,
        dw: Option<Slot>,
        coeff: Slot,
        lse: Slot,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        let head = self.head(lse, inp, w, dw)?;
        let outs = [self.wide(coeff)?, self.narrow(dinp)?];
        let dw = dw.map(|slot| self.wide(slot)).transpose()?;
        for chunk in self.chunks(lse.len, head.stride)? {
            self.logits(&head, &chunk)?;
            self.rows_backward(&head, &chunk, outs, dw)?;
        }
        Ok(())
    }

    /// Both at once: each chunk's logits are computed once.
    pub(super) fn run_loss(&mut self, out: LossSlots, inp: Slot, w: Mat) -> Result<()> {
        let head = self.head(out.lse, inp, w, out.dw)?;
        let nll = self.wide(out.nll)?;
        let outs = [self.wide(out.coeff)?, self.narrow(out.dinp)?];
        let dw = out.dw.map(|slot| self.wide(slot)).transpose()?;
        for chunk in self.chunks(out.lse.len, head.stride)? {
            self.logits(&head, &chunk)?;
            self.rows_forward(&head, &chunk, nll, 0)?;
            self.rows_backward(&head, &chunk, outs, dw)?;
        }
        Ok(())
    }
}
