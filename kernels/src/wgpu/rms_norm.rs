//! RMS norm and its gradients.

use paddock_core::error::Result;
use paddock_core::slot::Slot;
use paddock_core::weights::Mat;

use super::Wgpu;
use super::memory::Place;
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

/// For rows of whole quads, of which a thread keeps up to eight.
const fn quads(entry: &'static str) -> Kernel {
    Kernel {
        stem: "rms_norm_quads",
        source: include_str!("rms_norm_quads.wgsl"),
        quads: &["out", "inp", "dinp", "dout"],
        ..kernel(entry)
    }
}

/// Numbers that a workgroup reads at once.
const WIDE: u32 = 1024;

impl Wgpu<'_> {
    /// The kernel for rows of `dim` numbers that begin at these offsets, and its tile.
    fn rms_norm_kernel(
        &self,
        entry: &'static str,
        dim: u32,
        offsets: &[u32],
        operands: &[(&'static str, Place)],
    ) -> (Kernel, Tile) {
        let place = |name| operands.iter().find(|operand| operand.0 == name).map(|o| o.1);
        let apart = operands.iter().all(|o| o.0 == "rstd" || Some(o.1) != place("rstd"));
        let whole = dim.is_multiple_of(4) && offsets.iter().all(|at| at.is_multiple_of(4));
        if apart && whole && dim <= 8 * WIDE {
            (quads(entry), Tile { wx: dim.div_ceil(WIDE), wy: 1, ..Tile::default() })
        } else {
            (kernel(entry), Tile::default())
        }
    }

    pub(super) fn run_rms_norm_forward(
        &mut self,
        out: Slot,
        rstd: Slot,
        inp: Slot,
        weight: Mat,
        eps: f32,
    ) -> Result<()> {
        let (dim, rows, w) = (weight.cols, rstd.len, self.vector(weight)?);
        let (out_at, rstd_at, inp_at) = (self.at(out)?, self.at(rstd)?, self.at(inp)?);
        let params = [out_at, rstd_at, inp_at, w.at, 0, 0, 0, dim, rows as u32, eps.to_bits()];
        let operands =
            [("out", self.place(out)), ("rstd", self.place(rstd)), ("inp", self.place(inp))];
        let offsets = [out_at, inp_at, w.at];
        let (kernel, tile) = self.rms_norm_kernel("forward", dim, &offsets, &operands);
        self.launch(&Launch {
            kernel,
            operands: &operands,
            weight: w.source,
            tile,
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
        let offsets = [inp_at, w.at, dinp_at, dout_at];
        let (own, tile) = self.rms_norm_kernel("backward", dim, &offsets, &operands);
        self.launch(&Launch {
            kernel: own,
            operands: &operands,
            weight: w.source,
            tile,
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
