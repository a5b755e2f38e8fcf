//! The matrix product and its two gradients: which kernel for which shape and device, and its launch.

use paddock_core::backend::Write;
use paddock_core::error::{Error, Result};
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::Mat;

use super::{Cuda, args, matmul_sm90};

pub use super::matmul_sm90::Product as Pass;
pub use super::matmul_sm90::Second;
use super::matmul_sm90::{PARTS_BYTES_MOST, Parts};

/// out (m,n) = alpha · (A (m,k) · B (k,n) + its second pair)   [+ out], by addresses. A and B have
/// 16 bits and are stored as the pass says.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub pass: Pass,
    pub out: u64,
    /// out is f32, else of 16 bits.
    pub wide: bool,
    pub a: u64,
    pub b: u64,
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub alpha: f32,
    pub write: Write,
    /// More terms of the same sums: an adapter.
    pub second: Option<Second>,
}

/// The kernels to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// Any shape: one thread an element in bf16, small tiles in f16.
    Any,
    /// Tensor cores by `mma.sync`, 128 x 128 tiles: rows that are multiples of 16 bytes.
    Tiled,
    /// Tensor cores by `wgmma`, clusters of two with 256 x 256 tiles, on compute capability 9.0.
    Hopper,
}

impl Product {
    /// The product with more terms.
    pub fn with(self, second: Second) -> Product {
        Product { second: Some(second), ..self }
    }

    /// The second pair as a product of its own, which is added.
    fn rest(&self) -> Option<Product> {
        let Second { a, b, k } = self.second?;
        Some(Product { a, b, k, write: Write::Add, second: None, ..*self })
    }

    fn operands(&self) -> matmul_sm90::Operands {
        let Product { out, a, b, m, n, k, alpha, write, wide, second, .. } = *self;
        let add = write == Write::Add;
        matmul_sm90::Operands { out, a, b, m, n, k, alpha, add, wide, second, parts: None }
    }

    /// Which kernel computes this product. The one place that decides it.
    fn kernel(&self, hopper: bool, tiled: bool) -> Kernel {
        if hopper && self.k > 0 && self.pass.takes(&self.operands()) {
            return Kernel::Hopper;
        }
        let Product { pass, m, n, k, wide, .. } = *self;
        let rows = match pass {
            Pass::Forward => k.is_multiple_of(8) && n.is_multiple_of(8),
            Pass::BackwardInput => k.is_multiple_of(8) && n.is_multiple_of(8) && !wide,
            Pass::BackwardWeight => m.is_multiple_of(8) && n.is_multiple_of(8) && wide,
        };
        let aligned = (self.out | self.a | self.b).is_multiple_of(16);
        if tiled && rows && aligned && k > 0 { Kernel::Tiled } else { Kernel::Any }
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

/// Elements of scratch for the parts of a product that is cut along k.
pub const PARTS_LEN: u64 = PARTS_BYTES_MOST / 4;

/// Shared memory of the tiled kernels: three stages of two tiles.
const TILED_SHARED: u32 = 98_304;

fn tiled_entry(pass: Pass) -> &'static str {
    match pass {
        Pass::Forward => "matmul_forward",
        Pass::BackwardInput => "matmul_backward_input",
        Pass::BackwardWeight => "matmul_backward_weight",
    }
}

impl Cuda<'_> {
    /// Queues a product.
    pub(super) fn run_product(&mut self, x: &Product) -> Result<()> {
        if x.m == 0 || x.n == 0 {
            return Ok(());
        }
        let (hopper, tiled) = (self.gpu.has(x.pass.entry()), self.gpu.has(tiled_entry(x.pass)));
        match x.kernel(hopper, tiled) {
            Kernel::Any => self.run_any(x)?,
            Kernel::Tiled => self.run_tiled(x)?,
            Kernel::Hopper => return self.run_hopper(x),
        }
        match x.rest() {
            Some(rest) => self.run_product(&rest),
            None => Ok(()),
        }
    }

