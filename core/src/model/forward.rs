//! The LLaMA forward pass, one op a line. Read [`super::backward`] beside it: the same list, upside
//! down.

use crate::backend::{Backend, Dropout, Heads, LoraSlots};
use crate::batch::{Batch, Rows};
use crate::error::Result;
use crate::model::{Linear, Model, Module};
use crate::plan::{CacheSlots, LayerActs, Plan};
use crate::slot::Slot;

/// Asked between layers, each of which may take seconds, whether to go on.
pub type GoOn<'a> = &'a mut dyn FnMut() -> bool;

/// One pass over one micro-batch: the model, its memory, the batch's row counts and, while training
/// with dropout, the step's number and the run's seed.
pub struct Pass<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its memory.
    pub plan: &'a Plan,
    /// Rows (N).
    pub n: u64,
    /// Kept rows (M).
    pub m: u64,
    /// Loss entries (E).
    pub e: u64,
    /// (seed, step) of dropout's masks; `None` switches dropout off.
    pub dropout: Option<(u64, u32)>,
    /// Keys and values go to the cache and are read from it.
    pub cached: bool,
}

impl<'a> Pass<'a> {
    /// A pass over `batch`, without dropout and cache.
    pub fn new(model: &'a Model, plan: &'a Plan, batch: &Batch) -> Pass<'a> {
        let (n, m, e) = (batch.rows(), batch.kept(), batch.entries());
        Pass { model, plan, n, m, e, dropout: None, cached: false }
    }

    /// Heads of attention.
    pub(crate) fn heads(&self) -> Heads {
        let c = &self.model.config;
        Heads { n_heads: c.n_heads, n_kv_heads: c.n_kv_heads, head_dim: c.head_dim }
    }

    /// `slot` cut to `n` rows of `width`.
    pub(crate) fn cut(slot: Slot, rows: u64, width: u32) -> Slot {
        slot.first(rows * u64::from(width))
    }

    /// What the adapter of `module` in layer `l` needs for `rows` rows.
    pub(crate) fn lora_slots(
        &self,
        l: usize,
        module: Module,
        linear: &Linear,
        rows: u64,
    ) -> LoraSlots {
        let rank = self.model.rank_of(module).unwrap_or(0);
        let dropout = match self.dropout {
            Some((seed, step)) if self.model.dropout() > 0.0 => Some(Dropout {
                p: self.model.dropout(),
                seed,
                stream: Model::dropout_stream(l, module),
                step,
                rows: if rows == self.n { Rows::All } else { Rows::Kept },
            }),
            _ => None,
        };
        LoraSlots {
            s: Pass::cut(self.plan.layers[l].s[module as usize], rows, rank),
            ds: Pass::cut(self.plan.grads.ds, rows, rank),
            dropped: Pass::cut(self.plan.grads.dropped, rows, linear.w.cols),
            dropout,
        }
    }

    /// The activations of layer `l` cut to this batch; the last layer's second half and queries have
    /// M rows, all others N.
    pub(crate) fn acts(&self, l: usize) -> LayerActs {
        let c = &self.model.config;
        let a = self.plan.layers[l];
        let q_rows = if self.is_last(l) { self.m } else { self.n };
        LayerActs {
            x: Pass::cut(a.x, self.n, c.dim),
            norm1: Pass::cut(a.norm1, self.n, c.dim),
            rstd1: Pass::cut(a.rstd1, self.n, 1),
            q: Pass::cut(a.q, q_rows, c.q_dim()),
            k: Pass::cut(a.k, self.n, c.kv_dim()),
            v: Pass::cut(a.v, self.n, c.kv_dim()),
            att: Pass::cut(a.att, q_rows, c.q_dim()),
            lse: Pass::cut(a.lse, q_rows, c.n_heads),
            mid: Pass::cut(a.mid, q_rows, c.dim),
            norm2: Pass::cut(a.norm2, q_rows, c.dim),
            rstd2: Pass::cut(a.rstd2, q_rows, 1),
            gate: Pass::cut(a.gate, q_rows, c.hidden_dim),
            up: Pass::cut(a.up, q_rows, c.hidden_dim),
            act: Pass::cut(a.act, q_rows, c.hidden_dim),
            s: a.s,
        }
    }

    pub(crate) fn is_last(&self, l: usize) -> bool {
        l + 1 == self.model.layers.len()
    }

    pub(crate) fn norm1_kept(&self) -> Slot {
        Pass::cut(self.plan.head.norm1_kept, self.m, self.model.config.dim)
    }

    /// Embedding, all layers and the final norm: leaves `plan.head.norm` (M,C), ready for the loss
    /// or the logits. In the last layer only keys and values are computed for rows that are not
    /// kept.
    pub fn forward(&self, b: &mut dyn Backend) -> Result<()> {
        self.forward_while(b, &mut || true).map(|_| ())
    }

    /// The same, with `go_on` asked before each layer: once it says no the pass is left where it is,
    /// and false comes back.
    pub fn forward_while(&self, b: &mut dyn Backend, go_on: GoOn<'_>) -> Result<bool> {
        let c = &self.model.config;
        b.embed_forward(self.acts(0).x, self.model.embed)?;
        for l in 0..self.model.layers.len() {
            if !go_on() {
                return Ok(false);
            }
            self.layer_forward(b, l)?;
            self.layer_output(b, l)?;
        }
        let head = &self.plan.head;
        let norm = Pass::cut(head.norm, self.m, c.dim);
        let rstd = Pass::cut(head.rstd, self.m, 1);
        let out = Pass::cut(head.out, self.m, c.dim);
        b.rms_norm_forward(norm, rstd, out, self.model.norm.w, c.rms_norm_eps as f32)?;
        Ok(true)
    }

    /// Layer `l` up to `act`: all that backward reads.
    pub(crate) fn layer_forward(&self, b: &mut dyn Backend, l: usize) -> Result<()> {
        let c = &self.model.config;
        let (a, layer) = (self.acts(l), &self.model.layers[l]);
        let (eps, rope) = (c.rms_norm_eps as f32, self.plan.head.rope);
        let last = self.is_last(l);
        let rows = if last { Rows::Kept } else { Rows::All };
        let q_rows = if last { self.m } else { self.n };
        let linear = |b: &mut dyn Backend, m: Module, out, inp, rows| {
            let linear = layer.linear(m);
            linear.forward(b, out, inp, self.lora_slots(l, m, linear, rows))
        };

        b.rms_norm_forward(a.norm1, a.rstd1, a.x, layer.norm1.w, eps)?;
        let (mut x, mut norm1) = (a.x, a.norm1);
        if last {
            x = Pass::cut(self.plan.head.x_kept, self.m, c.dim);
            norm1 = self.norm1_kept();
            b.gather_rows(x, a.x, c.dim)?;
            b.gather_rows(norm1, a.norm1, c.dim)?;
        }
        linear(b, Module::Q, a.q, norm1, q_rows)?;
        linear(b, Module::K, a.k, a.norm1, self.n)?;
        linear(b, Module::V, a.v, a.norm1, self.n)?;
        b.rope_forward(a.q, rope, c.head_dim, rows)?;
        b.rope_forward(a.k, rope, c.head_dim, Rows::All)?;
        let (k, v) = self.keys_and_values(b, l, a.k, a.v)?;
        b.attention_forward(a.att, a.lse, a.q, k, v, self.heads(), rows)?;
        linear(b, Module::O, a.mid, a.att, q_rows)?;
        b.add(a.mid, a.mid, x)?;
        b.rms_norm_forward(a.norm2, a.rstd2, a.mid, layer.norm2.w, eps)?;
        linear(b, Module::Gate, a.gate, a.norm2, q_rows)?;
        linear(b, Module::Up, a.up, a.norm2, q_rows)?;
        b.swiglu_forward(a.act, a.gate, a.up)
    }

    /// The rest of layer `l`: the next layer's input.
    pub(crate) fn layer_output(&self, b: &mut dyn Backend, l: usize) -> Result<()> {
        let (a, down) = (self.acts(l), self.model.layers[l].linear(Module::Down));
        let (out, rows) = if self.is_last(l) {
            (Pass::cut(self.plan.head.out, self.m, self.model.config.dim), self.m)
        } else {
            (self.acts(l + 1).x, self.n)
        };
        down.forward(b, out, a.act, self.lora_slots(l, Module::Down, down, rows))?;
        b.add(out, out, a.mid)
    }

    /// The keys and values that attention reads: the batch's own, or the cache after they have been
    /// written to it.
    fn keys_and_values(
        &self,
        b: &mut dyn Backend,
        l: usize,
        k: Slot,
        v: Slot,
    ) -> Result<(Slot, Slot)> {
        if !self.cached {
            return Ok((k, v));
        }
        let CacheSlots { k: cache_k, v: cache_v } = self.plan.cache[l];
        let kv_dim = self.model.config.kv_dim();
        b.cache_write(cache_k, k, kv_dim)?;
        b.cache_write(cache_v, v, kv_dim)?;
        Ok((cache_k, cache_v))
    }

    /// logits (M,V) of the kept rows, for the sampler. Needs `forward` before it.
    pub fn logits(&self, b: &mut dyn Backend) -> Result<Slot> {
        let c = &self.model.config;
        let logits = Pass::cut(self.plan.head.logits, self.m, c.vocab_size);
        let norm = Pass::cut(self.plan.head.norm, self.m, c.dim);
        b.matmul_forward(logits, norm, self.model.head, 1.0, crate::backend::Write::Set)?;
        Ok(logits)
    }

    /// nll (E), and the number of the largest logit of each kept row (M), without gradients. Needs
    /// `forward` before it.
    pub fn loss(&self, b: &mut dyn Backend) -> Result<(Slot, Slot)> {
        let head = &self.plan.head;
        let (nll, lse) = (Pass::cut(head.nll, self.e, 1), Pass::cut(head.lse, self.m, 1));
        let best = Pass::cut(head.best, self.m, 1);
        let norm = Pass::cut(head.norm, self.m, self.model.config.dim);
        b.linear_cross_entropy_forward(nll, lse, Some(best), norm, self.model.head)?;
        Ok((nll, best))
    }
}
