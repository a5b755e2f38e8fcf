//! One AdamW step; the coefficients are computed in f64 as the reference does.

use paddock_core::backend::AdamW;
use paddock_core::error::Result;
use paddock_core::slot::Slot;

use super::Wgpu;
use super::pipeline::{Kernel, Tile};
use super::queue::{Launch, Source};

const STEP: Kernel = Kernel {
    stem: "adamw",
    source: include_str!("adamw.wgsl"),
    entry: "step",
    operands: &["param", "grad", "moment1", "moment2"],
    quads: &[],
};

impl Wgpu<'_> {
    pub(super) fn run_adamw(
        &mut self,
        param: Slot,
        grad: Slot,
        m: Slot,
        v: Slot,
        a: AdamW,
    ) -> Result<()> {
        for (first, len) in self.pieces(param.len) {
            let [param, grad, m, v] = [param, grad, m, v].map(|slot| slot.part(first, len));
            self.run_adamw_piece([param, grad, m, v], a)?;
        }
        Ok(())
    }

    fn run_adamw_piece(&mut self, [param, grad, m, v]: [Slot; 4], a: AdamW) -> Result<()> {
        let t = i32::try_from(a.t).unwrap_or(i32::MAX);
        let correct1 = 1.0 - a.beta1.powi(t);
        let correct2 = (1.0 - a.beta2.powi(t)).sqrt();
        let params = [
            self.at(param)?,
            self.at(grad)?,
            self.at(m)?,
            self.at(v)?,
            param.len as u32,
            bits(1.0 - a.lr * a.weight_decay),
            bits(a.beta1),
            bits(a.beta2),
            bits(1.0 - a.beta1),
            bits(1.0 - a.beta2),
            bits(a.lr / correct1),
            bits(a.eps),
            bits(correct2),
            bits(a.grad_scale),
        ];
        self.launch(&Launch {
            kernel: STEP,
            operands: &[
                ("param", self.place(param)),
                ("grad", self.place(grad)),
                ("moment1", self.place(m)),
                ("moment2", self.place(v)),
            ],
            weight: Source::None,
            tile: Tile::default(),
            params: &params,
            groups: param.len.div_ceil(256),
            cost: 256 * 32,
        })
    }
}

fn bits(x: f64) -> u32 {
    (x as f32).to_bits()
}