    fn run_any(&mut self, x: &Product) -> Result<()> {
        let Product { out, a, b, m, n, k, alpha, .. } = *x;
        let (add, wide) = (u32::from(x.write == Write::Add), u32::from(x.wide));
        let ([a_row, a_column], [b_row, b_column]) = x.strides();
        let (entry, grid) = match self.gpu.has("matmul_f16") {
            true => ("matmul_f16", [m.div_ceil(64), n.div_ceil(64), 1].map(u64::from)),
            false => ("matmul_any", [(u64::from(m) * u64::from(n)).div_ceil(128), 1, 1]),
        };
        let arguments =
            args!(out, a, b, m, n, k, a_row, a_column, b_row, b_column, alpha, add, wide);
        self.gpu.launch(entry, grid, 128, 0, arguments)
    }

    fn run_tiled(&mut self, x: &Product) -> Result<()> {
        let Product { out, a, b, m, n, k, alpha, .. } = *x;
        let (add, wide) = (u32::from(x.write == Write::Add), u32::from(x.wide));
        let grid = [u64::from(m.div_ceil(128)), u64::from(n.div_ceil(128)), 1];
        let all = args!(out, a, b, m, n, k, alpha, add, wide);
        let arguments = if x.pass == Pass::Forward { &all[..] } else { &all[..8] };
        self.gpu.launch(tiled_entry(x.pass), grid, 128, TILED_SHARED, arguments)
    }

    fn run_hopper(&mut self, x: &Product) -> Result<()> {
        let processors = self.gpu.report.processors;
        let mut operands = x.operands();
        let count = x.pass.parts(processors, &operands);
        let (address, room) = self.parts_room();
        if count > 1 && operands.parts_bytes(count) <= room {
            operands.parts = Some(Parts { count, address });
        }
        let arguments = x.pass.arguments(&operands, matmul_sm90::GROUP);
        let mut arguments =
            arguments.map_err(|e| Error::Device(format!("{}: {e}", self.gpu.name())))?;
        let ctas = matmul_sm90::grid(processors, &operands);
        self.gpu.launch_product(x.pass.entry(), ctas, &mut arguments)?;
        match operands.sum() {
            Some((mut sum, ctas)) => self.gpu.launch_sum(ctas, &mut sum),
            None => Ok(()),
        }
    }

    /// Elements at the end of scratch that the parts of a product may take; no other op uses them.
    pub(super) fn parts_len(&self) -> u64 {
        if !self.gpu.has(Pass::Forward.entry()) {
            return 0;
        }
        let half = self.memory.len(Region::Scratch) / 2;
        PARTS_LEN.min(half)
    }

    /// Their address and bytes.
    fn parts_room(&self) -> (u64, u64) {
        let (all, len) = (self.memory.len(Region::Scratch), self.parts_len() / 4 * 4);
        let first = (all - len).next_multiple_of(4);
        let slot = Slot::new(Region::Scratch, first, all - first);
        (self.memory.at(slot).unwrap_or(0), 4 * slot.len)
    }

    /// out (n,O) = alpha · inp (n,I) · wᵀ (O,I)   [+ out]
    pub(super) fn forward_product(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<Product> {
        let b = self.matrix(w)?;
        let (to, a) = (self.memory.at(out)?, self.narrow(inp)?);
        Ok(Product {
            pass: Pass::Forward,
            out: to,
            wide: self.memory.bytes_of(out.region) == 4,
            a,
            b,
            m: (inp.len / u64::from(w.cols)) as u32,
            n: w.rows,
            k: w.cols,
            alpha,
            write,
            second: None,
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
        let product = self.forward_product(out, inp, w, alpha, write)?;
        self.run_product(&product)
    }

    /// dinp (n,I) = alpha · dout (n,O) · w (O,I)   [+ dinp]
    pub(super) fn backward_input_product(
        &mut self,
        dinp: Slot,
        dout: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<Product> {
        let b = self.matrix(w)?;
        let (to, a) = (self.memory.at(dinp)?, self.narrow(dout)?);
        Ok(Product {
            pass: Pass::BackwardInput,
            out: to,
            wide: self.memory.bytes_of(dinp.region) == 4,
            a,
            b,
            m: (dout.len / u64::from(w.rows)) as u32,
            n: w.cols,
            k: w.rows,
            alpha,
            write,
            second: None,
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
        let product = self.backward_input_product(dinp, dout, w, alpha, write)?;
        self.run_product(&product)
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
            wide: self.memory.bytes_of(dw.region) == 4,
            a,
            b,
            m: rows,
            n: cols,
            k: (dout.len / u64::from(rows)) as u32,
            alpha,
            write: Write::Add,
            second: None,
        })
    }
}
