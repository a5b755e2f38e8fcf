//! The matrix product and its two gradients: one kernel, read by strides.

use paddock_core::backend::Write;
use paddock_core::error::Result;
use paddock_core::slot::Slot;
use paddock_core::weights::Mat;

use super::Wgpu;
use super::memory::Place;
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source, place};

const PRODUCT: Kernel = Kernel {
    stem: "matmul",
    source: include_str!("matmul.wgsl"),
    entry: "product",
    operands: &["out", "a"],
};

const LARGE: Kernel =
    Kernel { stem: "matmul_large", source: include_str!("matmul_large.wgsl"), ..PRODUCT };

/// Tiles of 128 x 128 from which on they are worth it: fewer would leave most of a card idle.
const MANY_TILES: u32 = 24;

/// out (m,n) = alpha · A (m,k) · B (k,n), with where each begins and how it is stored.
struct Product {
    a: (Place, u32),
    b: (Source, u32),
    out: (Place, u32),
    m: u32,
    n: u32,
    k: u32,
    /// Elements from a row of A to the next, and from a column to the next.
    a_strides: [u32; 2],
    b_strides: [u32; 2],
    out_row: u32,
    alpha: f32,
    write: Write,
}

impl Product {
    /// The kernel and its threads by the shape: thin products get thin tiles, small ones small tiles. Then
    /// rows and columns of a workgroup.
    fn kernel(&self) -> (Kernel, Tile, [u32; 2]) {
        let many = self.m.div_ceil(128).saturating_mul(self.n.div_ceil(128)) >= MANY_TILES;
        let (wx, wy) = match (self.m, self.n) {
            (..=8, _) => (32, 2),
            (_, ..=16) => (4, 16),
            (..=32, _) | (_, ..=32) => (8, 8),
            _ => (16, 16),
        };
        let [a_k_fast, b_k_fast] = [self.a_strides[1] == 1, self.b_strides[0] == 1];
        let tile = Tile { wx, wy, a_k_fast, b_k_fast };
        if many && self.m.min(self.n) > 32 {
            (LARGE, tile, [128, 128])
        } else {
            (PRODUCT, tile, [4 * wy, 4 * wx])
        }
    }
}

impl Wgpu<'_> {
    fn run_product(&mut self, x: &Product) -> Result<()> {
        let (kernel, tile, [rows, cols]) = x.kernel();
        self.launch(&Launch {
            kernel,
            operands: &[("out", x.out.0), ("a", x.a.0)],
            weight: x.b.0,
            tile,
            params: &[
                x.a.1,
                x.b.1,
                x.out.1,
                x.m,
                x.n,
                x.k,
                x.a_strides[0],
                x.a_strides[1],
                x.b_strides[0],
                x.b_strides[1],
                x.out_row,
                x.alpha.to_bits(),
                u32::from(x.write == Write::Add),
            ],
            groups: u64::from(x.m.div_ceil(rows)) * u64::from(x.n.div_ceil(cols)),
            cost: 2 * u64::from(rows) * u64::from(cols) * u64::from(x.k),
        })
    }

    pub(super) fn run_matmul_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let (out_at, inp_at) = (self.at(out)?, self.at(inp)?);
        // Each part of a cut weight gives its own columns of out.
        for part in self.parts(w)? {
            self.run_product(&Product {
                a: (place(inp), inp_at),
                b: (part.source, part.at),
                out: (place(out), out_at + part.first),
                m: (inp.len / u64::from(w.cols)) as u32,
                n: part.rows,
                k: w.cols,
                a_strides: [w.cols, 1],
                b_strides: [1, w.cols],
                out_row: w.rows,
                alpha,
                write,
            })?;
        }
        Ok(())
    }

    pub(super) fn run_matmul_backward_input(
        &mut self,
        dinp: Slot,
        dout: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let (dinp_at, dout_at) = (self.at(dinp)?, self.at(dout)?);
        // Each part of a cut weight is a piece of the sum.
        for (i, part) in self.parts(w)?.into_iter().enumerate() {
            self.run_product(&Product {
                a: (place(dout), dout_at + part.first),
                b: (part.source, part.at),
                out: (place(dinp), dinp_at),
                m: (dout.len / u64::from(w.rows)) as u32,
                n: w.cols,
                k: part.rows,
                a_strides: [w.rows, 1],
                b_strides: [w.cols, 1],
                out_row: w.cols,
                alpha,
                write: if i == 0 { write } else { Write::Add },
            })?;
        }
        Ok(())
    }

    pub(super) fn run_matmul_backward_weight(
        &mut self,
        dw: Slot,
        dout: Slot,
        inp: Slot,
        rows: u32,
        cols: u32,
        alpha: f32,
    ) -> Result<()> {
        let (dw_at, dout_at, inp_at) = (self.at(dw)?, self.at(dout)?, self.at(inp)?);
        self.run_product(&Product {
            a: (place(dout), dout_at),
            b: (Source::Trained(place(inp)), inp_at),
            out: (place(dw), dw_at),
            m: rows,
            n: cols,
            k: (dout.len / u64::from(rows)) as u32,
            a_strides: [1, rows],
            b_strides: [cols, 1],
            out_row: cols,
            alpha,
            write: Write::Add,
        })
    }
}
