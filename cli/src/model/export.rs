//! Whole models out: a Hugging Face folder, merged where there is an adapter, tensor by tensor so that
//! memory stays at one tensor.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use half::{bf16, f16};
use paddock_core::config::Config;
use paddock_core::model::{Method, Params, names};
use paddock_core::weights::{Dtype, WeightView, Weights};
use serde_json::{Value, json};

use super::adapter::{Adapter, dtype_name};
use super::layout::Layout;
use crate::error::bad_input;
use crate::run::checkpoint::{Entry, Payload};
use crate::run::publish::{IfTaken, PublishError, publish_checked};
use crate::storage::Storage;

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

/// Tensors that have a row for each token.
const TABLES: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

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
    /// How many of its rows the source does not have.
    new_rows: usize,
    dtype: Dtype,
    source: &'a Source<'a>,
    params: &'a Params,
}

impl Tensor<'_> {
    /// Its bytes in the file: those of the checkpoint where nothing changes them.
    fn data(&self) -> anyhow::Result<Cow<'_, [u8]>> {
        if let (Source::Merged { weights, adapter: None }, 0) = (self.source, self.new_rows) {
            let view = &weights.tensors[self.index];
            if view.dtype == self.dtype {
                return Ok(Cow::Borrowed(view.bytes));
            }
        }
        Ok(Cow::Owned(encode(&self.checked_values()?, self.dtype)))
    }

    fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.dtype.bytes()
    }

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
        let mut values = match self.source {
            Source::Trained { read, .. } => read(self.index)?,
            Source::Merged { weights, adapter } => {
                let view = &weights.tensors[self.index];
                let mut values: Vec<f32> = (0..view.len()).map(|i| view.get(i)).collect();
                if let Some(adapter) = adapter {
                    merge(&mut values, view, adapter, self.params);
                }
                values
            }
        };
        if self.new_rows > 0 {
            let mean = mean_row(&values, self.shape[1]);
            (0..self.new_rows).for_each(|_| values.extend(&mean));
        }
        Ok(values)
    }
}

/// The mean of the rows of values (N,C): the new token's logit is then the mean of the others', never the largest.
fn mean_row(values: &[f32], cols: usize) -> Vec<f32> {
    let mut sum = vec![0.0; cols];
    for row in values.chunks_exact(cols) {
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let rows = (values.len() / cols).max(1) as f64;
    sum.iter().map(|sum| (sum / rows) as f32).collect()
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

/// One file of weights.
struct Shard<'a> {
    name: String,
    tensors: &'a [Tensor<'a>],
    layout: Layout,
}

impl Shard<'_> {
    /// Writes the file; `keep` takes what is no error of the file system.
    fn write(
        &self,
        out: &mut dyn Write,
        keep: &dyn Fn(anyhow::Error) -> io::Error,
    ) -> io::Result<()> {
        self.layout.write(out, &|number| self.tensors[number].data().map_err(keep))
    }
}

/// Settings of an export.
pub struct Export<'a> {
    /// The model folder that tokenizer and configuration are copied from.
    pub from: &'a Path,
    /// The new folder.
    pub to: &'a Path,
    /// The model's shape.
    pub config: &'a Config,
    /// Element type of the new weights; `None` keeps each tensor's own.
    pub dtype: Option<Dtype>,
    /// Rows that embedding and head are given besides, for tokens that they do not have: each is the mean of the others.
    pub new_rows: u32,
    /// The template that travels with the model.
    pub template: Option<PathBuf>,
}

