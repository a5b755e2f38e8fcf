//! The loss in chunks of rows: logits by the matrix product into scratch, then one kernel over them.

use paddock_core::error::{Error, Result};
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::Mat;

use paddock_core::backend::Write;

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
    vocab * kept.min(chunk / vocab).max(1)
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

impl Wgpu<'_> {
    /// (first row, logits, inp) of every chunk of the kept rows.
    fn chunks(&self, lse: Slot, inp: Slot, w: Mat) -> Result<Vec<(u64, Slot, Slot)>> {
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
                (first, logits, inp.part(first * dim, rows * dim))
            })
            .collect())
    }

    fn run_loss_rows(
        &mut self,
        entry: &'static str,
        operands: &[(&'static str, Place)],
        offsets: [u32; 4],
        (first, rows, vocab): (u64, u64, u32),
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

    pub(super) fn run_loss_forward(
        &mut self,
        nll: Slot,
        lse: Slot,
        best: Option<Slot>,
        inp: Slot,
        w: Mat,
    ) -> Result<()> {
        let best_at = best.map_or(Ok(0), |slot| self.at(slot))?;
        let offsets = [self.at(nll)?, self.at(lse)?, best_at, 0];
        for (first, logits, inp) in self.chunks(lse, inp, w)? {
            self.run_matmul_forward(logits, inp, w, 1.0, Write::Set)?;
            let operands = [
                ("logits", self.place(logits)),
                ("nll", self.place(nll)),
                ("lse", self.place(lse)),
                ("best", self.place(best.unwrap_or(lse))),
            ];
            let chunk = (first, logits.len / u64::from(w.rows), w.rows);
            self.run_loss_rows("forward", &operands, offsets, chunk, best.is_some())?;
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
        let offsets = [0, self.at(lse)?, 0, self.at(coeff)?];
        let dim = u64::from(w.cols);
        for (first, logits, inp) in self.chunks(lse, inp, w)? {
            self.run_matmul_forward(logits, inp, w, 1.0, Write::Set)?;
            let operands = [
                ("logits", self.place(logits)),
                ("lse", self.place(lse)),
                ("coeff", self.place(coeff)),
            ];
            let chunk = (first, logits.len / u64::from(w.rows), w.rows);
            self.run_loss_rows("backward", &operands, offsets, chunk, false)?;
            let dinp = dinp.part(first * dim, inp.len);
            self.run_matmul_backward_input(dinp, logits, w, 1.0, Write::Set)?;
            if let Some(dw) = dw {
                self.run_matmul_backward_weight(dw, logits, inp, w.rows, w.cols, 1.0)?;
            }
        }
        Ok(())
    }
}
