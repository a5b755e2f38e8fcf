//! Every parser of bytes from outside: the kept corpus again, then some seconds of random changes with
//! a fixed seed. `PADDOCK_FUZZ_SECONDS` feeds them for as long as one likes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use paddock_tests::parsers::mutate::Mutator;
use paddock_tests::parsers::parser;

/// How long each parser is fed.
const SECONDS: u64 = 5;

/// An input that takes longer than this hangs. The limit is wide, since other tests run beside this one.
const HANG_S: u64 = 60;

fn seconds() -> u64 {
    let text = std::env::var("PADDOCK_FUZZ_SECONDS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

/// What the feeding thread says before each input and at the end.
enum Word {
    Input(Vec<u8>),
    Panicked(Vec<u8>),
    Done(u64),
}

/// Feeds a parser and fails with the input that broke it, which is left in a file.
fn feed(name: &'static str) {
    let (say, hear) = mpsc::channel();
    std::thread::spawn(move || {
        let parser = parser(name);
        let corpus = parser.corpus();
        assert!(!corpus.is_empty(), "{name} has nothing to start from");
        let (end, mut mutator) = (Instant::now() + Duration::from_secs(seconds()), Mutator::new(1));
        let mut inputs = corpus.clone();
        inputs.reverse();
        let mut fed = 0u64;
        loop {
            let input = match inputs.pop() {
                Some(kept) => kept,
                None if Instant::now() >= end => break,
                None => mutator.next(&corpus),
            };
            _ = say.send(Word::Input(input.clone()));
            if catch_unwind(AssertUnwindSafe(|| (parser.read)(&input))).is_err() {
                _ = say.send(Word::Panicked(input));
                return;
            }
            fed += 1;
        }
        _ = say.send(Word::Done(fed));
    });
    let mut last = Vec::new();
    loop {
        match hear.recv_timeout(Duration::from_secs(HANG_S)) {
            Ok(Word::Input(input)) => last = input,
            Ok(Word::Panicked(input)) => fail(name, "panicked", &input),
            Ok(Word::Done(fed)) => return println!("{name}: {fed} inputs, none broke it"),
            Err(mpsc::RecvTimeoutError::Timeout) => fail(name, "hangs", &last),
            Err(mpsc::RecvTimeoutError::Disconnected) => fail(name, "ended early", &last),
        }
    }
}

fn fail(name: &str, what: &str, input: &[u8]) -> ! {
    let path = std::env::temp_dir().join(format!("paddock-{name}-{}", std::process::id()));
    std::fs::write(&path, input).expect("the input is kept");
    panic!("{name} {what} on the {} bytes in {}", input.len(), path.display());
}

#[test]
fn the_feeder_notices_a_panic_and_names_the_input() {
    let caught = catch_unwind(|| fail("nobody", "panicked", b"abc")).expect_err("it fails");
    let words = caught.downcast_ref::<String>().expect("words");
    assert!(words.starts_with("nobody panicked on the 3 bytes in "), "{words}");
}

#[test]
fn safetensors() {
    feed("safetensors");
}

#[test]
fn shard_index() {
    feed("shard_index");
}

#[test]
fn config_json() {
    feed("config_json");
}

#[test]
fn tokenizer_json() {
    feed("tokenizer_json");
}

#[test]
fn tokenizer_model() {
    feed("tokenizer_model");
}

#[test]
fn tiktoken() {
    feed("tiktoken");
}

#[test]
fn adapter_config() {
    feed("adapter_config");
}

#[test]
fn jsonl() {
    feed("jsonl");
}

#[test]
fn json() {
    feed("json");
}

#[test]
fn csv() {
    feed("csv");
}

#[test]
fn fasttext() {
    feed("fasttext");
}

#[test]
fn parquet() {
    feed("parquet");
}

#[test]
fn packed() {
    feed("packed");
}

#[test]
fn run_toml() {
    feed("run_toml");
}

#[test]
fn manifest() {
    feed("manifest");
}

#[test]
fn metrics() {
    feed("metrics");
}

#[test]
fn jinja() {
    feed("jinja");
}

#[test]
fn promptsource() {
    feed("promptsource");
}

#[test]
fn template_json() {
    feed("template_json");
}

/// Nobody adds a parser without feeding it here.
#[test]
fn all_are_fed() {
    let text = std::fs::read_to_string(paddock_tests::root().join("tests/tests/parsers.rs"));
    let text = text.expect("this file");
    for parser in paddock_tests::parsers::parsers() {
        assert!(text.contains(&format!("feed(\"{}\")", parser.name)), "{}", parser.name);
    }
}
