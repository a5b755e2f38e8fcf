//! out (M,N) = α Σ_parts a (M,K_p) · b (K_p,N) [+ out]: every matrix product of the CPU back-end.
//!
//! The three uses, with n tokens, O outputs, I inputs and a weight w (O,I):
//! out (n,O) = α inp (n,I) · wᵀ; dinp (n,I) += α dout (n,O) · w; dw (O,I) += α doutᵀ · inp (n,I).
//! More than one part makes the sums longer: a LoRA branch is a part with K = rank.
//!
//! The output is cut into tasks; a task walks along k in stretches of at most KC. For each it packs
//! its columns of b (they stay in the level-2 cache), then takes the rows in panels: a panel of a is
//! copied (it stays in level 1) and multiplied with all columns. The sum of an element depends on K
//! alone, so neither the cut nor the number of threads changes a bit.
//!
//! Tried (one thread): thin operands read where they lie instead of packed, n 2048, 768 x 16:
//! dw (O,16) 13 -> 56 GFLOP/s, dw (16,I) 24 -> 38, dinp 20 -> 41. The next panel of a fetched ahead:
//! inp · aᵀ (16,I) 24 -> 42 GFLOP/s.

use super::Ctx;
use super::matmul_bf16;
use super::matvec;
use super::pack::{self, View};
use super::pool::{Pool, Scratch};
use super::simd::{Kernel, Simd};
use super::tiles::{self, A_PANEL, COL_STRIDE, Cut, KC, NV, Out, Packed, Panels, Tile};

