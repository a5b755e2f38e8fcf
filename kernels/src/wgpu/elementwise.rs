//! fill, copy, add, accumulate, rows by the batch's tables, and Σ x².

use paddock_core::backend::Write;
use paddock_core::error::Result;
use paddock_core::slot::Slot;

use super::Wgpu;
use super::memory::{PARTIALS, Place};
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        stem: "elementwise",
        source: include_str!("elementwise.wgsl"),
        entry,
        operands: &["dst", "a", "b"],
        quads: &[],
    }
}

/// Rows named by a table of the batch: entry i is word `table + i * stride`.
struct ByTable {
    dim: u32,
    table: u32,
    stride: u32,
}

impl Wgpu<'_> {
    /// One thread an element of `len`.
    fn run_elements(
        &mut self,
        entry: &'static str,
        [dst, a, b]: [Slot; 3],
        len: u64,
        scale: f32,
        rows: ByTable,
    ) -> Result<()> {
        let offsets = [self.at(dst)?, self.at(a)?, self.at(b)?];
        let [dst_at, a_at, b_at] = offsets;
        let ByTable { dim, table, stride } = rows;
        self.launch(&Launch {
            kernel: kernel(entry),
            operands: &[("dst", self.place(dst)), ("a", self.place(a)), ("b", self.place(b))],
            weight: Source::None,
            tile: Tile::default(),
            params: &[dst_at, a_at, b_at, len as u32, scale.to_bits(), dim, table, stride],
            groups: len.div_ceil(256),
            cost: 256 * 16,
        })
    }

    /// One thread an element, long ranges in pieces.
    fn run_ranges(&mut self, entry: &'static str, slots: [Slot; 3], scale: f32) -> Result<()> {
        for (first, len) in self.pieces(slots[0].len) {
            let parts = slots.map(|slot| slot.part(first, len));
            self.run_elements(entry, parts, len, scale, NO_TABLE)?;
        }
        Ok(())
    }

    pub(super) fn run_fill(&mut self, dst: Slot, value: f32) -> Result<()> {
        self.run_ranges("fill", [dst; 3], value)
    }

    pub(super) fn run_copy(&mut self, dst: Slot, src: Slot) -> Result<()> {
        self.run_ranges("copy", [dst, src, src], 1.0)
    }

    pub(super) fn run_add(&mut self, out: Slot, a: Slot, b: Slot) -> Result<()> {
        self.run_ranges("add", [out, a, b], 1.0)
    }

    pub(super) fn run_accumulate(&mut self, dst: Slot, src: Slot, scale: f32) -> Result<()> {
        self.run_ranges("accumulate", [dst, src, src], scale)
    }

    pub(super) fn run_gather_rows(&mut self, out: Slot, inp: Slot, dim: u32) -> Result<()> {
        let len = out.len.min(self.tables.kept_count * u64::from(dim));
        let rows = ByTable { dim, table: self.tables.kept_rows, stride: 1 };
        self.run_elements("gather_rows", [out, inp, inp], len, 1.0, rows)
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
        let len = dout.len.min(self.tables.kept_count * u64::from(dim));
        let rows = ByTable { dim, table: self.tables.kept_rows, stride: 1 };
        self.run_elements("scatter_rows", [dinp, dout, dout], len, 1.0, rows)
    }

    pub(super) fn run_cache_write(&mut self, cache: Slot, inp: Slot, dim: u32) -> Result<()> {
        let len = inp.len.min(self.tables.rows * u64::from(dim));
        // A query's own key row is the fourth word of its entry.
        let rows = ByTable { dim, table: self.tables.all.queries + 3, stride: 4 };
        self.run_elements("put_rows", [cache, inp, inp], len, 1.0, rows)
    }

    pub(super) fn run_norm_squared(&mut self, out: Slot, x: Slot) -> Result<()> {
        for (first, len) in self.pieces(x.len.max(1)) {
            let part = if x.len == 0 { x } else { x.part(first, len) };
            self.run_squares(out, part, first > 0)?;
        }
        Ok(())
    }

    /// out = [out +] Σ x²
    fn run_squares(&mut self, out: Slot, x: Slot, add: bool) -> Result<()> {
        let (out_at, x_at) = (self.at(out)?, self.at(x)?);
        let count = x.len.div_ceil(4096).clamp(1, PARTIALS);
        self.launch(&Launch {
            kernel: kernel("squares"),
            operands: &[("dst", Place::Partials), ("a", self.place(x))],
            weight: Source::None,
            tile: Tile::default(),
            params: &[0, x_at, 0, x.len as u32, 0, count as u32],
            groups: count,
            cost: 16 * x.len.div_ceil(count),
        })?;
        self.launch(&Launch {
            kernel: kernel("total"),
            operands: &[("dst", self.place(out)), ("a", Place::Partials)],
            weight: Source::None,
            tile: Tile::default(),
            params: &[out_at, 0, 0, count as u32, 0, u32::from(add)],
            groups: 1,
            cost: 4 * PARTIALS,
        })
    }
}

const NO_TABLE: ByTable = ByTable { dim: 1, table: 0, stride: 1 };
