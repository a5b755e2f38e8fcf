//! The shape of a LLaMA model, in the field's own names.

use alloc::format;
use alloc::string::{String, ToString};

use crate::error::{Error, Result};

/// Shape and constants of one LLaMA model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Model width (C).
    pub dim: u32,
    /// Width of the feed-forward layer (F).
    pub hidden_dim: u32,
    /// Number of layers (L).
    pub n_layers: u32,
    /// Query heads (H).
    pub n_heads: u32,
    /// Key/value heads (K); each serves H/K query heads.
    pub n_kv_heads: u32,
    /// Width of one head (D); usually dim / n_heads.
    pub head_dim: u32,
    /// Entries of the vocabulary (V).
    pub vocab_size: u32,
    /// Longest sequence that the model was made for.
    pub max_seq_len: u32,
    /// Epsilon of every RMS norm.
    pub rms_norm_eps: f64,
    /// Rotary positions.
    pub rope: Rope,
    /// Whether the output head is the embedding table itself.
    pub tied: bool,
}

/// Rotary position embedding: base frequency and how it is stretched for long texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// `rope_theta`.
    pub theta: f64,
    /// `rope_scaling`.
    pub scaling: RopeScaling,
}

/// The ways of `rope_scaling` in Hugging Face's config.json.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are config.json's")]
pub enum RopeScaling {
    /// None.
    Default,
    /// All frequencies divided by `factor`.
    Linear { factor: f64 },
    /// The base grows with the length beyond `original_max` (NTK-aware, dynamic).
    Dynamic { factor: f64, original_max: u32 },
    /// Llama 3.1's: low frequencies divided by `factor`, high ones kept, a ramp between.
    Llama3 { factor: f64, low_freq_factor: f64, high_freq_factor: f64, original_max: u32 },
}

impl Config {
    /// H·D: width of the queries.
    pub const fn q_dim(&self) -> u32 {
        self.n_heads * self.head_dim
    }

    /// K·D: width of the keys and of the values.
    pub const fn kv_dim(&self) -> u32 {
        self.n_kv_heads * self.head_dim
    }

    /// Parameters of one layer.
    pub fn layer_params(&self) -> u64 {
        let (c, f) = (u64::from(self.dim), u64::from(self.hidden_dim));
        let (q, kv) = (u64::from(self.q_dim()), u64::from(self.kv_dim()));
        2 * c + c * q * 2 + c * kv * 2 + 3 * c * f
    }

    /// Parameters of the whole model; a tied head counts once.
    pub fn params(&self) -> u64 {
        let table = u64::from(self.dim) * u64::from(self.vocab_size);
        let tables = if self.tied { table } else { 2 * table };
        tables + u64::from(self.n_layers) * self.layer_params() + u64::from(self.dim)
    }

    /// Parameters that take part in a matrix product: all but the embedding's look-up.
    pub fn matmul_params(&self) -> u64 {
        let (c, f) = (u64::from(self.dim), u64::from(self.hidden_dim));
        let (q, kv) = (u64::from(self.q_dim()), u64::from(self.kv_dim()));
        let layer = c * q * 2 + c * kv * 2 + 3 * c * f;
        u64::from(self.n_layers) * layer + c * u64::from(self.vocab_size)
    }

    /// Refuses impossible shapes, naming the field as config.json does.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("hidden_size", self.dim),
            ("intermediate_size", self.hidden_dim),
            ("num_hidden_layers", self.n_layers),
            ("num_attention_heads", self.n_heads),
            ("num_key_value_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_seq_len),
        ];
        for (field, value) in sizes {
            check(field, value > 0 && value <= 1 << 28, value, "a number from 1 to 268435456")?;
        }
        // Widths multiply: keep every product far from 32-bit overflow.
        check("num_attention_heads", self.n_heads <= 1 << 16, self.n_heads, "at most 65536")?;
        check("head_dim", self.head_dim <= 1 << 12, self.head_dim, "at most 4096")?;
        check("num_hidden_layers", self.n_layers <= 1 << 14, self.n_layers, "at most 16384")?;
        check("head_dim", self.head_dim.is_multiple_of(2), self.head_dim, "an even number")?;
        check(
            "num_key_value_heads",
            self.n_heads.is_multiple_of(self.n_kv_heads),
            self.n_kv_heads,
            &format!("a divisor of num_attention_heads ({})", self.n_heads),
        )?;
        let eps = self.rms_norm_eps;
        check("rms_norm_eps", eps.is_finite() && eps > 0.0, eps, "a positive number")?;
        self.rope.validate(self.head_dim)
    }
}

impl Rope {
    fn validate(&self, head_dim: u32) -> Result<()> {
        let theta = self.theta;
        check("rope_theta", theta.is_finite() && theta > 1.0, theta, "a number above 1")?;
        let factor_ok = |f: f64| f.is_finite() && f >= 1.0;
        match self.scaling {
            RopeScaling::Default => Ok(()),
            RopeScaling::Dynamic { .. } if head_dim < 4 => {
                check("head_dim", false, head_dim, "at least 4 with dynamic rope scaling")
            }
            RopeScaling::Dynamic { original_max: 0, .. } => check(
                "rope_scaling.original_max_position_embeddings",
                false,
                0,
                "a positive number",
            ),
            RopeScaling::Linear { factor } | RopeScaling::Dynamic { factor, .. } => {
                check("rope_scaling.factor", factor_ok(factor), factor, "a number of at least 1")
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max } => {
                check("rope_scaling.factor", factor_ok(factor), factor, "a number of at least 1")?;
                check(
                    "rope_scaling.high_freq_factor",
                    high_freq_factor > low_freq_factor && low_freq_factor > 0.0,
                    high_freq_factor,
                    "more than low_freq_factor, which must be positive",
                )?;
                check(
                    "rope_scaling.original_max_position_embeddings",
                    original_max > 0,
                    original_max,
                    "a positive number",
                )
            }
        }
    }
}

fn check(field: &'static str, ok: bool, found: impl ToString, expected: &str) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::Config { field, found: found.to_string(), expected: String::from(expected) })
}
