//! The matrix product and its two gradients: one kernel, read by strides.

use paddock_core::backend::Write;
use paddock_core::error::Result;
use paddock_core::slot::Slot;
use paddock_core::weights::{Mat, MatData};

use super::Wgpu;
use super::matmul_thin::{THIN_BYTES, Thin};
use super::memory::{PARTIALS, Place, SUMS};
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};
use super::tier::Tier;

const PRODUCT: Kernel = Kernel {
    stem: "matmul",
    source: include_str!("matmul.wgsl"),
    entry: "product",
    operands: &["out", "a"],
    quads: &[],
};

const LARGE: Kernel =
    Kernel { stem: "matmul_large", source: include_str!("matmul_large.wgsl"), ..PRODUCT };

const QUADS: Kernel = Kernel {
    stem: "matmul_quads",
    source: include_str!("matmul_quads.wgsl"),
    quads: &["out", "a"],
    ..PRODUCT
};

const COOPERATIVE: Kernel = Kernel {
    stem: "matmul_cooperative",
    source: include_str!("matmul_cooperative.wgsl"),
    entry: "product",
    operands: &["out", "a", "ranges"],
    quads: &["out", "a"],
};

const RANGE: Kernel = Kernel {
    stem: "matmul_range",
    source: include_str!("matmul_range.wgsl"),
    entry: "range",
    operands: &["ranges", "a"],
    quads: &["a"],
};

const SUM: Kernel = Kernel {
    stem: "matmul_sum",
    source: include_str!("matmul_sum.wgsl"),
    entry: "sum",
    operands: &["out", "a"],
    quads: &[],
};

/// Tiles of 128 x 128 from which on they are worth it: fewer would leave most of a card idle.
const MANY_TILES: u32 = 24;

/// Workgroup memory of the kernel that reads quads.
const QUADS_BYTES: u32 = 2 * 16 * 33 * 16;

/// Workgroups of the small kernel that a card should have; where there are fewer tiles, some share one.
const SPREAD: u64 = 1024;

/// What a workgroup that shares its tile takes of K at least.
const SLICE: u64 = 64;

/// How much faster than f32 a card computes products by matrix instructions, about.
const FASTER: u64 = 4;

/// Stands for an exponent that is yet to be found on the device.
const UNKNOWN: u32 = 256;

/// The exponent of numbers that are f16 already: they are multiplied by 1.
const NARROW: u32 = 141;

/// out (m,n) = alpha · A (m,k) · B (k,n), with where each begins and how it is stored.
pub(super) struct Product {
    pub(super) a: (Place, u32),
    pub(super) b: (Source, u32),
    pub(super) out: (Place, u32),
    pub(super) m: u32,
    pub(super) n: u32,
    pub(super) k: u32,
    /// Elements from a row of A to the next, and from a column to the next.
    pub(super) a_strides: [u32; 2],
    pub(super) b_strides: [u32; 2],
    pub(super) out_row: u32,
    pub(super) alpha: f32,
    pub(super) write: Write,
    /// A's whole slot, and B's where it lies in planned memory.
    whole: (Slot, Option<Slot>),
    /// The largest exponent of B, where it is known.
    exponent: Option<u32>,
}

impl Product {
    /// Whether every row of every operand is whole quads and begins at one.
    fn in_quads(&self) -> bool {
        let a_row = if self.a_strides[1] == 1 { self.k } else { self.m };
        let b_row = if self.b_strides[0] == 1 { self.k } else { self.n };
        let lengths = [a_row, b_row, self.n];
        let [a, b] = [self.a_strides, self.b_strides].map(|steps| steps[0].max(steps[1]));
        let places = [self.a.1, self.b.1, self.out.1, a, b, self.out_row];
        lengths.iter().chain(&places).all(|number| number.is_multiple_of(4))
    }

    /// The kernel and its threads by the shape: thin products get thin tiles, small ones small tiles. Then
    /// rows and columns of a workgroup.
    fn kernel(&self, componentwise_bytes: u32) -> (Kernel, Tile, [u32; 2]) {
        let many = self.m.div_ceil(128).saturating_mul(self.n.div_ceil(128)) >= MANY_TILES;
        let (wx, wy) = match (self.m, self.n) {
            (..=8, _) => (32, 2),
            (_, ..=16) => (4, 16),
            (..=32, _) | (_, ..=32) => (8, 8),
            _ => (16, 16),
        };
        let tile = self.tile(wx, wy);
        if many && self.m.min(self.n) > 32 {
            let fits = self.in_quads() && componentwise_bytes >= QUADS_BYTES;
            let kernel = if fits { QUADS } else { LARGE };
            (kernel, tile, [128, 128])
        } else {
            (PRODUCT, tile, [4 * wy, 4 * wx])
        }
    }

