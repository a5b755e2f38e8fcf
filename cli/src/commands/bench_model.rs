//! The model of `core-cli bench train` and `bench generate`: any shape, random weights in a mapped file.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::model::names::TensorSpec;
use paddock_core::model::tensors;
use paddock_core::philox::{Philox, Stream};
use paddock_core::weights::{Dtype, Weight, WeightView, Weights};
use safetensors::tensor::TensorView;

use crate::error::bad_input;
use crate::model::config_json;
use crate::model::mmap::map;

#[derive(Clone, Debug, clap::Args)]
pub struct Shape {
    /// DIM,LAYERS,HEADS,KV,HIDDEN,VOCAB
    #[arg(long, value_name = "DIM,LAYERS,HEADS,KV,HIDDEN,VOCAB")]
    pub shape: String,
    /// The head is the embedding table.
    #[arg(long)]
    tie: bool,
    /// Element type of the frozen weights: f32 or bf16.
    #[arg(long, default_value = "f32")]
    pub weights: String,
    /// Write the model (and the rows of `bench train`) to this new folder, for other programs to measure with.
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

impl Shape {
    /// The geometry, for texts of up to `longest` tokens.
    pub fn config(&self, longest: u64) -> anyhow::Result<Config> {
        let numbers: Result<Vec<u32>, _> =
            self.shape.split(',').map(|n| n.trim().parse()).collect();
        let Ok([dim, n_layers, n_heads, n_kv_heads, hidden_dim, vocab_size]) =
            numbers.map(|n| <[u32; 6]>::try_from(n).unwrap_or([0; 6]))
        else {
            return Err(bad_input(format!("--shape {}: expected six whole numbers", self.shape)));
        };
        let config = Config {
            dim,
            hidden_dim,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim: dim.checked_div(n_heads).unwrap_or(0),
            vocab_size,
            max_seq_len: longest as u32,
            rms_norm_eps: 1e-5,
            rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
            tied: self.tie,
        };
        config.validate()?;
        Ok(config)
    }
}

/// Weights of a model in a mapped file in which every tensor has bytes of its own, as a real checkpoint has, so
/// that memory traffic and memory use are real.
pub struct RandomModel {
    /// Its geometry.
    pub config: Config,
    /// The weights' bytes.
    pub file: Mmap,
    dtype: Dtype,
}

impl RandomModel {
    /// Draws the weights (the same ones every time) and keeps them where that was asked for.
    pub fn new(args: &Shape, longest: u64) -> anyhow::Result<RandomModel> {
        let config = args.config(longest)?;
        let dtype = match args.weights.as_str() {
            "f32" => Dtype::F32,
            "bf16" => Dtype::Bf16,
            other => return Err(bad_input(format!("--weights {other}: expected f32 or bf16"))),
        };
        let file = weights_file(&config, dtype)?;
        let model = RandomModel { config, file, dtype };
        if let Some(folder) = &args.keep {
            model.keep(folder)?;
        }
        Ok(model)
    }

    /// The weights, in place.
    pub fn weights(&self) -> Weights<'_> {
        let (mut weights, mut start) = (Weights::default(), 0);
        for t in tensors(&self.config) {
            let end = start + size(&t, self.dtype) as usize;
            let (name, bytes) = (t.name, &self.file[start..end]);
            let (rows, cols) = (t.rows, t.cols);
            weights.push(WeightView { name, dtype: self.dtype, rows, cols, bytes });
            start = end;
        }
        weights
    }

    fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir(folder).map_err(|e| {
            bad_input(format!("--keep {}: {e}; name a folder that is not there", folder.display()))
        })?;
        let (name, dtype) = match self.dtype {
            Dtype::F32 => ("float32", safetensors::Dtype::F32),
            _ => ("bfloat16", safetensors::Dtype::BF16),
        };
        let about = config_json::text(&self.config, name);
        std::fs::write(folder.join("config.json"), format!("{about:#}\n"))?;
        let (list, weights) = (tensors(&self.config), self.weights());
        let view = |i: usize| weights.get(Weight(i as u32)).map_or(&[][..], |w| w.bytes);
        let mut views = Vec::new();
        for (i, t) in list.iter().enumerate() {
            let (rows, cols) = (t.rows as usize, t.cols as usize);
            let shape = if t.vector { vec![cols] } else { vec![rows, cols] };
            views.push((t.name.clone(), TensorView::new(dtype, shape, view(i))?));
        }
        let metadata = Some([("format".to_string(), "pt".to_string())].into());
        safetensors::serialize_to_file(views, metadata, &folder.join("model.safetensors"))?;
        Ok(())
    }
}

fn size(t: &TensorSpec, dtype: Dtype) -> u64 {
    u64::from(t.rows) * u64::from(t.cols) * dtype.bytes()
}

/// Bytes of the element `x`.
fn bytes(dtype: Dtype, x: f32) -> Vec<u8> {
    match dtype {
        Dtype::F32 => x.to_le_bytes().into(),
        _ => half::bf16::from_f32(x).to_le_bytes().into(),
    }
}

/// The file: norms are 1, each matrix is a window into one block of random numbers. It has no name any more
/// when this returns.
fn weights_file(config: &Config, dtype: Dtype) -> anyhow::Result<Mmap> {
    let list = tensors(config);
    let random = Philox::new(1, Stream::init(0));
    let value = |i: u64| (random.uniform(0, i) - 0.5) * 0.1;
    let largest = list.iter().map(|t| size(t, dtype) / dtype.bytes()).max().unwrap_or(0);
    let block: Vec<u8> = (0..largest).flat_map(|i| bytes(dtype, value(i))).collect();
    let one = bytes(dtype, 1.0);
    let path = std::env::temp_dir().join(format!("paddock-bench-{}", std::process::id()));
    let mut file = BufWriter::new(std::fs::File::create_new(&path)?);
    let written = list.iter().try_for_each(|t| match t.vector {
        true => file.write_all(&one.repeat(t.cols as usize)),
        false => file.write_all(&block[..size(t, dtype) as usize]),
    });
    let map = written.and_then(|()| file.flush()).map_err(Into::into).and_then(|()| map(&path));
    std::fs::remove_file(&path)?;
    map
}
