//! Dropout's mask, the same bits as every back-end's.

use paddock_core::backend::{Dropout, Write};
use paddock_core::dropout::{keep_scale, threshold};
use paddock_core::error::Result;
use paddock_core::slot::Slot;

use super::{Cuda, args};

impl Cuda<'_> {
    pub(super) fn run_dropout(
        &mut self,
        out: Slot,
        inp: Slot,
        dim: u32,
        d: Dropout,
        write: Write,
    ) -> Result<()> {
        let tables = self.tables.rows(d.rows);
        let rows = (out.len / u64::from(dim)).min(tables.count);
        let threads = rows * u64::from(dim.div_ceil(4));
        if threads == 0 {
            return Ok(());
        }
        let hashes = self.table(tables.hashes)?;
        let (out, inp) = (self.narrow(out)?, self.narrow(inp)?);
        self.gpu.launch(
            "dropout",
            [threads.div_ceil(128), 1, 1],
            128,
            0,
            args!(
                out,
                inp,
                hashes,
                rows as u32,
                dim,
                d.seed as u32,
                (d.seed >> 32) as u32 ^ d.stream.0,
                d.step,
                threshold(d.p),
                keep_scale(d.p),
                u32::from(write == Write::Add),
            ),
        )
    }
}
