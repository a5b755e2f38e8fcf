//! The fixtures of `tests/fixtures`: what PyTorch, transformers and PEFT compute in f64.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::forests::Row;

/// One fixture folder.
pub struct Golden {
    /// Where it is.
    pub dir: PathBuf,
    /// golden.json.
    pub json: Value,
}

impl Golden {
    /// Opens `tests/fixtures/NAME`.
    pub fn open(name: &str) -> Golden {
        let dir = crate::root().join("tests/fixtures").join(name);
        let text = std::fs::read_to_string(dir.join("golden.json")).expect("golden.json");
        Golden { dir, json: serde_json::from_str(&text).expect("golden.json is JSON") }
    }

    /// The rows.
    pub fn rows(&self) -> Vec<Row> {
        let list = self.json["rows"].as_array().expect("rows");
        let numbers = |v: &Value| -> Vec<u64> {
            v.as_array().expect("numbers").iter().map(|n| n.as_u64().expect("a number")).collect()
        };
        list.iter()
            .map(|row| Row {
                tokens: numbers(&row["tokens"]).iter().map(|&t| t as u32).collect(),
                trained: numbers(&row["trained"]).iter().map(|&t| t as usize).collect(),
            })
            .collect()
    }

    /// A list of numbers inside a run, as `run["loss"]`.
    pub fn list(&self, run: &str, key: &str) -> Vec<f64> {
        let list = self.json[run][key].as_array().expect("a list");
        list.iter().map(|x| x.as_f64().expect("a number")).collect()
    }

    /// All tensors of one of the folder's safetensors files, widened to f64.
    pub fn tensors(&self, file: &str) -> HashMap<String, Vec<f64>> {
        read(&self.dir.join(file))
    }
}

/// All tensors of a safetensors file of F32 or F64.
pub fn read(path: &Path) -> HashMap<String, Vec<f64>> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let widen = |t: &safetensors::tensor::TensorView<'_>| -> Vec<f64> {
        match t.dtype() {
            safetensors::Dtype::F64 => t
                .data()
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
                .collect(),
            safetensors::Dtype::F32 => t
                .data()
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                .collect(),
            other => panic!("{other:?} in a fixture"),
        }
    };
    file.tensors().iter().map(|(name, t)| (name.clone(), widen(t))).collect()
}

/// ‖a - b‖ / ‖b‖
pub fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = b.iter().map(|b| b * b).sum();
    (difference / norm.max(1e-300)).sqrt()
}
