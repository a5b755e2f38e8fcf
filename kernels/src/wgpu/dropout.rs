//! Dropout's mask, the same bits as every back-end's.

use paddock_core::backend::{Dropout, Write};
use paddock_core::batch::Rows;
use paddock_core::dropout::{keep_scale, threshold};
use paddock_core::error::Result;
use paddock_core::slot::Slot;

use super::Wgpu;
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};

const MASK: Kernel = Kernel {
    stem: "dropout",
    source: include_str!("dropout.wgsl"),
    entry: "mask",
    operands: &["out", "inp"],
    quads: &[],
};

impl Wgpu<'_> {
    pub(super) fn run_dropout(
        &mut self,
        out: Slot,
        inp: Slot,
        dim: u32,
        d: Dropout,
        write: Write,
    ) -> Result<()> {
        let rows = (out.len / u64::from(dim)).min(self.tables.count(d.rows));
        let len = rows * u64::from(dim.div_ceil(4));
        let (out_at, inp_at) = (self.at(out)?, self.at(inp)?);
        self.launch(&Launch {
            kernel: MASK,
            operands: &[("out", self.place(out)), ("inp", self.place(inp))],
            weight: Source::None,
            tile: Tile::default(),
            params: &[
                out_at,
                inp_at,
                dim,
                len as u32,
                self.tables.hashes,
                self.tables.kept_rows,
                u32::from(d.rows == Rows::Kept),
                u32::from(write == Write::Add),
                d.step,
                d.seed as u32,
                (d.seed >> 32) as u32 ^ d.stream.0,
                threshold(d.p),
                keep_scale(d.p).to_bits(),
            ],
            groups: len.div_ceil(256),
            cost: 256 * 256,
        })
    }
}
