//! SwiGLU and its gradients.

use paddock_core::error::Result;
use paddock_core::slot::Slot;

use super::Wgpu;
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        stem: "swiglu",
        source: include_str!("swiglu.wgsl"),
        entry,
        operands: &["out", "dgate", "dout", "gate", "up"],
        quads: &[],
    }
}

impl Wgpu<'_> {
    pub(super) fn run_swiglu_forward(&mut self, out: Slot, gate: Slot, up: Slot) -> Result<()> {
        let (out_at, gate_at, up_at) = (self.at(out)?, self.at(gate)?, self.at(up)?);
        self.launch(&Launch {
            kernel: kernel("forward"),
            operands: &[
                ("out", self.place(out)),
                ("gate", self.place(gate)),
                ("up", self.place(up)),
            ],
            weight: Source::None,
            tile: Tile::default(),
            params: &[out_at, 0, 0, gate_at, up_at, out.len as u32],
            groups: out.len.div_ceil(256),
            cost: 256 * 32,
        })
    }

    pub(super) fn run_swiglu_backward(
        &mut self,
        dgate: Slot,
        dup: Slot,
        dout: Slot,
        gate: Slot,
        up: Slot,
    ) -> Result<()> {
        let params = [
            self.at(dup)?,
            self.at(dgate)?,
            self.at(dout)?,
            self.at(gate)?,
            self.at(up)?,
            dup.len as u32,
        ];
        self.launch(&Launch {
            kernel: kernel("backward"),
            operands: &[
                ("out", self.place(dup)),
                ("dgate", self.place(dgate)),
                ("dout", self.place(dout)),
                ("gate", self.place(gate)),
                ("up", self.place(up)),
            ],
            weight: Source::None,
            tile: Tile::default(),
            params: &params,
            groups: dup.len.div_ceil(256),
            cost: 256 * 64,
        })
    }
}
