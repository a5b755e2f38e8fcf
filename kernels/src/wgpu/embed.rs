//! Embedding rows, and their gradient.

use paddock_core::error::Result;
use paddock_core::slot::Slot;
use paddock_core::weights::Mat;

use super::Wgpu;
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        stem: "embed",
        source: include_str!("embed.wgsl"),
        entry,
        operands: &["out", "dout"],
        quads: &[],
    }
}

impl Wgpu<'_> {
    pub(super) fn run_embed_forward(&mut self, out: Slot, table: Mat) -> Result<()> {
        let (out_at, dim) = (self.at(out)?, table.cols);
        let len = out.len.min(self.tables.rows * u64::from(dim));
        let (tokens, order) = (self.tables.tokens, self.tables.token_order);
        for part in self.parts(table)? {
            self.launch(&Launch {
                kernel: kernel("forward"),
                operands: &[("out", self.place(out))],
                weight: part.source,
                tile: Tile::default(),
                params: &[
                    out_at, part.at, 0, dim, len as u32, tokens, 0, order, part.first, part.rows,
                ],
                groups: len.div_ceil(256),
                cost: 256 * 8,
            })?;
        }
        Ok(())
    }

    pub(super) fn run_embed_backward(&mut self, dtable: Slot, dout: Slot, dim: u32) -> Result<()> {
        let (out_at, dout_at) = (self.at(dtable)?, self.at(dout)?);
        let t = &self.tables;
        let len = u64::from(t.distinct) * u64::from(dim);
        let rows = t.rows.max(1);
        let (tokens, firsts, order) = (t.tokens, t.token_firsts, t.token_order);
        self.launch(&Launch {
            kernel: kernel("backward"),
            operands: &[("out", self.place(dtable)), ("dout", self.place(dout))],
            weight: Source::None,
            tile: Tile::default(),
            params: &[out_at, 0, dout_at, dim, len as u32, tokens, firsts, order],
            groups: len.div_ceil(256),
            // A token may stand in every row.
            cost: 256 * rows,
        })
    }
}
