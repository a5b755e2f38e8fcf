//! Tokenizers: own fast paths against the library, the real files of the shared folder, damage.

// `encode` takes a list of ranges, often of one.
#![allow(clippy::single_range_in_vec_init)]

use std::path::Path;

use crate::common::{gunzip, shared, small_model, small_tokenizer_json};
use paddock_datasets::tokenizer::Tokenizer;
use paddock_datasets::tokenizer::settings::ConfigTexts;
use proptest::prelude::*;

fn from_json(text: &str) -> Result<Tokenizer, String> {
    Tokenizer::from_bytes(Path::new("t/tokenizer.json"), text.as_bytes(), &ConfigTexts::default())
        .map_err(|e| e.to_string())
}

/// The library as Hugging Face would use it on plain text without special tokens.
fn library(json: &[u8]) -> tokenizers::Tokenizer {
    let mut library = tokenizers::Tokenizer::from_bytes(json).unwrap();
    library.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
    library.set_encode_special_tokens(true);
    library
}

fn assert_same(own: &Tokenizer, library: &tokenizers::Tokenizer, text: &str) {
    let found = own.encode_plain(text).unwrap();
    let expected = library.encode(text, false).unwrap();
    assert_eq!(found.ids, expected.get_ids(), "{text:?}");
    assert_eq!(found.offsets, expected.get_offsets(), "{text:?}");
}

const TEXTS: &[&str] = &[
    "",
    " ",
    "  ",
    "\n",
    "the",
    " the ",
    "the the  the",
    "Hello, world!",
    "a\u{0}b",
    "tab\tand\r\nline",
    "naïve café — “quoted”",
    "日本語のテキスト",
    "👩‍👩‍👧‍👦 family 🇩🇪",
    "\u{202e}bidi\u{202c}",
    "▁already▁there",
    "<s>not a token</s>",
    "e\u{301}",
    "####### ### ##",
    "x = [1, 2, 3];  // code\n\n\n\tindent",
    "\u{fffd}\u{feff}\u{10ffff}",
];

#[test]
fn the_fast_path_equals_the_library() {
    let json = small_tokenizer_json();
    let (own, library) = (from_json(&json).unwrap(), library(json.as_bytes()));
    for text in TEXTS {
        assert_same(&own, &library, text);
    }
}

proptest! {
    #[test]
    fn the_fast_path_equals_the_library_on_any_text(text in "[the a▁#\n\\PC<>s/0x]{0,40}") {
        let json = small_tokenizer_json();
        assert_same(&from_json(&json).unwrap(), &library(json.as_bytes()), &text);
    }
}

#[test]
fn text_of_special_tokens_is_a_token_only_where_a_template_wrote_it() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    let text = "<s>the</s> and </s>";
    let plain = tokenizer.encode_plain(text).unwrap();
    assert_eq!(plain.special_text, 3);
    assert!(plain.ids.iter().all(|id| *id > 2));
    let both = tokenizer.encode(text, &[0..10]).unwrap();
    assert_eq!(both.special_text, 1);
    assert_eq!(both.ids.iter().filter(|id| **id <= 2).copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(both.ids[0], 1);
    assert_eq!(both.offsets[0], (0, 3));
    // Cut by a range that holds only half of it: no token.
    assert_eq!(tokenizer.encode(text, &[0..2]).unwrap().special_text, 3);
}

#[test]
fn decoding_token_by_token_gives_the_whole_text() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    for text in TEXTS {
        let ids = tokenizer.encode_plain(text).unwrap().ids;
        let whole = tokenizer.decode(&ids, false).unwrap();
        let mut stream = tokenizer.stream_decoder(&[], false);
        let mut parts = String::new();
        for id in &ids {
            let part = stream.push(*id).unwrap();
            assert!(text.contains('\u{fffd}') || !part.contains('\u{fffd}'), "{text:?}: {part:?}");
            parts.push_str(&part);
        }
        parts.push_str(&stream.finish().unwrap());
        assert_eq!(parts, whole, "{text:?}");
        // SentencePiece takes exactly one space off the front, and keeps all else.
        assert_eq!(whole.replace('▁', " "), text.replace('▁', " "), "{text:?}");
    }
}

