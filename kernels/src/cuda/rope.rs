//! Rotary positions.

use paddock_core::batch::Rows;
use paddock_core::error::Result;
use paddock_core::slot::Slot;

use super::{Cuda, args};

impl Cuda<'_> {
    pub(super) fn run_rope(
        &mut self,
        entry: &'static str,
        x: Slot,
        table: Slot,
        head_dim: u32,
        rows: Rows,
    ) -> Result<()> {
        let tables = self.tables.rows(rows);
        let (n, half) = (tables.count, head_dim / 2);
        if n == 0 || half == 0 {
            return Ok(());
        }
        let positions = self.table(tables.positions)?;
        let heads = x.len / n / u64::from(head_dim);
        let (x, table) = (self.narrow(x)?, self.wide(table)?);
        let each = if half.is_multiple_of(8) && (x | table).is_multiple_of(16) { 8 } else { 1 };
        let threads = n * heads * u64::from(half / each);
        self.gpu.launch(
            entry,
            [threads.div_ceil(128), 1, 1],
            128,
            0,
            args!(x, table, positions, n as u32, heads as u32, half, each),
        )
    }
}
