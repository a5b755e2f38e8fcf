//! Packing for products in bf16: operands rounded to bf16 (and turned where needed) into pairs of tiles. See
//! `simd/amx.rs` for the layout.

use super::matmul::{Elems, Left, Right};
use super::pack::View;
use super::simd::Simd;
use super::simd::amx::{Amx, PAIR, SIDE, TERMS, TILE, Words};

/// Elements of an operand, rounded to bf16.
trait Narrow: Copy + Default {
    /// 16 elements and 16.
    fn narrow(amx: Amx, low: &[Self; 16], high: &[Self; 16]) -> Words;
}

impl Narrow for f32 {
    #[inline(always)]
    fn narrow(amx: Amx, low: &[f32; 16], high: &[f32; 16]) -> Words {
        amx.narrow(low, high)
    }
}

impl Narrow for half::bf16 {
    #[inline(always)]
    fn narrow(amx: Amx, low: &[half::bf16; 16], high: &[half::bf16; 16]) -> Words {
        amx.load(bytemuck::cast_ref(low), bytemuck::cast_ref(high))
    }
}

impl Narrow for half::f16 {
    #[inline(always)]
    fn narrow(amx: Amx, low: &[half::f16; 16], high: &[half::f16; 16]) -> Words {
        amx.narrow_f16(bytemuck::cast_ref(low), bytemuck::cast_ref(high))
    }
}

/// Where a pair of tiles comes from: up to 32 rows of the left operand (or columns of the right one), and up to 32
/// terms of the sums.
#[derive(Clone, Copy)]
pub struct At {
    /// First row or column.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// First term.
    pub k: usize,
    /// How many.
    pub terms: usize,
}

/// A pair of tiles of the left operand: each row of a tile has 32 terms.
#[inline(always)]
pub fn left(amx: Amx, a: Left<'_>, at: At, dst: &mut [f32]) {
    match a {
        Left::Rows(v) => pair(amx, Run(v), at, dst),
        Left::Cols(v) => pair_turned(amx, TwoTerms(v), at, dst),
    }
}

/// A pair of tiles of the right operand: each row of a tile has two terms of 16 columns.
#[inline(always)]
pub fn right(amx: Amx, b: Right<'_>, at: At, dst: &mut [f32]) {
    match b {
        Right::Rows(Elems::F32(v)) => pair(amx, TwoTerms(v), at, dst),
        Right::Rows(Elems::Bf16(v)) => pair(amx, TwoTerms(v), at, dst),
        Right::Rows(Elems::F16(v)) => pair(amx, TwoTerms(v), at, dst),
        Right::Cols(Elems::F32(v)) => pair_turned(amx, Run(v), at, dst),
        Right::Cols(Elems::Bf16(v)) => pair_turned(amx, Run(v), at, dst),
        Right::Cols(Elems::F16(v)) => pair_turned(amx, Run(v), at, dst),
    }
}

/// Sixteen words for a tile. (A trait, since closures are not compiled with the caller's instructions.)
trait Source: Copy {
    /// Row `i` of a whole tile, or its column `i` if it is to be turned.
    fn whole(self, amx: Amx, at: At, i: usize) -> Words;
    /// The same where some is missing, which is zero.
    fn some(self, amx: Amx, at: At, i: usize) -> Words;
}

/// Two tiles, one below the other or side by side.
#[inline(always)]
fn pair<S: Source>(amx: Amx, source: S, at: At, dst: &mut [f32]) {
    for (half, tile) in dst[..PAIR].chunks_exact_mut(TILE).enumerate() {
        let at = at.half(half);
        let rows = tile.as_chunks_mut().0.iter_mut().enumerate();
        if at.is_whole() {
            for (i, row) in rows {
                amx.store(row, source.whole(amx, at, i));
            }
        } else {
            for (i, row) in rows {
                amx.store(row, source.some(amx, at, i));
            }
        }
    }
}

/// The same from columns.
#[inline(always)]
fn pair_turned<S: Source>(amx: Amx, source: S, at: At, dst: &mut [f32]) {
    for (half, tile) in dst[..PAIR].chunks_exact_mut(TILE).enumerate() {
        let at = at.half(half);
        let mut block = [amx.avx512().splat(0.0); 16];
        if at.is_whole() {
            for (i, column) in block.iter_mut().enumerate() {
                *column = amx.lanes(source.whole(amx, at, i));
            }
        } else {
            for (i, column) in block.iter_mut().enumerate() {
                *column = amx.lanes(source.some(amx, at, i));
            }
        }
        amx.avx512().transpose(&mut block);
        for (row, lanes) in tile.as_chunks_mut().0.iter_mut().zip(block) {
            amx.store(row, amx.words(lanes));
        }
    }
}

impl At {
    /// The items of one tile of the pair.
    #[inline(always)]
    fn half(self, half: usize) -> At {
        let before = SIDE / 2 * half;
        let count = self.count.saturating_sub(before).min(SIDE / 2);
        At { first: self.first + before, count, ..self }
    }

    /// Whether a tile is full.
    #[inline(always)]
    fn is_whole(self) -> bool {
        self.count == SIDE / 2 && self.terms == TERMS
    }
}

/// All terms of an item, where an item's terms lie side by side.
#[derive(Clone, Copy)]
struct Run<'a, E>(View<'a, E>);

impl<E: Narrow> Source for Run<'_, E> {
    #[inline(always)]
    fn whole(self, amx: Amx, at: At, i: usize) -> Words {
        let terms = self.0.row(at.first + i, at.k, TERMS);
        E::narrow(amx, sixteen(terms), sixteen(&terms[16..]))
    }

    #[inline(always)]
    fn some(self, amx: Amx, at: At, i: usize) -> Words {
        let mut terms = [E::default(); TERMS];
        if i < at.count {
            terms[..at.terms].copy_from_slice(self.0.row(at.first + i, at.k, at.terms));
        }
        E::narrow(amx, sixteen(&terms), sixteen(&terms[16..]))
    }
}

/// Two terms of all items, where a term's items lie side by side.
#[derive(Clone, Copy)]
struct TwoTerms<'a, E>(View<'a, E>);

impl<E: Narrow> Source for TwoTerms<'_, E> {
    #[inline(always)]
    fn whole(self, amx: Amx, at: At, i: usize) -> Words {
        let low = self.0.row(at.k + 2 * i, at.first, 16);
        let high = self.0.row(at.k + 2 * i + 1, at.first, 16);
        amx.pair(E::narrow(amx, sixteen(low), sixteen(high)))
    }

    #[inline(always)]
    fn some(self, amx: Amx, at: At, i: usize) -> Words {
        let mut two = [[E::default(); 16]; 2];
        for (term, items) in two.iter_mut().enumerate() {
            if 2 * i + term < at.terms && at.count > 0 {
                let src = self.0.row(at.k + 2 * i + term, at.first, at.count);
                items[..at.count].copy_from_slice(src);
            }
        }
        amx.pair(E::narrow(amx, &two[0], &two[1]))
    }
}

/// The first sixteen; panics if there are fewer.
#[inline(always)]
fn sixteen<E>(elements: &[E]) -> &[E; 16] {
    elements.first_chunk().expect("a tile's row has them")
}
