//! Splits by label, group and order; twins; mixtures.

use paddock_datasets::dedupe::{exact, near, similarity};
use paddock_datasets::mixture::{Mixture, Rates};
use paddock_datasets::split::{SplitOptions, group_keys, split, split_by_order, split_stratified};

use crate::common::shared;

#[test]
fn labels_keep_their_shares_on_both_sides() {
    let labels: Vec<&str> = (0..1000).map(|i| if i % 5 == 0 { "rare" } else { "common" }).collect();
    let keys: Vec<u128> = (0..1000).collect();
    let found = split_stratified(&keys, &labels, &SplitOptions::default()).unwrap();
    let rare = found.validation.iter().filter(|i| labels[**i] == "rare").count();
    assert_eq!((found.validation.len(), rare), (100, 20));
    assert_eq!(found.train.len(), 900);
    assert!(split_stratified(&keys, &labels[1..], &SplitOptions::default()).is_err());
}

#[test]
fn no_group_is_on_two_sides() {
    let groups: Vec<String> = (0..600).map(|i| format!("person {}", i / 7)).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let found = split(&group_keys(&groups), &SplitOptions::default());
    assert!(found.validation.len() >= 60);
    for row in &found.validation {
        assert!(found.train.iter().all(|other| groups[*other] != groups[*row]));
    }
}

#[test]
fn the_future_is_held_out() {
    let days: Vec<u32> = (0..200).map(|i| (i * 37) % 100).collect();
    let found = split_by_order(&days, &SplitOptions::default());
    let last = found.train.iter().map(|i| days[*i]).max().unwrap();
    assert!(found.validation.iter().all(|i| days[*i] > last));
    assert_eq!(found.validation.len(), 32);
    assert!(split_by_order(&[1, 1, 1, 1], &SplitOptions::default()).validation.is_empty());
}

#[test]
fn twins_are_found() {
    let long = "the quick brown fox jumps over the lazy dog while the cat looks on from the roof";
    let nearly =
        "The quick brown fox jumps over the lazy dog, while the cat looks on from the wall!";
    let texts = [long, "something else entirely that shares nothing", nearly, long, "", ""];
    assert_eq!(exact(&texts), [None, None, None, Some(0), None, Some(4)]);
    assert_eq!(near(&texts, 0.7), [None, None, Some(0), Some(0), None, None]);
    assert_eq!(near(&texts, 0.99), [None, None, None, Some(0), None, None]);
    assert!(similarity(long, nearly) > 0.7 && similarity(long, texts[1]) < 0.1);
}

#[test]
fn banded_search_finds_what_all_pairs_find() {
    let Some(path) = shared("sentiment/uci_sentences/yelp_labelled.txt") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let mut texts: Vec<&str> = text.lines().take(150).collect();
    let doubled: Vec<String> = texts.iter().step_by(7).map(|t| format!("{t} really")).collect();
    texts.extend(doubled.iter().map(String::as_str));
    let found = near(&texts, 0.7);
    for i in 0..texts.len() {
        let twin = (0..i).find(|j| found[*j].is_none() && similarity(texts[*j], texts[i]) >= 0.7);
        assert_eq!(found[i], twin, "{}", texts[i]);
    }
}

#[test]
fn what_many_texts_share_makes_no_twins() {
    let shared = (0..60).map(|w| format!("rule{w}")).collect::<Vec<_>>().join(" ");
    let own = |n: usize| (0..8).map(|w| format!("q{n}x{w}")).collect::<Vec<_>>().join(" ");
    let find = |count: usize| {
        let mut texts: Vec<String> = (0..count).map(|n| format!("{shared} {}", own(n))).collect();
        // A twin, and texts of nothing but what all share.
        texts.push(format!("{shared} {} indeed", own(7)));
        texts.extend([shared.clone(), shared.clone()]);
        near(&texts.iter().map(String::as_str).collect::<Vec<_>>(), 0.7)
    };
    let found = find(300);
    assert!(found[..300].iter().all(Option::is_none), "{found:?}");
    assert_eq!(found[300..], [Some(7), None, Some(301)]);
    // Among a hundred texts everything counts.
    let found = find(97);
    assert!(found[1..].iter().all(|twin| *twin == Some(0)), "{found:?}");
}

#[test]
fn alpaca_twins_take_seconds() {
    let Some(path) = shared("instruct/alpaca_data.json.gz") else { return };
    let rows = paddock_datasets::readers::open(&path, &Default::default()).unwrap();
    let texts: Vec<String> = rows
        .filter_map(|r| r.ok())
        .take(10_000)
        .map(|r| {
            ["instruction", "input", "output"]
                .map(|c| r.get(c).unwrap().as_str().unwrap().to_string())
                .join("\n")
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let start = std::time::Instant::now();
    let found = near(&texts, 0.7);
    println!("{} near twins in {:.2?}", found.iter().flatten().count(), start.elapsed());
    assert!(exact(&texts).iter().zip(&found).all(|(e, n)| e.is_none() || n.is_some()));
}

#[test]
fn shares_follow_flan() {
    let near = |found: Vec<f64>, expected: &[f64]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    };
    let sizes = [1000, 30_000, 2000];
    near(Rates::Proportional { cap: 3000 }.shares(&sizes).unwrap(), &[1.0 / 6.0, 0.5, 1.0 / 3.0]);
    near(Rates::Weights(vec![1.0, 0.0, 3.0]).shares(&sizes).unwrap(), &[0.25, 0.0, 0.75]);
    let even = Rates::Temperature { temperature: 1e9, cap: 3000 }.shares(&sizes).unwrap();
    assert!(even.iter().all(|s| (s - 1.0 / 3.0).abs() < 1e-6));
    for wrong in [
        Rates::Weights(vec![1.0]),
        Rates::Weights(vec![1.0, -1.0, 1.0]),
        Rates::Weights(vec![0.0; 3]),
        Rates::Weights(vec![f64::NAN, 1.0, 1.0]),
        Rates::Temperature { temperature: 0.0, cap: 1 },
        Rates::Temperature { temperature: f64::NAN, cap: 1 },
    ] {
        assert!(wrong.shares(&sizes).is_err(), "{wrong:?}");
    }
    assert!(Rates::Weights(vec![1.0, 1.0]).shares(&[0, 5]).is_err());
}

#[test]
fn a_mixture_resumes_from_one_integer() {
    let sizes = [10, 100, 1];
    let rates = Rates::Weights(vec![1.0, 2.0, 1.0]);
    let mut whole = Mixture::new(&sizes, &rates, 5).unwrap();
    let all: Vec<_> = (0..2000).map(|_| whole.draw()).collect();
    for start in [0, 1, 777, 1999] {
        let mut resumed = Mixture::new(&sizes, &rates, 5).unwrap();
        resumed.seek(1500);
        resumed.seek(start);
        let rest: Vec<_> = (start..2000).map(|_| resumed.draw()).collect();
        assert_eq!(rest, all[start as usize..]);
    }
    for (set, share) in [(0, 0.25), (1, 0.5), (2, 0.25)] {
        let count = all.iter().filter(|(s, _)| *s == set).count() as f64;
        assert!((count / 2000.0 - share).abs() < 0.04, "{set}: {count}");
    }
    // Each pass over a set holds every row once.
    let first: Vec<usize> = all.iter().filter(|(s, _)| *s == 1).map(|(_, row)| *row).collect();
    let mut pass = first[..100].to_vec();
    pass.sort_unstable();
    assert_eq!(pass, (0..100).collect::<Vec<_>>());
}
