//! Whole models out: a Hugging Face folder, merged where there is an adapter, tensor by tensor so that
//! memory stays at one tensor.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::Context;
use half::{bf16, f16};
use paddock_core::config::Config;
use paddock_core::model::{Method, Params, names};
use paddock_core::weights::{Dtype, WeightView, Weights};
use serde_json::{Value, json};

use super::adapter::{Adapter, dtype_name};
use crate::error::bad_input;

/// Bytes of one file before a model is cut into shards.
const SHARD: u64 = 5_000_000_000;

/// Files that travel with a model unchanged, where the source has them.
const COMPANIONS: [&str; 7] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "added_tokens.json",
];

/// Where the exported numbers come from.
#[allow(missing_docs, reason = "said in the variants")]
pub enum Source<'a> {
    /// The checkpoint itself, plus scale · B·A where an adapter has it.
    Merged { weights: &'a Weights<'a>, adapter: Option<&'a Adapter> },
    /// Trained values of each tensor, by its number in `names::tensors`, read when its turn comes.
    Trained { weights: &'a Weights<'a>, read: &'a dyn Fn(usize) -> anyhow::Result<Vec<f32>> },
}

/// One tensor of the export, computed when its turn comes.
struct Tensor<'a> {
    name: String,
    index: usize,
    shape: Vec<usize>,
    dtype: Dtype,
    source: &'a Source<'a>,
    params: &'a Params,
    /// What went wrong first: the writer of the format asks for bytes and takes no errors.
    problem: &'a RefCell<Option<anyhow::Error>>,
}

impl Tensor<'_> {
    /// Its numbers, every one finite in the type in which it is written.
    fn checked_values(&self) -> anyhow::Result<Vec<f32>> {
        let values = self.values()?;
        let finite = |x: f32| match self.dtype {
            Dtype::F32 => x.is_finite(),
            Dtype::Bf16 => bf16::from_f32(x).is_finite(),
            Dtype::F16 => f16::from_f32(x).is_finite(),
        };
        match values.iter().position(|&x| !finite(x)) {
            None => Ok(values),
            Some(at) => Err(bad_input(format!(
                "`{}` holds a value that is not a finite number in {}, at {at}, so the model is not written. \
                 Choose another --dtype, or train anew with a lower --lr",
                self.name,
                dtype_name(self.dtype)
            ))),
        }
    }

    fn values(&self) -> anyhow::Result<Vec<f32>> {
        Ok(match self.source {
            Source::Trained { read, .. } => read(self.index)?,
            Source::Merged { weights, adapter } => {
                let view = &weights.tensors[self.index];
                let mut values: Vec<f32> = (0..view.len()).map(|i| view.get(i)).collect();
                if let Some(adapter) = adapter {
                    merge(&mut values, view, adapter, self.params);
                }
                values
            }
        })
    }
}

/// values (O,I) += scale · B (O,R) · A (R,I), if the adapter has a part for this tensor.
fn merge(values: &mut [f32], view: &WeightView<'_>, adapter: &Adapter, params: &Params) {
    let Some(path) = view.name.strip_suffix(".weight") else { return };
    let find = |what: &str| {
        let name = format!("{path}.{what}.weight");
        params.items.iter().any(|p| p.name == name).then(|| adapter.tensors.get(&name)).flatten()
    };
    let (Some(a), Some(b)) = (find("lora_A"), find("lora_B")) else { return };
    let (cols, rank) = (view.cols as usize, adapter.lora.rank as usize);
    let scale = adapter.lora.scale();
    for (o, row) in values.chunks_exact_mut(cols).enumerate() {
        for (i, w) in row.iter_mut().enumerate() {
            // In f64: the merged weight is rounded once.
            let dot: f64 =
                (0..rank).map(|r| f64::from(b[o * rank + r]) * f64::from(a[r * cols + i])).sum();
            *w = (f64::from(*w) + scale * dot) as f32;
        }
    }
}

/// Numbers in the bytes of an element type.
fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Dtype::Bf16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
    }
}

impl safetensors::View for &Tensor<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        match self.dtype {
            Dtype::F32 => safetensors::Dtype::F32,
            Dtype::Bf16 => safetensors::Dtype::BF16,
            Dtype::F16 => safetensors::Dtype::F16,
        }
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let plain = matches!(self.source, Source::Merged { adapter: None, .. });
        if let (true, Source::Merged { weights, .. }) = (plain, self.source) {
            let view = &weights.tensors[self.index];
            if view.dtype == self.dtype {
                return Cow::Borrowed(view.bytes);
            }
        }
        let values = self.checked_values().unwrap_or_else(|error| {
            self.problem.borrow_mut().get_or_insert(error);
            vec![0.0; self.shape.iter().product()]
        });
        Cow::Owned(encode(&values, self.dtype))
    }
    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes() as usize
    }
}

/// Settings of an export.
pub struct Export<'a> {
    /// The model folder that tokenizer and configuration are copied from.
    pub from: &'a Path,
    /// The new folder; must not exist.
    pub to: &'a Path,
    /// The model's shape.
    pub config: &'a Config,
    /// Element type of the new weights; `None` keeps each tensor's own.
    pub dtype: Option<Dtype>,
    /// The template that travels with the model.
    pub template: Option<PathBuf>,
}

