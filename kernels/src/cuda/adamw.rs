//! One AdamW step; the coefficients are computed in f64 as the reference does.

use paddock_core::backend::AdamW;
use paddock_core::error::Result;
use paddock_core::philox::Stream;
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
        let p_at = self.memory.at(param)?;
        let [grad_at, m_at, v_at] = [self.wide(grad)?, self.wide(m)?, self.wide(v)?];
        let grid = [param.len.div_ceil(1024), 1, 1];
        let (scale, rate) = (a.grad_scale as f32, (a.lr / correct1) as f32);
        let keep = (1.0 - a.lr * a.weight_decay) as f32;
        let [beta1, beta2] = [a.beta1, a.beta2].map(|beta| (beta as f32, (1.0 - beta) as f32));
        let (root, eps) = (correct2 as f32, a.eps as f32);
        if self.memory.bytes_of(param.region) == 2 {
            let key = [a.seed as u32, (a.seed >> 32) as u32];
            return self.gpu.launch(
                "adamw_narrow",
                grid,
                256,
                0,
                args!(
                    p_at,
                    grad_at,
                    m_at,
                    v_at,
                    param.len,
                    param.offset,
                    scale,
                    beta1.0,
                    beta1.1,
                    beta2.0,
                    beta2.1,
                    rate,
                    root,
                    eps,
                    keep,
                    key[0],
                    key[1],
                    a.t,
                    Stream::ROUND.0,
                ),
            );
        }
        let copy = self.memory.copy_of(param)?;
        self.gpu.launch(
            "adamw",
            grid,
            256,
            0,
            args!(
                p_at, grad_at, m_at, v_at, copy, param.len, scale, beta1.0, beta1.1, beta2.0,
                beta2.1, rate, root, eps, keep,
            ),
        )
    }
}
