//! Trains a folder's LLaMA in full with burn on the CPU, and prints speed, memory and losses as a line of JSON:
//! `peer-burn --model FOLDER [--steps 5] [--threads 2]`.

#[path = "../../shared/bench.rs"]
mod bench;

use bench::{Clock, Matrix, Rows, Shape, Weights, BETAS, EPS, LR, MAX_NORM};
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Embedding, Linear, RmsNorm};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};

#[derive(Module, Debug)]
struct Layer {
    attention_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

#[derive(Module, Debug)]
struct Llama {
    embeddings: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
}

/// What does not change from step to step.
struct Fixed {
    shape: Shape,
    batch: usize,
    seq: usize,
    cos: Tensor<4>,
    sin: Tensor<4>,
    /// (1, 1, groups * seq, seq)
    mask: Tensor<4>,
    tokens: Tensor<2, Int>,
    targets: Tensor<1, Int>,
    cross_entropy: CrossEntropyLoss,
}

fn matrix(m: Matrix, device: &Device) -> Param<Tensor<2>> {
    let (rows, cols) = (m.rows(), m.cols);
    Param::from_data(TensorData::new(m.values, [rows, cols]), device)
}

impl Llama {
    fn read(shape: &Shape, weights: &Weights, device: &Device) -> bench::Result<Llama> {
        weights.with(|read| {
            let linear = |name: &str| -> bench::Result<Linear> {
                Ok(Linear { weight: matrix(read(name)?.transposed(), device), bias: None })
            };
            let norm = |name: &str| -> bench::Result<RmsNorm> {
                let gamma =
                    Param::from_data(TensorData::new(read(name)?.values, [shape.dim]), device);
                Ok(RmsNorm { gamma, epsilon: shape.eps })
            };
            let layer = |i: usize| -> bench::Result<Layer> {
                let of = |part: &str| format!("model.layers.{i}.{part}.weight");
                Ok(Layer {
                    attention_norm: norm(&of("input_layernorm"))?,
                    q: linear(&of("self_attn.q_proj"))?,
                    k: linear(&of("self_attn.k_proj"))?,
                    v: linear(&of("self_attn.v_proj"))?,
                    o: linear(&of("self_attn.o_proj"))?,
                    norm: norm(&of("post_attention_layernorm"))?,
                    gate: linear(&of("mlp.gate_proj"))?,
                    up: linear(&of("mlp.up_proj"))?,
                    down: linear(&of("mlp.down_proj"))?,
                })
            };
            Ok(Llama {
                embeddings: Embedding {
                    weight: matrix(read("model.embed_tokens.weight")?, device),
                },
                layers: (0..shape.layers).map(layer).collect::<bench::Result<_>>()?,
                norm: norm("model.norm.weight")?,
                head: linear("lm_head.weight")?,
            })
        })
    }

