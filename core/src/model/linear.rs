//! A linear layer: plain, trained, or frozen with a LoRA beside it.

use crate::backend::{Backend, LoraGrads, LoraMats, LoraSlots, Write};
use crate::error::Result;
use crate::slot::Slot;
use crate::weights::Mat;

/// A LoRA's handles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora {
    /// A, B and the scale.
    pub mats: LoraMats,
    /// Gradient of A.
    pub da: Slot,
    /// Gradient of B.
    pub db: Slot,
}

/// One linear layer's handles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// w (O,I)
    pub w: Mat,
    /// Its gradient, if it is trained itself.
    pub dw: Option<Slot>,
    /// Its adapter.
    pub lora: Option<Lora>,
}

impl Linear {
    /// Without an adapter.
    pub const fn plain(w: Mat, dw: Option<Slot>) -> Linear {
        Linear { w, dw, lora: None }
    }

    /// Whether anything here is trained.
    pub fn trains(&self) -> bool {
        self.dw.is_some() || self.lora.is_some()
    }

    /// out (n,O) = inp (n,I)·wᵀ, plus the adapter's part.
    pub fn forward(
        &self,
        b: &mut dyn Backend,
        out: Slot,
        inp: Slot,
        slots: LoraSlots,
    ) -> Result<()> {
        match self.lora {
            None => b.matmul_forward(out, inp, self.w, 1.0, Write::Set),
            Some(lora) => b.lora_linear_forward(out, inp, self.w, lora.mats, slots),
        }
    }

    /// Only the adapter's s (n,R): for a backward that did not remember it.
    pub fn low_rank_again(&self, b: &mut dyn Backend, inp: Slot, slots: LoraSlots) -> Result<()> {
        let Some(Lora { mats, .. }) = self.lora else { return Ok(()) };
        let mut a_input = inp;
        if let Some(dropout) = slots.dropout {
            b.dropout_forward(slots.dropped, inp, self.w.cols, dropout)?;
            a_input = slots.dropped;
        }
        b.matmul_forward(slots.s, a_input, mats.a, mats.scale, Write::Set)
    }

    /// Gradients of what is trained here, and of the input where `dinp` asks for it.
    pub fn backward(
        &self,
        b: &mut dyn Backend,
        dinp: Option<(Slot, Write)>,
        dout: Slot,
        inp: Slot,
        slots: LoraSlots,
    ) -> Result<()> {
        if let Some(dw) = self.dw {
            b.matmul_backward_weight(dw, dout, inp, self.w.rows, self.w.cols, 1.0)?;
        }
        if let Some(lora) = self.lora {
            let grads = LoraGrads { da: lora.da, db: lora.db, dinp };
            return b.lora_linear_backward(grads, dout, inp, self.w, lora.mats, slots);
        }
        match dinp {
            None => Ok(()),
            Some((dinp, write)) => b.matmul_backward_input(dinp, dout, self.w, 1.0, write),
        }
    }
}
