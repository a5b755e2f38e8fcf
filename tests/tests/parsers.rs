//! Every parser of bytes from outside: the kept corpus again, then some seconds of random changes with
//! a fixed seed. `PADDOCK_FUZZ_SECONDS` feeds them for as long as one likes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use paddock_tests::parsers::memory::{Counted, most_held};
use paddock_tests::parsers::mutate::Mutator;
use paddock_tests::parsers::parser;

#[global_allocator]
static MEMORY: Counted = Counted;

/// How long each parser is fed.
const SECONDS: u64 = 5;

/// An input that takes longer than this hangs. The limit is wide, since other tests run beside this one.
const HANG_S: u64 = 60;

/// No input, of which none is longer than 128 KiB, may make a parser hold more than this.
const MOST_BYTES: i64 = 64 << 20;

fn seconds() -> u64 {
    let text = std::env::var("PADDOCK_FUZZ_SECONDS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

/// What the feeding thread says before each input and at the end.
enum Word {
    Input(Vec<u8>),
    Broke(&'static str, Vec<u8>),
    Done(u64, i64),
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
        let (mut fed, mut most) = (0u64, 0);
        loop {
            let input = match inputs.pop() {
                Some(kept) => kept,
                None if Instant::now() >= end => break,
                None => mutator.next(&corpus),
            };
            _ = say.send(Word::Input(input.clone()));
            let mut result = Ok(());
            let held = most_held(|| {
                result = catch_unwind(AssertUnwindSafe(|| (parser.read)(&input)));
            });
            if result.is_err() {
                _ = say.send(Word::Broke("panicked", input));
                return;
            }
            if held > MOST_BYTES {
                _ = say.send(Word::Broke("held too much memory", input));
                return;
            }
            (fed, most) = (fed + 1, held.max(most));
        }
        _ = say.send(Word::Done(fed, most));
    });
    let mut last = Vec::new();
    loop {
        match hear.recv_timeout(Duration::from_secs(HANG_S)) {
            Ok(Word::Input(input)) => last = input,
            Ok(Word::Broke(what, input)) => fail(name, what, &input),
            Ok(Word::Done(fed, most)) => {
                return println!(
                    "{name}: {fed} inputs, none broke it; it held {most} bytes at most"
                );
            }
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
fn memory_is_counted() {
    let held = most_held(|| drop((vec![0u8; 5000], vec![1u64; 1000])));
    assert!((13_000..14_000).contains(&held), "{held}");
}

/// A file that random changes made: a page's header says that it unpacks to 403 million bytes.
#[test]
fn f33_a_parquet_page_that_lies_about_its_size_fills_no_memory() {
    let path = paddock_tests::root().join("tests/fuzz/corpus/parquet/page-of-403-million-bytes");
    let input = std::fs::read(path).expect("the file");
    assert!(input.len() < 5000, "{}", input.len());
    let held = most_held(|| (parser("parquet").read)(&input));
    assert!(held < 1 << 20, "{held}");
}

/// For coverage-guided fuzzing: what it starts from, as files. PADDOCK_SEEDS names the folder.
#[test]
#[ignore = "writes files for tests/scripts/soak"]
fn seeds() {
    let folder = std::env::var("PADDOCK_SEEDS").expect("PADDOCK_SEEDS names a folder");
    for parser in paddock_tests::parsers::parsers() {
        let folder = std::path::Path::new(&folder).join(parser.name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (number, input) in parser.corpus().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:03}")), input).expect("a file");
        }
    }
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
fn tokenizer_config() {
    feed("tokenizer_config");
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
fn chat_template() {
    feed("chat_template");
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
