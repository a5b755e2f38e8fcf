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
    /// More terms of the same sums.
    pub second: Option<Second>,
}

/// A second pair of matrices, whose product is added before anything is rounded: an adapter.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    /// Address of a matrix with A's rows (for weights: columns).
    pub a: u64,
    /// Address of a matrix with B's columns, or rows where B is transposed.
    pub b: u64,
    /// Terms of each sum.
    pub k: u32,
}

impl Operands {
    const fn first(&self) -> Second {
        Second { a: self.a, b: self.b, k: self.k }
    }

    /// The second pair, or the first one again where there is none.
    const fn rest(&self) -> Second {
        match self.second {
            Some(second) => second,
            None => self.first(),
        }
    }

    const fn second_k(&self) -> u32 {
        match self.second {
            Some(second) => second.k,
            None => 0,
        }
    }

    const fn result(&self) -> Matrix {
        let element = if self.wide { Element::F32 } else { Element::Bf16 };
        Matrix { address: self.out, element, rows: self.m, columns: self.n }
    }
}

impl Product {
    /// The kernel's name.
    pub const fn entry(self) -> &'static str {
        match self {
            Self::Forward => "matmul_forward_sm90",
            Self::BackwardInput => "matmul_backward_input_sm90",
            Self::BackwardWeight => "matmul_backward_weight_sm90",
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

    /// A pair of matrices as they lie in memory.
    const fn pair(self, o: &Operands, pair: Second) -> [Matrix; 2] {
        const fn matrix(address: u64, rows: u32, columns: u32) -> Matrix {
            Matrix { address, element: Element::Bf16, rows, columns }
        }
        let Second { a, b, k } = pair;
        match self {
            Self::Forward => [matrix(a, o.m, k), matrix(b, o.n, k)],
            Self::BackwardInput => [matrix(a, o.m, k), matrix(b, k, o.n)],
            Self::BackwardWeight => [matrix(a, k, o.m), matrix(b, k, o.n)],
        }
    }

    /// Whether the kernel takes these operands; `matmul_*.ptx` and `matmul_any.ptx` take the rest.
    /// Bulk tensor copies want addresses of rows that are multiples of 16 bytes.
    pub const fn takes(self, operands: &Operands) -> bool {
        let [a, b] = self.pair(operands, operands.first());
        let [a2, b2] = self.pair(operands, operands.rest());
        let kind = match self {
            Self::Forward => true,
            Self::BackwardInput => !operands.wide,
            Self::BackwardWeight => operands.wide,
        };
        kind && a.fits() && b.fits() && a2.fits() && b2.fits() && operands.result().fits()
    }

    /// The kernel's parameters.
    ///
    /// # Errors
    /// The driver is too old, or the kernel does not [take](Self::takes) the operands.
    pub fn arguments(self, operands: &Operands, group: u32) -> Result<Arguments, TensorMapError> {
        let [a, b] = self.pair(operands, operands.first());
        let [a2, b2] = self.pair(operands, operands.rest());
        // A half of B's 256 columns, and A's 128 rows; those that are transposed are copied in
        // pieces of 64 k by 64.
        let (a_rows, b_rows) = match self {
            Self::Forward => (128, 128),
            Self::BackwardInput => (128, 64),
            Self::BackwardWeight => (64, 64),
        };
        Ok(Arguments {
            maps: [
                TensorMap::new(operands.result(), 64)?,
                TensorMap::new(a, a_rows)?,
                TensorMap::new(b, b_rows)?,
                TensorMap::new(a2, a_rows)?,
                TensorMap::new(b2, b_rows)?,
            ],
            sizes: [operands.m, operands.n, operands.k, operands.second_k(), group],
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
    maps: [TensorMap; 5],
    sizes: [u32; 5],
    alpha: f32,
    flags: [u32; 2],
}

impl Arguments {
    /// Addresses of the parameters in the kernel's order, as `cuLaunchKernel` wants them. The last
    /// one is read by `matmul_forward` alone.
    pub fn pointers(&mut self) -> [*mut c_void; 13] {
        let [out, a, b, a2, b2] = &mut self.maps;
        let [m, n, k, k2, group] = &mut self.sizes;
        let [add, wide] = &mut self.flags;
        [
            (&raw mut *out).cast(),
            (&raw mut *a).cast(),
            (&raw mut *b).cast(),
            (&raw mut *a2).cast(),
            (&raw mut *b2).cast(),
            (&raw mut *m).cast(),
            (&raw mut *n).cast(),
            (&raw mut *k).cast(),
            (&raw mut *k2).cast(),
            (&raw mut *group).cast(),
            (&raw mut self.alpha).cast(),
            (&raw mut *add).cast(),
            (&raw mut *wide).cast(),
        ]
    }
}
