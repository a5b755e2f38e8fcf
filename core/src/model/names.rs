//! Names of a LLaMA's tensors as Hugging Face writes them, in one order for all parts of Paddock.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::Config;

/// The seven linears of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Module {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Output of attention.
    O,
    /// Gate.
    Gate,
    /// Up.
    Up,
    /// Down.
    Down,
}

impl Module {
    /// All seven, in order of their numbers.
    pub const ALL: [Module; 7] =
        [Module::Q, Module::K, Module::V, Module::O, Module::Gate, Module::Up, Module::Down];
    /// Those of attention.
    pub const ATTENTION: [Module; 4] = [Module::Q, Module::K, Module::V, Module::O];
    /// Those of the feed-forward layer.
    pub const FEED_FORWARD: [Module; 3] = [Module::Gate, Module::Up, Module::Down];

    /// "q_proj", …
    pub const fn name(self) -> &'static str {
        match self {
            Module::Q => "q_proj",
            Module::K => "k_proj",
            Module::V => "v_proj",
            Module::O => "o_proj",
            Module::Gate => "gate_proj",
            Module::Up => "up_proj",
            Module::Down => "down_proj",
        }
    }

    /// "self_attn.q_proj", …: the path inside a block.
    pub fn path(self) -> String {
        let part = if Module::ATTENTION.contains(&self) { "self_attn" } else { "mlp" };
        format!("{part}.{}", self.name())
    }

    /// The module of that name ("q_proj", …).
    pub fn from_name(name: &str) -> Option<Module> {
        Module::ALL.into_iter().find(|m| m.name() == name)
    }

    /// (O, I) of its matrix.
    pub fn shape(self, config: &Config) -> (u32, u32) {
        match self {
            Module::Q => (config.q_dim(), config.dim),
            Module::K | Module::V => (config.kv_dim(), config.dim),
            Module::O => (config.dim, config.q_dim()),
            Module::Gate | Module::Up => (config.hidden_dim, config.dim),
            Module::Down => (config.dim, config.hidden_dim),
        }
    }
}

/// One tensor that a checkpoint must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Rows; 1 for a vector.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Whether it is a vector (one dimension in the file).
    pub vector: bool,
}

/// All tensors of a model in handle order: table, then per layer norm, q, k, v, o, norm, gate, up,
/// down, then the last norm and, where it is not tied, the head.
pub fn tensors(config: &Config) -> Vec<TensorSpec> {
    let matrix =
        |name: String, (rows, cols): (u32, u32)| TensorSpec { name, rows, cols, vector: false };
    let norm = |name: String| TensorSpec { name, rows: 1, cols: config.dim, vector: true };
    let table = (config.vocab_size, config.dim);
    let mut list = Vec::new();
    list.push(matrix("model.embed_tokens.weight".to_string(), table));
    for l in 0..config.n_layers {
        let linear =
            |m: Module| matrix(format!("model.layers.{l}.{}.weight", m.path()), m.shape(config));
        list.push(norm(format!("model.layers.{l}.input_layernorm.weight")));
        list.extend(Module::ATTENTION.map(linear));
        list.push(norm(format!("model.layers.{l}.post_attention_layernorm.weight")));
        list.extend(Module::FEED_FORWARD.map(linear));
    }
    list.push(norm("model.norm.weight".to_string()));
    if !config.tied {
        list.push(matrix("lm_head.weight".to_string(), table));
    }
    list
}
