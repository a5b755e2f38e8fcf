//! PEFT adapters: adapter_config.json and adapter_model.safetensors, in and out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use paddock_core::config::Config;
use paddock_core::model::{LoraConfig, Method, Module, Params};
use paddock_core::weights::{Dtype, WeightView};
use serde_json::{Value, json};

use super::layout::Layout;
use super::mmap::map;
use super::safetensors::header;
use crate::error::bad_input;
use crate::run::checkpoint::{Entry, Payload};
use crate::run::publish::{IfTaken, publish_folder};
use crate::storage::Storage;

/// What PEFT puts before a tensor's name.
const PREFIX: &str = "base_model.model.";

/// An adapter read from disk: its settings and its tensors by the core's names.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Its settings.
    pub lora: LoraConfig,
    /// Values of each tensor.
    pub tensors: BTreeMap<String, Vec<f32>>,
    /// Fingerprint of the base it was made for, if Paddock made it.
    pub base: Option<String>,
}

impl Adapter {
    /// Reads an adapter folder and checks it against the model's shape.
    pub fn open(dir: &Path, config: &Config) -> anyhow::Result<Adapter> {
        let path = dir.join("adapter_config.json");
        let text = std::fs::read_to_string(&path).map_err(|e| {
            bad_input(format!("{}: {e}. Is this an adapter folder?", path.display()))
        })?;
        let settings = serde_json::from_str(&text)
            .map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
        let mut lora = parse_settings(&path, &settings)?;
        let file = dir.join("adapter_model.safetensors");
        if !file.exists() && dir.join("adapter_model.bin").exists() {
            return Err(bad_input(format!(
                "{}: the adapter is a pickle (adapter_model.bin); such files can run programs, so \
                 Paddock does not open them. Save it as safetensors.",
                dir.display()
            )));
        }
        let bytes = map(&file)?;
        let mut tensors = BTreeMap::new();
        for (name, entry) in header(&file, &bytes)? {
            let Some(dtype) = entry.dtype() else {
                let what = entry.dtype;
                return Err(bad_input(format!("{}: `{name}` is {what}", file.display())));
            };
            let short = name.strip_prefix(PREFIX).unwrap_or(&name).replace(".default.", ".");
            let (rows, cols) = match entry.shape[..] {
                [rows, cols] => (rows as u32, cols as u32),
                _ => {
                    let shape = &entry.shape;
                    return Err(bad_input(format!("{}: `{name}`: {shape:?}", file.display())));
                }
            };
            let data = &bytes[entry.start..entry.end];
            let view = WeightView { name, dtype, rows, cols, bytes: data };
            tensors.insert(short, (0..view.len()).map(|i| view.get(i)).collect());
        }
        lora.targets = targets_of(&tensors);
        let base = read_base(dir)?;
        let adapter = Adapter { lora, tensors, base };
        adapter.check(&file, config)?;
        Ok(adapter)
    }

    /// Every tensor that these settings ask for must be there, in the right size and finite, and no
    /// other.
    fn check(&self, file: &Path, config: &Config) -> anyhow::Result<()> {
        let fail = |what: String| Err(bad_input(format!("{}: {what}", file.display())));
        self.lora.validate(config).map_err(|e| bad_input(format!("{}: {e}", file.display())))?;
        let params = Params::new(config, Method::Lora(self.lora));
        for param in &params.items {
            let name = &param.name;
            let Some(values) = self.tensors.get(name) else {
                return fail(format!(
                    "`{name}` is missing; adapters for some layers only are not supported"
                ));
            };
            if values.len() as u64 != param.slot.len {
                return fail(format!(
                    "`{name}` has {} numbers; this model asks for {} x {}. The adapter was made for \
                     another model.",
                    values.len(),
                    param.rows,
                    param.cols
                ));
            }
            if let Some(i) = values.iter().position(|x| !x.is_finite()) {
                return fail(format!(
                    "`{name}` holds a value that is not finite, at {i}. The adapter is damaged: copy it again, or \
                     train anew with a lower --lr"
                ));
            }
        }
        let known = |name: &&String| params.items.iter().any(|p| p.name == **name);
        if let Some(name) = self.tensors.keys().find(|name| !known(name)) {
            return fail(format!("`{name}` belongs to no linear layer of this model"));
        }
        Ok(())
    }
}

