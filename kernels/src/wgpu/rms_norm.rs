//! RMS norm and its gradients.

use paddock_core::error::Result;
use paddock_core::slot::Slot;
use paddock_core::weights::Mat;

use super::Wgpu;
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        stem: "rms_norm",
        source: include_str!("rms_norm.wgsl"),
        entry,
        operands: &["out", "rstd", "inp", "dinp", "dweight", "dout"],
        quads: &[],
    }
}

impl Wgpu<'_> {
    pub(super) fn run_rms_norm_forward(
        &mut self,
        out: Slot,
        rstd: Slot,
        inp: Slot,
        weight: Mat,
        eps: f32,
    ) -> Result<()> {
        let (dim, rows, w) = (weight.cols, rstd.len, self.vector(weight)?);
        let params = [
            self.at(out)?,
            self.at(rstd)?,
            self.at(inp)?,
            w.at,
            0,
            0,
            0,
            dim,
            rows as u32,
            eps.to_bits(),
        ];
        self.launch(&Launch {
            kernel: kernel("forward"),
            operands: &[
                ("out", self.place(out)),
                ("rstd", self.place(rstd)),
                ("inp", self.place(inp)),
            ],
            weight: w.source,
            tile: Tile::default(),
            params: &params,
            groups: rows,
            cost: 16 * u64::from(dim),
        })
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
        let (dim, rows, w) = (weight.cols, rstd.len, self.vector(weight)?);
        let dweight_at = dweight.map_or(Ok(0), |slot| self.at(slot))?;
        let (inp_at, rstd_at) = (self.at(inp)?, self.at(rstd)?);
        let (dinp_at, dout_at) = (self.at(dinp)?, self.at(dout)?);
        let params = [0, rstd_at, inp_at, w.at, dinp_at, dweight_at, dout_at, dim, rows as u32, 0];
        let operands = [
            ("dinp", self.place(dinp)),
            ("dout", self.place(dout)),
            ("inp", self.place(inp)),
            ("rstd", self.place(rstd)),
        ];
        self.launch(&Launch {
            kernel: kernel("backward"),
            operands: &operands,
            weight: w.source,
            tile: Tile::default(),
            params: &params,
            groups: rows,
            cost: 16 * u64::from(dim),
        })?;
        let Some(dweight) = dweight else { return Ok(()) };
        let [_, dout, inp, rstd] = operands;
        self.launch(&Launch {
            kernel: kernel("backward_weight"),
            operands: &[("dweight", self.place(dweight)), dout, inp, rstd],
            weight: Source::None,
            tile: Tile::default(),
            params: &params,
            groups: u64::from(dim.div_ceil(16)),
            cost: 16 * 16 * rows,
        })
    }
}
