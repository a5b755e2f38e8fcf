//! Helpers of the integration tests.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A file of the shared data folder beside the repository (or where PADDOCK_SHARED says). `None`,
/// with a loud line, where it is missing.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PADDOCK_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let full = root.join("data").join(path);
    if full.exists() {
        return Some(full);
    }
    eprintln!("SKIPPED: {} is missing, so this test checks nothing here", full.display());
    let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == "shared"), "shared data are required but missing");
    None
}

/// A file with the given content in a fresh folder that lives as long as the guard.
pub fn file(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn gunzip(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A small LLaMA-style tokenizer: 256 byte entries, some letters and words.
pub fn small_tokenizer_json() -> String {
    let mut vocab = serde_json::Map::new();
    let mut add = |token: &str| {
        let id = vocab.len();
        vocab.entry(token.to_string()).or_insert(id.into());
    };
    ["<unk>", "<s>", "</s>"].into_iter().for_each(&mut add);
    (0..256).for_each(|b| add(&format!("<0x{b:02X}>")));
    "▁abcdefghijklmnopqrstuvwxyzABCIRW0123456789.,:#\n".chars().for_each(|c| add(&c.to_string()));
    let merges = [
        ("t", "h"),
        ("th", "e"),
        ("▁", "the"),
        ("▁", "a"),
        ("e", "r"),
        ("a", "n"),
        ("#", "#"),
        ("##", "#"),
        ("o", "u"),
        ("▁", "▁"),
        ("\n", "\n"),
    ];
    merges.iter().for_each(|(l, r)| add(&format!("{l}{r}")));
    let special = |id: u32, text: &str| {
        serde_json::json!({"id": id, "content": text, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    };
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocab,
            "merges": merges.iter().map(|(l, r)| serde_json::json!([l, r])).collect::<Vec<_>>()}
    })
    .to_string()
}

/// A model folder with that tokenizer; BOS 1, EOS 2.
pub fn small_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), small_tokenizer_json()).unwrap();
    let config = r#"{"bos_token_id": 1, "eos_token_id": 2, "vocab_size": 512}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    folder
}
