//! A linear layer with its adapter: the adapter's product joins the layer's own sums where the device's
//! kernels can do that.

use paddock_core::backend::{Backend, LoraGrads, LoraMats, LoraSlots, Write};
use paddock_core::error::Result;
use paddock_core::slot::Slot;
use paddock_core::weights::Mat;

use super::Cuda;
use super::matmul::Second;

impl Cuda<'_> {
    pub(super) fn run_lora_forward(
        &mut self,
        out: Slot,
        inp: Slot,
        w: Mat,
        lora: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        let mut a_input = inp;
        if let Some(dropout) = slots.dropout {
            self.dropout_forward(slots.dropped, inp, w.cols, dropout)?;
            a_input = slots.dropped;
        }
        self.run_matmul_forward(slots.s, a_input, lora.a, lora.scale, Write::Set)?;
        let second = self.adapter(slots.s, lora.b, lora.a.rows)?;
        let product = self.forward_product(out, inp, w, 1.0, Write::Set)?;
        self.run_product(&product.with(second))
    }

    /// As the default body, but the scale is in ds: so ds and A are a pair of the product for dinp.
    pub(super) fn run_lora_backward(
        &mut self,
        grads: LoraGrads,
        dout: Slot,
        inp: Slot,
        w: Mat,
        lora: LoraMats,
        slots: LoraSlots,
    ) -> Result<()> {
        let rank = lora.a.rows;
        let mut a_input = inp;
        if let Some(dropout) = slots.dropout {
            self.dropout_forward(slots.dropped, inp, w.cols, dropout)?;
            a_input = slots.dropped;
        }
        self.run_matmul_backward_weight(grads.db, dout, slots.s, w.rows, rank, 1.0)?;
        self.run_matmul_backward_input(slots.ds, dout, lora.b, lora.scale, Write::Set)?;
        self.run_matmul_backward_weight(grads.da, slots.ds, a_input, rank, w.cols, 1.0)?;
        let Some((dinp, write)) = grads.dinp else { return Ok(()) };
        let product = self.backward_input_product(dinp, dout, w, 1.0, write)?;
        match slots.dropout {
            None => {
                let second = self.adapter(slots.ds, lora.a, rank)?;
                self.run_product(&product.with(second))
            }
            Some(dropout) => {
                self.run_product(&product)?;
                self.run_matmul_backward_input(slots.dropped, slots.ds, lora.a, 1.0, Write::Set)?;
                self.dropout_backward(dinp, slots.dropped, w.cols, dropout)
            }
        }
    }

    fn adapter(&mut self, a: Slot, b: Mat, rank: u32) -> Result<Second> {
        Ok(Second { a: self.narrow(a)?, b: self.matrix(b)?, k: rank })
    }
}