#[test]
fn after_a_prompt_the_first_word_keeps_its_space() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let ids = tokenizer.encode_plain("a the a").unwrap().ids;
    let mut stream = tokenizer.stream_decoder(&ids[..1], false);
    let rest: String = ids[1..].iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(rest, " the a");
}

#[test]
fn damaged_files_are_named_by_place() {
    let json = small_tokenizer_json();
    let fail = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        from_json(&json.replacen(from, to, 1)).err().unwrap()
    };
    assert!(fail("\"the\":", "\"The\":").contains("model.merges[1]"));
    assert!(fail("\"<0x00>\":3", "\"<0x00>\":-3").contains("model.vocab[\"<0x00>\"]"));
    assert!(fail("\"<0x00>\":3", "\"<0x00>\":99999999999").contains("token number"));
    assert!(fail("\"content\":\"<s>\"", "\"content\":7").contains("added_tokens[1].content"));
    let moved = fail("\"id\":1,", "\"id\":77,");
    assert!(moved.contains("added_tokens[1].id"), "{moved}");
    assert!(fail("\"model\":", "\"mode\":").contains("this is no tokenizer.json"));
    assert!(from_json("{\"model\": ").err().unwrap().contains("line 1"));
    assert!(from_json("").err().unwrap().contains("empty"));
    assert!(from_json("<html>").err().unwrap().contains("web page"));
    assert!(
        from_json("version https://git-lfs.github.com/spec/v1").err().unwrap().contains("git lfs")
    );
    // Known to have made the library panic.
    let precompiled = r#""normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"},"x":"#;
    let broken = json.replacen("\"normalizer\":", precompiled, 1);
    assert!(from_json(&broken).is_err());
}

#[test]
fn truncated_and_flipped_files_never_panic() {
    let json = small_tokenizer_json().into_bytes();
    for end in (0..json.len()).step_by(97) {
        let path = Path::new("tokenizer.json");
        assert!(Tokenizer::from_bytes(path, &json[..end], &ConfigTexts::default()).is_err());
    }
    let Some(path) = shared("tokenizers/llama2/tokenizer.model") else { return };
    let model = std::fs::read(path).unwrap();
    for end in (0..model.len()).step_by(9973) {
        let path = Path::new("tokenizer.model");
        assert!(Tokenizer::from_bytes(path, &model[..end], &ConfigTexts::default()).is_err());
    }
}

#[test]
fn a_tokenizer_larger_than_the_model_is_refused() {
    let tokenizer = from_json(&small_tokenizer_json()).unwrap();
    assert!(tokenizer.check_rows(tokenizer.vocab_size() as u64).is_ok());
    let error = tokenizer.check_rows(100).unwrap_err().to_string();
    assert!(error.contains("has 100 rows"), "{error}");
}

#[test]
fn llama_2_models_give_the_same_tokens_as_their_json() {
    let (Some(model), Some(json)) = (
        shared("tokenizers/llama2/tokenizer.model"),
        shared("tokenizers/llama2/tokenizer.json.gz"),
    ) else {
        return;
    };
    let bytes = std::fs::read(&model).unwrap();
    let own = Tokenizer::from_bytes(&model, &bytes, &ConfigTexts::default()).unwrap();
    assert_eq!((own.bos(), own.eos(), own.vocab_size()), (Some(1), Some(2), 32_000));
    let library = library(&gunzip(&json));
    for text in TEXTS {
        assert_same(&own, &library, text);
    }
    let Some(alpaca) = shared("instruct/alpaca_data.json.gz") else { return };
    let rows = paddock_datasets::readers::open(&alpaca, &Default::default()).unwrap();
    for row in rows.step_by(97).filter_map(|r| r.ok()) {
        for column in ["instruction", "input", "output"] {
            assert_same(&own, &library, row.get(column).unwrap().as_str().unwrap());
        }
    }
}

