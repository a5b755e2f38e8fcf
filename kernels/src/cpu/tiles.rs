//! Tiles of matrices: disjoint views for tasks, packed panels, and the register tile that multiplies
//! them. With `simd.rs` the only file of the CPU part with `unsafe`.
//!
//! out tile (m,n) = α Σ_k a (m,k) · b (k,n) [+ out], m <= MR rows, n <= NV vectors. The sums of a
//! tile live in registers: MR x NV accumulators, NV vectors of b, one broadcast element of a.
//! AVX-512: 14 x 2 (28 + 2 + 1 of 32 registers); AVX2: 6 x 2 (12 + 2 + 1 of 16); scalar: 4 x 2.
//!
//! Tried (Skylake-X, 1 thread, share of the peak of multiply-adds; k = 384): b in level 1: 97%; b
//! streaming from level 2 without prefetch: 77%; with prefetch 4, 8 or 16 rows ahead: 96%, 32: 60%.
//! A tile's store as a loop (sums spilled): 89%; written out, with the tile fetched ahead: 94%.

#![allow(
    clippy::needless_range_loop,
    reason = "register tiles are arrays walked by constant bounds, several at a time"
)]

use std::marker::PhantomData;

use super::pool::Pool;
use super::pool::Scratch;
use super::simd::{Kernel, Simd};

/// The longest stretch of k that is multiplied at once: a panel of a (14 x 384 f32) stays in a
/// 32 KiB level-1 cache beside the lines of b that stream by.
pub const KC: usize = 384;
/// Distance of rows in a panel of `a` packed by rows; not a multiple of 1024, so that the rows do
/// not all fall into the same sets of the cache.
pub const ROW_STRIDE: usize = KC + 16;
/// Distance of k in a panel of `a` packed by columns (unpacked ones have their own).
pub const COL_STRIDE: usize = 16;
/// How many rows ahead of the multiplication b is fetched to level 1.
const AHEAD: usize = 8;
/// Vectors in a register tile.
pub const NV: usize = 2;
/// Room for one panel of `a`, packed either way.
pub const A_PANEL: usize =
    if 14 * ROW_STRIDE > KC * COL_STRIDE { 14 * ROW_STRIDE } else { KC * COL_STRIDE };

/// Rows of a register tile at level S.
pub const fn tile_rows<S: Simd>() -> usize {
    match S::LANES {
        16 => 14,
        8 => 6,
        _ => 4,
    }
}

/// A view of `rows` x `cols` elements of a matrix, of which no other view has a part.
pub struct Tile<'a> {
    start: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile is the only way to its elements, as a `&mut [f32]` is.
unsafe impl Send for Tile<'_> {}

