//! Files of a model folder and of an adapter.

use std::cell::RefCell;
use std::path::Path;

use paddock_cli::model::safetensors::header;
use paddock_cli::model::{Adapter, ModelFolder, config_json};
use paddock_datasets::template::Template;
use paddock_datasets::tokenizer::Tokenizer;
use paddock_datasets::tokenizer::settings::ConfigTexts;

use super::Parser;
use crate::root;

const SHARDED: &str = "tests/fixtures/gqa_untied_odd_f16_sharded";
const WHOLE: &str = "tests/fixtures/mha_tied";

thread_local! {
    static DESK: RefCell<tempfile::TempDir> = RefCell::new(desk());
}

/// A folder with a sharded model and an adapter, of which one file is replaced at a time.
fn desk() -> tempfile::TempDir {
    let desk = tempfile::tempdir().expect("a temporary folder");
    for (from, to) in [(SHARDED, "model"), ("tests/fixtures/mha_tied/adapter", "adapter")] {
        let to = desk.path().join(to);
        std::fs::create_dir(&to).expect("a folder");
        for entry in std::fs::read_dir(root().join(from)).expect("a fixture").flatten() {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
            }
        }
    }
    desk
}

fn with_file(name: &str, bytes: &[u8], then: impl FnOnce(&Path)) {
    DESK.with_borrow(|desk| {
        let path = desk.path().join(name);
        let before = std::fs::read(&path).expect("the fixture's own");
        std::fs::write(&path, bytes).expect("a file");
        then(desk.path());
        std::fs::write(&path, before).expect("a file");
    });
}

/// Our own checks, then the crate behind them, then every tensor's bytes.
fn safetensors(bytes: &[u8]) {
    let Ok(entries) = header(Path::new("model.safetensors"), bytes) else { return };
    for (_, entry) in &entries {
        assert!(bytes.get(entry.start..entry.end).is_some(), "a tensor lies outside its file");
    }
    _ = safetensors::SafeTensors::deserialize(bytes);
}

fn tokenizer(name: &str, bytes: &[u8]) {
    let none = ConfigTexts::default();
    let Ok(tokenizer) = Tokenizer::from_bytes(Path::new(name), bytes, &none) else { return };
    if let Ok(encoded) = tokenizer.encode_plain("Hello, w\u{f6}rld \u{1f600} 12") {
        let ids: Vec<u32> = encoded.ids.clone();
        _ = tokenizer.decode(&ids, false);
    }
}

/// What stands beside a tokenizer, each file in turn.
fn tokenizer_config(bytes: &[u8]) {
    let tokenizer = std::fs::read(root().join("tests/fuzz/seeds/tokenizer.json")).expect("a seed");
    let text = Some(String::from_utf8_lossy(bytes).into_owned());
    let none = ConfigTexts::default;
    let texts = [
        ConfigTexts { tokenizer_config: text.clone(), ..none() },
        ConfigTexts { config: text.clone(), ..none() },
        ConfigTexts { generation_config: text.clone(), ..none() },
    ];
    for texts in texts {
        let Ok(tokenizer) = Tokenizer::from_bytes(Path::new("tokenizer.json"), &tokenizer, &texts)
        else {
            continue;
        };
        _ = tokenizer.encode_plain("</s>Hello, w\u{f6}rld<s>");
        _ = Template::chat(&tokenizer, "2026-01-31").map(|template| template.compile().map(drop));
    }
}

fn adapter(bytes: &[u8]) {
    let text = std::fs::read_to_string(root().join(WHOLE).join("config.json")).expect("a fixture");
    let config = config_json::parse(Path::new("config.json"), &text).expect("a good one");
    with_file("adapter/adapter_config.json", bytes, |desk| {
        _ = Adapter::open(&desk.join("adapter"), &config);
    });
}

pub(super) fn parsers() -> Vec<Parser> {
    vec![
        Parser {
            name: "safetensors",
            read: safetensors,
            seeds: &["tests/fixtures/mha_tied/adapter/adapter_model.safetensors"],
            more: &[b"\x02\0\0\0\0\0\0\0{}"],
        },
        Parser {
            name: "shard_index",
            read: |bytes| {
                with_file("model/model.safetensors.index.json", bytes, |desk| {
                    _ = ModelFolder::open(&desk.join("model"));
                });
            },
            seeds: &["tests/fixtures/gqa_untied_odd_f16_sharded/model.safetensors.index.json"],
            more: &[],
        },
        Parser {
            name: "config_json",
            read: |bytes| {
                let text = String::from_utf8_lossy(bytes);
                _ = config_json::parse(Path::new("config.json"), &text);
            },
            seeds: &[
                "tests/fixtures/llama3_rope/config.json",
                "tests/fixtures/gqa_untied_odd/config_v4.json",
            ],
            more: &[],
        },
        Parser {
            name: "tokenizer_json",
            read: |bytes| tokenizer("tokenizer.json", bytes),
            seeds: &["tests/fuzz/seeds/tokenizer.json"],
            more: &[],
        },
        Parser {
            name: "tokenizer_model",
            read: |bytes| tokenizer("tokenizer.model", bytes),
            seeds: &["tests/fuzz/seeds/tokenizer.model"],
            more: &[],
        },
        Parser {
            name: "tiktoken",
            read: |bytes| tokenizer("tokenizer.model", bytes),
            seeds: &["tests/fuzz/seeds/tiktoken.model"],
            more: &[],
        },
        Parser {
            name: "tokenizer_config",
            read: tokenizer_config,
            seeds: &[],
            more: &[
                br#"{"bos_token":"<s>","eos_token":{"content":"</s>","lstrip":false},"add_bos_token":true,
                "added_tokens_decoder":{"1":{"content":"<s>","special":true},"90":{"content":"<|im_end|>"}},
                "chat_template":"{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"}"#,
                br#"{"bos_token":null,"chat_template":[{"name":"tool","template":"x"},{"name":"default","template":
                "{{ messages[0].content }}"}],"bos_token_id":1,"eos_token_id":[2,79],"vocab_size":80}"#,
            ],
        },
        Parser {
            name: "adapter_config",
            read: adapter,
            seeds: &["tests/fixtures/mha_tied/adapter/adapter_config.json"],
            more: &[],
        },
    ]
}