    fn loss(&self, fixed: &Fixed) -> Tensor<1> {
        let (batch, seq, dim) = (fixed.batch, fixed.seq, fixed.shape.dim);
        let mut x = self.embeddings.forward(fixed.tokens.clone()).reshape([batch * seq, dim]);
        for layer in &self.layers {
            x = x.clone() + layer.attention(layer.attention_norm.forward(x), fixed);
            let normed = layer.norm.forward(x.clone());
            let gate = silu(layer.gate.forward(normed.clone()));
            x = x + layer.down.forward(gate * layer.up.forward(normed));
        }
        // Nothing follows a row's last token.
        let x = x.reshape([batch, seq, dim]).narrow(1, 0, seq - 1);
        let x = self.norm.forward(x.reshape([batch * (seq - 1), dim]));
        fixed.cross_entropy.forward(self.head.forward(x), fixed.targets.clone())
    }
}

impl Layer {
    /// (batch * seq, dim) to the same.
    fn attention(&self, x: Tensor<2>, fixed: &Fixed) -> Tensor<2> {
        let (s, batch, seq) = (&fixed.shape, fixed.batch, fixed.seq);
        let heads = |linear: &Linear, count: usize| {
            let y = linear.forward(x.clone());
            y.reshape([batch, seq, count, s.head_dim]).swap_dims(1, 2)
        };
        let scale = 1.0 / (s.head_dim as f64).sqrt();
        let q = fixed.turn(heads(&self.q, s.heads)) * scale;
        let k = fixed.turn(heads(&self.k, s.kv));
        let v = heads(&self.v, s.kv);
        // The queries that share a key stand below each other: nothing is repeated.
        let q = q.reshape([batch, s.kv, s.heads / s.kv * seq, s.head_dim]);
        let scores = q.matmul(k.transpose()) + fixed.mask.clone();
        let mixed = softmax(scores, 3).matmul(v);
        let mixed = mixed.reshape([batch, s.heads, seq, s.head_dim]).swap_dims(1, 2);
        self.o.forward(mixed.reshape([batch * seq, s.heads * s.head_dim]))
    }
}

impl Fixed {
    fn new(shape: &Shape, rows: &Rows, device: &Device) -> Fixed {
        let (batch, seq, groups) = (rows.batch, rows.seq, shape.heads / shape.kv);
        let (cos, sin) = shape.rope(seq);
        let angles = |values| TensorData::new(values, [1, 1, seq, shape.head_dim / 2]);
        let mask = TensorData::new(Shape::mask(seq).repeat(groups), [1, 1, groups * seq, seq]);
        let ids = |ids: &[u32]| -> Vec<i32> { ids.iter().map(|&id| id as i32).collect() };
        let targets = rows.targets();
        Fixed {
            shape: shape.clone(),
            batch,
            seq,
            cos: Tensor::from_data(angles(cos), device),
            sin: Tensor::from_data(angles(sin), device),
            mask: Tensor::from_data(mask, device),
            tokens: Tensor::from_data(TensorData::new(ids(&rows.tokens), [batch, seq]), device),
            targets: Tensor::from_data(TensorData::new(ids(&targets), [targets.len()]), device),
            cross_entropy: CrossEntropyLossConfig::new().init(device),
        }
    }

    /// The rotary turn of (batch, heads, seq, head_dim): each half with the other.
    fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let half = self.shape.head_dim / 2;
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let first = a.clone() * self.cos.clone() - b.clone() * self.sin.clone();
        Tensor::cat(vec![first, b * self.cos.clone() + a * self.sin.clone()], 3)
    }
}

/// burn clips each tensor by itself; here all gradients are scaled together, as every side does.
struct Squares<'a>(&'a GradientsParams, f64);

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.0.get::<D>(param.id) {
            self.1 += f64::from(grad.square().sum().into_scalar::<f32>());
        }
    }
}

struct Scale<'a>(&'a mut GradientsParams, f64);

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.0.remove::<D>(param.id) {
            self.0.register(param.id, grad * self.1);
        }
    }
}

fn clip(grads: &mut GradientsParams, llama: &Llama) {
    let mut squares = Squares(grads, 0.0);
    llama.visit(&mut squares);
    let norm = squares.1.sqrt();
    if norm > MAX_NORM {
        llama.visit(&mut Scale(grads, MAX_NORM / norm));
    }
}

fn main() -> bench::Result<()> {
    let options = bench::options()?;
    let (shape, rows) = (Shape::read(&options.model)?, Rows::read(&options.model)?);
    let device = Device::flex().autodiff();
    let mut held = Some(Llama::read(&shape, &Weights::read(&options.model)?, &device)?);
    let fixed = Fixed::new(&shape, &rows, &device);
    let settings = AdamWConfig::new().with_beta_1(BETAS.0 as f32).with_beta_2(BETAS.1 as f32);
    let mut adam = settings.with_epsilon(EPS as f32).with_weight_decay(0.0).init();
    bench::run("burn 0.22.1 (flex)", &options, &shape, &rows, |clock: &mut Clock| {
        // Taken, not copied: burn updates in place what nobody else holds.
        let llama = held.take().ok_or("no model")?;
        let loss = llama.loss(&fixed);
        let value = f64::from(loss.clone().into_scalar::<f32>());
        clock.lap();
        let mut grads = GradientsParams::from_grads(loss.backward(), &llama);
        drop(loss);
        clock.lap();
        clip(&mut grads, &llama);
        held = Some(adam.step(LR, llama, grads));
        clock.lap();
        Ok(value)
    })
}
