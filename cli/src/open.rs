//! What every command starts from: a model folder, its tokenizer, perhaps an adapter, and a back-end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use paddock_core::backend::Backend;
use paddock_core::model::{Method, Model, init};
use paddock_core::weights::Weights;
use paddock_datasets::tokenizer::Tokenizer;
use paddock_kernels::{Device, Kind, Options, Precision, Preparing};

use crate::bundled;
use crate::error::bad_input;
use crate::model::weights::{Copies, find_not_finite};
use crate::model::{Adapter, ModelFolder};
use crate::prepare_device::tell;
use crate::run::config::{self, BackendChoice, RecordedFile, RunConfig};
use crate::run::fingerprint::{Fingerprinter, Trust};
use crate::storage::{RealStorage, Storage};

/// How far the reading of weights has come is told every so many bytes, if it takes longer than this.
const TOLD_EVERY: u64 = 64 << 20;
const SILENT: Duration = Duration::from_secs(2);

/// A model on disk, opened and checked.
pub struct Opened {
    /// Config and mapped weights.
    pub folder: ModelFolder,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The adapter asked for.
    pub adapter: Option<Adapter>,
    /// Tensors of the files that the model does not use.
    pub unused: Vec<String>,
    copies: Copies,
}

impl Opened {
    /// Opens a model folder and, if named, an adapter. Checks names, shapes, element types, that all
    /// weights are finite, and that the tokenizer fits the embedding.
    pub fn open(model: &str, adapter_dir: Option<&Path>) -> anyhow::Result<Opened> {
        Opened::read(model, adapter_dir, true)
    }

    /// The same for a model whose tokenizer may have more tokens than the embedding has rows.
    pub fn open_to_widen(model: &str, adapter_dir: Option<&Path>) -> anyhow::Result<Opened> {
        Opened::read(model, adapter_dir, false)
    }

    fn read(model: &str, adapter_dir: Option<&Path>, fits: bool) -> anyhow::Result<Opened> {
        let path = model_path(model)?;
        let folder = ModelFolder::open(&path)?;
        let tokenizer = Tokenizer::load(&path)?;
        if fits {
            tokenizer.check_rows(u64::from(folder.config.vocab_size))?;
        }
        let adapter = adapter_dir.map(|dir| Adapter::open(dir, &folder.config)).transpose()?;
        let copies = folder.copies();
        let mut opened = Opened { folder, tokenizer, adapter, unused: Vec::new(), copies };
        let (weights, notes) = opened.folder.weights(&opened.copies)?;
        if let Some((name, index)) = find_not_finite(&weights) {
            return Err(bad_input(format!(
                "{}: tensor `{name}` holds a value that is not a finite number, at {index}. The model \
                 is damaged: download it again.",
                path.display()
            )));
        }
        opened.unused = notes.unused;
        if let Some(dir) = adapter_dir {
            opened.check_base(dir, Trust::Kept)?;
        }
        Ok(opened)
    }

    /// Refuses an adapter that Paddock made for another base: it would answer nonsense.
    pub fn check_base(&self, adapter_dir: &Path, trust: Trust) -> anyhow::Result<()> {
        let Some(made_for) = self.adapter.as_ref().and_then(|a| a.base.as_ref()) else {
            return Ok(());
        };
        let this = joined(&self.weight_files(&RealStorage, trust)?);
        if *made_for == this {
            return Ok(());
        }
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        Err(bad_input(format!(
            "{}: this adapter was made for another model (weights {}…, here {}…). Use it with the model \
             that it was trained on.",
            adapter_dir.display(),
            short(made_for),
            short(&this)
        )))
    }

    /// Name, length and hash of each weight file. What was read is kept in the cache folder, so that weights
    /// are known without reading them the next time; `trust` says whether they may be so this time.
    pub fn weight_files(
        &self,
        storage: &dyn Storage,
        trust: Trust,
    ) -> anyhow::Result<Vec<RecordedFile>> {
        let bytes = self.folder.files.iter().map(|file| file.map.len() as u64).sum();
        let mut prints = Fingerprinter::new(storage)
            .keeping(bundled::cache_folder().join("hashes"), trust)
            .telling(tells(bytes));
        let mut files = Vec::new();
        for file in &self.folder.files {
            let mut entry = prints.record(&file.path)?;
            entry.path = file.path.file_name().map_or(entry.path, |n| n.to_string_lossy().into());
            files.push(entry);
        }
        Ok(files)
    }

    /// The weights in the core's order, read in place.
    pub fn weights(&self) -> anyhow::Result<Weights<'_>> {
        Ok(self.folder.weights(&self.copies)?.0)
    }

    /// How the model is used: with its adapter, or as it is.
    pub fn method(&self) -> Method {
        self.adapter.as_ref().map_or(Method::Frozen, |a| Method::Lora(a.lora))
    }

    /// Puts the adapter's numbers in their places.
    pub fn load_adapter(&self, b: &mut dyn Backend, model: &Model) -> anyhow::Result<()> {
        let Some(adapter) = &self.adapter else { return Ok(()) };
        for param in &model.params.items {
            if let Some(values) = adapter.tensors.get(&param.name) {
                b.upload(param.slot, values)?;
            }
        }
        Ok(())
    }

    /// First values of everything trained: the checkpoint, a fresh adapter, or the given one.
    pub fn init(&self, b: &mut dyn Backend, model: &Model, seed: u64) -> anyhow::Result<()> {
        init::init(b, model, &self.weights()?, seed)?;
        self.load_adapter(b, model)
    }
}