/// The left operand.
#[derive(Clone, Copy)]
pub enum Left<'a> {
    /// a (M,K).
    Rows(View<'a, f32>),
    /// aᵀ (K,M).
    Cols(View<'a, f32>),
}

/// Elements of a right operand, in the type they are stored in.
#[derive(Clone, Copy)]
pub enum Elems<'a> {
    /// Single precision.
    F32(View<'a, f32>),
    /// Upper halves of single precision.
    Bf16(View<'a, half::bf16>),
    /// Half precision.
    F16(View<'a, half::f16>),
}

/// The right operand.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// b (K,N).
    Rows(Elems<'a>),
    /// bᵀ (N,K).
    Cols(Elems<'a>),
}

/// One product of a sum of products.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Left operand.
    pub a: Left<'a>,
    /// Right operand.
    pub b: Right<'a>,
    /// Terms of the inner sums.
    pub k: usize,
}

/// A product to compute.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// Rows of out.
    pub m: usize,
    /// Columns of out.
    pub n: usize,
    /// What is summed.
    pub parts: &'a [Part<'a>],
    /// Factor of the sum.
    pub alpha: f32,
    /// Whether out's old value is kept as a term.
    pub add: bool,
}

/// Columns of a task at most: KC x 384 f32 fill about half of a 1 MiB level-2 cache.
const NC: usize = 384;
/// The same where the level-2 cache has 1.5 MiB and more: a panel of a is copied half as often.
const NC_WIDE: usize = 768;
/// What packing b costs a task, in rows that are multiplied in that time, about.
const PACKING: usize = 80;
/// What copying its rows of a costs a task, in columns that are multiplied in that time, about.
const COPYING: usize = 80;

/// Rows for which packing b does not pay.
const FEW_ROWS: usize = 28;
/// The longest stretch of k where b is read in place: its rows lie on as many pages as the first
/// level of address translation remembers.
const KC_DIRECT: usize = 64;

/// Computes `p` into `out`, whose rows are `p.n` long.
pub fn product(ctx: Ctx<'_>, p: Product<'_>, out: &mut [f32]) {
    let Ctx { pool, level, amx } = ctx;
    if p.m == 0 || p.n == 0 {
        return;
    }
    if p.m <= matvec::ROWS && p.parts.iter().all(matvec::serves) {
        return matvec::product(pool, level, p, out);
    }
    if let Some(amx) = amx {
        return matmul_bf16::product(pool, amx, p, out);
    }
    let k: usize = p.parts.iter().map(|part| part.k).sum();
    let (row_block, col_block) = cut(p.m, p.n, pool);
    let cut = Cut::Even { rows: p.m, block: row_block };
    let out = Out { data: out, stride: p.n, width: col_block, cut };
    let groups = p.n.div_ceil(col_block);
    tiles::for_blocks(pool, 2 * p.m * p.n * k, groups, [out], |i, j, [tile], scratch| {
        level.run(Block { p, row: i * row_block, col: j * col_block, tile, scratch });
    });
}

/// Cuts (m, n) into tasks. Returns the rows and the columns of one.
fn cut(m: usize, n: usize, pool: &Pool) -> (usize, usize) {
    let most = if pool.level_2_bytes() >= 3 << 19 { NC_WIDE } else { NC };
    cut_evenly((m, n), pool.threads(), Costs { columns: most, b: PACKING, a: COPYING }, 1)
}

/// What a task costs beside its multiplications.
pub(super) struct Costs {
    /// Columns of a task at most.
    pub columns: usize,
    /// Packing its part of b, in rows that are multiplied in that time.
    pub b: usize,
    /// Packing its rows of a, in columns that are multiplied in that time.
    pub a: usize,
}

/// Cuts (m, n) into tasks: few, for each packs its own operands, but so many that the threads
/// have done about as much at the end. Returns the rows of one, a multiple of `unit`, and its columns.
pub(super) fn cut_evenly(
    (m, n): (usize, usize),
    threads: usize,
    costs: Costs,
    unit: usize,
) -> (usize, usize) {
    // Twice the rounds that the threads need, one half more where the last may end unevenly.
    let rounds = |tasks: usize| 2 * tasks.div_ceil(threads) + usize::from(threads > 1);
    let mut best = (usize::MAX, m, n);
    let narrowest = n.div_ceil(costs.columns);
    for across in narrowest..=narrowest.max(n.div_ceil(64).min(4 * threads)) {
        let cols = even(n, n.div_ceil(across), 32);
        for down in 1..=m.div_ceil(64) {
            let rows = even(m, m.div_ceil(down), unit);
            let tasks = m.div_ceil(rows) * n.div_ceil(cols);
            let time = rounds(tasks) * (rows + costs.b) * (cols + costs.a);
            if time < best.0 {
                best = (time, rows, cols);
            }
        }
    }
    (best.1, best.2)
}

/// The length of blocks of at most `most` that cut `total` evenly, a multiple of `unit`.
fn even(total: usize, most: usize, unit: usize) -> usize {
    let blocks = total.div_ceil(most.max(1)).max(1);
    total.div_ceil(blocks).next_multiple_of(unit).max(1)
}

/// A task: the block of out at (row, col).
struct Block<'a, 't> {
    p: Product<'a>,
    row: usize,
    col: usize,
    tile: Tile<'t>,
    scratch: &'t mut Scratch,
}

impl Kernel for Block<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let width = NV * S::LANES;
        let (rows, cols) = (self.tile.rows(), self.tile.cols());
        let k: usize = self.p.parts.iter().map(|part| part.k).sum();
        let direct = Direct::of(&self.p, width);
        let stretch = even(k, if direct.b.is_some() { KC_DIRECT } else { KC }, 1);
        let row_step = even(rows, tiles::tile_rows::<S>(), 1);
        let b = Scratch::grow(&mut self.scratch.b, cols.next_multiple_of(width) * stretch);
        let a = Scratch::grow(&mut self.scratch.a, A_PANEL);
        let mut add = self.p.add;
        let mut from = 0;
        loop {
            let len = stretch.min(k - from);
            // Columns from here on are packed.
            let first_packed = if direct.b.is_some() { cols / width * width } else { 0 };
            let (left, n) = (self.col + first_packed, cols - first_packed);
            pack_b(s, &self.p, from, len, left, n, &mut b[first_packed * len..]);
            for row in (0..rows).step_by(row_step) {
                let m = row_step.min(rows - row);
                let (a, packed) = match direct.a {
                    Some(v) => {
                        let at = from * v.stride + self.row + row;
                        (&v.data[at.min(v.data.len())..], Packed::ByCols { stride: v.stride })
                    }
                    None => {
                        let packed = pack_a(s, &self.p, from, len, self.row + row, m, a);
                        (&*a, packed)
                    }
                };
                let next = (self.row + row + m, row_step.min(rows - row - m));
                let turns = cols.div_ceil(width);
                for (turn, col) in (0..cols).step_by(width).enumerate() {
                    fetch_next(s, &self.p, (from, len), next, (turn, turns));
                    let n = width.min(cols - col);
                    let (b, b_stride) = match direct.b {
                        Some(v) if n == width => {
                            let at = from * v.stride + self.col + col;
                            (&v.data[at.min(v.data.len())..], v.stride)
                        }
                        _ => (&b[col * len..], width),
                    };
                    let panels = Panels { a, packed, b, b_stride, k: len };
                    let out = self.tile.part(row, col, m, n);
                    tiles::multiply(s, panels, self.p.alpha, add, out);
                }
            }
            add = true;
            from += len;
            if from >= k {
                break;
            }
        }
    }
}

/// Operands that are read where they lie: packing pays only if a panel is used several times.
#[derive(Clone, Copy, Default)]
struct Direct<'a> {
    /// aᵀ, where few columns use it.
    a: Option<View<'a, f32>>,
    /// b, where few rows use it.
    b: Option<View<'a, f32>>,
}

