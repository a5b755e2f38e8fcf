//! A back-end that computes nothing and counts what a real one would: for plans and forecasts.

use crate::backend::{AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, Write};
use crate::batch::{Batch, Rows, Visibility};
use crate::config::Config;
use crate::error::Result;
use crate::plan::{Capacity, RegionSizes};
use crate::slot::{Region, Slot};
use crate::weights::Mat;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Floating-point operations of matrix products, head included (a multiplication and an addition
    /// count two).
    pub matmul_flops: f64,
    /// Those of attention.
    pub attention_flops: f64,
    /// Elements read or written by all other ops.
    pub elements: f64,
    /// Calls.
    pub calls: u64,
}

/// The counter.
#[derive(Default)]
pub struct Null {
    /// What was counted so far.
    pub counts: Counts,
    /// Elements of the regions reserved.
    pub sizes: RegionSizes,
    /// (N, M) of the batch.
    rows: (u64, u64),
    /// Visible pairs of a query and a key, for all rows and for the kept ones.
    pairs: (f64, f64),
}

impl Null {
    fn touch(&mut self, elements: u64) -> Result<()> {
        self.counts.elements += elements as f64;
        self.counts.calls += 1;
        Ok(())
    }

    fn product(&mut self, n: u64, w: Mat, times: f64) -> Result<()> {
        self.counts.matmul_flops += 2.0 * times * n as f64 * w.len() as f64;
        self.counts.calls += 1;
        Ok(())
    }

    fn attention(&mut self, heads: Heads, rows: Rows, products: f64) -> Result<()> {
        let pairs = if rows == Rows::All { self.pairs.0 } else { self.pairs.1 };
        let width = f64::from(heads.n_heads) * f64::from(heads.head_dim);
        self.counts.attention_flops += 2.0 * products * pairs * width;
        self.counts.calls += 1;
        Ok(())
    }
}

fn pairs(v: &Visibility) -> f64 {
    let mut pairs = 0.0;
    for span in &v.spans {
        let first = span.first_range as usize;
        let ranges = &v.ranges[first..first + span.n_ranges as usize];
        let seen: u64 = ranges.iter().map(|r| u64::from(r.len)).sum();
        for q in span.q_start..span.q_start + span.q_len {
            pairs += (seen + u64::from(v.at[q as usize] - span.self_start) + 1) as f64;
        }
    }
    pairs
}

impl Backend for Null {
    fn name(&self) -> &str {
        "null"
    }

    fn element_bytes(&self, _: Region) -> u64 {
        4
    }

    fn scratch_len(&self, _: &Config, _: &Capacity) -> u64 {
        0
    }

    fn reserve(&mut self, sizes: &RegionSizes) -> Result<()> {
        self.sizes = *sizes;
        Ok(())
    }

    fn upload(&mut self, _: Slot, data: &[f32]) -> Result<()> {
        self.touch(data.len() as u64)
    }

    fn download(&mut self, _: Slot, data: &mut [f32]) -> Result<()> {
        data.fill(0.0);
        self.touch(data.len() as u64)
    }