/// The settings of adapter_config.json; what would change the numbers and is not known is refused.
fn parse_settings(path: &Path, json: &Value) -> anyhow::Result<LoraConfig> {
    let fail = |what: String| bad_input(format!("{}: {what}", path.display()));
    let kind = json["peft_type"].as_str().unwrap_or("");
    if kind != "LORA" {
        return Err(fail(format!("`peft_type` is {:?}; Paddock reads LORA", json["peft_type"])));
    }
    let off = |v: &Value| match v {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let unknown = [
        "use_dora",
        "fan_in_fan_out",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "trainable_token_indices",
        "lora_bias",
    ];
    for key in unknown {
        if !off(&json[key]) {
            return Err(fail(format!("`{key}` is {}; Paddock does not support it", json[key])));
        }
    }
    if !matches!(json["bias"].as_str(), None | Some("none")) {
        return Err(fail(format!("`bias` is {}; expected \"none\"", json["bias"])));
    }
    let rank = json["r"].as_u64().and_then(|r| u32::try_from(r).ok());
    Ok(LoraConfig {
        rank: rank.ok_or_else(|| fail(format!("`r` is {}; expected a number", json["r"])))?,
        alpha: json["lora_alpha"].as_f64().ok_or_else(|| {
            fail(format!("`lora_alpha` is {}; expected a number", json["lora_alpha"]))
        })?,
        rank_stabilised: json["use_rslora"].as_bool().unwrap_or(false),
        dropout: json["lora_dropout"].as_f64().unwrap_or(0.0) as f32,
        targets: [false; 7],
    })
}

/// The modules that have tensors.
fn targets_of(tensors: &BTreeMap<String, Vec<f32>>) -> [bool; 7] {
    Module::ALL.map(|m| {
        let mark = format!(".{}.lora_A.", m.name());
        tensors.keys().any(|name| name.contains(&mark))
    })
}

/// Paddock's own note beside PEFT's files.
const NOTE: &str = "paddock.json";

fn read_base(dir: &Path) -> anyhow::Result<Option<String>> {
    let path = dir.join(NOTE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path)?;
    let note: Value =
        serde_json::from_str(&text).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
    Ok(note["base_fingerprint"].as_str().map(str::to_string))
}

/// What goes beside the tensors.
#[derive(Clone, Debug)]
pub struct AdapterNote<'a> {
    /// `base_model_name_or_path`.
    pub base_model: &'a str,
    /// Fingerprint of the base's weights.
    pub base_fingerprint: &'a str,
    /// Content hash of the template that it was trained with.
    pub template_hash: &'a str,
    /// That template, as text.
    pub template: &'a [u8],
}

/// adapter_config.json's text, as PEFT writes it.
pub fn settings_json(lora: &LoraConfig, base_model: &str) -> String {
    let targets: Vec<&str> =
        Module::ALL.iter().filter(|&&m| lora.targets[m as usize]).map(|m| m.name()).collect();
    // PEFT keeps whole numbers as integers.
    let alpha = if lora.alpha.fract() == 0.0 && lora.alpha.abs() < 1e15 {
        json!(lora.alpha as i64)
    } else {
        json!(lora.alpha)
    };
    let settings = json!({
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": alpha,
        // Through text, so that 0.1 stays 0.1.
        "lora_dropout": lora.dropout.to_string().parse::<f64>().unwrap_or(0.0),
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": lora.rank,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "use_rslora": lora.rank_stabilised,
    });
    format!("{settings:#}\n")
}