impl Export<'_> {
    /// Writes the folder beside its final place, has it checked there, and renames it when it is
    /// complete.
    pub fn write(
        &self,
        source: &Source<'_>,
        check: &mut dyn FnMut(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.to.exists() {
            return Err(bad_input(format!(
                "{}: already exists; choose a new folder, nothing is overwritten",
                self.to.display()
            )));
        }
        let name = self.to.file_name().context("the output folder needs a name")?;
        let mut partial = name.to_os_string();
        partial.push(".partial");
        let partial = self.to.with_file_name(partial);
        if partial.exists() {
            std::fs::remove_dir_all(&partial)?;
        }
        std::fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        self.write_weights(&partial, source)?;
        self.write_config(&partial, source)?;
        for companion in COMPANIONS {
            let file = self.from.join(companion);
            if file.is_file() {
                std::fs::copy(&file, partial.join(companion))?;
            }
        }
        if let Some(template) = self.template.as_ref().filter(|t| t.is_file()) {
            std::fs::copy(template, partial.join("template.json"))?;
        }
        for entry in std::fs::read_dir(&partial)? {
            std::fs::File::open(entry?.path())?.sync_all()?;
        }
        check(&partial)?;
        std::fs::rename(&partial, self.to)?;
        Ok(())
    }

    fn write_weights(&self, dir: &Path, source: &Source<'_>) -> anyhow::Result<()> {
        let (Source::Merged { weights, .. } | Source::Trained { weights, .. }) = source;
        let method = match source {
            Source::Merged { adapter: Some(adapter), .. } => Method::Lora(adapter.lora),
            _ => Method::Frozen,
        };
        let params = Params::new(self.config, method);
        let problem = RefCell::new(None);
        let tensors: Vec<(String, Tensor<'_>)> = names::tensors(self.config)
            .into_iter()
            .enumerate()
            .map(|(index, spec)| {
                let (rows, cols) = (spec.rows as usize, spec.cols as usize);
                let shape = if spec.vector { vec![cols] } else { vec![rows, cols] };
                let dtype = self.dtype.unwrap_or(weights.tensors[index].dtype);
                let (name, params, problem) = (spec.name.clone(), &params, &problem);
                (spec.name, Tensor { name, index, shape, dtype, source, params, problem })
            })
            .collect();
        let shards = cut(&tensors);
        let count = shards.len();
        let mut map = serde_json::Map::new();
        for (i, shard) in shards.iter().enumerate() {
            let name = match count {
                1 => "model.safetensors".to_string(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
            };
            for (tensor, _) in *shard {
                map.insert(tensor.clone(), json!(name));
            }
            let metadata = Some([("format".to_string(), "pt".to_string())].into());
            safetensors::serialize_to_file(
                shard.iter().map(|(n, t)| (n, t)),
                metadata,
                &dir.join(&name),
            )
            .with_context(|| format!("cannot write {name}"))?;
            if let Some(error) = problem.take() {
                return Err(error);
            }
        }
        if count > 1 {
            let total: u64 = tensors.iter().map(|(_, t)| bytes_of(t)).sum();
            let index = json!({"metadata": {"total_size": total}, "weight_map": map});
            std::fs::write(dir.join("model.safetensors.index.json"), format!("{index:#}\n"))?;
        }
        Ok(())
    }

    /// config.json of the source with the new element type.
    fn write_config(&self, dir: &Path, source: &Source<'_>) -> anyhow::Result<()> {
        let (Source::Merged { weights, .. } | Source::Trained { weights, .. }) = source;
        let text = std::fs::read_to_string(self.from.join("config.json"))?;
        let mut config: Value = serde_json::from_str(&text)?;
        let first = weights.tensors.first().map_or(Dtype::F32, |t| t.dtype);
        let name = dtype_name(self.dtype.unwrap_or(first));
        if let Some(map) = config.as_object_mut() {
            let key = if map.contains_key("dtype") { "dtype" } else { "torch_dtype" };
            map.insert(key.to_string(), json!(name));
        }
        std::fs::write(dir.join("config.json"), format!("{config:#}\n"))?;
        Ok(())
    }
}

fn bytes_of(tensor: &Tensor<'_>) -> u64 {
    safetensors::View::data_len(&tensor) as u64
}

/// Cuts the tensors into runs of at most `SHARD` bytes.
fn cut<'a, 'b>(tensors: &'b [(String, Tensor<'a>)]) -> Vec<&'b [(String, Tensor<'a>)]> {
    let (mut shards, mut start, mut size) = (Vec::new(), 0, 0);
    for (i, (_, tensor)) in tensors.iter().enumerate() {
        let bytes = bytes_of(tensor);
        if size + bytes > SHARD && i > start {
            shards.push(&tensors[start..i]);
            (start, size) = (i, 0);
        }
        size += bytes;
    }
    shards.push(&tensors[start..]);
    shards
}
