//! Trains a folder's LLaMA in full with candle, and prints speed, memory and losses as a line of JSON:
//! `peer-candle --model FOLDER [--steps 5] [--threads 2]`.
//!
//! Fused operations of candle-nn (norm, rotary turn, softmax) have no backward pass, so these are put together from
//! ones that have, as candle's own slow forms are.

#[path = "../../shared/bench.rs"]
mod bench;

use bench::{Clock, Matrix, Rows, Shape, Weights, BETAS, EPS, LR, MAX_NORM};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var, D};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

type Result<T> = candle_core::Result<T>;

struct Layer {
    attention_norm: Var,
    q: Var,
    k: Var,
    v: Var,
    o: Var,
    norm: Var,
    gate: Var,
    up: Var,
    down: Var,
}

struct Llama {
    shape: Shape,
    embeddings: Var,
    layers: Vec<Layer>,
    norm: Var,
    head: Var,
}

/// What depends on positions alone.
struct Positions {
    cos: Tensor,
    sin: Tensor,
    /// (1, 1, groups * seq, seq)
    mask: Tensor,
}

fn var(m: Matrix) -> bench::Result<Var> {
    let (rows, cols) = (m.rows(), m.cols);
    Ok(Var::from_vec(m.values, (rows, cols), &Device::Cpu)?)
}

impl Llama {
    fn read(shape: &Shape, weights: &Weights) -> bench::Result<Llama> {
        weights.with(|read| {
            let matrix = |name: &str| var(read(name)?.transposed());
            let vector = |name: &str| -> bench::Result<Var> {
                Ok(Var::from_vec(read(name)?.values, shape.dim, &Device::Cpu)?)
            };
            let layer = |i: usize| -> bench::Result<Layer> {
                let of = |part: &str| format!("model.layers.{i}.{part}.weight");
                Ok(Layer {
                    attention_norm: vector(&of("input_layernorm"))?,
                    q: matrix(&of("self_attn.q_proj"))?,
                    k: matrix(&of("self_attn.k_proj"))?,
                    v: matrix(&of("self_attn.v_proj"))?,
                    o: matrix(&of("self_attn.o_proj"))?,
                    norm: vector(&of("post_attention_layernorm"))?,
                    gate: matrix(&of("mlp.gate_proj"))?,
                    up: matrix(&of("mlp.up_proj"))?,
                    down: matrix(&of("mlp.down_proj"))?,
                })
            };
            Ok(Llama {
                shape: shape.clone(),
                embeddings: var(read("model.embed_tokens.weight")?)?,
                layers: (0..shape.layers).map(layer).collect::<bench::Result<_>>()?,
                norm: vector("model.norm.weight")?,
                head: matrix("lm_head.weight")?,
            })
        })
    }

    fn variables(&self) -> Vec<Var> {
        let mut all = vec![self.embeddings.clone(), self.norm.clone(), self.head.clone()];
        for l in &self.layers {
            let parts =
                [&l.attention_norm, &l.q, &l.k, &l.v, &l.o, &l.norm, &l.gate, &l.up, &l.down];
            all.extend(parts.map(Var::clone));
        }
        all
    }

    fn rms_norm(&self, x: &Tensor, weight: &Var) -> Result<Tensor> {
        let mean = (x.sqr()?.sum_keepdim(D::Minus1)? / self.shape.dim as f64)?;
        x.broadcast_div(&(mean + self.shape.eps)?.sqrt()?)?.broadcast_mul(weight)
    }

    /// (batch * seq, dim) to the same.
    fn attention(&self, layer: &Layer, x: &Tensor, batch: usize, at: &Positions) -> Result<Tensor> {
        let (s, seq) = (&self.shape, x.dim(0)? / batch);
        let heads = |weight: &Var, count: usize| -> Result<Tensor> {
            let y = x.matmul(weight)?.reshape((batch, seq, count, s.head_dim))?;
            y.transpose(1, 2)?.contiguous()
        };
        let scale = 1.0 / (s.head_dim as f64).sqrt();
        let q = (turn(&heads(&layer.q, s.heads)?, at)? * scale)?;
        let k = turn(&heads(&layer.k, s.kv)?, at)?;
        let v = heads(&layer.v, s.kv)?;
        // The queries that share a key stand below each other: nothing is repeated.
        let q = q.reshape((batch, s.kv, s.heads / s.kv * seq, s.head_dim))?;
        let scores = q.matmul(&k.t()?)?.broadcast_add(&at.mask)?;
        let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        let mixed = mixed.reshape((batch, s.heads, seq, s.head_dim))?.transpose(1, 2)?;
        mixed.reshape((batch * seq, s.heads * s.head_dim))?.matmul(&layer.o)
    }

