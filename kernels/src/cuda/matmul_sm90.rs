//! The matrix products for Hopper (`sm90/matmul_*.ptx`): which shapes they take, and how they are
//! launched.

use std::ffi::c_void;

use super::tensor_map::{Element, Matrix, TensorMap, TensorMapError};

/// Threads of a CTA: one warpgroup copies, two compute.
pub const BLOCK: u32 = 384;

/// Dynamic shared memory of a CTA, in bytes.
pub const SHARED_BYTES: u32 = 229_440;

/// A cluster's tile has this many rows and columns.
const TILE: u32 = 256;

/// Rows of tiles that are worked on side by side, so that what they read stays in the L2 cache.
pub const GROUP: u32 = 8;

/// One of the three products of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// out (M,N) = A (M,K) * B^T (N,K)
    Forward,
    /// out (M,N) = A (M,K) * B (K,N)
    BackwardInput,
    /// out (M,N) = A^T (K,M) * B (K,N)
    BackwardWeight,
}

/// What a product works on. A and B are bf16.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// Address of the result.
    pub out: u64,
    /// Address of A.
    pub a: u64,
    /// Address of B.
    pub b: u64,
    /// Rows of the result.
    pub m: u32,
    /// Columns of the result.
    pub n: u32,
    /// Terms of each sum.
    pub k: u32,
    /// Factor of the product.
    pub alpha: f32,
    /// Add to the result instead of replacing it.
    pub add: bool,
    /// The result is f32 (always so for weights, never for gradients of inputs).
    pub wide: bool,
}

impl Product {
    /// The kernel's name.
    pub const fn entry(self) -> &'static str {
        match self {
            Self::Forward => "matmul_forward",
            Self::BackwardInput => "matmul_backward_input",
            Self::BackwardWeight => "matmul_backward_weight",
        }
    }

    /// The kernel's text.
    pub const fn source(self) -> &'static str {
        match self {
            Self::Forward => include_str!("sm90/matmul_forward.ptx"),
            Self::BackwardInput => include_str!("sm90/matmul_backward_input.ptx"),
            Self::BackwardWeight => include_str!("sm90/matmul_backward_weight.ptx"),
        }
    }

    /// A, B and the result as they lie in memory.
    const fn matrices(self, o: &Operands) -> [Matrix; 3] {
        const fn matrix(address: u64, element: Element, rows: u32, columns: u32) -> Matrix {
            Matrix { address, element, rows, columns }
        }
        let bf16 = Element::Bf16;
        let a = match self {
            Self::Forward | Self::BackwardInput => matrix(o.a, bf16, o.m, o.k),
            Self::BackwardWeight => matrix(o.a, bf16, o.k, o.m),
        };
        let b = match self {
            Self::Forward => matrix(o.b, bf16, o.n, o.k),
            Self::BackwardInput | Self::BackwardWeight => matrix(o.b, bf16, o.k, o.n),
        };
        let element = if o.wide { Element::F32 } else { bf16 };
        [a, b, matrix(o.out, element, o.m, o.n)]
    }

    /// Whether the kernel takes these operands; `matmul_*.ptx` and `matmul_any.ptx` take the rest.
    /// Bulk tensor copies want addresses of rows that are multiples of 16 bytes.
    pub const fn takes(self, operands: &Operands) -> bool {
        let [a, b, out] = self.matrices(operands);
        let kind = match self {
            Self::Forward => true,
            Self::BackwardInput => !operands.wide,
            Self::BackwardWeight => operands.wide,
        };
        kind && a.fits() && b.fits() && out.fits()
    }

    /// The kernel's parameters.
    ///
    /// # Errors
    /// The driver is too old, or the kernel does not [take](Self::takes) the operands.
    pub fn arguments(self, operands: &Operands, group: u32) -> Result<Arguments, TensorMapError> {
        let [a, b, out] = self.matrices(operands);
        // A half of B's 256 columns, and A's 128 rows; those that are transposed are copied in
        // pieces of 64 k by 64.
        let (a_rows, b_rows) = match self {
            Self::Forward => (128, 128),
            Self::BackwardInput => (128, 64),
            Self::BackwardWeight => (64, 64),
        };
        Ok(Arguments {
            out: TensorMap::new(out, 64)?,
            a: TensorMap::new(a, a_rows)?,
            b: TensorMap::new(b, b_rows)?,
            sizes: [operands.m, operands.n, operands.k, group],
            alpha: operands.alpha,
            flags: [u32::from(operands.add), u32::from(operands.wide)],
        })
    }
}

/// CTAs of a launch on a device with so many multiprocessors: clusters of two, no more than there
/// are tiles.
pub const fn grid(processors: u32, operands: &Operands) -> u32 {
    let tiles = operands.m.div_ceil(TILE) * operands.n.div_ceil(TILE);
    let clusters = processors / 2;
    2 * if clusters < tiles { clusters } else { tiles }
}

/// What a launch hands to the kernel.
#[derive(Clone, Debug)]
pub struct Arguments {
    out: TensorMap,
    a: TensorMap,
    b: TensorMap,
    sizes: [u32; 4],
    alpha: f32,
    flags: [u32; 2],
}

impl Arguments {
    /// Addresses of the parameters in the kernel's order, as `cuLaunchKernel` wants them. The last
    /// one is read by `matmul_forward` alone.
    pub fn pointers(&mut self) -> [*mut c_void; 10] {
        let [m, n, k, group] = &mut self.sizes;
        let [add, wide] = &mut self.flags;
        [
            (&raw mut self.out).cast(),
            (&raw mut self.a).cast(),
            (&raw mut self.b).cast(),
            (&raw mut *m).cast(),
            (&raw mut *n).cast(),
            (&raw mut *k).cast(),
            (&raw mut *group).cast(),
            (&raw mut self.alpha).cast(),
            (&raw mut *add).cast(),
            (&raw mut *wide).cast(),
        ]
    }
}
