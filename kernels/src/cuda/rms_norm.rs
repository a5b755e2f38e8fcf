//! RMS norm and its gradients.

use paddock_core::error::Result;
use paddock_core::slot::Slot;
use paddock_core::weights::Mat;

use super::{Cuda, args};

/// Rows whose part of dweight is summed first.
const ROWS: u64 = 128;

/// Elements of scratch for `tokens` rows of `dim`.
pub fn scratch_len(tokens: u64, dim: u32) -> u64 {
    tokens.div_ceil(ROWS) * u64::from(dim)
}

impl Cuda<'_> {
    pub(super) fn run_rms_norm_forward(
        &mut self,
        out: Slot,
        rstd: Slot,
        inp: Slot,
        weight: Mat,
        eps: f32,
    ) -> Result<()> {
        let (dim, rows, weight) = (weight.cols, rstd.len, self.vector(weight)?);
        let (out, rstd, inp) = (self.narrow(out)?, self.wide(rstd)?, self.narrow(inp)?);
        self.gpu.launch(
            "rms_norm_forward",
            [rows.div_ceil(4), 1, 1],
            128,
            0,
            args!(out, rstd, inp, weight, rows as u32, dim, eps),
        )
    }

    pub(super) fn run_rms_norm_backward(
        &mut self,
        dinp: Slot,
        dweight: Option<Slot>,
        dout: Slot,
        inp: Slot,
        weight: Mat,
        rstd: Slot,
    ) -> Result<()> {
        let (dim, rows, weight) = (weight.cols, rstd.len, self.vector(weight)?);
        let (dinp, dout, inp) = (self.narrow(dinp)?, self.narrow(dout)?, self.narrow(inp)?);
        let rstd = self.wide(rstd)?;
        self.gpu.launch(
            "rms_norm_backward",
            [rows.div_ceil(4), 1, 1],
            128,
            0,
            args!(dinp, dout, inp, weight, rstd, rows as u32, dim),
        )?;
        let Some(dweight) = dweight.filter(|_| rows > 0) else { return Ok(()) };
        let (parts, columns) = (rows.div_ceil(ROWS), u64::from(dim));
        let partial = self.scratch("rms_norm_backward", scratch_len(rows, dim))?;
        let dweight = self.wide(dweight)?;
        self.gpu.launch(
            "rms_norm_backward_weight",
            [columns.div_ceil(64), parts, 1],
            64,
            0,
            args!(partial, dout, inp, rstd, rows as u32, dim),
        )?;
        self.gpu.launch(
            "rms_norm_add_partials",
            [columns.div_ceil(128), 1, 1],
            128,
            0,
            args!(dweight, partial, parts as u32, dim),
        )
    }
}