/// Fingerprint of a model: of all its weight files together.
pub fn joined(files: &[RecordedFile]) -> String {
    files.iter().map(|file| file.sha256.as_str()).collect::<Vec<_>>().join("+")
}

/// Says how far the reading of so many bytes of weights has come, where it takes long.
fn tells(bytes: u64) -> impl FnMut(u64) {
    let (tell, began, mut told) = (tell(), Instant::now(), 0);
    move |done| {
        let due = done / TOLD_EVERY > told / TOLD_EVERY || done >= bytes;
        if !due || began.elapsed() < SILENT {
            return;
        }
        told = done;
        tell(Preparing {
            what: "checking which model this is, MiB",
            done: done >> 20,
            total: Some(bytes >> 20),
            spent: began.elapsed(),
            goes_on: done < bytes,
        });
    }
}

/// The folder that a model's name stands for.
pub fn model_path(model: &str) -> anyhow::Result<PathBuf> {
    match model.strip_prefix(bundled::PREFIX) {
        Some(name) => bundled::model(name),
        None => Ok(PathBuf::from(model)),
    }
}

/// What computes.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Machine {
    /// What computes: auto, cpu, wgpu (any graphics card), cuda (NVIDIA cards) or reference.
    #[arg(long, default_value = "auto", value_parser = parse_backend)]
    pub backend: BackendChoice,
    /// Which graphics card, by its number or a part of its name in `core-cli doctor` [default: the best].
    #[arg(long)]
    pub device: Option<String>,
    /// What a graphics card keeps activations in: auto, bf16 (--backend cuda) or f16 [default: with cuda bf16
    /// where the card has it, with wgpu f32]. With --backend cpu bf16 makes matrix products faster and coarser, on
    /// processors with matrix instructions for it.
    #[arg(long, default_value = "auto", value_parser = parse_precision)]
    pub precision: config::Precision,
    /// What an NVIDIA card keeps trained parameters in.
    #[arg(skip = config::Parameters::F32)]
    pub parameters: config::Parameters,
    /// Processor threads [default: all cores].
    #[arg(long)]
    pub threads: Option<u64>,
}

impl Default for Machine {
    /// The best that there is.
    fn default() -> Machine {
        Machine {
            backend: BackendChoice::Auto,
            device: None,
            precision: config::Precision::Auto,
            parameters: config::Parameters::F32,
            threads: None,
        }
    }
}

impl Machine {
    /// What a run computes with.
    pub fn of(config: &RunConfig) -> Machine {
        let RunConfig { backend, device, precision, parameters, threads, .. } = config;
        let (backend, device, threads) = (*backend, device.clone(), *threads);
        Machine { backend, device, precision: *precision, parameters: *parameters, threads }
    }
}

fn parse_backend(text: &str) -> Result<BackendChoice, String> {
    serde_json::from_value(serde_json::Value::String(text.into()))
        .map_err(|_| "expected auto, cpu, wgpu, cuda or reference".to_string())
}

fn parse_precision(text: &str) -> Result<config::Precision, String> {
    serde_json::from_value(serde_json::Value::String(text.into()))
        .map_err(|_| "expected auto, bf16 or f16".to_string())
}

/// What trained parameters are kept in, by its word.
pub fn parse_parameters(text: &str) -> Result<config::Parameters, String> {
    serde_json::from_value(serde_json::Value::String(text.into()))
        .map_err(|_| "expected f32 or bf16".to_string())
}

/// The library's name of a choice.
pub fn kind(choice: BackendChoice) -> Kind {
    match choice {
        BackendChoice::Auto => Kind::Auto,
        BackendChoice::Cpu => Kind::Cpu,
        BackendChoice::Wgpu => Kind::Wgpu,
        BackendChoice::Cuda => Kind::Cuda,
        BackendChoice::Reference => Kind::Reference,
    }
}

/// Opens what computes. A device that is not there, or cannot be opened, is bad usage: nothing has been
/// touched.
pub fn device(machine: &Machine) -> anyhow::Result<Device> {
    let Machine { backend, device: name, precision, parameters, threads } = machine;
    let chooses = matches!(backend, BackendChoice::Wgpu | BackendChoice::Cuda);
    if let (Some(name), false) = (name, chooses) {
        return Err(bad_input(format!(
            "--device {name} names a graphics card; say --backend wgpu (or cuda) beside it"
        )));
    }
    if *precision != config::Precision::Auto && !chooses && *backend != BackendChoice::Cpu {
        return Err(bad_input(format!(
            "--precision {precision} goes with a back-end that is named; say --backend cuda, wgpu or cpu beside it"
        )));
    }
    if *parameters != config::Parameters::F32 && *backend != BackendChoice::Cuda {
        return Err(bad_input(format!(
            "--parameters {parameters} is for NVIDIA cards; say --backend cuda beside it"
        )));
    }
    let options = Options {
        threads: threads.unwrap_or(0) as usize,
        device: name.clone(),
        kernel_cache: Some(bundled::cache_folder().join("kernels")),
        progress: Some(tell()),
        precision: match precision {
            config::Precision::Auto => Precision::Auto,
            config::Precision::Bf16 => Precision::Bf16,
            config::Precision::F16 => Precision::F16,
        },
        narrow_parameters: *parameters == config::Parameters::Bf16,
        ..Options::default()
    };
    Device::open(kind(*backend), &options)
        .map_err(|e| bad_input(format!("--backend {backend}: {e}")))
}

/// Opens a back-end over a model's weights.
pub fn backend<'w>(
    machine: &Machine,
    weights: Weights<'w>,
) -> anyhow::Result<Box<dyn Backend + 'w>> {
    Ok(device(machine)?.backend(weights)?)
}
