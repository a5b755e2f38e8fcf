//! Worked examples before the question.

use paddock_datasets::fewshot::{Choice, Exemplar, Pool, fit_exemplars, with_exemplars};
use paddock_datasets::record::Record;
use paddock_datasets::template::Template;
use paddock_datasets::tokenizer::Tokenizer;
use serde_json::json;

use crate::common::small_model;

fn pool() -> Pool {
    let topics = ["the cat sat", "a dog ran far", "cat and dog", "rain fell", "cat cat cat", "sun"];
    let exemplars = topics.iter().enumerate().map(|(i, text)| Exemplar {
        text: format!("Q: {text} A: {}", i % 2),
        query: text.to_string(),
        label: (i % 2).to_string(),
    });
    Pool::new(exemplars.collect(), 3)
}

#[test]
fn the_nearest_stand_last_and_the_row_itself_never() {
    let pool = pool();
    let nearest = pool.choose(Choice::Nearest, 2, 0, "where is the cat", None);
    assert_eq!(nearest.last(), Some(&0));
    assert_eq!(nearest.len(), 2);
    for choice in [Choice::Nearest, Choice::Random, Choice::Balanced] {
        let chosen = pool.choose(choice, 6, 0, "the cat sat", Some(0));
        assert!(!chosen.contains(&0), "{choice:?}");
    }
    assert!(pool.choose(Choice::Nearest, 3, 0, "unheard of", None).is_empty());
}

#[test]
fn f31_an_example_that_asks_the_same_is_not_chosen() {
    let pool = pool();
    for choice in [Choice::Nearest, Choice::Random, Choice::Balanced] {
        let chosen = pool.choose(choice, 6, 9, "the cat sat", None);
        assert!(!chosen.is_empty() && !chosen.contains(&0), "{choice:?}: {chosen:?}");
    }
}

#[test]
fn labels_are_balanced_and_the_seed_decides() {
    let pool = pool();
    let mut orders = std::collections::BTreeSet::new();
    for row in 0..20 {
        let chosen = pool.choose(Choice::Balanced, 4, row, "x", None);
        let ones = chosen.iter().filter(|i| pool.exemplars()[**i].label == "1").count();
        assert_eq!((chosen.len(), ones), (4, 2));
        assert_eq!(chosen, pool.choose(Choice::Balanced, 4, row, "x", None));
        orders.insert(chosen);
    }
    assert!(orders.len() > 5);
}

#[test]
fn whole_exemplars_go_until_the_row_fits() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let row = Record::from_pairs([("prompt", json!("the cat")), ("completion", json!(" a"))]);
    let rendered = Template::prompt().render(&row).unwrap();
    let exemplars = ["one", "two", "three"];
    let all = with_exemplars(&rendered, &exemplars, "\n");
    assert_eq!(all.text, "one\ntwo\nthree\nthe cat a");
    assert_eq!(all.last_answer(), " a");
    let length = |r| paddock_datasets::encode::encode(&tokenizer, r).unwrap().tokens.len();
    let (kept, left_out) =
        fit_exemplars(&tokenizer, &rendered, &exemplars, "\n", length(&all) - 1).unwrap();
    assert_eq!((kept.text.as_str(), left_out), ("two\nthree\nthe cat a", 1));
    assert_eq!(fit_exemplars(&tokenizer, &rendered, &exemplars, "\n", 1).unwrap().1, 3);
}