impl<'a> Direct<'a> {
    /// Decided by the whole product's shape, so that every task (and every cut) does the same.
    fn of(p: &Product<'a>, width: usize) -> Direct<'a> {
        let [part] = p.parts else { return Direct::default() };
        let a = match part.a {
            Left::Cols(v) if p.n <= width => Some(v),
            _ => None,
        };
        let b = match part.b {
            Right::Rows(Elems::F32(v)) if p.m <= FEW_ROWS => Some(v),
            _ => None,
        };
        Direct { a, b }
    }
}

/// Asks for the rows `row..row + m` of a that come next, share `turn` of `turns`.
#[inline(always)]
fn fetch_next<S: Simd>(
    s: S,
    p: &Product<'_>,
    (from, len): (usize, usize),
    (row, m): (usize, usize),
    (turn, turns): (usize, usize),
) {
    for (part, k, part_len, _) in pieces(p, from, len) {
        match part.a {
            Left::Rows(v) => {
                for i in (turn..m).step_by(turns) {
                    let at = v.data.as_ptr().wrapping_add((row + i) * v.stride + k);
                    for c in (0..part_len).step_by(16) {
                        s.prefetch_far(at.wrapping_add(c));
                    }
                }
            }
            Left::Cols(v) => {
                for c in (turn..part_len).step_by(turns) {
                    // Up to 16 elements, which may lie on two lines.
                    let at = v.data.as_ptr().wrapping_add((k + c) * v.stride + row);
                    s.prefetch_far(at);
                    s.prefetch_far(at.wrapping_add(m.saturating_sub(1)));
                }
            }
        }
    }
}

/// The pieces of the stretch `from..from + len` of the joint k of all parts: for each, the part,
/// its own first k, the length, and where the piece begins in the stretch.
fn pieces<'a>(
    p: &'a Product<'a>,
    from: usize,
    len: usize,
) -> impl Iterator<Item = (&'a Part<'a>, usize, usize, usize)> {
    let mut start = 0;
    p.parts.iter().filter_map(move |part| {
        let (first, last) = (start.max(from), (start + part.k).min(from + len));
        let own = first.saturating_sub(start);
        start += part.k;
        (first < last).then(|| (part, own, last - first, first - from))
    })
}

/// Packs the columns `col..col + n` of b for a stretch of k.
#[inline(always)]
fn pack_b<S: Simd>(
    s: S,
    p: &Product<'_>,
    from: usize,
    len: usize,
    col: usize,
    n: usize,
    b: &mut [f32],
) {
    let width = NV * S::LANES;
    if n == 0 {
        return;
    }
    for (part, k, part_len, at) in pieces(p, from, len) {
        let at = &mut b[at * width..];
        let panel = len * width;
        match part.b {
            Right::Rows(Elems::F32(v)) => pack::b_rows(s, v, k, part_len, col, n, panel, at),
            Right::Rows(Elems::Bf16(v)) => pack::b_rows(s, v, k, part_len, col, n, panel, at),
            Right::Rows(Elems::F16(v)) => pack::b_rows(s, v, k, part_len, col, n, panel, at),
            Right::Cols(Elems::F32(v)) => pack::b_cols(s, v, k, part_len, col, n, panel, at),
            Right::Cols(Elems::Bf16(v)) => pack::b_cols(s, v, k, part_len, col, n, panel, at),
            Right::Cols(Elems::F16(v)) => pack::b_cols(s, v, k, part_len, col, n, panel, at),
        }
    }
}

/// Packs rows `row..row + m` of a for a stretch of k, and says how.
#[inline(always)]
fn pack_a<S: Simd>(
    s: S,
    p: &Product<'_>,
    from: usize,
    len: usize,
    row: usize,
    m: usize,
    a: &mut [f32],
) -> Packed {
    let by_cols = p.parts.iter().any(|part| matches!(part.a, Left::Cols(_)));
    for (part, k, part_len, at) in pieces(p, from, len) {
        match part.a {
            Left::Rows(v) if !by_cols => pack::a_rows(v, row, m, k, part_len, &mut a[at..]),
            Left::Cols(v) => pack::a_cols(s, v, row, m, k, part_len, &mut a[at * COL_STRIDE..]),
            Left::Rows(_) => panic!("the left operands of one product must lie the same way"),
        }
    }
    if by_cols { Packed::ByCols { stride: COL_STRIDE } } else { Packed::ByRows }
}

/// α inp (n,I) · wᵀ (O,I): a part and the shape of out (n,O).
pub fn forward<'a>(inp: &'a [f32], w: Elems<'a>, inputs: usize) -> Part<'a> {
    Part { a: Left::Rows(View { data: inp, stride: inputs }), b: Right::Cols(w), k: inputs }
}

/// dout (n,O) · w (O,I): a part of dinp (n,I).
pub fn backward_input<'a>(dout: &'a [f32], w: Elems<'a>, outputs: usize) -> Part<'a> {
    Part { a: Left::Rows(View { data: dout, stride: outputs }), b: Right::Rows(w), k: outputs }
}

/// doutᵀ (O,n) · inp (n,I): a part of dw (O,I).
pub fn backward_weight<'a>(
    dout: &'a [f32],
    inp: &'a [f32],
    outputs: usize,
    inputs: usize,
) -> Part<'a> {
    let n = dout.len().checked_div(outputs).unwrap_or(0);
    let b = Right::Rows(Elems::F32(View { data: inp, stride: inputs }));
    Part { a: Left::Cols(View { data: dout, stride: outputs }), b, k: n }
}
