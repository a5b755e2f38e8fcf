//! The loss in chunks of rows: logits by the matrix product into scratch, then one kernel over them.

use paddock_core::error::{Error, Result};
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::Mat;

use paddock_core::backend::{LossSlots, Write};

use super::Wgpu;
use super::memory::Place;
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};

/// Logits of a chunk at least: 32 MiB keep a small card busy and cost little memory.
const CHUNK: u64 = 8 << 20;

/// At most: 128 MiB give a large card whole tiles.
const LARGEST_CHUNK: u64 = 32 << 20;

/// Scratch for a vocabulary of `vocab` and `kept` rows, on a device that binds so much at once.
pub fn scratch_len(vocab: u32, kept: u64, max_binding_bytes: u64) -> u64 {
    let (vocab, chunk) = (u64::from(vocab), (max_binding_bytes / 16).clamp(CHUNK, LARGEST_CHUNK));
    let rows = kept.min(chunk / vocab).max(1);
    // Whole tiles of the matrix product.
    vocab * if rows < kept && rows > 128 { rows / 128 * 128 } else { rows }
}

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        stem: "linear_cross_entropy",
        source: include_str!("linear_cross_entropy.wgsl"),
        entry,
        operands: &["logits", "nll", "lse", "best", "coeff"],
        quads: &[],
    }
}

/// Some of the kept rows: the first, how many, their logits over the vocabulary, and what those are of.
#[derive(Clone, Copy)]
struct Chunk {
    first: u64,
    rows: u64,
    vocab: u32,
    logits: Slot,
    inp: Slot,
}

impl Wgpu<'_> {
    /// The chunks of the kept rows.
    fn chunks(&self, lse: Slot, inp: Slot, w: Mat) -> Result<Vec<Chunk>> {
        let (vocab, dim) = (u64::from(w.rows), u64::from(w.cols));
        let scratch = self.memory.len(Region::Scratch);
        let step = scratch / vocab;
        if step == 0 {
            let (op, operand) = ("linear_cross_entropy", "scratch");
            return Err(Error::Shape { op, operand, found: scratch, expected: vocab });
        }
        let firsts = (0..lse.len).step_by(step as usize);
        Ok(firsts
            .map(|first| {
                let rows = step.min(lse.len - first);
                let logits = Slot::new(Region::Scratch, 0, rows * vocab);
                let inp = inp.part(first * dim, rows * dim);
                Chunk { first, rows, vocab: w.rows, logits, inp }
            })
            .collect())
    }

    fn run_loss_rows(
        &mut self,
        entry: &'static str,
        operands: &[(&'static str, Place)],
        offsets: [u32; 4],
        Chunk { first, rows, vocab, .. }: Chunk,
        wants_best: bool,
    ) -> Result<()> {
        let [nll, lse, best, coeff] = offsets;
        let (entries, targets) = (self.tables.entry_first, self.tables.targets);
        self.launch(&Launch {
            kernel: kernel(entry),
            operands,
            weight: Source::None,
            tile: Tile::default(),
            params: &[
                0,
                nll,
                lse,
                best,
                coeff,
                vocab,
                first as u32,
                rows as u32,
                u32::from(wants_best),
                entries,
                targets,
            ],
            groups: rows,
            cost: 64 * u64::from(vocab),
        })
    }

    /// nll, and best if wanted, of a chunk's rows, from its logits.
    fn run_chunk_forward(
        &mut self,
        chunk: Chunk,
        out: [Slot; 2],
        best: Option<Slot>,
    ) -> Result<()> {
        let [nll, lse] = out;
        let best_at = best.map_or(Ok(0), |slot| self.at(slot))?;
        let offsets = [self.at(nll)?, self.at(lse)?, best_at, 0];
        let operands = [
            ("logits", self.place(chunk.logits)),
            ("nll", self.place(nll)),
            ("lse", self.place(lse)),
            ("best", self.place(best.unwrap_or(lse))),
        ];
        self.run_loss_rows("forward", &operands, offsets, chunk, best.is_some())
    }

    /// Its part of dinp, and of dw if wanted, from its logits, which become their gradients.
    fn run_chunk_backward(
        &mut self,
        chunk: Chunk,
        [dinp, coeff, lse]: [Slot; 3],
        dw: Option<Slot>,
        w: Mat,
    ) -> Result<()> {
        let Chunk { first, logits, inp, .. } = chunk;
        let offsets = [0, self.at(lse)?, 0, self.at(coeff)?];
        let operands = [
            ("logits", self.place(logits)),
            ("lse", self.place(lse)),
            ("coeff", self.place(coeff)),
        ];
        self.run_loss_rows("backward", &operands, offsets, chunk, false)?;
        let dinp = dinp.part(first * u64::from(w.cols), inp.len);
        self.run_matmul_backward_input(dinp, logits, w, 1.0, Write::Set)?;
        match dw {
            Some(dw) => self.run_matmul_backward_weight(dw, logits, inp, w.rows, w.cols, 1.0),
            None => Ok(()),
        }
    }

    pub(super) fn run_loss_forward(
        &mut self,
        nll: Slot,
        lse: Slot,
        best: Option<Slot>,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        for chunk in self.chunks(lse, inp, w)? {
            self.run_matmul_forward(chunk.logits, chunk.inp, w, 1.0, Write::Set)?;
            self.run_chunk_forward(chunk, [nll, lse], best)?;
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
        for chunk in self.chunks(lse, inp, w)? {
            self.run_matmul_forward(chunk.logits, chunk.inp, w, 1.0, Write::Set)?;
            self.run_chunk_backward(chunk, [dinp, coeff, lse], dw, w)?;
        }
        Ok(())
    }

    /// Both at once, from the same logits.
    pub(super) fn run_loss(&mut self, out: LossSlots, inp: Slot, w: Mat) -> Result<()> {
        for chunk in self.chunks(out.lse, inp, w)? {
            self.run_matmul_forward(chunk.logits, chunk.inp, w, 1.0, Write::Set)?;
            self.run_chunk_forward(chunk, [out.nll, out.lse], None)?;
            self.run_chunk_backward(chunk, [out.dinp, out.coeff, out.lse], out.dw, w)?;
        }
        Ok(())
    }
}