    fn tile(&self, wx: u32, wy: u32) -> Tile {
        let [a_k_fast, b_k_fast] = [self.a_strides[1] == 1, self.b_strides[0] == 1];
        Tile { wx, wy, a_k_fast, b_k_fast, edge: 0 }
    }

    /// How much of K each workgroup takes, if `tiles` of them are too few for a card. The shape alone decides.
    fn slice(&self, tiles: u64) -> u32 {
        let (k, numbers) = (u64::from(self.k), u64::from(self.m) * u64::from(self.n));
        let slices = (SPREAD / tiles.max(1)).min(k / SLICE).min(SUMS / numbers.max(1)).max(1);
        k.div_ceil(slices).next_multiple_of(16) as u32
    }

    /// The parameters, in the order of the kernels' structs; the last ones are the kernel's own.
    fn params(&self, out_at: u32, own: [u32; 2]) -> [u32; 15] {
        let [a, b] = [self.a_strides, self.b_strides];
        let add = u32::from(self.write == Write::Add);
        let alpha = self.alpha.to_bits();
        [
            self.a.1,
            self.b.1,
            out_at,
            self.m,
            self.n,
            self.k,
            a[0],
            a[1],
            b[0],
            b[1],
            self.out_row,
            alpha,
            add,
            own[0],
            own[1],
        ]
    }
}

