//! Attention over the forest, and its gradients.

use paddock_core::backend::{AttentionGrads, AttentionSaved, Heads};
use paddock_core::batch::Rows;
use paddock_core::error::{Error, Result};
use paddock_core::slot::{Region, Slot};

use super::{Cuda, args};

/// Elements of scratch: what backward keeps of each query and head.
pub fn scratch_len(tokens: u64, n_heads: u32) -> u64 {
    tokens * u64::from(n_heads)
}

fn scale(heads: Heads) -> f32 {
    (1.0 / f64::from(heads.head_dim).sqrt()) as f32
}

impl Cuda<'_> {
    /// Queries of `q`, which must be those of the batch.
    fn query_count(&self, q: Slot, heads: Heads, rows: Rows) -> Result<u64> {
        let width = u64::from(heads.n_heads) * u64::from(heads.head_dim);
        let expected = self.tables.rows(rows).count * width;
        if q.len != expected {
            let (op, operand, found) = ("attention", "q", q.len);
            return Err(Error::Shape { op, operand, found, expected });
        }
        Ok(expected / width)
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
        let tables = *self.tables.rows(rows);
        let (visible, ranges) = (self.table(tables.visible)?, self.table(tables.ranges)?);
        let [q, k, v] = [self.narrow(q)?, self.narrow(k)?, self.narrow(v)?];
        let (out, lse) = (self.narrow(out)?, self.wide(lse)?);
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        self.gpu.launch(
            "attention_forward",
            [(n * u64::from(n_heads)).div_ceil(4), 1, 1],
            128,
            16 * head_dim,
            args!(
                out,
                lse,
                q,
                k,
                v,
                visible,
                ranges,
                n as u32,
                n_heads,
                n_kv_heads,
                head_dim,
                scale(heads)
            ),
        )
    }

    pub(super) fn run_attention_backward(
        &mut self,
        grads: AttentionGrads,
        saved: AttentionSaved,
    ) -> Result<()> {
        let AttentionSaved { heads, rows, .. } = saved;
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        let n = self.query_count(saved.q, heads, rows)?;
        let keys = grads.dk.len / (u64::from(n_kv_heads) * u64::from(head_dim));
        let tables = *self.tables.rows(rows);
        if keys > tables.keys {
            let (op, operand, expected) = ("attention_backward", "keys", tables.keys);
            return Err(Error::Shape { op, operand, found: keys, expected });
        }
        let delta = self.scratch("attention_backward", scratch_len(n, n_heads))?;
        let (visible, ranges) = (self.table(tables.visible)?, self.table(tables.ranges)?);
        let seen = self.table(tables.seen)?;
        let [dq, dk, dv] = [self.narrow(grads.dq)?, self.narrow(grads.dk)?, self.narrow(grads.dv)?];
        let [q, k, v] = [self.narrow(saved.q)?, self.narrow(saved.k)?, self.narrow(saved.v)?];
        let [dout, out] = [self.narrow(saved.dout)?, self.narrow(saved.out)?];
        let (lse, scale) = (self.wide(saved.lse)?, scale(heads));
        self.gpu.launch(
            "attention_backward_query",
            [(n * u64::from(n_heads)).div_ceil(4), 1, 1],
            128,
            16 * head_dim,
            args!(
                dq, delta, dout, out, lse, q, k, v, visible, ranges, n as u32, n_heads, n_kv_heads,
                head_dim, scale
            ),
        )?;
        self.gpu.launch(
            "attention_backward_key",
            [(keys * u64::from(n_kv_heads)).div_ceil(4), 1, 1],
            128,
            32 * head_dim,
            args!(
                dk,
                dv,
                delta,
                dout,
                lse,
                q,
                k,
                v,
                visible,
                seen,
                keys as u32,
                n_heads,
                n_kv_heads,
                head_dim,
                scale
            ),
        )
    }

    /// The address of the working space, which must have at least `len` elements.
    pub(super) fn scratch(&self, op: &'static str, len: u64) -> Result<u64> {
        let found = self.memory.len(Region::Scratch);
        if found < len {
            return Err(Error::Shape { op, operand: "scratch", found, expected: len });
        }
        self.memory.at(Slot::new(Region::Scratch, 0, len))
    }
}
