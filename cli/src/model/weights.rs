//! The tensors of an open folder in the core's order, read in place.

use std::collections::HashMap;

use paddock_core::model::names::{TensorSpec, tensors};
use paddock_core::weights::{Dtype, WeightView, Weights};

use super::folder::ModelFolder;
use super::safetensors::Entry;
use crate::error::bad_input;

/// Tensors whose bytes were not aligned in the file, copied.
#[derive(Default)]
pub struct Copies {
    by_name: HashMap<String, Vec<u32>>,
}

/// What was noticed while the weights were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Tensors that the model does not use.
    pub unused: Vec<String>,
}

impl ModelFolder {
    /// Copies what is not aligned to its element size; almost always nothing.
    pub fn copies(&self) -> Copies {
        let mut copies = Copies::default();
        for spec in tensors(&self.config) {
            let Some((entry, bytes)) = self.bytes(&spec.name) else { continue };
            let size = entry.dtype().map_or(1, |d| d.bytes() as usize);
            if !(bytes.as_ptr() as usize).is_multiple_of(size) {
                let mut words = vec![0u32; bytes.len().div_ceil(4)];
                bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
                copies.by_name.insert(spec.name, words);
            }
        }
        copies
    }

    /// All weights in handle order, after checking names, shapes and element types.
    pub fn weights<'a>(&'a self, copies: &'a Copies) -> anyhow::Result<(Weights<'a>, Notes)> {
        let specs = tensors(&self.config);
        self.check_names(&specs)?;
        let mut weights = Weights::default();
        for spec in &specs {
            let Some((entry, bytes)) = self.bytes(&spec.name) else { continue };
            let dtype = self.check(spec, entry)?;
            let bytes = match copies.by_name.get(&spec.name) {
                Some(words) => &bytemuck::cast_slice(words)[..bytes.len()],
                None => bytes,
            };
            let (name, rows, cols) = (spec.name.clone(), spec.rows, spec.cols);
            weights.push(WeightView { name, dtype, rows, cols, bytes });
        }
        let used = |name: &String| specs.iter().any(|s| s.name == *name);
        let unused: Vec<String> = self.tensors.keys().filter(|name| !used(name)).cloned().collect();
        if let Some(strange) = unused.iter().find(|name| !is_harmless(name)) {
            return Err(bad_input(format!(
                "{}: the files hold {} tensors that a LLaMA of this config.json does not have, such as \
                 `{strange}`. Without them it would answer otherwise: it is of another architecture, or \
                 config.json is that of another model",
                self.path.display(),
                unused.iter().filter(|name| !is_harmless(name)).count(),
            )));
        }
        Ok((weights, Notes { unused }))
    }

    fn check_names(&self, specs: &[TensorSpec]) -> anyhow::Result<()> {
        let missing: Vec<&str> = specs
            .iter()
            .map(|s| s.name.as_str())
            .filter(|name| !self.tensors.contains_key(*name))
            .collect();
        let Some(&first) = missing.first() else { return Ok(()) };
        let nearest = self
            .tensors
            .keys()
            .max_by(|a, b| strsim::jaro(a, first).total_cmp(&strsim::jaro(b, first)));
        let nearest =
            nearest.map_or(String::new(), |n| format!(" The nearest name here is `{n}`."));
        let shown = missing.iter().take(20).copied().collect::<Vec<_>>().join(", ");
        Err(bad_input(format!(
            "{}: {} of {} tensors are missing: {shown}.{nearest}",
            self.path.display(),
            missing.len(),
            specs.len()
        )))
    }

    fn check(&self, spec: &TensorSpec, entry: &Entry) -> anyhow::Result<Dtype> {
        let expected = if spec.vector {
            vec![u64::from(spec.cols)]
        } else {
            vec![u64::from(spec.rows), u64::from(spec.cols)]
        };
        if entry.shape != expected {
            return Err(bad_input(format!(
                "{}: tensor `{}` has shape {:?}; config.json's {} ask for {expected:?}",
                self.path.display(),
                spec.name,
                entry.shape,
                fields_of(&spec.name)
            )));
        }
        entry.dtype().ok_or_else(|| {
            bad_input(format!(
                "{}: tensor `{}` is stored as {}; Paddock reads F32, BF16 and F16",
                self.path.display(),
                spec.name,
                entry.dtype
            ))
        })
    }
}

/// What older files hold besides: tables that follow from config.json, and a second copy of a tied head.
fn is_harmless(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
        || name == "lm_head.weight"
        || !(name.starts_with("model.") || name.starts_with("lm_head."))
}

/// Which fields of config.json decide a tensor's shape.
fn fields_of(name: &str) -> &'static str {
    let has = |part: &str| name.contains(part);
    if has("embed_tokens") || has("lm_head") {
        "`vocab_size` and `hidden_size`"
    } else if has("k_proj") || has("v_proj") {
        "`num_key_value_heads`, `head_dim` and `hidden_size`"
    } else if has("q_proj") || has("o_proj") {
        "`num_attention_heads`, `head_dim` and `hidden_size`"
    } else if has("mlp.") {
        "`intermediate_size` and `hidden_size`"
    } else {
        "`hidden_size`"
    }
}

/// The first value that is not finite: (tensor, index). Reads everything once.
pub fn find_not_finite(weights: &Weights<'_>) -> Option<(String, usize)> {
    weights.tensors.iter().find_map(|t| Some((t.name.clone(), first_not_finite(t)?)))
}

fn first_not_finite(tensor: &WeightView<'_>) -> Option<usize> {
    let (words, infinite) = match tensor.dtype {
        Dtype::F32 => {
            let words: &[u32] = bytemuck::try_cast_slice(tensor.bytes).ok()?;
            return words.iter().position(|w| w & 0x7F80_0000 == 0x7F80_0000);
        }
        Dtype::Bf16 => (tensor.bytes, 0x7F80u16),
        Dtype::F16 => (tensor.bytes, 0x7C00u16),
    };
    let words: &[u16] = bytemuck::try_cast_slice(words).ok()?;
    words.iter().position(|w| w & infinite == infinite)
}
