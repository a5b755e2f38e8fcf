//! config.json of a Hugging Face LLaMA, strictly: what Paddock does not compute is refused by name.

use std::path::Path;

use paddock_core::config::{Config, Rope, RopeScaling};
use serde_json::{Map, Value};

use crate::error::bad_input;

/// Reads config.json's text.
pub fn parse(path: &Path, text: &str) -> anyhow::Result<Config> {
    let fail = |what: String| bad_input(format!("{}: {what}", path.display()));
    let value: Value = serde_json::from_str(text).map_err(|e| fail(format!("not JSON: {e}")))?;
    let Value::Object(map) = value else { return Err(fail("not a JSON object".into())) };
    let json = Json { path, map: &map };
    json.refuse_other_models()?;
    let heads = json.required("num_attention_heads")?;
    let dim = json.required("hidden_size")?;
    let max_seq_len = json.number("max_position_embeddings")?.unwrap_or(2048);
    let config = Config {
        dim,
        hidden_dim: json.required("intermediate_size")?,
        n_layers: json.required("num_hidden_layers")?,
        n_heads: heads,
        n_kv_heads: json.number("num_key_value_heads")?.unwrap_or(heads),
        head_dim: json.number("head_dim")?.unwrap_or(dim / heads.max(1)),
        vocab_size: json.required("vocab_size")?,
        max_seq_len,
        rms_norm_eps: json.float("rms_norm_eps")?.unwrap_or(1e-6),
        rope: json.rope(max_seq_len)?,
        tied: json.flag("tie_word_embeddings")?.unwrap_or(false),
    };
    config.validate().map_err(|e| fail(e.to_string()))?;
    Ok(config)
}

/// config.json of a model that Paddock made itself; `dtype` names the element type of its weights.
pub fn text(config: &Config, dtype: &str) -> Value {
    serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": config.dim, "intermediate_size": config.hidden_dim,
        "num_hidden_layers": config.n_layers, "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads, "head_dim": config.head_dim,
        "vocab_size": config.vocab_size, "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": config.rms_norm_eps, "rope_theta": config.rope.theta,
        "tie_word_embeddings": config.tied, "torch_dtype": dtype, "bos_token_id": 0,
        "eos_token_id": 1,
    })
}

struct Json<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl Json<'_> {
    fn fail(&self, what: String) -> anyhow::Error {
        bad_input(format!("{}: {what}", self.path.display()))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn number(&self, key: &str) -> anyhow::Result<Option<u32>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(self.fail(format!("`{key}` is {value}; expected a whole number"))),
        }
    }

    fn required(&self, key: &str) -> anyhow::Result<u32> {
        self.number(key)?.ok_or_else(|| self.fail(format!("`{key}` is missing")))
    }

    fn float(&self, key: &str) -> anyhow::Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(x) => Ok(Some(x)),
            None => Err(self.fail(format!("`{key}` is {value}; expected a number"))),
        }
    }

    fn flag(&self, key: &str) -> anyhow::Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_bool() {
            Some(x) => Ok(Some(x)),
            None => Err(self.fail(format!("`{key}` is {value}; expected true or false"))),
        }
    }

    fn refuse_other_models(&self) -> anyhow::Result<()> {
        let model = self.get("model_type").and_then(Value::as_str);
        if model.is_some_and(|m| m != "llama") {
            let model = model.unwrap_or("");
            return Err(
                self.fail(format!("this is a `{model}` model; Paddock trains `llama` models"))
            );
        }
        for key in ["attention_bias", "mlp_bias"] {
            if self.flag(key)? == Some(true) {
                return Err(self.fail(format!("`{key}` is true; Paddock has no biases")));
            }
        }
        if let Some(act) = self.get("hidden_act").filter(|v| v.as_str() != Some("silu")) {
            return Err(self.fail(format!("`hidden_act` is {act}; Paddock computes \"silu\"")));
        }
        if self.get("quantization_config").is_some() {
            return Err(self.fail(
                "the model is quantised (`quantization_config`); use the original weights".into(),
            ));
        }
        Ok(())
    }

    /// `rope_theta` and `rope_scaling`, or newer files' `rope_parameters`.
    fn rope(&self, max_seq_len: u32) -> anyhow::Result<Rope> {
        let parameters = ["rope_parameters", "rope_scaling"]
            .into_iter()
            .find_map(|key| self.get(key).and_then(Value::as_object));
        let empty = Map::new();
        let inner = Json { path: self.path, map: parameters.unwrap_or(&empty) };
        let theta = match inner.float("rope_theta")? {
            Some(theta) => theta,
            None => self.float("rope_theta")?.unwrap_or(10_000.0),
        };
        let kind = ["rope_type", "type"].into_iter().find_map(|key| inner.get(key)?.as_str());
        let factor = || -> anyhow::Result<f64> {
            inner.float("factor")?.ok_or_else(|| self.fail("rope scaling lacks `factor`".into()))
        };
        let need = |key: &str| -> anyhow::Result<f64> {
            inner.float(key)?.ok_or_else(|| self.fail(format!("rope scaling lacks `{key}`")))
        };
        let original = inner.number("original_max_position_embeddings")?.unwrap_or(max_seq_len);
        let scaling = match kind {
            None | Some("default") => RopeScaling::Default,
            Some("linear") => RopeScaling::Linear { factor: factor()? },
            Some("dynamic") => RopeScaling::Dynamic { factor: factor()?, original_max: original },
            Some("llama3") => RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_max: original,
            },
            Some(other) => {
                return Err(self.fail(format!(
                    "rope scaling `{other}`; Paddock knows linear, dynamic and llama3"
                )));
            }
        };
        Ok(Rope { theta, scaling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#""model_type":"llama","hidden_size":8,"intermediate_size":16,
        "num_hidden_layers":2,"num_attention_heads":2,"vocab_size":32"#;

    fn read(more: &str) -> anyhow::Result<Config> {
        parse(Path::new("config.json"), &format!("{{{SMALL}{more}}}"))
    }

    #[test]
    fn defaults_are_transformers() {
        let c = read("").unwrap();
        assert_eq!((c.n_kv_heads, c.head_dim, c.max_seq_len), (2, 4, 2048));
        assert_eq!(c.rope, Rope { theta: 10_000.0, scaling: RopeScaling::Default });
        assert!(!c.tied && c.rms_norm_eps == 1e-6);
    }

    #[test]
    fn both_ways_to_write_rope() {
        let scaling = r#""factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
            "original_max_position_embeddings":16"#;
        let old = format!(r#","rope_theta":5e5,"rope_scaling":{{"rope_type":"llama3",{scaling}}}"#);
        let new =
            format!(r#","rope_parameters":{{"rope_theta":5e5,"rope_type":"llama3",{scaling}}}"#);
        assert_eq!(read(&old).unwrap(), read(&new).unwrap());
        assert!(read(r#","rope_scaling":{"type":"yarn","factor":2}"#).is_err());
        let of = |original: u32| {
            read(&format!(
                r#","rope_scaling":{{"type":"dynamic","factor":2,"original_max_position_embeddings":{original}}}"#
            ))
        };
        assert!(of(64).is_ok() && of(0).is_err());
    }

    #[test]
    fn what_cannot_be_computed_is_named() {
        for (more, word) in [
            (r#","attention_bias":true"#, "attention_bias"),
            (r#","hidden_act":"gelu""#, "hidden_act"),
            (r#","num_key_value_heads":3"#, "num_key_value_heads"),
            (r#","quantization_config":{"bits":4}"#, "quantised"),
            (r#","vocab_size":"many""#, "vocab_size"),
        ] {
            let message = read(more).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