#[test]
fn llama_3_rank_files() {
    let Some(path) = shared("tokenizers/llama3/tokenizer.model.gz") else { return };
    let own = Tokenizer::from_bytes(&path, &gunzip(&path), &ConfigTexts::default()).unwrap();
    assert_eq!((own.bos(), own.eos(), own.vocab_size()), (Some(128_000), Some(128_001), 128_256));
    assert_eq!(own.token_id("<|eot_id|>"), Some(128_009));
    assert_eq!(own.token_id("<|python_tag|>"), Some(128_010));
    assert_eq!(own.token_id("<|reserved_special_token_247|>"), Some(128_255));
    // Known values of the published tokenizer.
    assert_eq!(own.encode_plain("Hello, world!").unwrap().ids, [9906, 11, 1917, 0]);
    assert_eq!(
        own.encode_plain("This is a test sentence.").unwrap().ids,
        [2028, 374, 264, 1296, 11914, 13]
    );
    let eot = "<|eot_id|>";
    assert!(own.encode_plain(eot).unwrap().ids.iter().all(|id| *id < 128_000));
    assert_eq!(own.encode(eot, &[0..eot.len()]).unwrap().ids, [128_009]);
    for text in TEXTS {
        let ids = own.encode_plain(text).unwrap().ids;
        assert_eq!(own.decode(&ids, false).unwrap(), *text);
    }
}

#[test]
fn shared_tokenizer_json_files_load() {
    for folder in ["models/stories260K-hf", "tokenizers/torchtitan_test"] {
        let Some(path) = shared(folder) else { continue };
        let own = Tokenizer::load(&path).unwrap();
        let library = library(&std::fs::read(path.join("tokenizer.json")).unwrap());
        for text in TEXTS.iter().filter(|t| !t.contains('<')) {
            assert_same(&own, &library, text);
        }
    }
}

#[test]
fn an_end_token_that_the_vocabulary_lacks_is_named() {
    let Some(path) = shared("tokenizers/torchtune_test") else { return };
    let error = Tokenizer::load(&path).err().unwrap().to_string();
    assert!(
        error.contains("bos_token: \"<|begin_of_sentence|>\" is not in the vocabulary"),
        "{error}"
    );
}

/// Letters that join in many ways, so that long words need many joins in the right order.
fn joining_tokenizer_json() -> String {
    let mut json: serde_json::Value = serde_json::from_str(&small_tokenizer_json()).unwrap();
    let merges = [
        ("b", "c"),
        ("a", "a"),
        ("aa", "aa"),
        ("a", "b"),
        ("aa", "b"),
        ("c", "a"),
        ("bc", "a"),
        ("aaaa", "aaaa"),
        ("bca", "bca"),
        ("ab", "ab"),
        ("▁", "aa"),
        ("c", "c"),
        ("cc", "aa"),
    ];
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    for (left, right) in merges {
        let id = vocab.len();
        vocab.entry(format!("{left}{right}")).or_insert(id.into());
    }
    json["model"]["merges"] = merges.iter().map(|(l, r)| serde_json::json!([l, r])).collect();
    json.to_string()
}

proptest! {
    #[test]
    fn long_words_equal_the_library(
        unit in "[abc]{1,300}", times in 1usize..8, tail in "[abcé ]{0,40}",
    ) {
        let json = joining_tokenizer_json();
        let text = format!("{}{tail}", unit.repeat(times));
        assert_same(&from_json(&json).unwrap(), &library(json.as_bytes()), &text);
    }
}

#[test]
fn ten_megabytes_without_a_space_take_seconds_not_hours() {
    let Some(model) = shared("tokenizers/llama2/tokenizer.model") else { return };
    let bytes = std::fs::read(&model).unwrap();
    let own = Tokenizer::from_bytes(&model, &bytes, &ConfigTexts::default()).unwrap();
    for unit in ["a", "日本語"] {
        let text = unit.repeat((10 << 20) / unit.len());
        let start = std::time::Instant::now();
        let ids = own.encode_plain(&text).unwrap().ids;
        println!("{unit}: {} tokens in {:.2?}", ids.len(), start.elapsed());
        // Far below what a quadratic method would need, far above what a loaded machine adds.
        assert!(start.elapsed().as_secs() < 60);
        assert!(text.starts_with(&own.decode(&ids[..1000], false).unwrap()));
    }
}
