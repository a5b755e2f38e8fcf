//! RECIPE.toml: everything that a pretraining is made of.

use paddock_core::config::{Config, Rope, RopeScaling};
use serde::Deserialize;

use crate::error::bad_input;

/// A recipe.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// All random choices follow from this number.
    #[serde(default = "one")]
    pub seed: u64,
    /// A new shape, or the model to go on with.
    pub model: ModelPart,
    /// The vocabulary of a new model.
    #[serde(default)]
    pub vocabulary: Vocabulary,
    /// What it reads.
    pub text: Texts,
    /// Keys of RUN.toml.
    #[serde(default)]
    pub training: toml::Table,
}

fn one() -> u64 {
    1
}

/// `from`, or all of a shape.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelPart {
    /// A model folder that learns the texts in addition.
    pub from: Option<String>,
    /// Width.
    pub dim: u32,
    /// Blocks.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Heads of keys and values; as many as `heads` if absent.
    pub kv_heads: Option<u32>,
    /// Width inside the feed-forward part.
    pub hidden: u32,
    /// Longest text in tokens.
    pub context: u32,
}

/// A vocabulary to be learned.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vocabulary {
    /// Tokens in all.
    pub tokens: u32,
    /// Texts of the corpus that it is learned from.
    pub texts: usize,
    /// Further texts to learn it from, such as the words of a prompt.
    pub also: Vec<String>,
    /// How often those count.
    pub also_times: usize,
}

impl Default for Vocabulary {
    fn default() -> Vocabulary {
        Vocabulary { tokens: 4096, texts: 20_000, also: Vec::new(), also_times: 1 }
    }
}

/// What is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Texts {
    /// Files: plain text (documents parted by lines that say `<|endoftext|>`), or rows with a column `text`;
    /// each may be compressed.
    pub files: Vec<String>,
    /// How often the files are read.
    pub times: Option<u32>,
    /// So many stories of the built-in generator.
    pub stories: u64,
}

impl Recipe {
    /// Reads a recipe.
    pub fn parse(name: &str, text: &str) -> anyhow::Result<Recipe> {
        let recipe: Recipe = toml::from_str(text).map_err(|e| bad_input(format!("{name}: {e}")))?;
        if recipe.text.files.is_empty() && recipe.text.stories == 0 {
            return Err(bad_input(format!("{name}: [text] names no files and no stories")));
        }
        recipe.new_model()?;
        Ok(recipe)
    }

    /// The shape of a new model; `None` if one is gone on with.
    pub fn new_model(&self) -> anyhow::Result<Option<Config>> {
        let m = &self.model;
        if m.from.is_some() {
            let shaped = m.dim + m.layers + m.heads + m.hidden + m.context > 0;
            if shaped || m.kv_heads.is_some() {
                return Err(bad_input("[model] has `from` and a shape; give one of them"));
            }
            return Ok(None);
        }
        let config = Config {
            dim: m.dim,
            hidden_dim: m.hidden,
            n_layers: m.layers,
            n_heads: m.heads,
            n_kv_heads: m.kv_heads.unwrap_or(m.heads),
            head_dim: m.dim.checked_div(m.heads).unwrap_or(0),
            vocab_size: self.vocabulary.tokens,
            max_seq_len: m.context,
            rms_norm_eps: 1e-5,
            rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
            tied: true,
        };
        config.validate().map_err(|e| bad_input(format!("[model] {e}")))?;
        Ok(Some(config))
    }
}