impl<'a> Tile<'a> {
    /// The whole of a matrix of `rows` x `cols` elements, rows `stride` apart.
    pub fn new(data: &'a mut [f32], stride: usize, rows: usize, cols: usize) -> Tile<'a> {
        assert!(cols <= stride && (rows == 0 || (rows - 1) * stride + cols <= data.len()));
        Tile { start: data.as_mut_ptr(), stride, rows, cols, life: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`.
    #[inline(always)]
    pub fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows);
        // SAFETY: row i lies within the view, and the borrow of self keeps it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.stride), self.cols) }
    }

    /// All elements, where rows are adjacent.
    #[inline(always)]
    pub fn flat(&mut self) -> &mut [f32] {
        if self.rows == 0 || self.cols == 0 {
            return &mut [];
        }
        assert!(self.rows == 1 || self.cols == self.stride);
        // SAFETY: without gaps between rows the view is one run of elements.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.rows * self.cols) }
    }

    /// The part of `rows` x `cols` elements at (row, col).
    #[inline(always)]
    pub fn part(&mut self, row: usize, col: usize, rows: usize, cols: usize) -> Tile<'_> {
        assert!(row + rows <= self.rows && col + cols <= self.cols);
        // SAFETY: the part's first element lies within the view (or just after it, if empty).
        let start = unsafe { self.start.add(row * self.stride + col) };
        Tile { start, stride: self.stride, rows, cols, life: PhantomData }
    }
}

/// How the rows of an output are cut into blocks.
#[derive(Clone, Copy, Debug)]
pub enum Cut<'a> {
    /// `rows` rows in blocks of `block` (> 0); the last may be smaller.
    Even {
        /// All rows.
        rows: usize,
        /// Rows of a block.
        block: usize,
    },
    /// Block i holds the rows `at[i]..at[i + 1]`.
    At(&'a [u32]),
}

impl Cut<'_> {
    /// How many blocks.
    pub fn blocks(&self) -> usize {
        match *self {
            Cut::Even { rows, block } => rows.div_ceil(block),
            Cut::At(at) => at.len().saturating_sub(1),
        }
    }

    /// First row and row after the last of block `i`.
    fn range(&self, i: usize) -> (usize, usize) {
        match *self {
            Cut::Even { rows, block } => (i * block, ((i + 1) * block).min(rows)),
            Cut::At(at) => (at[i] as usize, at[i + 1] as usize),
        }
    }
}

/// A matrix that tasks write: task (row block, group g) gets columns `g * width..(g + 1) * width`.
pub struct Out<'a> {
    /// The elements.
    pub data: &'a mut [f32],
    /// Distance of rows.
    pub stride: usize,
    /// Columns of a group; the last group has what is left of `stride`.
    pub width: usize,
    /// The row blocks.
    pub cut: Cut<'a>,
}

impl<'a> Out<'a> {
    /// All columns in one group, rows in blocks of `block`.
    pub fn rows(data: &'a mut [f32], stride: usize, block: usize) -> Out<'a> {
        let rows = data.len().checked_div(stride).unwrap_or(0);
        Out { data, stride, width: stride, cut: Cut::Even { rows, block } }
    }
}

/// Calls `task(row block, group, tiles, scratch)` for every row block and group, in parallel where
/// `work` (arithmetic operations of all) is worth it. The outputs must agree in the number of row
/// blocks; tile i is output i's part.
pub fn for_blocks<const W: usize>(
    pool: &Pool,
    work: usize,
    groups: usize,
    outs: [Out<'_>; W],
    task: impl Fn(usize, usize, [Tile<'_>; W], &mut Scratch) + Sync,
) {
    struct Shared<'a> {
        start: *mut f32,
        len: usize,
        stride: usize,
        width: usize,
        cut: Cut<'a>,
    }
    // SAFETY: every task takes its own block, and blocks do not overlap.
    unsafe impl Sync for Shared<'_> {}
    let shared = outs.map(|out| {
        if let Cut::At(at) = out.cut {
            assert!(at.is_sorted());
        }
        let (start, len) = (out.data.as_mut_ptr(), out.data.len());
        Shared { start, len, stride: out.stride, width: out.width, cut: out.cut }
    });
    let blocks = shared.first().map_or(0, |first| first.cut.blocks());
    assert!(shared.iter().all(|out| out.cut.blocks() == blocks));
    pool.run(blocks * groups, work, |i, scratch| {
        let (block, group) = (i / groups, i % groups);
        let tiles = std::array::from_fn(|w| {
            let out = &shared[w];
            let (from, to) = out.cut.range(block);
            let (left, right) = (group * out.width, ((group + 1) * out.width).min(out.stride));
            let (rows, cols) = (to - from, right.saturating_sub(left));
            let empty = rows == 0 || cols == 0;
            assert!(empty || (to - 1) * out.stride + right <= out.len);
            let start =
                if empty { out.start } else { out.start.wrapping_add(from * out.stride + left) };
            // The block lies within `out.data`, which stays borrowed until all tasks are done, and
            // belongs to task i alone: rows are cut without overlap, and so are columns.
            Tile { start, stride: out.stride, rows, cols, life: PhantomData }
        });
        task(block, group, tiles, scratch);
    });
}

/// How a panel of `a` is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// Element (i, k) at i * ROW_STRIDE + k.
    ByRows,
    /// Element (i, k) at k * stride + i: packed with COL_STRIDE, or the matrix itself.
    ByCols {
        /// Distance of k.
        stride: usize,
    },
}

/// The operands of one register tile.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    /// m x k elements, packed as `packed` says.
    pub a: &'a [f32],
    /// How.
    pub packed: Packed,
    /// k rows of at least n elements (rounded up to whole vectors), `b_stride` apart.
    pub b: &'a [f32],
    /// Distance of rows in `b`.
    pub b_stride: usize,
    /// Terms of the sums.
    pub k: usize,
}

/// out (m,n) = α a·b, or += with `add`; m = out.rows() <= tile_rows, n = out.cols() <= NV vectors.
#[inline(always)]
pub fn multiply<S: Simd>(s: S, p: Panels<'_>, alpha: f32, add: bool, out: Tile<'_>) {
    s.call(Multiply { p, alpha, add, out });
}

struct Multiply<'a, 't> {
    p: Panels<'a>,
    alpha: f32,
    add: bool,
    out: Tile<'t>,
}

impl Kernel for Multiply<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Multiply { p, alpha, add, out } = self;
        match p.packed {
            Packed::ByRows => by_rows::<S, ROW_STRIDE>(s, p, 1, alpha, add, out),
            Packed::ByCols { stride } => by_rows::<S, 1>(s, p, stride, alpha, add, out),
        }
    }
}

/// Picks the register tile with exactly as many rows.
#[inline(always)]
fn by_rows<S: Simd, const RS: usize>(
    s: S,
    p: Panels<'_>,
    ks: usize,
    alpha: f32,
    add: bool,
    out: Tile<'_>,
) {
    macro_rules! pick {
        ($($rows:literal)*) => {
            match out.rows {
                0 => {}
                $($rows if $rows <= tile_rows::<S>() => {
                    if out.cols <= S::LANES {
                        register_tile::<S, $rows, 1, RS>(s, p, ks, alpha, add, out)
                    } else {
                        register_tile::<S, $rows, NV, RS>(s, p, ks, alpha, add, out)
                    }
                })*
                more => panic!("a register tile of {more} rows"),
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

#[inline(always)]
fn register_tile<S: Simd, const M: usize, const N: usize, const RS: usize>(
    s: S,
    p: Panels<'_>,
    ks: usize,
    alpha: f32,
    add: bool,
    out: Tile<'_>,
) {
    assert!(out.rows == M && out.cols <= N * S::LANES);
    if p.k > 0 {
        assert!((M - 1) * RS + (p.k - 1) * ks < p.a.len());
        assert!((p.k - 1) * p.b_stride + N * S::LANES <= p.b.len());
    }
    for i in 0..M {
        // What is added to (or replaced) comes to the cache while the sums are made.
        for j in 0..N {
            s.prefetch(out.start.wrapping_add(i * out.stride + j * S::LANES));
        }
    }
    let mut acc = [[s.splat(0.0); N]; M];
    let (mut a, mut b, ahead) = (p.a.as_ptr(), p.b.as_ptr(), AHEAD * p.b_stride);
    for _ in 0..p.k {
        // SAFETY: the asserts above bound the last element read of a and of b; a wrapping step past
        // the end after the last round is not read from.
        unsafe {
            for j in 0..N {
                s.prefetch(b.wrapping_add(ahead + j * S::LANES));
            }
            let row = std::slice::from_raw_parts(b, N * S::LANES);
            let mut vectors = [s.splat(0.0); N];
            for j in 0..N {
                vectors[j] = s.load(&row[j * S::LANES..]);
            }
            for i in 0..M {
                let x = s.splat(*a.add(i * RS));
                for j in 0..N {
                    acc[i][j] = s.fma(x, vectors[j], acc[i][j]);
                }
            }
        }
        a = a.wrapping_add(ks);
        b = b.wrapping_add(p.b_stride);
    }
    store_tile(s, acc, s.splat(alpha), add, out);
}

/// out = factor · sums [+ out]
#[inline(always)]
fn store_tile<S: Simd, const M: usize, const N: usize>(
    s: S,
    sums: [[S::V; N]; M],
    factor: S::V,
    add: bool,
    mut out: Tile<'_>,
) {
    if out.cols < N * S::LANES {
        // Numbered by a variable, the sums lie in memory; this copy keeps the others in registers.
        for (i, sums) in std::hint::black_box(sums).iter().enumerate() {
            for (part, &sum) in out.row(i).chunks_mut(S::LANES).zip(sums) {
                store_sum(s, part, sum, factor, add);
            }
        }
        return;
    }
    // Written out row by row: a loop would not be unrolled, and the sums would be spilled.
    macro_rules! rows {
        ($old:ident, $new:expr; $($i:literal)*) => {
            $(if $i < M {
                // SAFETY: $i < M = out.rows, and a row has at least N whole vectors.
                let row = unsafe {
                    std::slice::from_raw_parts_mut(out.start.add($i * out.stride), N * S::LANES)
                };
                for j in 0..N {
                    let part = &mut row[j * S::LANES..(j + 1) * S::LANES];
                    let $old = s.load(part);
                    let sum = s.mul(sums[if $i < M { $i } else { 0 }][j], factor);
                    s.store(part, $new(sum, $old));
                }
            })*
        };
    }
    if add {
        rows!(old, |sum, old| s.add(sum, old); 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
    } else {
        rows!(old, |sum, _| sum; 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
    }
}

/// A vector of `out`, or what is left of a row: sum · factor [+ out].
#[inline(always)]
pub fn store_sum<S: Simd>(s: S, out: &mut [f32], sum: S::V, factor: S::V, add: bool) {
    if out.len() == S::LANES {
        let v = if add { s.fma(sum, factor, s.load(out)) } else { s.mul(sum, factor) };
        s.store(out, v);
    } else {
        let v = if add { s.fma(sum, factor, s.load_part(out)) } else { s.mul(sum, factor) };
        s.store_part(out, v);
    }
}
