//! The model before the first step: a learned vocabulary and random weights, as a Hugging Face folder.

use std::io::{BufRead, BufReader};
use std::path::Path;

use paddock_core::config::Config;
use paddock_core::model::tensors;
use paddock_core::philox::{Philox, Stream};
use paddock_datasets::tokenizer::train::{BOS, EOS, train_bpe};
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::Places;
use super::recipe::Vocabulary;
use crate::model::config_json;

/// Standard deviation of the first weights, as LLaMA's.
const SPREAD: f32 = 0.02;

/// Writes the folder.
pub fn write(
    config: &Config,
    vocabulary: &Vocabulary,
    seed: u64,
    places: &Places,
    said: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let dir = &places.start;
    std::fs::create_dir_all(dir)?;
    said(&format!("learning a vocabulary of {} tokens", vocabulary.tokens));
    let texts = first_texts(&places.corpus, vocabulary.texts)?;
    let also = std::iter::repeat_n(&vocabulary.also, vocabulary.also_times).flatten().cloned();
    let texts = texts.into_iter().chain(also.collect::<Vec<_>>());
    let tokenizer = train_bpe(texts, vocabulary.tokens as usize)?;
    std::fs::write(dir.join("tokenizer.json"), tokenizer)?;
    let about = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS,
        "model_max_length": config.max_seq_len, "clean_up_tokenization_spaces": false,
    });
    std::fs::write(dir.join("tokenizer_config.json"), format!("{about:#}\n"))?;
    let text = config_json::text(config, "float32");
    std::fs::write(dir.join("config.json"), format!("{text:#}\n"))?;
    write_weights(config, seed, dir)
}

/// Texts of the first rows of the corpus.
fn first_texts(corpus: &Path, count: usize) -> anyhow::Result<Vec<String>> {
    let lines = BufReader::new(std::fs::File::open(corpus)?).lines().take(count);
    lines
        .map(|line| {
            let row: Value = serde_json::from_str(&line?)?;
            Ok(row["text"].as_str().unwrap_or_default().to_string())
        })
        .collect()
}

/// Norms are 1; matrices are normal, those that add to the residual stream narrower with depth.
fn write_weights(config: &Config, seed: u64, dir: &Path) -> anyhow::Result<()> {
    let list = tensors(config);
    let narrow = SPREAD / (2.0 * config.n_layers as f32).sqrt();
    let bytes: Vec<Vec<u8>> = (0u16..)
        .zip(&list)
        .map(|(i, t)| {
            let random = Philox::new(seed, Stream::init(i));
            let adds = t.name.ends_with("o_proj.weight") || t.name.ends_with("down_proj.weight");
            let spread = if adds { narrow } else { SPREAD };
            let count = u64::from(t.rows) * u64::from(t.cols);
            let value = |j| if t.vector { 1.0f32 } else { random.normal(0, j) * spread };
            (0..count).flat_map(|j| value(j).to_le_bytes()).collect()
        })
        .collect();
    let mut views = Vec::new();
    for (t, bytes) in list.iter().zip(&bytes) {
        let (rows, cols) = (t.rows as usize, t.cols as usize);
        let shape = if t.vector { vec![cols] } else { vec![rows, cols] };
        views.push((t.name.clone(), TensorView::new(safetensors::Dtype::F32, shape, bytes)?));
    }
    let metadata = Some([("format".to_string(), "pt".to_string())].into());
    safetensors::serialize_to_file(views, metadata, &dir.join("model.safetensors"))?;
    Ok(())
}