    fn loss(
        &self,
        rows: &Rows,
        tokens: &Tensor,
        targets: &Tensor,
        at: &Positions,
    ) -> Result<Tensor> {
        let mut x = self.embeddings.index_select(tokens, 0)?;
        for layer in &self.layers {
            let normed = self.rms_norm(&x, &layer.attention_norm)?;
            x = (x + self.attention(layer, &normed, rows.batch, at)?)?;
            let normed = self.rms_norm(&x, &layer.norm)?;
            let gate = normed.matmul(&layer.gate)?.silu()?;
            x = (x + (gate * normed.matmul(&layer.up)?)?.matmul(&layer.down)?)?;
        }
        // Nothing follows a row's last token.
        let x = x.reshape((rows.batch, rows.seq, ()))?.narrow(1, 0, rows.seq - 1)?;
        let x = self.rms_norm(&x.reshape((rows.batch * (rows.seq - 1), ()))?, &self.norm)?;
        candle_nn::loss::cross_entropy(&x.matmul(&self.head)?, targets)
    }
}

/// The rotary turn of (batch, heads, seq, head_dim): each half with the other.
fn turn(x: &Tensor, at: &Positions) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let first = (a.broadcast_mul(&at.cos)? - b.broadcast_mul(&at.sin)?)?;
    let second = (b.broadcast_mul(&at.cos)? + a.broadcast_mul(&at.sin)?)?;
    Tensor::cat(&[first, second], D::Minus1)
}

/// Scales all gradients together so that their norm is no larger than allowed.
fn clip(grads: &mut GradStore, variables: &[Var]) -> Result<()> {
    let mut squares = 0.0;
    for grad in variables.iter().filter_map(|v| grads.get(v)) {
        squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    if squares.sqrt() <= MAX_NORM {
        return Ok(());
    }
    for v in variables {
        if let Some(grad) = grads.remove(v) {
            grads.insert(v, (grad * (MAX_NORM / squares.sqrt()))?);
        }
    }
    Ok(())
}

fn positions(shape: &Shape, seq: usize) -> Result<Positions> {
    let (cos, sin) = shape.rope(seq);
    let half = shape.head_dim / 2;
    let groups = shape.heads / shape.kv;
    let mask = Tensor::from_vec(Shape::mask(seq), (seq, seq), &Device::Cpu)?;
    Ok(Positions {
        cos: Tensor::from_vec(cos, (1, 1, seq, half), &Device::Cpu)?,
        sin: Tensor::from_vec(sin, (1, 1, seq, half), &Device::Cpu)?,
        mask: mask.repeat((groups, 1))?.reshape((1, 1, groups * seq, seq))?,
    })
}

fn main() -> bench::Result<()> {
    let options = bench::options()?;
    let (shape, rows) = (Shape::read(&options.model)?, Rows::read(&options.model)?);
    let llama = Llama::read(&shape, &Weights::read(&options.model)?)?;
    let at = positions(&shape, rows.seq)?;
    let tokens = Tensor::from_vec(rows.tokens.clone(), rows.tokens.len(), &Device::Cpu)?;
    let targets = Tensor::new(rows.targets(), &Device::Cpu)?;
    let variables = llama.variables();
    let settings =
        ParamsAdamW { lr: LR, beta1: BETAS.0, beta2: BETAS.1, eps: EPS, weight_decay: 0.0 };
    let mut adam = AdamW::new(variables.clone(), settings)?;
    bench::run("candle 0.11.1", &options, &shape, &rows, |clock: &mut Clock| {
        let loss = llama.loss(&rows, &tokens, &targets, &at)?;
        let value = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        clock.lap();
        let mut grads = loss.backward()?;
        drop(loss);
        clock.lap();
        clip(&mut grads, &variables)?;
        adam.step(&grads)?;
        clock.lap();
        Ok(value)
    })
}
