//! Attention over the forest, and its gradients: which kernels for which heads, and their launches.

use paddock_core::backend::{AttentionGrads, AttentionSaved, Heads};
use paddock_core::batch::Rows;
use paddock_core::error::{Error, Result};
use paddock_core::slot::Slot;

use super::attention_groups::heads_at_once;
use super::driver::Arg;
use super::tables::TileTables;
use super::{Cuda, args};

/// Elements of scratch: what backward keeps of each query and head.
pub fn scratch_len(tokens: u64, n_heads: u32) -> u64 {
    tokens * u64::from(n_heads)
}

fn scale(heads: Heads) -> f32 {
    (1.0 / f64::from(heads.head_dim).sqrt()) as f32
}

/// A kernel over tiles: its names for heads up to 64 and up to 128 wide, threads, and shared memory as rows
/// of the head's width and bytes more.
struct Tiled {
    names: [&'static str; 2],
    threads: u32,
    rows: u32,
    bytes: u32,
}

/// One of the three kernels, as it is everywhere and as it is on compute capability 9.0 (a name of "" stands
/// for no kernel); both take the same arguments and tiles.
struct Kernel {
    plain: Tiled,
    hopper: Tiled,
}

const FORWARD: Kernel = Kernel {
    plain: Tiled {
        names: ["attention_forward_64", "attention_forward_128"],
        threads: 128,
        rows: 256,
        bytes: 0,
    },
    hopper: Tiled {
        // For heads up to 64 wide the plain one is faster here too.
        names: ["", "attention_forward_sm90_128"],
        threads: 256,
        rows: 448,
        bytes: 0,
    },
};
const BACKWARD_QUERY: Kernel = Kernel {
    plain: Tiled {
        names: ["attention_backward_query_64", "attention_backward_query_128"],
        threads: 128,
        rows: 384,
        bytes: 512,
    },
    hopper: Tiled {
        // For heads up to 64 wide there is none: the one that was tried was wrong on an H200.
        names: ["", "attention_backward_query_sm90_128"],
        threads: 256,
        rows: 512,
        bytes: 512,
    },
};
const BACKWARD_KEY: Kernel = Kernel {
    plain: Tiled {
        names: ["attention_backward_key_64", "attention_backward_key_128"],
        threads: 256,
        rows: 384,
        bytes: 1024,
    },
    hopper: Tiled {
        names: ["attention_backward_key_sm90_64", "attention_backward_key_sm90_128"],
        threads: 256,
        rows: 512,
        bytes: 1024,
    },
};

/// Whether the kernels on tensor cores take these heads at these addresses; `attention_any.ptx` takes all.
fn is_tiled(heads: Heads, addresses: &[u64]) -> bool {
    let aligned = addresses.iter().all(|address| address.is_multiple_of(16));
    heads.head_dim.is_multiple_of(8) && heads.head_dim <= 128 && aligned
}

impl Cuda<'_> {
    /// Whether the tiles' kernels are there and take these heads at these addresses.
    fn runs_tiles(&self, heads: Heads, addresses: &[u64]) -> bool {
        self.gpu.has(FORWARD.plain.names[0]) && is_tiled(heads, addresses)
    }

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

    /// Queues a kernel for `of` heads over the tiles, with `pointers` as its first parameters.
    fn run_tiles(
        &mut self,
        kernel: &Kernel,
        pointers: &[u64],
        tables: TileTables,
        heads: Heads,
        of: u32,
    ) -> Result<()> {
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        let lists = [tables.tiles, tables.entries, tables.masks].map(|word| self.table(word));
        let mut arguments: Vec<Arg> = pointers.iter().map(|&at| Arg::from(at)).collect();
        for list in lists {
            arguments.push(Arg::from(list?));
        }
        arguments.extend_from_slice(args!(n_heads, n_kv_heads, head_dim, scale(heads)));
        let wide = head_dim > 64;
        let hopper = self.gpu.has(kernel.hopper.names[usize::from(wide)]);
        let kernel = if hopper { &kernel.hopper } else { &kernel.plain };
        let shared = kernel.rows * if wide { 256 } else { 128 } + kernel.bytes;
        let name = kernel.names[usize::from(wide)];
        let group = heads_at_once(of, tables.count, self.gpu.report.processors);
        let grid = [u64::from(group), tables.count, u64::from(of / group)];
        self.gpu.launch(name, grid, kernel.threads, shared, &arguments)
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
        if n == 0 {
            return Ok(());
        }
        let tables = *self.tables.rows(rows);
        let [q, k, v] = [self.narrow(q)?, self.narrow(k)?, self.narrow(v)?];
        let (out, lse) = (self.narrow(out)?, self.wide(lse)?);
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        if self.runs_tiles(heads, &[out, q, k, v]) {
            return self.run_tiles(&FORWARD, &[out, lse, q, k, v], tables.by_query, heads, n_heads);
        }
        let (visible, ranges) = (self.table(tables.visible)?, self.table(tables.ranges)?);
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
        let n = self.query_count(saved.q, heads, rows)?;
        let keys = grads.dk.len / (u64::from(heads.n_kv_heads) * u64::from(heads.head_dim));
        let tables = *self.tables.rows(rows);
        if keys > tables.keys {
            let (op, operand, expected) = ("attention_backward", "keys", tables.keys);
            return Err(Error::Shape { op, operand, found: keys, expected });
        }
        let delta = self.scratch("attention_backward", scratch_len(n, heads.n_heads))?;
        let [dq, dk, dv] = [self.narrow(grads.dq)?, self.narrow(grads.dk)?, self.narrow(grads.dv)?];
        let [q, k, v] = [self.narrow(saved.q)?, self.narrow(saved.k)?, self.narrow(saved.v)?];
        let [dout, out] = [self.narrow(saved.dout)?, self.narrow(saved.out)?];
        let lse = self.wide(saved.lse)?;
        let by_query = [dq, delta, dout, out, lse, q, k, v];
        let by_key = [dk, dv, delta, dout, lse, q, k, v];
        if self.runs_tiles(heads, &[dq, dk, dv, q, k, v, dout, out]) && keys == tables.keys {
            self.run_tiles(&BACKWARD_QUERY, &by_query, tables.by_query, heads, heads.n_heads)?;
            return self.run_tiles(&BACKWARD_KEY, &by_key, tables.by_key, heads, heads.n_kv_heads);
        }
        let [visible, ranges, seen] = [tables.visible, tables.ranges, tables.seen];
        self.run_any_head("attention_backward_query", &by_query, [visible, ranges], n, heads)?;
        self.run_any_head("attention_backward_key", &by_key, [visible, seen], keys, heads)
    }

    /// Queues one of the gradients of `attention_any.ptx` for `rows` queries or keys.
    fn run_any_head(
        &mut self,
        entry: &'static str,
        pointers: &[u64; 8],
        lists: [u64; 2],
        rows: u64,
        heads: Heads,
    ) -> Result<()> {
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        let (of, bytes) = match entry {
            "attention_backward_query" => (n_heads, 16),
            _ => (n_kv_heads, 32),
        };
        let mut arguments: Vec<Arg> = pointers.iter().map(|&at| Arg::from(at)).collect();
        for list in lists {
            arguments.push(Arg::from(self.table(list)?));
        }
        let rest = args!(rows as u32, n_heads, n_kv_heads, head_dim, scale(heads));
        arguments.extend_from_slice(rest);
        let grid = [(rows * u64::from(of)).div_ceil(4), 1, 1];
        self.gpu.launch(entry, grid, 128, bytes * head_dim, &arguments)
    }
}