    fn set_batch(&mut self, batch: &Batch) -> Result<()> {
        self.rows = (batch.rows(), batch.kept());
        self.pairs = (pairs(&batch.all), pairs(&batch.kept));
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn fill(&mut self, dst: Slot, _: f32) -> Result<()> {
        self.touch(dst.len)
    }

    fn copy(&mut self, dst: Slot, _: Slot) -> Result<()> {
        self.touch(2 * dst.len)
    }

    fn add(&mut self, out: Slot, _: Slot, _: Slot) -> Result<()> {
        self.touch(3 * out.len)
    }

    fn accumulate(&mut self, dst: Slot, _: Slot, _: f32) -> Result<()> {
        self.touch(3 * dst.len)
    }

    fn gather_rows(&mut self, out: Slot, _: Slot, _: u32) -> Result<()> {
        self.touch(2 * out.len)
    }

    fn scatter_rows(&mut self, dinp: Slot, dout: Slot, _: u32, _: Write) -> Result<()> {
        self.touch(dinp.len + dout.len)
    }

    fn embed_forward(&mut self, out: Slot, _: Mat) -> Result<()> {
        self.touch(2 * out.len)
    }

    fn embed_backward(&mut self, _: Slot, dout: Slot, _: u32) -> Result<()> {
        self.touch(3 * dout.len)
    }

    fn rms_norm_forward(&mut self, out: Slot, _: Slot, _: Slot, _: Mat, _: f32) -> Result<()> {
        self.touch(2 * out.len)
    }

    fn rms_norm_backward(
        &mut self,
        dinp: Slot,
        _: Option<Slot>,
        _: Slot,
        _: Slot,
        _: Mat,
        _: Slot,
    ) -> Result<()> {
        self.touch(4 * dinp.len)
    }

    fn matmul_forward(&mut self, _: Slot, inp: Slot, w: Mat, _: f32, _: Write) -> Result<()> {
        self.product(inp.len / u64::from(w.cols), w, 1.0)
    }

    fn matmul_backward_input(
        &mut self,
        dinp: Slot,
        _: Slot,
        w: Mat,
        _: f32,
        _: Write,
    ) -> Result<()> {
        self.product(dinp.len / u64::from(w.cols), w, 1.0)
    }

    fn matmul_backward_weight(
        &mut self,
        dw: Slot,
        _: Slot,
        inp: Slot,
        rows: u32,
        cols: u32,
        _: f32,
    ) -> Result<()> {
        self.product(inp.len / u64::from(cols), Mat::trained(dw, rows, cols), 1.0)
    }

    fn rope_forward(&mut self, x: Slot, _: Slot, _: u32, _: Rows) -> Result<()> {
        self.touch(2 * x.len)
    }

    fn rope_backward(&mut self, dx: Slot, _: Slot, _: u32, _: Rows) -> Result<()> {
        self.touch(2 * dx.len)
    }

    fn attention_forward(
        &mut self,
        _: Slot,
        _: Slot,
        _: Slot,
        _: Slot,
        _: Slot,
        heads: Heads,
        rows: Rows,
    ) -> Result<()> {
        self.attention(heads, rows, 2.0)
    }

    fn attention_backward(&mut self, _: AttentionGrads, saved: AttentionSaved) -> Result<()> {
        self.attention(saved.heads, saved.rows, 5.0)
    }

    fn cache_write(&mut self, _: Slot, inp: Slot, _: u32) -> Result<()> {
        self.touch(2 * inp.len)
    }

    fn swiglu_forward(&mut self, out: Slot, _: Slot, _: Slot) -> Result<()> {
        self.touch(3 * out.len)
    }

    fn swiglu_backward(&mut self, dgate: Slot, _: Slot, _: Slot, _: Slot, _: Slot) -> Result<()> {
        self.touch(5 * dgate.len)
    }

    fn dropout_forward(&mut self, out: Slot, _: Slot, _: u32, _: Dropout) -> Result<()> {
        self.touch(2 * out.len)
    }

    fn dropout_backward(&mut self, dinp: Slot, _: Slot, _: u32, _: Dropout) -> Result<()> {
        self.touch(3 * dinp.len)
    }

    fn linear_cross_entropy_forward(
        &mut self,
        _: Slot,
        _: Slot,
        _: Option<Slot>,
        _: Slot,
        w: Mat,
    ) -> Result<()> {
        self.product(self.rows.1, w, 1.0)
    }

    fn linear_cross_entropy_backward(
        &mut self,
        _: Slot,
        dw: Option<Slot>,
        _: Slot,
        _: Slot,
        _: Slot,
        w: Mat,
    ) -> Result<()> {
        // The logits once more are a back-end's own affair; what must be done is dinp and dw.
        self.product(self.rows.1, w, if dw.is_some() { 2.0 } else { 1.0 })
    }

    fn norm_squared(&mut self, _: Slot, x: Slot) -> Result<()> {
        self.touch(x.len)
    }

    fn adamw(&mut self, param: Slot, _: Slot, _: Slot, _: Slot, _: AdamW) -> Result<()> {
        self.touch(7 * param.len)
    }
}
