//! SwiGLU and its gradients.

use paddock_core::error::Result;
use paddock_core::slot::Slot;

use super::{Cuda, args};

impl Cuda<'_> {
    pub(super) fn run_swiglu_forward(&mut self, out: Slot, gate: Slot, up: Slot) -> Result<()> {
        let (count, grid) = (out.len, [out.len.div_ceil(2048), 1, 1]);
        let (out, gate, up) = (self.narrow(out)?, self.narrow(gate)?, self.narrow(up)?);
        self.gpu.launch("swiglu_forward", grid, 256, 0, args!(out, gate, up, count))
    }

    pub(super) fn run_swiglu_backward(
        &mut self,
        dgate: Slot,
        dup: Slot,
        dout: Slot,
        gate: Slot,
        up: Slot,
    ) -> Result<()> {
        let (count, grid) = (dup.len, [dup.len.div_ceil(2048), 1, 1]);
        let [dgate, dup, dout] = [self.narrow(dgate)?, self.narrow(dup)?, self.narrow(dout)?];
        let (gate, up) = (self.narrow(gate)?, self.narrow(up)?);
        let arguments = args!(dgate, dup, dout, gate, up, count);
        self.gpu.launch("swiglu_backward", grid, 256, 0, arguments)
    }
}
