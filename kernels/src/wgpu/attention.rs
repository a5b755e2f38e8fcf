//! Attention over the forest, and its gradients.

use paddock_core::backend::{AttentionGrads, AttentionSaved, Heads};
use paddock_core::batch::Rows;
use paddock_core::error::{Error, Result};
use paddock_core::slot::Slot;

use super::Wgpu;
use super::memory::Place;
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source, place};
use super::tables::VisibilityTables;

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        stem: "attention",
        source: include_str!("attention.wgsl"),
        entry,
        operands: &["q", "k", "v", "out", "lse", "dout", "dq", "dk", "dv"],
    }
}

/// The parameters, in the order of the kernel's struct.
fn params(offsets: [u32; 9], heads: Heads, rows: u64, tables: VisibilityTables) -> Vec<u32> {
    let scale = 1.0 / f64::from(heads.head_dim).sqrt();
    let mut params = offsets.to_vec();
    params.extend([heads.n_heads, heads.n_kv_heads, heads.head_dim, rows as u32]);
    params.push((scale as f32).to_bits());
    params.extend([tables.queries, tables.ranges, tables.blocks]);
    params
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
        (groups, cost): (u64, u64),
    ) -> Result<()> {
        self.launch(&Launch {
            kernel: kernel(entry),
            operands,
            weight: Source::None,
            tile: Tile::default(),
            params,
            groups,
            cost,
        })
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
        let params = params(offsets, heads, n, self.tables.visibility(rows));
        let operands = [
            ("q", place(q)),
            ("k", place(k)),
            ("v", place(v)),
            ("out", place(out)),
            ("lse", place(lse)),
        ];
        // Every query may see every key.
        let cost = cost(heads, k.len / width(heads.n_kv_heads, heads));
        let work = (n * u64::from(heads.n_heads), cost);
        self.run_attention("forward", &operands, &params, work)
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
            ("q", place(q)),
            ("k", place(k)),
            ("v", place(v)),
            ("out", place(out)),
            ("lse", place(lse)),
            ("dout", place(dout)),
            ("dq", place(dq)),
            ("dk", place(dk)),
            ("dv", place(dv)),
        ];
        let by_query = params(offsets, heads, n, tables);
        let by_key = params(offsets, heads, keys, tables);
        let queries = n * u64::from(heads.n_heads);
        let per_query = 2 * cost(heads, keys);
        self.run_attention("backward_delta", &operands, &by_query, (queries, cost(heads, 1)))?;
        // A key head serves several heads.
        let key_groups = keys * u64::from(heads.n_kv_heads);
        let per_key = 2 * cost(heads, n * u64::from(heads.n_heads / heads.n_kv_heads));
        self.run_attention("backward_keys", &operands, &by_key, (key_groups, per_key))?;
        self.run_attention("backward_queries", &operands, &by_query, (queries, per_query))
    }
}