impl Wgpu<'_> {
    fn run_product(&mut self, x: &Product) -> Result<()> {
        let thin = x.in_quads() && self.gpu.componentwise_bytes >= THIN_BYTES;
        if let Some(thin) = thin.then(|| Thin::of(x)).flatten() {
            return self.run_thin(x, &thin);
        }
        let cooperates = self.gpu.tier() == Tier::Cooperative;
        if cooperates && x.in_quads() && x.m.min(x.n).min(x.k) >= 32 {
            return self.run_cooperative(x);
        }
        let (kernel, tile, [rows, cols]) = x.kernel(self.gpu.componentwise_bytes);
        let tiles = u64::from(x.m.div_ceil(rows)) * u64::from(x.n.div_ceil(cols));
        let slice = if kernel.stem == PRODUCT.stem { x.slice(tiles) } else { x.k };
        let slices = x.k.div_ceil(slice.max(1)).max(1);
        let shared = slices > 1;
        let whole = Product { alpha: 1.0, write: Write::Set, out_row: x.n, ..*x };
        let (out, params) = if shared {
            (Place::Sums, whole.params(0, [slices, slice]))
        } else {
            (x.out.0, x.params(x.out.1, [1, slice]))
        };
        self.launch(&Launch {
            kernel,
            operands: &[("out", out), ("a", x.a.0)],
            weight: x.b.0,
            tile,
            params: &params,
            groups: tiles * u64::from(slices),
            cost: 2 * u64::from(rows) * u64::from(cols) * u64::from(slice),
        })?;
        if shared { self.run_sum(x, slices) } else { Ok(()) }
    }

    /// Adds the slices of a product.
    pub(super) fn run_sum(&mut self, x: &Product, slices: u32) -> Result<()> {
        let add = u32::from(x.write == Write::Add);
        self.launch(&Launch {
            kernel: SUM,
            operands: &[("out", x.out.0), ("a", Place::Sums)],
            weight: Source::None,
            tile: Tile::default(),
            params: &[0, x.out.1, x.m, x.n, x.out_row, x.alpha.to_bits(), add, slices],
            groups: (u64::from(x.m) * u64::from(x.n)).div_ceil(256),
            cost: 256 * 16 * u64::from(slices),
        })
    }

    /// A product by matrix instructions: operands are multiplied by powers of two that bring their largest
    /// numbers near the end of what f16 holds, and rounded to f16. Those that are f16 pass as they are.
    fn run_cooperative(&mut self, x: &Product) -> Result<()> {
        let exponent_a = self.exponent_of(x.whole.0, 0)?;
        let exponent = match (x.exponent, x.whole.1) {
            (None, Some(b)) => self.exponent_of(b, PARTIALS as u32)?,
            (known, _) => known.unwrap_or(UNKNOWN),
        };
        let (rows, cols) = (8 * self.gpu.tile_edge, 16 * self.gpu.tile_edge);
        self.launch(&Launch {
            kernel: COOPERATIVE,
            operands: &[("out", x.out.0), ("a", x.a.0), ("ranges", Place::Partials)],
            weight: x.b.0,
            tile: Tile { edge: self.gpu.tile_edge, ..x.tile(1, self.gpu.subgroup) },
            params: &x.params(x.out.1, [exponent, exponent_a]),
            groups: u64::from(x.m.div_ceil(rows)) * u64::from(x.n.div_ceil(cols)),
            cost: 2 * u64::from(rows) * u64::from(cols) * u64::from(x.k) / FASTER,
        })
    }

    /// Whether a slot's numbers are f16.
    pub(super) fn is_narrow(&self, slot: Slot) -> bool {
        self.memory.bytes_of(slot.region) == 2
    }

    /// The largest exponent of a slot, if that needs no looking for.
    fn exponent_of(&mut self, slot: Slot, to: u32) -> Result<u32> {
        if self.is_narrow(slot) {
            return Ok(NARROW);
        }
        self.run_range(slot, to)?;
        Ok(UNKNOWN)
    }

    /// The largest exponent in each of 256 parts of a slot; nothing to do if those are there from the product before.
    pub(super) fn run_range(&mut self, slot: Slot, to: u32) -> Result<()> {
        if to == 0 {
            if self.ranged == Some(slot) {
                return Ok(());
            }
            self.ranged = Some(slot);
        }
        let at = self.at(slot)?;
        self.launch(&Launch {
            kernel: RANGE,
            operands: &[("ranges", Place::Partials), ("a", self.place(slot))],
            weight: Source::None,
            tile: Tile::default(),
            params: &[at, slot.len as u32, to],
            groups: PARTIALS,
            cost: 16 * slot.len.div_ceil(PARTIALS),
        })
    }

    /// Notes that a product has written `out`.
    fn wrote(&mut self, out: Slot) {
        self.ranged = self.ranged.filter(|slot| !slot.overlaps(out));
    }

    pub(super) fn run_matmul_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let (out_at, inp_at) = (self.at(out)?, self.at(inp)?);
        // Each part of a cut weight gives its own columns of out.
        for part in self.parts(w)? {
            self.run_product(&Product {
                a: (self.place(inp), inp_at),
                b: (part.source, part.at),
                out: (self.place(out), out_at + part.first),
                m: (inp.len / u64::from(w.cols)) as u32,
                n: part.rows,
                k: w.cols,
                a_strides: [w.cols, 1],
                b_strides: [1, w.cols],
                out_row: w.rows,
                alpha,
                write,
                whole: (inp, planned(w)),
                exponent: part.exponent,
            })?;
        }
        self.wrote(out);
        Ok(())
    }

    pub(super) fn run_matmul_backward_input(
        &mut self,
        dinp: Slot,
        dout: Slot,
        w: Mat,
        alpha: f32,
        write: Write,
    ) -> Result<()> {
        let (dinp_at, dout_at) = (self.at(dinp)?, self.at(dout)?);
        // Each part of a cut weight is a piece of the sum.
        for (i, part) in self.parts(w)?.into_iter().enumerate() {
            self.run_product(&Product {
                a: (self.place(dout), dout_at + part.first),
                b: (part.source, part.at),
                out: (self.place(dinp), dinp_at),
                m: (dout.len / u64::from(w.rows)) as u32,
                n: w.cols,
                k: part.rows,
                a_strides: [w.rows, 1],
                b_strides: [w.cols, 1],
                out_row: w.cols,
                alpha,
                write: if i == 0 { write } else { Write::Add },
                whole: (dout, planned(w)),
                exponent: part.exponent,
            })?;
        }
        self.wrote(dinp);
        Ok(())
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
        let (dw_at, dout_at, inp_at) = (self.at(dw)?, self.at(dout)?, self.at(inp)?);
        self.run_product(&Product {
            a: (self.place(dout), dout_at),
            b: (Source::Trained(self.place(inp)), inp_at),
            out: (self.place(dw), dw_at),
            m: rows,
            n: cols,
            k: (dout.len / u64::from(rows)) as u32,
            a_strides: [1, rows],
            b_strides: [cols, 1],
            out_row: cols,
            alpha,
            write: Write::Add,
            whole: (dout, Some(inp)),
            exponent: None,
        })?;
        self.wrote(dw);
        Ok(())
    }
}

/// The slot of a matrix in planned memory.
fn planned(w: Mat) -> Option<Slot> {
    match w.data {
        MatData::Trained(slot) => Some(slot),
        MatData::Frozen(_) => None,
    }
}
