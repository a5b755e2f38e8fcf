//! fill, copy, add, accumulate, rows by the batch's tables, and Σ x².

use paddock_core::backend::Write;
use paddock_core::error::{Error, Result};
use paddock_core::slot::Slot;

use super::{Cuda, args, convert, driver};

/// Partial sums of [`Cuda::run_norm_squared`]: one for this many numbers.
const PARTIAL: u64 = 4096;

/// Partial sums that one warp adds up.
const SUMMED: u64 = 1024;

/// Elements of scratch for the norm of `len` numbers: the partial sums, and sums of those.
pub fn scratch_len(len: u64) -> u64 {
    let partials = len.div_ceil(PARTIAL);
    partials + partials.div_ceil(SUMMED)
}

impl Cuda<'_> {
    pub(super) fn run_fill(&mut self, dst: Slot, value: f32) -> Result<()> {
        let at = self.memory.at(dst)?;
        let bytes = self.memory.bytes_of(dst.region);
        let word = match bytes {
            4 => value.to_bits(),
            _ => u32::from(self.gpu.half.bits(value)),
        };
        self.gpu.fill(at, word, bytes as u32, dst.len)?;
        self.memory.written(&self.gpu, dst)
    }

    pub(super) fn run_copy(&mut self, dst: Slot, src: Slot) -> Result<()> {
        let (to, from) = (self.memory.at(dst)?, self.memory.at(src)?);
        let (gpu, len) = (&self.gpu, dst.len.min(src.len));
        match (self.memory.bytes_of(dst.region), self.memory.bytes_of(src.region)) {
            (2, 4) => convert::narrow(gpu, to, from, len)?,
            (4, 2) => convert::widen(gpu, to, from, len)?,
            (bytes, _) => {
                let copied = driver::copy(&gpu.stream, to, from, bytes * len);
                gpu.check("copying", copied)?;
            }
        }
        self.memory.written(gpu, dst)
    }

    pub(super) fn run_add(&mut self, out: Slot, a: Slot, b: Slot) -> Result<()> {
        if self.memory.bytes_of(out.region) == 4 {
            if out != a {
                self.run_copy(out, a)?;
            }
            return self.run_accumulate(out, b, 1.0);
        }
        let [to, a, b] = [self.narrow(out)?, self.narrow(a)?, self.narrow(b)?];
        let grid = [out.len.div_ceil(2048), 1, 1];
        self.gpu.launch("add", grid, 256, 0, args!(to, a, b, out.len))
    }

    pub(super) fn run_accumulate(&mut self, dst: Slot, src: Slot, scale: f32) -> Result<()> {
        let (to, from) = (self.memory.at(dst)?, self.memory.at(src)?);
        let bytes_of = |slot: Slot| self.memory.bytes_of(slot.region);
        let (entry, each) = match (bytes_of(dst), bytes_of(src)) {
            (2, 2) => ("accumulate", 2048),
            (4, 4) => ("accumulate_f32", 1024),
            _ => {
                return Err(Error::Device(format!(
                    "cuda: {:?} and {:?} have different element types; accumulate takes one",
                    dst.region, src.region
                )));
            }
        };
        let grid = [dst.len.div_ceil(each), 1, 1];
        self.gpu.launch(entry, grid, 256, 0, args!(to, from, dst.len, scale))?;
        self.memory.written(&self.gpu, dst)
    }

    /// One CTA for each of `rows` rows, which the table at word `list` names.
    fn run_rows(
        &mut self,
        entry: &'static str,
        [out, inp]: [Slot; 2],
        (list, rows): (u64, u64),
        dim: u32,
    ) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let (out, inp, list) = (self.narrow(out)?, self.narrow(inp)?, self.table(list)?);
        self.gpu.launch(entry, [rows, 1, 1], 128, 0, args!(out, inp, list, dim))
    }

    pub(super) fn run_gather_rows(&mut self, out: Slot, inp: Slot, dim: u32) -> Result<()> {
        let rows = (out.len / u64::from(dim)).min(self.tables.kept.count);
        self.run_rows("gather_rows", [out, inp], (self.tables.kept_rows, rows), dim)
    }

    pub(super) fn run_scatter_rows(
        &mut self,
        dinp: Slot,
        dout: Slot,
        dim: u32,
        write: Write,
    ) -> Result<()> {
        if write == Write::Set {
            self.run_fill(dinp, 0.0)?;
        }
        let rows = (dout.len / u64::from(dim)).min(self.tables.kept.count);
        self.run_rows("scatter_rows", [dinp, dout], (self.tables.kept_rows, rows), dim)
    }

    pub(super) fn run_cache_write(&mut self, cache: Slot, inp: Slot, dim: u32) -> Result<()> {
        let rows = (inp.len / u64::from(dim)).min(self.tables.all.count);
        self.run_rows("cache_write", [cache, inp], (self.tables.at, rows), dim)
    }

    pub(super) fn run_norm_squared(&mut self, out: Slot, x: Slot) -> Result<()> {
        let mut count = x.len.div_ceil(PARTIAL);
        let mut from = self.scratch("norm_squared", scratch_len(x.len))?;
        let mut spare = from + 4 * count;
        let (out, at) = (self.wide(out)?, self.wide(x)?);
        self.gpu.launch("norm_squared", [count, 1, 1], 256, 0, args!(from, at, x.len))?;
        // Sums of sums, from one place to the other and back, until one warp can add them up.
        while count > SUMMED {
            let fewer = count.div_ceil(SUMMED);
            let arguments = args!(spare, from, count as u32);
            self.gpu.launch("sum_partials", [fewer, 1, 1], 32, 0, arguments)?;
            (from, spare, count) = (spare, from, fewer);
        }
        self.gpu.launch("sum_partials", [1; 3], 32, 0, args!(out, from, count as u32))
    }
}
