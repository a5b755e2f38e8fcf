//! Matrix products with one small extent, as LoRA's rank is: what is large is passed over once.

use paddock_core::backend::Write;
use paddock_core::error::Result;

use super::Wgpu;
use super::matmul::Product;
use super::memory::{Place, SUMS};
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        stem: "matmul_thin",
        source: include_str!("matmul_thin.wgsl"),
        entry,
        operands: &["out", "big", "thin"],
        quads: &["out", "big", "thin"],
    }
}

/// The small extent at most.
const THIN: u32 = 32;

/// What the other extents have at least, to be worth it.
const LONG: u32 = 128;

/// Workgroup memory of the kernels.
pub(super) const THIN_BYTES: u32 = 16 * (64 * 17 + 64 * THIN / 4);

/// How a product with one small extent runs.
pub(super) struct Thin {
    /// Along the large operand's rows, down its columns, or over a wide result.
    entry: &'static str,
    /// The large operand, or the result; then the thin one that is no weight, if any.
    big: (Place, u32),
    thin: Option<(Place, u32)>,
    weight: (Source, u32),
    /// Rows and columns of what is large, and elements from one row to the next.
    rows: u32,
    columns: u32,
    big_row: u32,
    /// Elements from one of the weight's long side to the next, or of its short side where it lies along the long.
    weight_step: u32,
    rank: u32,
    /// Whether `down` writes its result transposed; whether the weight lies along the sum.
    flags: [bool; 2],
}

impl Thin {
    /// A product of whole quads with one small extent, if that is what this is.
    pub(super) fn of(x: &Product) -> Option<Thin> {
        let small = u64::from(x.m) * u64::from(x.n) <= SUMS;
        let ([a_row, a_col], [b_row, b_col]) = (x.a_strides, x.b_strides);
        let weight_step = if b_row == 1 { b_col } else { b_row };
        if x.n <= THIN && a_col == 1 && small && x.m.min(x.k) >= LONG {
            return Some(Thin {
                entry: "across",
                big: x.a,
                thin: None,
                weight: x.b,
                rows: x.m,
                columns: x.k,
                big_row: a_row,
                weight_step,
                rank: x.n,
                flags: [false, b_row == 1],
            });
        }
        if x.k <= THIN
            && x.k.is_multiple_of(4)
            && a_col == 1
            && a_row == x.k
            && x.m.min(x.n) >= LONG
        {
            return Some(Thin {
                entry: "wide",
                big: x.out,
                thin: Some(x.a),
                weight: x.b,
                rows: x.m,
                columns: x.n,
                big_row: x.out_row,
                weight_step,
                rank: x.k,
                flags: [false, b_row == 1],
            });
        }
        let Source::Trained(place) = x.b.0 else { return None };
        let b = (place, x.b.1);
        let sums_rows = small && a_row == 1 && b_col == 1 && x.k >= LONG;
        let down = |big, thin, (columns, rank), big_row, transposed| Thin {
            entry: "down",
            big,
            thin: Some(thin),
            weight: (Source::None, 0),
            rows: x.k,
            columns,
            big_row,
            weight_step: 0,
            rank,
            flags: [transposed, false],
        };
        if sums_rows && x.n <= THIN && x.m >= LONG && b_row == x.n {
            return Some(down(x.a, b, (x.m, x.n), a_col, true));
        }
        if sums_rows && x.m <= THIN && x.n >= LONG && a_col == x.m {
            return Some(down(b, x.a, (x.n, x.m), b_row, false));
        }
        None
    }

    /// Workgroups across, how long what they share is, how many should share it, and what each takes of it at least.
    fn cut(&self) -> (u32, u32, u32, u32) {
        match self.entry {
            "across" => (self.rows.div_ceil(64), self.columns, 1024, 128),
            "down" => (self.columns.div_ceil(1024), self.rows, 512, 64),
            _ => (self.columns.div_ceil(1024), self.rows, 1024, 64),
        }
    }
}

impl Wgpu<'_> {
    pub(super) fn run_thin(&mut self, x: &Product, thin: &Thin) -> Result<()> {
        let (tiles, shared, wanted, least) = thin.cut();
        let wide = thin.entry == "wide";
        let room = if wide { u64::MAX } else { SUMS / (u64::from(x.m) * u64::from(x.n)) };
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let slices = (wanted / tiles).min(shared / least).min(room).max(1);
        let slice = shared.div_ceil(slices).next_multiple_of(64);
        let slices = shared.div_ceil(slice);
        let out = if wide { x.out.0 } else { Place::Sums };
        let mut operands = vec![("out", out), ("big", thin.big.0)];
        operands.extend(thin.thin.map(|(place, _)| ("thin", place)));
        let [a_k_fast, b_k_fast] = thin.flags;
        let across = if thin.entry == "across" { 64 } else { 1024 };
        self.launch(&Launch {
            kernel: kernel(thin.entry),
            operands: &operands,
            weight: thin.weight.0,
            tile: Tile { wx: thin.rank, wy: 1, a_k_fast, b_k_fast, edge: 0 },
            params: &[
                thin.big.1,
                thin.thin.map_or(0, |(_, at)| at),
                thin.rows,
                thin.columns,
                thin.big_row,
                thin.weight_step,
                thin.weight.1,
                slices,
                slice,
                x.alpha.to_bits(),
                u32::from(x.write == Write::Add),
            ],
            groups: u64::from(tiles) * u64::from(slices),
            cost: 2 * across * u64::from(thin.rank) * u64::from(slice),
        })?;
        if wide { Ok(()) } else { self.run_sum(x, slices) }
    }
}
