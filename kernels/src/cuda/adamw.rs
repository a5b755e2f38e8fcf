//! One AdamW step; the coefficients are computed in f64 as the reference does.

use paddock_core::backend::AdamW;
use paddock_core::error::Result;
use paddock_core::slot::Slot;

use super::{Cuda, args};

impl Cuda<'_> {
    pub(super) fn run_adamw(
        &mut self,
        param: Slot,
        grad: Slot,
        m: Slot,
        v: Slot,
        a: AdamW,
    ) -> Result<()> {
        let t = i32::try_from(a.t).unwrap_or(i32::MAX);
        let correct1 = 1.0 - a.beta1.powi(t);
        let correct2 = (1.0 - a.beta2.powi(t)).sqrt();
        let [p_at, grad_at, m_at, v_at] =
            [self.wide(param)?, self.wide(grad)?, self.wide(m)?, self.wide(v)?];
        let copy = self.memory.copy_of(param)?;
        self.gpu.launch(
            "adamw",
            [param.len.div_ceil(1024), 1, 1],
            256,
            0,
            args!(
                p_at,
                grad_at,
                m_at,
                v_at,
                copy,
                param.len,
                a.grad_scale as f32,
                a.beta1 as f32,
                (1.0 - a.beta1) as f32,
                a.beta2 as f32,
                (1.0 - a.beta2) as f32,
                (a.lr / correct1) as f32,
                correct2 as f32,
                a.eps as f32,
                (1.0 - a.lr * a.weight_decay) as f32,
            ),
        )
    }
}
