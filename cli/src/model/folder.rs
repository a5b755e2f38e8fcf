//! A Hugging Face model folder, opened: config, and every tensor's place in mapped files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use memmap2::Mmap;
use paddock_core::config::Config;
use serde::Deserialize;

use super::config_json;
use super::mmap::map_file;
use super::safetensors::{Entry, header, not_weights};
use crate::error::bad_input;
use crate::storage::whole::sha256_hex;

/// An open model folder.
pub struct ModelFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Its shape.
    pub config: Config,
    /// The weight files, in the order of their names.
    pub files: Vec<WeightFile>,
    /// (file, entry) of each tensor.
    pub tensors: BTreeMap<String, (usize, Entry)>,
    /// What is odd about the index, if anything: no fault, but to be said.
    pub odd_index: Option<String>,
}

/// One mapped file of weights.
pub struct WeightFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub map: Mmap,
    file: File,
    stamp: Mutex<Stamp>,
}

/// Length and time of the last change.
type Stamp = (u64, Option<SystemTime>);

fn stamp(file: &File) -> std::io::Result<Stamp> {
    let meta = file.metadata()?;
    Ok((meta.len(), meta.modified().ok()))
}

impl WeightFile {
    fn open(path: PathBuf) -> anyhow::Result<WeightFile> {
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let stamp = stamp(&file).with_context(|| format!("cannot read {}", path.display()))?;
        let map = map_file(&path, &file)?;
        Ok(WeightFile { path, map, file, stamp: Mutex::new(stamp) })
    }

    /// Refuses to go on with a file that another program has written into since it was opened. What was merely
    /// touched is compared with its SHA-256. (A file that was replaced by another of its name does no harm: the
    /// map still holds the old one.)
    pub fn check_unchanged(&self, sha256: &str) -> anyhow::Result<()> {
        let now = stamp(&self.file)
            .with_context(|| format!("cannot read {} any more", self.path.display()))?;
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if now == *known {
            return Ok(());
        }
        let what = if now.0 != self.map.len() as u64 {
            format!("{} bytes then, {} bytes now", self.map.len(), now.0)
        } else if sha256_hex(&self.map) != sha256 {
            format!("the same {} bytes long, but with other contents", now.0)
        } else {
            *known = now;
            return Ok(());
        };
        anyhow::bail!(
            "{} was changed by another program while the run was reading it ({what}), so what was learned since \
             the last checkpoint, or read at the start, cannot be trusted and is not saved. Put the old file back and go on with \
             --resume, or start a new run",
            self.path.display()
        )
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
    #[serde(default)]
    metadata: serde_json::Value,
}

impl ModelFolder {
    /// Opens a folder: config.json, and model.safetensors or an index with its shards.
    pub fn open(path: &Path) -> anyhow::Result<ModelFolder> {
        if path.is_file() {
            return Err(a_file(path));
        }
        if !path.is_dir() {
            return Err(bad_input(format!(
                "{}: there is no such folder. A model is a folder with config.json, model.safetensors \
                 and tokenizer.json.",
                path.display()
            )));
        }
        let config_path = path.join("config.json");
        let text = read_text(&config_path)?;
        let config = config_json::parse(&config_path, &text)?;
        let names = weight_files(path)?;
        let (mut files, mut tensors) = (Vec::new(), BTreeMap::new());
        for name in &names {
            let file = WeightFile::open(path.join(name))?;
            for (tensor, entry) in header(&file.path, &file.map)? {
                if tensors.insert(tensor.clone(), (files.len(), entry)).is_some() {
                    return Err(bad_input(format!(
                        "{}: tensor `{tensor}` is also in another file of this model",
                        file.path.display()
                    )));
                }
            }
            files.push(file);
        }
        let odd_index = check_index(path, &names, &tensors)?;
        Ok(ModelFolder { path: path.to_path_buf(), config, files, tensors, odd_index })
    }

