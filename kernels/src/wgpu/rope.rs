//! Rotary positions.

use paddock_core::batch::Rows;
use paddock_core::error::Result;
use paddock_core::slot::Slot;

use super::Wgpu;
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};

const ROTATE: Kernel = Kernel {
    stem: "rope",
    source: include_str!("rope.wgsl"),
    entry: "rotate",
    operands: &["x", "angle"],
    quads: &[],
};

impl Wgpu<'_> {
    pub(super) fn run_rope(
        &mut self,
        x: Slot,
        table: Slot,
        head_dim: u32,
        rows: Rows,
        direction: f32,
    ) -> Result<()> {
        let count = self.tables.count(rows);
        if count == 0 {
            return Ok(());
        }
        let positions = match rows {
            Rows::All => self.tables.positions,
            Rows::Kept => self.tables.kept_positions,
        };
        let row_pairs = x.len / count / 2;
        let len = row_pairs * count;
        let (x_at, table_at) = (self.at(x)?, self.at(table)?);
        self.launch(&Launch {
            kernel: ROTATE,
            operands: &[("x", self.place(x)), ("angle", self.place(table))],
            weight: Source::None,
            tile: Tile::default(),
            params: &[
                x_at,
                table_at,
                positions,
                len as u32,
                row_pairs as u32,
                head_dim / 2,
                direction.to_bits(),
            ],
            groups: len.div_ceil(256),
            cost: 256 * 16,
        })
    }
}
