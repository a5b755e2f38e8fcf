//! Attention over the forest, and its gradients.

use paddock_core::backend::{AttentionGrads, AttentionSaved, Heads};
use paddock_core::batch::Rows;
use paddock_core::error::{Error, Result};
use paddock_core::slot::Slot;

use super::Wgpu;
use super::memory::{PARTIALS, Place};
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};
use super::tables::TileTables;
use super::tier::Tier;

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        stem: "attention",
        source: include_str!("attention.wgsl"),
        entry,
        operands: &["q", "k", "v", "out", "lse", "dout", "dq", "dk", "dv"],
        quads: &[],
    }
}

const fn tiled(entry: &'static str, source: &'static str) -> Kernel {
    Kernel {
        stem: "attention_tiles",
        source,
        entry,
        operands: &["q", "k", "v", "out", "lse", "dout", "dq", "dk", "dv"],
        quads: &["q", "k", "v", "out", "dout", "dq", "dk", "dv"],
    }
}

const TILED_FORWARD: &str = concat!(
    include_str!("attention_lists.wgsl"),
    include_str!("attention_tiles.wgsl"),
    include_str!("attention_tiles_forward.wgsl")
);
const TILED_BACKWARD: &str = concat!(
    include_str!("attention_lists.wgsl"),
    include_str!("attention_tiles.wgsl"),
    include_str!("attention_tiles_backward.wgsl")
);

const fn cooperative(entry: &'static str, source: &'static str) -> Kernel {
    Kernel {
        stem: "attention_cooperative",
        operands: &["q", "k", "v", "out", "lse", "dout", "dq", "dk", "dv", "ranges"],
        ..tiled(entry, source)
    }
}

const COOPERATIVE_FORWARD: &str = concat!(
    include_str!("attention_lists.wgsl"),
    include_str!("attention_cooperative.wgsl"),
    include_str!("attention_cooperative_forward.wgsl")
);
const COOPERATIVE_BACKWARD: &str = concat!(
    include_str!("attention_lists.wgsl"),
    include_str!("attention_cooperative.wgsl"),
    include_str!("attention_cooperative_backward.wgsl")
);

/// Bytes of workgroup memory of the tiled kernels.
const TILED_BYTES: u32 = 16 * (544 + 1088) + 4 * 256;

/// Bytes of workgroup memory of the other kernels, without their sums.
const PLAIN_BYTES: u32 = 4 * (64 * 17 + 3 * 64);

/// Queries of a tile from which on the tiled kernels are worth it, on average.
const FILLED: u64 = 16;

/// The parameters, in the order of the kernels' structs; the last ones say who sees whom.
fn params(offsets: [u32; 9], heads: Heads, rows: u64, tables: &[u32]) -> Vec<u32> {
    let scale = 1.0 / f64::from(heads.head_dim).sqrt();
    let mut params = offsets.to_vec();
    params.extend([heads.n_heads, heads.n_kv_heads, heads.head_dim, rows as u32]);
    params.push((scale as f32).to_bits());
    params.extend(tables);
    params
}

/// Where the lists of tiles begin, and how many halves of tiles there are.
fn lists(tiles: TileTables) -> [u32; 4] {
    [tiles.tiles, tiles.blocks, tiles.masks, 2 * tiles.count]
}

/// Operations of the workgroup with the longest tile, for so many matrix products, fourfold: the tiled kernels
/// reach about a quarter of the large matrix product's speed.
fn tiled_cost(tiles: TileTables, heads: Heads, products: u64) -> u64 {
    let block = 2 * 64 * 64 * u64::from(heads.head_dim);
    4 * products * block * u64::from(tiles.longest).max(1)
}

/// The tiles of matrix instructions for heads of `dim` channels, where a device has them: of this edge, its
/// subgroups all of one size (0: they are not) and this much workgroup memory.
fn cooperative_tile(edge: u32, subgroup: u32, workgroup_bytes: u32, dim: u32) -> Option<Tile> {
    if edge == 0 || subgroup == 0 {
        return None;
    }
    let (row_tiles, subgroups) = (64 / edge, 256 / subgroup);
    let share = subgroups / row_tiles;
    let pads = if edge == 16 { [2, 2, 1] } else { [0, 0, 0] };
    let bytes = 64 * (8 * (dim / 4 + pads[0]) + 8 * (16 + pads[1]) + 16 * (16 + pads[2]));
    let fits = share > 0
        && subgroups.is_multiple_of(row_tiles)
        && row_tiles.is_multiple_of(share)
        && dim.is_multiple_of(16.max(edge * share))
        && bytes <= workgroup_bytes;
    fits.then_some(Tile { wx: dim, wy: subgroups, edge, ..Tile::default() })
}

