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
        // An empty part may lie beyond the view's memory; nothing of it is ever read.
        let start = self.start.wrapping_add(row * self.stride + col);
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

/// At the level of plain Rust, so that Miri can run them (`tests/scripts/soak miri`).
#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::super::pool::PoolError;
    use super::super::simd::Scalar;
    use super::*;

    /// Small integers: their sums are exact in any order.
    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7 + seed) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn parts_of_a_tile_are_those_of_the_matrix() {
        // No element behind the last row: 3 x 4 in rows of 5.
        let mut data = vec![0.0; 14];
        let mut tile = Tile::new(&mut data, 5, 3, 4);
        for i in 0..3 {
            for (j, x) in tile.row(i).iter_mut().enumerate() {
                *x = (10 * i + j) as f32;
            }
        }
        let mut part = tile.part(1, 1, 2, 3);
        assert_eq!((part.rows(), part.cols()), (2, 3));
        assert_eq!(part.row(1), [21.0, 22.0, 23.0]);
        part.row(1)[2] = -1.0;
        part.part(0, 2, 1, 1).flat()[0] = -2.0;
        assert!(tile.part(2, 4, 1, 0).flat().is_empty());
        assert_eq!(tile.part(0, 1, 1, 2).flat(), [1.0, 2.0]);
        let rows = [[0.0, 1.0, 2.0, 3.0], [10.0, 11.0, 12.0, -2.0], [20.0, 21.0, 22.0, -1.0]];
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(data[5 * i..5 * i + 4], *row);
        }
        let mut data = numbers(12, 1);
        Tile::new(&mut data, 4, 3, 4).flat()[11] = 9.0;
        assert_eq!(data[..11], numbers(12, 1)[..11]);
        assert_eq!(data[11], 9.0);
    }

    /// What makes the pointers sound.
    #[test]
    fn nothing_outside_a_tile_can_be_asked_for() {
        let new = |len: usize, stride, rows, cols| {
            catch_unwind(move || {
                let _ = Tile::new(&mut vec![0.0; len], stride, rows, cols);
            })
        };
        assert!(new(14, 5, 3, 4).is_ok());
        assert!(new(13, 5, 3, 4).is_err() && new(14, 3, 3, 4).is_err());
        let ask = |what: fn(&mut Tile<'_>)| {
            catch_unwind(move || what(&mut Tile::new(&mut [0.0; 14], 5, 3, 4))).is_err()
        };
        assert!(!ask(|tile| tile.row(2).fill(1.0)) && ask(|tile| tile.row(3).fill(1.0)));
        assert!(ask(|tile| tile.flat().fill(1.0)), "there are gaps between its rows");
        assert!(ask(|tile| tile.part(2, 0, 2, 1).row(0).fill(1.0)));
        assert!(ask(|tile| tile.part(0, 3, 1, 2).row(0).fill(1.0)));
    }

    #[test]
    fn every_block_is_given_once_and_blocks_are_apart() -> Result<(), PoolError> {
        let at = [0, 2, 2, 9];
        let (mut even, mut uneven) = (vec![0.0; 7 * 5], vec![0.0; 9 * 3]);
        // 7 x 5 in blocks of 3 x 2, and 9 x 3 in blocks of 2, 0 and 7 rows of 1.
        let outs = [
            Out { data: &mut even, stride: 5, width: 2, cut: Cut::Even { rows: 7, block: 3 } },
            Out { data: &mut uneven, stride: 3, width: 1, cut: Cut::At(&at) },
        ];
        for_blocks(&Pool::new(1)?, 1, 3, outs, |block, group, [mut a, mut b], _| {
            let value = (10 * block + group + 1) as f32;
            for i in 0..a.rows() {
                a.row(i).iter_mut().for_each(|x| *x += value);
            }
            for i in 0..b.rows() {
                b.row(i).iter_mut().for_each(|x| *x += value);
            }
        });
        for (i, row) in even.chunks(5).enumerate() {
            for (j, x) in row.iter().enumerate() {
                assert_eq!(*x, (10 * (i / 3) + j / 2 + 1) as f32, "({i}, {j})");
            }
        }
        for (i, row) in uneven.chunks(3).enumerate() {
            let block = if i < 2 { 0 } else { 2 };
            for (j, x) in row.iter().enumerate() {
                assert_eq!(*x, (10 * block + j + 1) as f32, "({i}, {j})");
            }
        }
        Ok(())
    }

    /// One register tile of m x n sums of k terms, in memory that ends with the last element needed.
    fn check_product(m: usize, n: usize, k: usize, packed: Packed, add: bool) {
        let (row, col) = match packed {
            Packed::ByRows => (ROW_STRIDE, 1),
            Packed::ByCols { stride } => (1, stride),
        };
        let width = n.next_multiple_of(Scalar::LANES);
        let (b_stride, stride, alpha) = (width + 3, n + 2, 2.0);
        let length = |rows: usize, apart: usize| rows.checked_sub(1).map_or(0, |last| last * apart);
        let (a_len, b_len) = match k {
            0 => (0, 0),
            _ => (length(m, row) + length(k, col) + 1, length(k, b_stride) + width),
        };
        let (a, b) = (numbers(a_len, 3), numbers(b_len, 8));
        let before = numbers(length(m, stride) + n, 5);
        let mut expected = before.clone();
        for i in 0..m {
            for j in 0..n {
                let sum: f32 = (0..k).map(|c| a[i * row + c * col] * b[c * b_stride + j]).sum();
                let old = if add { before[i * stride + j] } else { 0.0 };
                expected[i * stride + j] = alpha * sum + old;
            }
        }
        let mut found = before;
        let panels = Panels { a: &a, packed, b: &b, b_stride, k };
        multiply(Scalar, panels, alpha, add, Tile::new(&mut found, stride, m, n));
        assert_eq!(found, expected, "{m} x {n} x {k}, {packed:?}, add: {add}");
    }

    #[test]
    fn products_of_every_small_shape_are_those_of_plain_loops() {
        for m in 1..=tile_rows::<Scalar>() {
            for n in 1..=NV * Scalar::LANES {
                for k in [0, 1, 5] {
                    let unpacked = Packed::ByCols { stride: m };
                    let copied = Packed::ByCols { stride: COL_STRIDE };
                    for packed in [Packed::ByRows, copied, unpacked] {
                        check_product(m, n, k, packed, false);
                        check_product(m, n, k, packed, true);
                    }
                }
            }
        }
    }
}
