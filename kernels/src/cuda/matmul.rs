//! The matrix product and its two gradients: which kernel for which shape and device, and its launch.

use paddock_core::backend::Write;
use paddock_core::error::Result;
use paddock_core::slot::Slot;
use paddock_core::weights::Mat;

use super::memory::stored_bytes;
use super::{Cuda, args};

/// Which of the three products: how A (m,k) and B (k,n) are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// A by rows, B as (n,k): out = inp · wᵀ.
    Forward,
    /// A by rows, B as (k,n): dinp = dout · w.
    BackwardInput,
    /// A as (k,m), B as (k,n): dw = doutᵀ · inp.
    BackwardWeight,
}

/// out (m,n) = alpha · A (m,k) · B (k,n)   [+ out], by addresses. A and B are bf16.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub pass: Pass,
    pub out: u64,
    /// out is f32, else bf16.
    pub wide: bool,
    pub a: u64,
    pub b: u64,
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub alpha: f32,
    pub write: Write,
}

/// The kernels to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// One thread an element: any shape.
    Any,
    /// Tensor cores by `mma.sync`, 128 x 128 tiles: rows that are multiples of 16 bytes.
    Tiled,
}

impl Product {
    /// Which kernel computes this product. The one place that decides it.
    fn kernel(&self) -> Kernel {
        let Product { pass, m, n, k, wide, .. } = *self;
        let rows = match pass {
            Pass::Forward => k % 8 == 0 && n % 8 == 0,
            Pass::BackwardInput => k % 8 == 0 && n % 8 == 0 && !wide,
            Pass::BackwardWeight => m % 8 == 0 && n % 8 == 0 && wide,
        };
        let aligned = (self.out | self.a | self.b) % 16 == 0;
        if rows && aligned && k > 0 { Kernel::Tiled } else { Kernel::Any }
    }

    /// (row, column) strides of A and of B.
    fn strides(&self) -> ([u32; 2], [u32; 2]) {
        let Product { m, n, k, .. } = *self;
        match self.pass {
            Pass::Forward => ([k, 1], [1, k]),
            Pass::BackwardInput => ([k, 1], [n, 1]),
            Pass::BackwardWeight => ([1, m], [n, 1]),
        }
    }
}

/// Shared memory of the tiled kernels: three stages of two tiles.
const TILED_SHARED: u32 = 98_304;

impl Cuda<'_> {
    /// Queues a product.
    pub(super) fn run_product(&mut self, x: &Product) -> Result<()> {
        let Product { out, a, b, m, n, k, alpha, .. } = *x;
        let (add, wide) = (u32::from(x.write == Write::Add), u32::from(x.wide));
        match x.kernel() {
            Kernel::Any => {
                let ([a_row, a_column], [b_row, b_column]) = x.strides();
                let grid = [(u64::from(m) * u64::from(n)).div_ceil(128), 1, 1];
                self.gpu.launch(
                    "matmul_any",
                    grid,
                    128,
                    0,
                    args!(out, a, b, m, n, k, a_row, a_column, b_row, b_column, alpha, add, wide),
                )
            }
            Kernel::Tiled => {
                let grid = [u64::from(m.div_ceil(128)), u64::from(n.div_ceil(128)), 1];
                let (entry, arguments) = match x.pass {
                    Pass::Forward => {
                        ("matmul_forward", args!(out, a, b, m, n, k, alpha, add, wide) as &[_])
                    }
                    Pass::BackwardInput => {
                        ("matmul_backward_input", args!(out, a, b, m, n, k, alpha, add) as &[_])
                    }
                    Pass::BackwardWeight => {
                        ("matmul_backward_weight", args!(out, a, b, m, n, k, alpha, add) as &[_])
                    }
                };
                self.gpu.launch(entry, grid, 128, TILED_SHARED, arguments)
            }
        }
    }

    pub(super) fn run_matmul_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let b = self.matrix(w)?;
        let (to, a) = (self.memory.at(out)?, self.narrow(inp)?);
        self.run_product(&Product {
            pass: Pass::Forward,
            out: to,
            wide: stored_bytes(out.region) == 4,
            a,
            b,
            m: (inp.len / u64::from(w.cols)) as u32,
            n: w.rows,
            k: w.cols,
            alpha,
            write,
        })
    }

    pub(super) fn run_matmul_backward_input(
        &mut self,
        dinp: Slot,
        dout: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let b = self.matrix(w)?;
        let (to, a) = (self.memory.at(dinp)?, self.narrow(dout)?);
        self.run_product(&Product {
            pass: Pass::BackwardInput,
            out: to,
            wide: stored_bytes(dinp.region) == 4,
            a,
            b,
            m: (dout.len / u64::from(w.rows)) as u32,
            n: w.cols,
            k: w.rows,
            alpha,
            write,
        })
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
        let (to, a, b) = (self.memory.at(dw)?, self.narrow(dout)?, self.narrow(inp)?);
        self.run_product(&Product {
            pass: Pass::BackwardWeight,
            out: to,
            wide: stored_bytes(dw.region) == 4,
            a,
            b,
            m: rows,
            n: cols,
            k: (dout.len / u64::from(rows)) as u32,
            alpha,
            write: Write::Add,
        })
    }
}
