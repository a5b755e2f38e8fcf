//! A tiny random LLaMA with a tokenizer of whole words, written as a Hugging Face folder: what the tests of
//! the command line train on when there is nothing else on the machine.

use std::path::Path;

use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::model::tensors;
use paddock_core::philox::{Philox, Stream};
use serde_json::{Map, json};

/// Words of the tokenizer after the three special tokens.
const WORDS: [&str; 40] = [
    "what",
    "is",
    "the",
    "colour",
    "of",
    "a",
    "sky",
    "grass",
    "sun",
    "night",
    "blue",
    "green",
    "yellow",
    "black",
    "say",
    "it",
    "in",
    "one",
    "word",
    "?",
    ".",
    ":",
    "#",
    "###",
    "Below",
    "an",
    "instruction",
    "that",
    "describes",
    "task",
    "Write",
    "response",
    "appropriately",
    "completes",
    "request",
    "Instruction",
    "Response",
    "cold",
    "warm",
    "snow",
];

/// Shape of the model.
pub fn config() -> Config {
    Config {
        dim: 16,
        hidden_dim: 24,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 4,
        vocab_size: WORDS.len() as u32 + 3,
        max_seq_len: 96,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
        tied: true,
    }
}

/// Writes the model folder.
pub fn write_model(dir: &Path) {
    write_model_of(dir, &config());
}

/// Writes the folder of a model of another shape, with at least as many rows in its embedding.
pub fn write_model_of(dir: &Path, c: &Config) {
    std::fs::create_dir_all(dir).expect("a folder");
    let json = json!({
        "model_type": "llama", "hidden_size": c.dim, "intermediate_size": c.hidden_dim,
        "num_hidden_layers": c.n_layers, "num_attention_heads": c.n_heads,
        "num_key_value_heads": c.n_kv_heads, "vocab_size": c.vocab_size,
        "max_position_embeddings": c.max_seq_len, "rms_norm_eps": c.rms_norm_eps,
        "rope_theta": c.rope.theta, "tie_word_embeddings": true, "torch_dtype": "float32",
        "bos_token_id": 1, "eos_token_id": 2,
    });
    std::fs::write(dir.join("config.json"), json.to_string()).expect("config.json");
    let mut vocab = Map::new();
    let specials = ["<unk>", "<s>", "</s>"];
    for (i, word) in specials.iter().chain(&WORDS).enumerate() {
        vocab.insert((*word).to_string(), json!(i));
    }
    let added: Vec<_> = specials
        .iter()
        .enumerate()
        .map(|(i, word)| {
            json!({"id": i, "content": word, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).expect("tokenizer.json");
    write_weights(dir, c);
}

fn write_weights(dir: &Path, config: &Config) {
    let list = tensors(config);
    let bytes: Vec<Vec<u8>> = list
        .iter()
        .enumerate()
        .map(|(i, t)| {
            let random = Philox::new(11, Stream::init(i as u16));
            let shift = if t.vector { 1.0 } else { 0.0 };
            let count = u64::from(t.rows) * u64::from(t.cols);
            (0..count).flat_map(|j| (random.normal(0, j) * 0.25 + shift).to_le_bytes()).collect()
        })
        .collect();
    let views = list.iter().zip(&bytes).map(|(t, bytes)| {
        let (rows, cols) = (t.rows as usize, t.cols as usize);
        let shape = if t.vector { vec![cols] } else { vec![rows, cols] };
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, bytes);
        (t.name.clone(), view.expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).expect("weights");
}

/// Writes `rows` question-and-answer rows in Alpaca's columns, all learnable.
pub fn write_rows(path: &Path, rows: usize) {
    let facts = [
        ("sky", "blue"),
        ("grass", "green"),
        ("sun", "yellow"),
        ("night", "black"),
        ("snow", "cold"),
    ];
    let row = |i: usize| {
        let (thing, colour) = facts[i % facts.len()];
        let extra = ["", "in one word", "say it", "say it in one word"][i / facts.len() % 4];
        let end = ["", " .", " ?"][i / 20 % 3];
        json!({"instruction": format!("what is the colour of the {thing} {extra}{end}"), "input": "",
               "output": format!("the {thing} is {colour} .")})
    };
    let list: Vec<_> = (0..rows).map(row).collect();
    std::fs::write(path, serde_json::to_string(&list).expect("rows")).expect("a file of rows");
}