impl Export<'_> {
    /// Publishes the folder: written beside its final place, synced, read back, given to `check`, renamed. After an
    /// error a folder of that name is as it was, and nothing is beside it.
    pub fn write(
        &self,
        storage: &dyn Storage,
        source: &Source<'_>,
        if_taken: IfTaken,
        check: &mut dyn FnMut(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (Source::Merged { weights, .. } | Source::Trained { weights, .. }) = source;
        let method = match source {
            Source::Merged { adapter: Some(adapter), .. } => Method::Lora(adapter.lora),
            _ => Method::Frozen,
        };
        let params = Params::new(self.config, method);
        let tensors = self.tensors(weights, source, &params);
        let shards = shards(&tensors)?;
        // What went wrong first: while files are written only errors of the file system can be told.
        let problem = RefCell::new(None);
        let keep: &dyn Fn(anyhow::Error) -> io::Error = &|error| {
            problem.borrow_mut().get_or_insert(error);
            io::Error::other("there was nothing good to write")
        };
        let writers: Vec<_> =
            shards.iter().map(|shard| move |out: &mut dyn Write| shard.write(out, keep)).collect();
        let texts = self.texts(weights, &shards)?;
        let streams = shards.iter().zip(&writers).map(|(shard, write)| Entry {
            name: &shard.name,
            payload: Payload::Stream { bytes: shard.layout.bytes, write },
        });
        let files: Vec<Entry<'_>> = streams
            .chain(texts.iter().map(|(name, text)| Entry { name, payload: Payload::Bytes(text) }))
            .collect();
        let mut check = |new: &Path| check(new).map_err(keep);
        match publish_checked(storage, self.to, &files, if_taken, &mut check) {
            Ok(_) => Ok(()),
            Err(error) => Err(match (problem.take(), error) {
                (Some(problem), _) => problem,
                (None, error @ PublishError::Taken { .. }) => bad_input(error.to_string()),
                (None, error) => error.into(),
            }),
        }
    }

    /// Every tensor of the model, in the core's order.
    fn tensors<'t>(
        &self,
        weights: &Weights<'_>,
        source: &'t Source<'t>,
        params: &'t Params,
    ) -> Vec<Tensor<'t>> {
        let specs = names::tensors(self.config).into_iter().enumerate();
        let tensor = |(index, spec): (usize, names::TensorSpec)| {
            let new_rows = if TABLES.contains(&&*spec.name) { self.new_rows as usize } else { 0 };
            let (rows, cols) = (spec.rows as usize + new_rows, spec.cols as usize);
            let shape = if spec.vector { vec![cols] } else { vec![rows, cols] };
            let dtype = self.dtype.unwrap_or(weights.tensors[index].dtype);
            Tensor { name: spec.name, index, shape, new_rows, dtype, source, params }
        };
        specs.map(tensor).collect()
    }

    /// Everything beside the weights.
    fn texts(
        &self,
        weights: &Weights<'_>,
        shards: &[Shard<'_>],
    ) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
        let mut texts = vec![("config.json", self.config_json(weights)?)];
        let companions = COMPANIONS.map(|name| (name, self.from.join(name)));
        let template = self.template.iter().map(|path| ("template.json", path.clone()));
        for (name, path) in companions.into_iter().chain(template).filter(|(_, p)| p.is_file()) {
            let read = std::fs::read(&path);
            texts.push((name, read.with_context(|| format!("cannot read {}", path.display()))?));
        }
        if shards.len() > 1 {
            let all = shards.iter().flat_map(|s| s.tensors.iter().map(|tensor| (tensor, &s.name)));
            let total: u64 = all.clone().map(|(tensor, _)| tensor.bytes()).sum();
            let map: serde_json::Map<String, Value> =
                all.map(|(tensor, file)| (tensor.name.clone(), json!(file))).collect();
            let index = json!({"metadata": {"total_size": total}, "weight_map": map});
            texts.push(("model.safetensors.index.json", format!("{index:#}\n").into_bytes()));
        }
        Ok(texts)
    }

    /// config.json of the source with the new element type and number of tokens.
    fn config_json(&self, weights: &Weights<'_>) -> anyhow::Result<Vec<u8>> {
        let path = self.from.join("config.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut config: Value = serde_json::from_str(&text)?;
        let first = weights.tensors.first().map_or(Dtype::F32, |t| t.dtype);
        let name = dtype_name(self.dtype.unwrap_or(first));
        if let Some(map) = config.as_object_mut() {
            let key = if map.contains_key("dtype") { "dtype" } else { "torch_dtype" };
            map.insert(key.to_string(), json!(name));
            if self.new_rows > 0 {
                let rows = self.config.vocab_size + self.new_rows;
                map.insert("vocab_size".to_string(), json!(rows));
            }
        }
        Ok(format!("{config:#}\n").into_bytes())
    }
}

/// The files of weights, named as Hugging Face names them.
fn shards<'a>(tensors: &'a [Tensor<'a>]) -> anyhow::Result<Vec<Shard<'a>>> {
    let parts = cut(tensors);
    let count = parts.len();
    let shard = |(i, tensors): (usize, &'a [Tensor<'a>])| {
        let name = match count {
            1 => "model.safetensors".to_string(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        let described = tensors.iter().map(|t| (t.name.clone(), t.dtype, t.shape.clone()));
        Ok(Shard { name, tensors, layout: Layout::of(described.collect())? })
    };
    parts.into_iter().enumerate().map(shard).collect()
}

/// Cuts the tensors into runs of at most `SHARD` bytes.
fn cut<'a, 'b>(tensors: &'b [Tensor<'a>]) -> Vec<&'b [Tensor<'a>]> {
    let (mut shards, mut start, mut size) = (Vec::new(), 0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.bytes();
        if size + bytes > SHARD && i > start {
            shards.push(&tensors[start..i]);
            (start, size) = (i, 0);
        }
        size += bytes;
    }
    shards.push(&tensors[start..]);
    shards
}
