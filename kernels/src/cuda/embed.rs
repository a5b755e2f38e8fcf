//! Embedding rows, and their gradient.

use paddock_core::error::Result;
use paddock_core::slot::Slot;
use paddock_core::weights::Mat;

use super::{Cuda, args};

impl Cuda<'_> {
    pub(super) fn run_embed_forward(&mut self, out: Slot, table: Mat) -> Result<()> {
        let rows = (out.len / u64::from(table.cols)).min(self.tables.all.count);
        if rows == 0 {
            return Ok(());
        }
        let from = self.matrix(table)?;
        let (out, tokens) = (self.narrow(out)?, self.table(self.tables.tokens)?);
        let arguments = args!(out, from, tokens, table.cols);
        self.gpu.launch("embed_forward", [rows, 1, 1], 128, 0, arguments)
    }

    pub(super) fn run_embed_backward(&mut self, dtable: Slot, dout: Slot, dim: u32) -> Result<()> {
        let t = self.tables;
        if t.distinct == 0 {
            return Ok(());
        }
        let (dtable, dout) = (self.wide(dtable)?, self.narrow(dout)?);
        let [order, first, tokens] = [
            self.table(t.token_order)?,
            self.table(t.token_firsts)?,
            self.table(t.distinct_tokens)?,
        ];
        self.gpu.launch(
            "embed_backward",
            [t.distinct, u64::from(dim).div_ceil(128), 1],
            128,
            0,
            args!(dtable, dout, order, first, tokens, dim),
        )
    }
}
