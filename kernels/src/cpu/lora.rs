//! out (n,O) = inp (n,I)·wᵀ + s (n,R)·Bᵀ, s = scale · drop(inp)·Aᵀ; and its gradients.
//!
//! The adapter's second product makes the sums of the first one longer (two parts of one product):
//! out is written once, where the composition of plain ops would read and write it again.

use paddock_core::backend::Write;

use super::Ctx;
use super::elementwise;
use super::matmul::{self, Elems, Product};

/// The matrices of a layer and their sizes.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// (O,I)
    pub w: Elems<'a>,
    /// (R,I)
    pub a: Elems<'a>,
    /// (O,R)
    pub b: Elems<'a>,
    /// O
    pub outputs: usize,
    /// I
    pub inputs: usize,
    /// R
    pub rank: usize,
    /// alpha / R
    pub scale: f32,
}

/// Forward; `a_input` is inp, or inp after dropout.
pub fn forward(
    ctx: Ctx<'_>,
    out: &mut [f32],
    s: &mut [f32],
    inp: &[f32],
    a_input: &[f32],
    layer: Layer<'_>,
) {
    let n = inp.len() / layer.inputs.max(1);
    let parts = [matmul::forward(a_input, layer.a, layer.inputs)];
    let p = Product { m: n, n: layer.rank, parts: &parts, alpha: layer.scale, add: false };
    matmul::product(ctx, p, s);
    let parts =
        [matmul::forward(inp, layer.w, layer.inputs), matmul::forward(s, layer.b, layer.rank)];
    let p = Product { m: n, n: layer.outputs, parts: &parts, alpha: 1.0, add: false };
    matmul::product(ctx, p, out);
}

/// db (O,R) += doutᵀ·s; ds (n,R) = dout·B; da (R,I) += scale·dsᵀ·a_input.
pub fn backward_weights(
    ctx: Ctx<'_>,
    (da, db): (&mut [f32], &mut [f32]),
    ds: &mut [f32],
    dout: &[f32],
    (s, a_input): (&[f32], &[f32]),
    layer: Layer<'_>,
) {
    let Layer { outputs, inputs, rank, .. } = layer;
    let n = dout.len() / outputs.max(1);
    let parts = [matmul::backward_weight(dout, s, outputs, rank)];
    let p = Product { m: outputs, n: rank, parts: &parts, alpha: 1.0, add: true };
    matmul::product(ctx, p, db);
    let parts = [matmul::backward_input(dout, layer.b, outputs)];
    let p = Product { m: n, n: rank, parts: &parts, alpha: 1.0, add: false };
    matmul::product(ctx, p, ds);
    let parts = [matmul::backward_weight(ds, a_input, rank, inputs)];
    let p = Product { m: rank, n: inputs, parts: &parts, alpha: layer.scale, add: true };
    matmul::product(ctx, p, da);
}

/// dinp (n,I) = dout·w + scale·ds·A [+ dinp], without dropout. `ds` is scaled in place.
pub fn backward_input(
    ctx: Ctx<'_>,
    dinp: &mut [f32],
    write: Write,
    ds: &mut [f32],
    dout: &[f32],
    layer: Layer<'_>,
) {
    elementwise::scale(ctx, ds, layer.scale);
    let parts = [
        matmul::backward_input(dout, layer.w, layer.outputs),
        matmul::backward_input(ds, layer.a, layer.rank),
    ];
    let m = dout.len() / layer.outputs.max(1);
    let add = write == Write::Add;
    let p = Product { m, n: layer.inputs, parts: &parts, alpha: 1.0, add };
    matmul::product(ctx, p, dinp);
}
