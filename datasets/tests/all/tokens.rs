//! The file of tokens, samples of rows, and worked examples before rows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::common::{file, small_model};
use paddock_datasets::encode::{EncodeOptions, Example, OverLength};
use paddock_datasets::fewshot::Choice;
use paddock_datasets::prepare::{PrepareOptions, Quiet, load_examples, prepare};
use paddock_datasets::readers::ReadOptions;
use paddock_datasets::sample::Sample;
use paddock_datasets::shots::Shots;
use paddock_datasets::template::Template;
use paddock_datasets::tokenizer::Tokenizer;
use paddock_datasets::tokens::{Facts, Store, Writer};

fn options() -> PrepareOptions {
    PrepareOptions {
        read: ReadOptions::default(),
        template: Template::prompt(),
        encode: EncodeOptions { max_tokens: 512, over_length: OverLength::Drop },
        keep_empty_answers: false,
        limit_rows: None,
        shots: None,
        sample: None,
    }
}

fn rows(count: usize) -> String {
    (0..count)
        .map(|n| {
            let answer = ["the", "an"][n % 2];
            format!("{{\"prompt\":\"a the {n} in the an of it: \",\"completion\":\"{answer}\"}}\n")
        })
        .collect()
}

fn written(examples: &[(Example, Facts)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), tempfile::tempfile().unwrap());
    examples.chunks(7).for_each(|part| writer.push(part).unwrap());
    writer.finish(b"{\"a\":1}").unwrap()
}

#[test]
fn tokens_come_back_from_the_file_as_they_were() {
    let (_guard, path) = file("a.jsonl", rows(100));
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let mut examples = Vec::new();
    prepare(&[path], &options(), &tokenizer, &mut Quiet, &mut |part| {
        examples.extend(part);
        Ok(())
    })
    .unwrap();
    let bytes = written(&examples);
    let store = Store::open(Arc::new(bytes.clone())).unwrap();
    assert_eq!((store.len(), store.notes()), (100, &b"{\"a\":1}"[..]));
    for (i, (example, facts)) in examples.iter().enumerate() {
        assert_eq!((&store.get(i).unwrap(), &store.facts(i)), (example, facts));
    }
    assert!(store.get(100).is_err());
    assert_eq!(store.facts(100), Facts::default());
    // Cut off anywhere, or with bits turned anywhere: no store, or examples that are refused or as they were.
    for cut in (0..bytes.len()).step_by(13) {
        assert!(Store::open(Arc::new(bytes[..cut].to_vec())).is_none(), "{cut}");
    }
    for at in (0..bytes.len()).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x81;
        if let Some(store) = Store::open(Arc::new(damaged)) {
            for (i, (example, _)) in examples.iter().enumerate() {
                if let Ok(found) = store.get(i) {
                    assert_eq!(
                        (&found.tokens, &found.trained),
                        (&example.tokens, &example.trained),
                        "{at}"
                    );
                }
            }
        }
    }
    assert!(Store::open(Arc::new(written(&[]))).unwrap().is_empty());
}

#[test]
fn a_sample_is_of_the_stated_size_and_depends_on_the_seed_alone() {
    let (_guard, path) = file("a.jsonl", rows(100));
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let of = |rows, seed| -> Vec<u64> {
        let options = PrepareOptions { sample: Some(Sample { rows, seed }), ..options() };
        let prepared =
            load_examples(&[PathBuf::from(&path)], &options, &tokenizer, &mut Quiet).unwrap();
        prepared.examples.iter().map(|example| example.row).collect()
    };
    let found = of(30, 1);
    assert_eq!((found.len(), &found), (30, &of(30, 1)));
    assert_ne!(found, of(30, 2));
    assert!(found.is_sorted() && found[29] > 60, "spread over the file: {found:?}");
    assert_eq!(of(500, 1).len(), 100);
}

#[test]
fn worked_examples_are_masked_balanced_and_fitted() {
    let (_guard, path) = file("a.jsonl", rows(100));
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let labels = BTreeMap::from([("an".to_string(), "one".to_string())]);
    let load = |k, rate, max_tokens| {
        let (choice, seed, labels) = (Choice::Balanced, 1, labels.clone());
        let options = PrepareOptions {
            shots: Some(Shots { k, choice, rate, seed, labels }),
            encode: EncodeOptions { max_tokens, over_length: OverLength::Drop },
            ..options()
        };
        load_examples(&[PathBuf::from(&path)], &options, &tokenizer, &mut Quiet).unwrap()
    };
    let plain = load(2, 0.0, 512);
    let all = load(2, 1.0, 512);
    assert_eq!((plain.report.few_shot, all.report.few_shot), (0, 100));
    assert!((10..45).contains(&all.report.exemplar_rows.len()), "about a quarter");
    for (with, without) in all.examples.iter().zip(&plain.examples) {
        assert_eq!(with.trained_tokens(), without.trained_tokens(), "only the answer is learned");
        let text = tokenizer.decode(&with.tokens, true).unwrap();
        assert!(text.contains("The labels are:\n- an: one\n\n"), "{text}");
        let own = format!("a the {} in", with.row);
        assert_eq!(text.matches(&own).count(), 1, "no row is its own example: {text}");
        let answers = |word: &str| text.matches(&format!("of it: {word}\n")).count();
        assert_eq!((answers("the"), answers("an")), (1, 1), "{text}");
    }
    // Whole examples are left out until the row fits.
    let longest = plain.examples.iter().map(|e| e.tokens.len()).max().unwrap();
    let tight = load(4, 1.0, 3 * longest + 40);
    assert_eq!(tight.report.rows_used, 100);
    assert!(tight.report.shots_left_out > 0, "{:?}", tight.report);
    let half = load(1, 0.5, 512).report.few_shot;
    assert!((30..70).contains(&half), "{half}");
    for shots in [Shots { k: 0, ..shots() }, Shots { rate: 2.0, ..shots() }] {
        assert!(shots.check().is_err());
    }
}

fn shots() -> Shots {
    let (choice, labels) = (Choice::Random, BTreeMap::new());
    Shots { k: 1, choice, rate: 1.0, seed: 1, labels }
}
