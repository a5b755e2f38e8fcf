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

/// Rows of the pieces in which matrices are copied.
const PIECE: u32 = 64;

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
    /// The result is f32 (always so for weights).
    pub wide: bool,
    /// More terms of the same sums.
    pub second: Option<Second>,
    /// Where the parts of a product go that is cut along k.
    pub parts: Option<Parts>,
}

/// A product with few tiles and long sums (an adapter's gradient) would leave most of the device
/// idle. It is cut along k; the parts go to memory of their own, and [`SUM_ENTRY`] adds them up.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// How many, as [`Product::parts`] says.
    pub count: u32,
    /// Address of [`Operands::parts_bytes`] bytes.
    pub address: u64,
}

/// The kernel that adds up parts.
pub const SUM_ENTRY: &str = "matmul_sum";

/// Its text.
pub const SUM_SOURCE: &str = include_str!("matmul_sum.ptx");

/// Its threads.
pub const SUM_BLOCK: u32 = 256;

/// Parts of one product take no more memory than this.
pub const PARTS_BYTES_MOST: u64 = 16 << 20;

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

    /// Where the products are written: the result, or its parts below each other.
    const fn result(&self) -> Matrix {
        if let Some(Parts { count, address }) = self.parts {
            let rows = count * self.part_rows();
            return Matrix { address, element: Element::F32, rows, columns: self.n };
        }
        let element = if self.wide { Element::F32 } else { Element::Bf16 };
        Matrix { address: self.out, element, rows: self.m, columns: self.n }
    }

    /// Rows from one part to the next: whole pieces of 64.
    pub const fn part_rows(&self) -> u32 {
        self.m.next_multiple_of(64)
    }

    /// Bytes that so many parts take.
    pub const fn parts_bytes(&self, count: u32) -> u64 {
        4 * count as u64 * self.part_rows() as u64 * self.n as u64
    }

    const fn tiles(&self) -> u32 {
        self.m.div_ceil(TILE) * self.n.div_ceil(TILE)
    }

    /// Parameters of the kernel that adds up the parts, and its CTAs.
    pub fn sum(&self) -> Option<(Sum, u32)> {
        let Parts { count, address } = self.parts?;
        let sizes = [count, self.part_rows(), self.m, self.n];
        let flags = [u32::from(self.add), u32::from(self.wide)];
        let grid = (u64::from(self.m) * u64::from(self.n)).div_ceil(4 * u64::from(SUM_BLOCK));
        Some((Sum { addresses: [self.out, address], sizes, flags }, grid as u32))
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
        let kind = operands.wide || !matches!(self, Self::BackwardWeight);
        kind && a.fits() && b.fits() && a2.fits() && b2.fits() && operands.result().fits()
    }

    /// Into how many parts to cut the sums: what takes the fewest turns of 64 k on a device with so
    /// many multiprocessors. 1 for most products.
    pub fn parts(self, processors: u32, o: &Operands) -> u32 {
        if o.second.is_some() {
            return 1;
        }
        let (clusters, blocks) = ((processors / 2).max(1), o.k.div_ceil(64));
        let turns = |parts: u32| {
            let waves = (o.tiles() * parts).div_ceil(clusters);
            // The second launch takes as long as some eight turns.
            waves * blocks.div_ceil(parts) + if parts > 1 { 8 } else { 0 }
        };
        let possible = |parts: &u32| {
            let part = blocks.div_ceil(*parts);
            (parts - 1) * part < blocks && o.parts_bytes(*parts) <= PARTS_BYTES_MOST
        };
        let many = (2..=16).filter(possible).min_by_key(|&parts| turns(parts));
        many.filter(|&parts| turns(parts) < turns(1)).unwrap_or(1)
    }

    /// The kernel's parameters.
    ///
    /// # Errors
    /// The driver is too old, or the kernel does not [take](Self::takes) the operands.
    pub fn arguments(self, operands: &Operands, group: u32) -> Result<Arguments, TensorMapError> {
        let maps = |[a, b]: [Matrix; 2]| -> Result<[TensorMap; 2], TensorMapError> {
            Ok([TensorMap::new(a, PIECE)?, TensorMap::new(b, PIECE)?])
        };
        let first = maps(self.pair(operands, operands.first()))?;
        // Without a second pair the kernel does not look at its maps.
        let second = match operands.second {
            Some(second) => maps(self.pair(operands, second))?,
            None => first,
        };
        let out = TensorMap::new(operands.result(), PIECE)?;
        Ok(Arguments {
            maps: [out, first[0], first[1], second[0], second[1]],
            sizes: [operands.m, operands.n, operands.k, operands.second_k(), group],
            parts: [operands.parts.map_or(1, |parts| parts.count), operands.part_rows()],
            alpha: operands.alpha,
            flags: match operands.parts {
                Some(_) => [0, 1],
                None => [u32::from(operands.add), u32::from(operands.wide)],
            },
        })
    }
}

/// CTAs of a launch on a device with so many multiprocessors: clusters of two, no more than there
/// are tiles and parts.
pub const fn grid(processors: u32, operands: &Operands) -> u32 {
    let parts = match operands.parts {
        Some(parts) => parts.count,
        None => 1,
    };
    let tiles = operands.tiles() * parts;
    let clusters = processors / 2;
    2 * if clusters < tiles { clusters } else { tiles }
}

/// What a launch hands to the kernel.
#[derive(Clone, Debug)]
pub struct Arguments {
    maps: [TensorMap; 5],
    sizes: [u32; 5],
    parts: [u32; 2],
    alpha: f32,
    flags: [u32; 2],
}

impl Arguments {
    /// Addresses of the parameters in the kernel's order, as `cuLaunchKernel` wants them. The last
    /// one is not looked at by `matmul_backward_weight_sm90`.
    pub fn pointers(&mut self) -> [*mut c_void; 15] {
        let [out, a, b, a2, b2] = &mut self.maps;
        let [m, n, k, k2, group] = &mut self.sizes;
        let [parts, part_rows] = &mut self.parts;
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
            (&raw mut *parts).cast(),
            (&raw mut *part_rows).cast(),
            (&raw mut self.alpha).cast(),
            (&raw mut *add).cast(),
            (&raw mut *wide).cast(),
        ]
    }
}

/// Parameters of the kernel that adds up parts.
#[derive(Clone, Debug)]
pub struct Sum {
    addresses: [u64; 2],
    sizes: [u32; 4],
    flags: [u32; 2],
}

impl Sum {
    /// Addresses of the parameters in the kernel's order.
    pub fn pointers(&mut self) -> [*mut c_void; 8] {
        let [out, from] = &mut self.addresses;
        let [parts, rows, m, n] = &mut self.sizes;
        let [add, wide] = &mut self.flags;
        [
            (&raw mut *out).cast(),
            (&raw mut *from).cast(),
            (&raw mut *parts).cast(),
            (&raw mut *rows).cast(),
            (&raw mut *m).cast(),
            (&raw mut *n).cast(),
            (&raw mut *add).cast(),
            (&raw mut *wide).cast(),
        ]
    }
}
