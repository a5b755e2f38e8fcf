//! A Hugging Face model folder, opened: config, and every tensor's place in mapped files.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use memmap2::Mmap;
use paddock_core::config::Config;
use serde::Deserialize;

use super::config_json;
use super::mmap::map;
use super::safetensors::{Entry, header};
use crate::error::bad_input;

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
}

/// One mapped file of weights.
pub struct WeightFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub map: Mmap,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl ModelFolder {
    /// Opens a folder: config.json, and model.safetensors or an index with its shards.
    pub fn open(path: &Path) -> anyhow::Result<ModelFolder> {
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
            let file = path.join(name);
            let map = map(&file)?;
            for (tensor, entry) in header(&file, &map)? {
                if tensors.insert(tensor.clone(), (files.len(), entry)).is_some() {
                    return Err(bad_input(format!(
                        "{}: tensor `{tensor}` is also in another file of this model",
                        file.display()
                    )));
                }
            }
            files.push(WeightFile { path: file, map });
        }
        check_index(path, &names, &tensors)?;
        Ok(ModelFolder { path: path.to_path_buf(), config, files, tensors })
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
        let pickled = path.join("pytorch_model.bin").exists();
        let hint = if pickled {
            " There is only a pickle (pytorch_model.bin); such files can run programs, so Paddock does \
             not open them. Save the model as safetensors."
        } else {
            ""
        };
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

fn read_index(path: &Path) -> anyhow::Result<Index> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|e| bad_input(format!("{}: {e}", path.display())))
}

/// The index must say of each tensor where it really is.
fn check_index(
    path: &Path,
    names: &[String],
    tensors: &BTreeMap<String, (usize, Entry)>,
) -> anyhow::Result<()> {
    let index_path = path.join(INDEX);
    if !index_path.exists() {
        return Ok(());
    }
    for (tensor, file) in read_index(&index_path)?.weight_map {
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
    Ok(())
}