/// Numbers of a row of `count` heads.
fn width(count: u32, heads: Heads) -> u64 {
    u64::from(count) * u64::from(heads.head_dim)
}

/// Operations of a workgroup that meets `partners` rows, eightfold: these kernels reach about an eighth
/// of the matrix product's speed.
fn cost(heads: Heads, partners: u64) -> u64 {
    8 * 4 * u64::from(heads.head_dim) * partners
}

impl Wgpu<'_> {
    /// Queries of `q`, which must be those of the batch.
    fn query_count(&self, q: Slot, heads: Heads, rows: Rows) -> Result<u64> {
        let width = width(heads.n_heads, heads);
        let expected = self.tables.count(rows) * width;
        if q.len != expected {
            let (op, operand, found) = ("attention", "q", q.len);
            return Err(Error::Shape { op, operand, found, expected });
        }
        Ok(expected / width)
    }

    fn run_attention(
        &mut self,
        entry: &'static str,
        operands: &[(&'static str, Place)],
        params: &[u32],
        heads: Heads,
        (groups, cost): (u64, u64),
    ) -> Result<()> {
        // A row of sums is kept in workgroup memory, twice.
        let width = heads.head_dim.next_multiple_of(64);
        let room = self.gpu.max_workgroup_bytes;
        if PLAIN_BYTES + 8 * width > room {
            return Err(Error::Device(format!(
                "heads of {} numbers do not fit the {room} bytes of workgroup memory of {}; use \
                 --backend cpu",
                heads.head_dim, self.gpu.name
            )));
        }
        self.launch(&Launch {
            kernel: kernel(entry),
            operands,
            weight: Source::None,
            tile: Tile { wx: width, wy: 1, ..Tile::default() },
            params,
            groups,
            cost,
        })
    }

    /// Whether the tiled kernels can take these operands, none of which may share a buffer with `lse`, and are
    /// worth it: not for decoding, where a tile would hold one query.
    fn tiles_pay(&self, slots: &[Slot], lse: Slot, heads: Heads, rows: Rows) -> bool {
        let tiles = u64::from(self.tables.visibility(rows).by_query.count);
        let quads = |slot: &Slot| {
            (slot.offset - self.memory.window(*slot)).is_multiple_of(4)
                && self.place(*slot) != self.place(lse)
        };
        heads.head_dim.is_multiple_of(4)
            && heads.head_dim <= 128
            && self.gpu.componentwise_bytes >= TILED_BYTES
            && self.tables.count(rows) >= FILLED * tiles
            && slots.iter().all(quads)
    }

    /// The tiles of matrix instructions, if this device's tier has them and they take these heads.
    fn matrix_tile(&self, heads: Heads) -> Option<Tile> {
        let gpu = &self.gpu;
        let cooperates = gpu.tier() == Tier::Cooperative;
        let tile = || {
            cooperative_tile(gpu.tile_edge, gpu.subgroup, gpu.max_workgroup_bytes, heads.head_dim)
        };
        cooperates.then(tile).flatten()
    }

    /// Finds how far q, k, v and the like may be scaled, for the kernels of matrix instructions. What is f16 is not
    /// scaled, but going back the gradients of weights are, by what v and dout hold.
    fn run_operand_ranges(&mut self, slots: &[Slot], heads: Heads) -> Result<()> {
        if self.matrix_tile(heads).is_some() {
            let (back, of_weights) = (slots.len() == 4, 2..4);
            for (i, slot) in slots.iter().enumerate() {
                if self.is_narrow(*slot) && !(back && of_weights.contains(&i)) {
                    continue;
                }
                self.run_range(*slot, i as u32 * PARTIALS as u32)?;
            }
        }
        Ok(())
    }

    fn run_tiled(
        &mut self,
        entry: &'static str,
        operands: &[(&'static str, Place)],
        params: &[u32],
        heads: Heads,
        (groups, cost): (u64, u64),
    ) -> Result<()> {
        let forward = entry == "forward";
        let (kernel, tile) = match self.matrix_tile(heads) {
            Some(tile) => {
                let source = if forward { COOPERATIVE_FORWARD } else { COOPERATIVE_BACKWARD };
                (cooperative(entry, source), tile)
            }
            None => {
                let source = if forward { TILED_FORWARD } else { TILED_BACKWARD };
                // Quads of channels of a thread.
                let tile = Tile { wx: heads.head_dim.div_ceil(64), ..Tile::default() };
                (tiled(entry, source), tile)
            }
        };
        let weight = Source::None;
        self.launch(&Launch { kernel, operands, weight, tile, params, groups, cost })
    }

    pub(super) fn run_attention_forward(
        &mut self,
        out: Slot,
        lse: Slot,
        [q, k, v]: [Slot; 3],
        heads: Heads,
        rows: Rows,
    ) -> Result<()> {
        let n = self.query_count(q, heads, rows)?;
        let offsets =
            [self.at(q)?, self.at(k)?, self.at(v)?, self.at(out)?, self.at(lse)?, 0, 0, 0, 0];
        let tables = self.tables.visibility(rows);
        let operands = [
            ("q", self.place(q)),
            ("k", self.place(k)),
            ("v", self.place(v)),
            ("out", self.place(out)),
            ("lse", self.place(lse)),
            ("ranges", Place::Partials),
        ];
        if self.tiles_pay(&[q, k, v, out], lse, heads, rows) {
            let tiles = tables.by_query;
            let params = params(offsets, heads, n, &lists(tiles));
            let work = (2 * u64::from(tiles.count * heads.n_heads), tiled_cost(tiles, heads, 2));
            self.run_operand_ranges(&[q, k, v], heads)?;
            return self.run_tiled("forward", &operands, &params, heads, work);
        }
        let params = params(offsets, heads, n, &[tables.queries, tables.ranges, tables.blocks]);
        // Every query may see every key.
        let cost = cost(heads, k.len / width(heads.n_kv_heads, heads));
        let work = (n * u64::from(heads.n_heads), cost);
        self.run_attention("forward", &operands, &params, heads, work)
    }

    pub(super) fn run_attention_backward(
        &mut self,
        grads: AttentionGrads,
        saved: AttentionSaved,
    ) -> Result<()> {
        let AttentionSaved { dout, out, lse, q, k, v, heads, rows } = saved;
        let AttentionGrads { dq, dk, dv } = grads;
        let n = self.query_count(q, heads, rows)?;
        let tables = self.tables.visibility(rows);
        let keys = dk.len / width(heads.n_kv_heads, heads);
        if keys > u64::from(tables.keys) {
            let (op, operand, expected) = ("attention_backward", "keys", u64::from(tables.keys));
            return Err(Error::Shape { op, operand, found: keys, expected });
        }
        let mut offsets = [0; 9];
        for (at, slot) in offsets.iter_mut().zip([q, k, v, out, lse, dout, dq, dk, dv]) {
            *at = self.at(slot)?;
        }
        let operands = [
            ("q", self.place(q)),
            ("k", self.place(k)),
            ("v", self.place(v)),
            ("out", self.place(out)),
            ("lse", self.place(lse)),
            ("dout", self.place(dout)),
            ("dq", self.place(dq)),
            ("dk", self.place(dk)),
            ("dv", self.place(dv)),
            ("ranges", Place::Partials),
        ];
        let lists_of = [tables.queries, tables.ranges, tables.blocks];
        let by_query = params(offsets, heads, n, &lists_of);
        let by_key = params(offsets, heads, keys, &lists_of);
        let queries = n * u64::from(heads.n_heads);
        let per_query = 2 * cost(heads, keys);
        let work = (queries, cost(heads, 1));
        self.run_attention("backward_delta", &operands, &by_query, heads, work)?;
        if self.tiles_pay(&[q, k, v, out, dout, dq, dk, dv], lse, heads, rows) {
            let tiles = tables.by_key;
            let params_of = params(offsets, heads, keys, &lists(tiles));
            let group = u64::from(heads.n_heads / heads.n_kv_heads);
            let groups = 2 * u64::from(tiles.count * heads.n_kv_heads);
            let work = (groups, group * tiled_cost(tiles, heads, 4));
            self.run_operand_ranges(&[q, k, v, dout], heads)?;
            self.run_tiled("backward_keys", &operands, &params_of, heads, work)?;
            let tiles = tables.by_query;
            let params_of = params(offsets, heads, n, &lists(tiles));
            let work = (2 * u64::from(tiles.count * heads.n_heads), tiled_cost(tiles, heads, 3));
            return self.run_tiled("backward_queries", &operands, &params_of, heads, work);
        }
        // A key head serves several heads.
        let key_groups = keys * u64::from(heads.n_kv_heads);
        let per_key = 2 * cost(heads, n * u64::from(heads.n_heads / heads.n_kv_heads));
        let (of_keys, of_queries) = ((key_groups, per_key), (queries, per_query));
        self.run_attention("backward_keys", &operands, &by_key, heads, of_keys)?;
        self.run_attention("backward_queries", &operands, &by_query, heads, of_queries)
    }
}
