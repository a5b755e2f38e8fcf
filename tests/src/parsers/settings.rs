//! Files that Paddock wrote itself, or a person did: settings, manifests, metrics.

use std::cell::RefCell;

use paddock_cli::run::checkpoint::Manifest;
use paddock_cli::run::config::{Layers, RunFile};
use paddock_cli::run::metrics;
use paddock_cli::storage::RealStorage;

use super::Parser;

thread_local! {
    static DESK: RefCell<tempfile::TempDir> =
        RefCell::new(tempfile::tempdir().expect("a temporary folder"));
}

fn run_toml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(layers) = Layers::new().file("RUN.toml", &text) {
        _ = layers.build();
    }
    _ = RunFile::parse("run.toml", &text);
}

/// As it is, and with the seal that fits, which no random change finds.
fn manifest(bytes: &[u8]) {
    _ = Manifest::parse(bytes);
    let Ok(open) = serde_json::from_slice::<Manifest>(bytes) else { return };
    let Ok(sealed) = open.to_bytes() else { return };
    let Ok(manifest) = Manifest::parse(&sealed) else { return };
    for file in &manifest.files {
        let plain = !file.name.contains(['/', '\\', ':']) && !file.name.starts_with('.');
        assert!(plain, "a checkpoint's file may be outside its folder: {:?}", file.name);
    }
}

fn metrics_lines(bytes: &[u8]) {
    DESK.with_borrow(|desk| {
        let path = desk.path().join("metrics.jsonl");
        std::fs::write(&path, bytes).expect("a file");
        _ = metrics::read(&RealStorage, &path);
    });
}

pub(super) fn parsers() -> Vec<Parser> {
    vec![
        Parser {
            name: "run_toml",
            read: run_toml,
            seeds: &["examples/stories.toml"],
            more: &[b"version = 1\nmodel = \"m\"\ndata = [\"a\", \"b\"]\n[columns]\nprompt = \"q\"\n",
                b"version = 1\nmodel = \"m\"\ndata = \"a\"\n[[record.continuations]]\nstep = 3\n"],
        },
        Parser {
            name: "manifest",
            read: manifest,
            seeds: &[],
            more: &[b"{\"format\":\"paddock-checkpoint\",\"version\":1,\"step\":7,\"files\":[{\"name\":\
                      \"a\",\"bytes\":3,\"sha256\":\"00\"}],\"info\":{},\"checksum\":\"\"}"],
        },
        Parser {
            name: "metrics",
            read: metrics_lines,
            seeds: &[],
            more: &[b"{\"kind\":\"step\",\"step\":1,\"epoch\":0.1,\"loss\":2.5,\"lr\":0.001,\"grad_norm\":1.0,\
                      \"rows\":4,\"tokens\":9,\"trained_tokens\":3,\"tokens_per_s\":10.0,\"elapsed_s\":0.5}\n\
                      {\"kind\":\"eval\",\"step\":1,\"eval_loss\":2.0}\n\
                      {\"kind\":\"rewind\",\"number\":1,\"step\":1,\"from\":3,\"loss\":9.5,\"limit\":4.0,\
                      \"rows\":8,\"first_rows\":[5]}\n"],
        },
    ]
}