/// Publishes an adapter as the folder `to`; one that is there already is replaced once the new one has been read back.
/// `values` holds each parameter's numbers.
pub fn write(
    storage: &dyn Storage,
    to: &Path,
    lora: &LoraConfig,
    params: &Params,
    values: &[Vec<f32>],
    note: &AdapterNote<'_>,
) -> anyhow::Result<()> {
    for (param, values) in params.items.iter().zip(values) {
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            anyhow::bail!(
                "`{}` holds a value that is not finite, at {i}, so the adapter is not written. Train anew with a \
                 lower --lr",
                param.name
            );
        }
    }
    let described = params.items.iter().map(|param| {
        let shape = vec![param.rows as usize, param.cols as usize];
        (format!("{PREFIX}{}", param.name), Dtype::F32, shape)
    });
    let layout = Layout::of(described.collect())?;
    let data = |i: usize| Ok(Cow::Borrowed(bytemuck::cast_slice(&values[i])));
    let weights = |out: &mut dyn Write| layout.write(out, &data);
    let own = json!({
        "version": 1,
        "base_fingerprint": note.base_fingerprint,
        "template_hash": note.template_hash,
    });
    let (settings, own) = (settings_json(lora, note.base_model), format!("{own:#}\n"));
    let text = |name, text| Entry { name, payload: Payload::Bytes(text) };
    let weights = Payload::Stream { bytes: layout.bytes, write: &weights };
    let files = [
        Entry { name: "adapter_model.safetensors", payload: weights },
        text("adapter_config.json", settings.as_bytes()),
        text(NOTE, own.as_bytes()),
        text("template.json", note.template),
    ];
    publish_folder(storage, to, &files, IfTaken::Replace)?;
    Ok(())
}

/// How element types are called in config.json.
pub fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::Bf16 => "bfloat16",
        Dtype::F16 => "float16",
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::super::config_json;
    use super::*;
    use crate::storage::simulated::SimulatedDisk;
    use crate::storage::whole::read_file;

    const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 16,
        "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}"#;

    #[test]
    fn f68_an_infinite_number_is_not_written_and_the_adapter_before_stays() -> anyhow::Result<()> {
        let config = config_json::parse(Path::new("config.json"), CONFIG)?;
        let (alpha, targets) = (4.0, [true; 7]);
        let lora = LoraConfig { rank: 2, alpha, rank_stabilised: false, dropout: 0.0, targets };
        let params = Params::new(&config, Method::Lora(lora));
        let number = |i: u64| i as f32 / 7.0;
        let good: Vec<Vec<f32>> =
            params.items.iter().map(|p| (0..p.slot.len).map(number).collect()).collect();
        let (disk, to) = (SimulatedDisk::new(), Path::new("/adapter"));
        let note = AdapterNote {
            base_model: "model",
            base_fingerprint: "1",
            template_hash: "2",
            template: b"{}",
        };
        write(&disk, to, &lora, &params, &good, &note)?;
        let names = ["adapter_config.json", "adapter_model.safetensors", NOTE, "template.json"];
        assert_eq!(disk.list(to)?, names);
        let written = || read_file(&disk, &to.join(names[1]), 1 << 20);
        // What the crate writes by itself.
        let views = params.items.iter().zip(&good).map(|(param, values)| {
            let shape = vec![param.rows as usize, param.cols as usize];
            let bytes = bytemuck::cast_slice(values);
            let view = TensorView::new(safetensors::Dtype::F32, shape, bytes).expect("a tensor");
            (format!("{PREFIX}{}", param.name), view)
        });
        let format = Some([("format".to_string(), "pt".to_string())].into());
        let expected = safetensors::serialize(views, format)?;
        assert!(written()? == expected, "other bytes than PEFT's format has");
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut values = good.clone();
            values[3][1] = bad;
            let error = write(&disk, to, &lora, &params, &values, &note).unwrap_err().to_string();
            let name = format!("`{}`", params.items[3].name);
            let words = [name.as_str(), "not finite, at 1", "is not written", "lower --lr"];
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
            assert!(written()? == expected, "{bad} changed the adapter that was there");
            assert_eq!(disk.list(Path::new("/"))?, ["adapter"]);
        }
        Ok(())
    }
}