    /// Refuses what was made of files that another program has written into since they were opened.
    ///
    /// # Errors
    /// Names the file.
    pub fn check_untouched(&self) -> anyhow::Result<()> {
        for file in &self.files {
            let now = stamp(&file.file)
                .with_context(|| format!("cannot read {} any more", file.path.display()))?;
            if now != *file.stamp.lock().unwrap_or_else(PoisonError::into_inner) {
                anyhow::bail!(
                    "{} was changed by another program while it was being read, so what was made of it is not kept. \
                     Wait until nobody writes into it, then start again",
                    file.path.display()
                );
            }
        }
        Ok(())
    }

    /// A tensor's bytes.
    pub fn bytes(&self, name: &str) -> Option<(&Entry, &[u8])> {
        let (file, entry) = self.tensors.get(name)?;
        Some((entry, self.files[*file].map.get(entry.start..entry.end)?))
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let missing = || bad_input(format!("{}: missing. Is this a model folder?", path.display()));
    if !path.exists() {
        return Err(missing());
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

const INDEX: &str = "model.safetensors.index.json";

/// Names of the weight files in a folder.
fn weight_files(path: &Path) -> anyhow::Result<Vec<String>> {
    let index_path = path.join(INDEX);
    if !index_path.exists() {
        if path.join("model.safetensors").exists() {
            return Ok(vec!["model.safetensors".into()]);
        }
        let hint = other_weights(path);
        return Err(bad_input(format!("{}: no model.safetensors here.{hint}", path.display())));
    }
    let mut names: Vec<String> = read_index(&index_path)?.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    for name in &names {
        let plain = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
        if !plain || name.contains('\\') || Path::new(name).components().count() != 1 {
            return Err(bad_input(format!(
                "{}: `{name}` does not lie in the model's folder",
                index_path.display()
            )));
        }
        if !path.join(name).is_file() {
            return Err(bad_input(format!(
                "{}: the file `{name}` is listed but missing. Download it again.",
                index_path.display()
            )));
        }
    }
    Ok(names)
}

/// The error for a file where a folder is expected.
fn a_file(path: &Path) -> anyhow::Error {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    let what = read.ok().and_then(|_| not_weights(&start)).unwrap_or("this is a file.");
    bad_input(format!(
        "{}: {what} A model is named by its folder, which holds config.json, model.safetensors and tokenizer.json.",
        path.display()
    ))
}

/// What there is instead of safetensors, in words.
fn other_weights(path: &Path) -> String {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().to_string()).collect();
    names.sort();
    let with = |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end)));
    if let Some(name) = with(&[".bin", ".pt", ".pth", ".pkl", ".ckpt"]) {
        return format!(
            " There is only a pickle ({name}); such files can run programs, so Paddock does not open them. Save \
             the model as safetensors."
        );
    }
    match with(&[".gguf"]) {
        Some(name) => format!(
            " There is only a GGUF file ({name}), which Paddock does not read; take the model's safetensors folder."
        ),
        None => String::new(),
    }
}

fn read_index(path: &Path) -> anyhow::Result<Index> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|e| bad_input(format!("{}: {e}", path.display())))
}

/// The index must say of each tensor where it really is. Its total is often that of another element type, so that
/// it only gives rise to a word.
fn check_index(
    path: &Path,
    names: &[String],
    tensors: &BTreeMap<String, (usize, Entry)>,
) -> anyhow::Result<Option<String>> {
    let index_path = path.join(INDEX);
    if !index_path.exists() {
        return Ok(None);
    }
    let index = read_index(&index_path)?;
    for (tensor, file) in index.weight_map {
        let found = tensors.get(&tensor).map(|(i, _)| &names[*i]);
        if found != Some(&file) {
            return Err(bad_input(format!(
                "{}: tensor `{tensor}` should be in {file}, but is in {}. The files may be of \
                 different versions: download all of them again.",
                index_path.display(),
                found.map_or("none of the files", String::as_str)
            )));
        }
    }
    let bytes: u64 = tensors.values().map(|(_, entry)| (entry.end - entry.start) as u64).sum();
    let total = index.metadata["total_size"].as_u64().filter(|&total| total != bytes);
    Ok(total.map(|total| {
        format!(
            "{INDEX} promises {total} bytes of weights, the files hold {bytes}; they may be of another version"
        )
    }))
}
