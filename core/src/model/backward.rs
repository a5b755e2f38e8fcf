//! The LLaMA backward pass: [`super::forward`] upside down.

use crate::backend::{AttentionGrads, AttentionSaved, Backend, LossSlots, Write};
use crate::batch::Rows;
use crate::error::Result;
use crate::model::forward::{GoOn, Pass};
use crate::model::{Layer, Module};
use crate::plan::{Grads, Recompute};
use crate::slot::Slot;

impl Pass<'_> {
    /// Loss and all gradients, after [`Pass::forward`]. `plan.head.coeff` (E) holds the loss's
    /// derivative by each entry's nll; leaves nll (E) in `plan.head.nll` and returns its slot.
    /// Gradients of parameters are added to.
    pub fn backward(&self, b: &mut dyn Backend) -> Result<Slot> {
        self.backward_while(b, &mut || true)?;
        Ok(Pass::cut(self.plan.head.nll, self.e, 1))
    }

    /// The same, with `go_on` asked before each layer: once it says no the pass is left where it is,
    /// with some gradients added and others not, and nothing comes back.
    pub fn backward_while(&self, b: &mut dyn Backend, go_on: GoOn<'_>) -> Result<Option<Slot>> {
        let (model, head) = (self.model, &self.plan.head);
        let c = &model.config;
        let cut = |slot, width| Pass::cut(slot, self.m, width);
        let loss = LossSlots {
            nll: Pass::cut(head.nll, self.e, 1),
            lse: cut(head.lse, 1),
            coeff: Pass::cut(head.coeff, self.e, 1),
            dinp: cut(self.plan.grads.dnorm_kept, c.dim),
            dw: model.dhead,
        };
        b.linear_cross_entropy(loss, cut(head.norm, c.dim), model.head)?;
        let dx_kept = cut(self.plan.grads.dx_kept, c.dim);
        b.fill(dx_kept, 0.0)?;
        let (out, rstd) = (cut(head.out, c.dim), cut(head.rstd, 1));
        b.rms_norm_backward(dx_kept, model.norm.dw, loss.dinp, out, model.norm.w, rstd)?;
        for l in (0..model.layers.len()).rev() {
            if !self.trains_at_or_below(l) {
                return Ok(Some(loss.nll));
            }
            if !go_on() {
                return Ok(None);
            }
            self.layer_again(b, l)?;
            self.feed_forward_backward(b, l)?;
            if self.attention_trains(l) || self.trains_below(l) {
                self.attention_backward(b, l)?;
            }
        }
        if let Some(dembed) = model.dembed {
            b.embed_backward(dembed, Pass::cut(self.plan.grads.dx, self.n, c.dim), c.dim)?;
        }
        Ok(Some(loss.nll))
    }

    /// Computes again what layer `l` did not remember.
    fn layer_again(&self, b: &mut dyn Backend, l: usize) -> Result<()> {
        // The last layer's activations are still where forward left them.
        if self.is_last(l) {
            return Ok(());
        }
        let (a, layer) = (self.acts(l), &self.model.layers[l]);
        let eps = self.model.config.rms_norm_eps as f32;
        match self.plan.recompute {
            Recompute::Nothing => Ok(()),
            Recompute::Layers => {
                self.layer_forward(b, l)?;
                let down = layer.linear(Module::Down);
                down.low_rank_again(b, a.act, self.lora_slots(l, Module::Down, down, self.n))
            }
            Recompute::Cheap => {
                b.rms_norm_forward(a.norm1, a.rstd1, a.x, layer.norm1.w, eps)?;
                b.rms_norm_forward(a.norm2, a.rstd2, a.mid, layer.norm2.w, eps)?;
                b.swiglu_forward(a.act, a.gate, a.up)
            }
        }
    }

    /// From the gradient of the layer's output to that of `mid`, in the same place (`dx`).
    fn feed_forward_backward(&self, b: &mut dyn Backend, l: usize) -> Result<()> {
        let (a, g, layer) = (self.acts(l), self.grads(l), &self.model.layers[l]);
        let needs_input = self.attention_trains(l) || self.trains_below(l);
        let feed_trains = [Module::Gate, Module::Up].iter().any(|&m| layer.linear(m).trains())
            || layer.norm2.dw.is_some();
        let needs_act = needs_input || feed_trains;

        self.linear_backward(
            b,
            l,
            Module::Down,
            needs_act.then_some((g.dact, Write::Set)),
            g.dx,
            a.act,
        )?;
        if !needs_act {
            return Ok(());
        }
        b.swiglu_backward(g.dgate, g.dact, g.dact, a.gate, a.up)?;
        let set = needs_input.then_some((g.dnorm, Write::Set));
        let add = needs_input.then_some((g.dnorm, Write::Add));
        self.linear_backward(b, l, Module::Gate, set, g.dgate, a.norm2)?;
        self.linear_backward(b, l, Module::Up, add, g.dact, a.norm2)?;
        if !needs_input {
            return Ok(());
        }
        b.rms_norm_backward(g.dx, layer.norm2.dw, g.dnorm, a.mid, layer.norm2.w, a.rstd2)
    }

    /// From the gradient of `mid` to that of the layer's input, in `grads.dx`.
    fn attention_backward(&self, b: &mut dyn Backend, l: usize) -> Result<()> {
        let c = &self.model.config;
        let (a, g, layer) = (self.acts(l), self.grads(l), &self.model.layers[l]);
        let (last, rope) = (self.is_last(l), self.plan.head.rope);
        let rows = if last { Rows::Kept } else { Rows::All };
        let below = self.trains_below(l) || layer.norm1.dw.is_some();

        self.linear_backward(b, l, Module::O, Some((g.datt, Write::Set)), g.dx, a.att)?;
        let AttentionGrads { dq, dk, dv } = AttentionGrads { dq: g.dq, dk: g.dk, dv: g.dv };
        let saved = AttentionSaved {
            dout: g.datt,
            out: a.att,
            lse: a.lse,
            q: a.q,
            k: a.k,
            v: a.v,
            heads: self.heads(),
            rows,
        };
        b.attention_backward(AttentionGrads { dq, dk, dv }, saved)?;
        b.rope_backward(dq, rope, c.head_dim, rows)?;
        b.rope_backward(dk, rope, c.head_dim, Rows::All)?;

        // All rows again: the last layer's kept rows are put back among the others.
        let dx = Pass::cut(self.plan.grads.dx, self.n, c.dim);
        let dnorm = Pass::cut(self.plan.grads.dnorm, self.n, c.dim);
        let dq_input = below.then_some((g.dnorm, Write::Set));
        let norm1 = if last { self.norm1_kept() } else { a.norm1 };
        self.linear_backward(b, l, Module::Q, dq_input, dq, norm1)?;
        if last && below {
            b.scatter_rows(dnorm, g.dnorm, c.dim, Write::Set)?;
            b.scatter_rows(dx, g.dx, c.dim, Write::Set)?;
        }
        let add = below.then_some((dnorm, Write::Add));
        self.linear_backward(b, l, Module::K, add, dk, a.norm1)?;
        self.linear_backward(b, l, Module::V, add, dv, a.norm1)?;
        if !below {
            return Ok(());
        }
        b.rms_norm_backward(dx, layer.norm1.dw, dnorm, a.x, layer.norm1.w, a.rstd1)
    }

    fn linear_backward(
        &self,
        b: &mut dyn Backend,
        l: usize,
        module: Module,
        dinp: Option<(Slot, Write)>,
        dout: Slot,
        inp: Slot,
    ) -> Result<()> {
        let linear = self.model.layers[l].linear(module);
        let rows = dout.len / u64::from(linear.w.rows);
        linear.backward(b, dinp, dout, inp, self.lora_slots(l, module, linear, rows))
    }

    /// The gradients' places cut to this layer's rows; in the last layer `dx` and `dnorm` are those
    /// of the kept rows.
    fn grads(&self, l: usize) -> Grads {
        let c = &self.model.config;
        let g = self.plan.grads;
        let last = self.is_last(l);
        let rows = if last { self.m } else { self.n };
        Grads {
            dx: Pass::cut(if last { g.dx_kept } else { g.dx }, rows, c.dim),
            dnorm: Pass::cut(if last { g.dnorm_kept } else { g.dnorm }, rows, c.dim),
            dq: Pass::cut(g.dq, rows, c.q_dim()),
            dk: Pass::cut(g.dk, self.n, c.kv_dim()),
            dv: Pass::cut(g.dv, self.n, c.kv_dim()),
            datt: Pass::cut(g.datt, rows, c.q_dim()),
            dgate: Pass::cut(g.dgate, rows, c.hidden_dim),
            dact: Pass::cut(g.dact, rows, c.hidden_dim),
            ..g
        }
    }

    fn attention_trains(&self, l: usize) -> bool {
        let layer: &Layer = &self.model.layers[l];
        layer.norm1.dw.is_some() || Module::ATTENTION.iter().any(|&m| layer.linear(m).trains())
    }

    fn layer_trains(&self, l: usize) -> bool {
        self.attention_trains(l)
            || Module::FEED_FORWARD.iter().any(|&m| self.model.layers[l].linear(m).trains())
    }

    fn trains_below(&self, l: usize) -> bool {
        self.model.dembed.is_some() || (0..l).any(|below| self.layer_trains(below))
    }

    fn trains_at_or_below(&self, l: usize) -> bool {
        self.layer_trains(l) || self.trains_below(l)
    }
}
