//! The bundled seed tasks keep their promises: shape, number, spread over kinds, no duplicates.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    id: String,
    name: String,
    kind: String,
    instruction: String,
    instances: Vec<Instance>,
    is_classification: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    input: String,
    output: String,
}

fn seeds() -> Vec<Seed> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/bundled/seeds/seeds.jsonl");
    let text = std::fs::read_to_string(path).expect("seeds.jsonl can be read");
    let parse = |(i, line)| {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("seeds.jsonl line {}: {e}", i + 1))
    };
    text.lines().enumerate().map(parse).collect()
}

#[test]
fn there_are_175_tasks_of_at_least_14_kinds() {
    let seeds = seeds();
    assert_eq!(seeds.len(), 175);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, seed) in seeds.iter().enumerate() {
        assert_eq!(seed.id, format!("seed_{i:03}"));
        *kinds.entry(&seed.kind).or_default() += 1;
    }
    assert!(kinds.len() >= 14, "{kinds:?}");
    assert!(kinds.values().all(|&n| n >= 5), "a kind is thin: {kinds:?}");
    assert!(kinds.contains_key("naming_entities") && kinds.contains_key("writing_code"));
}

#[test]
fn about_a_quarter_is_classification_with_short_labels() {
    let seeds = seeds();
    let labelled: Vec<_> = seeds.iter().filter(|s| s.is_classification).collect();
    assert!((40..=48).contains(&labelled.len()), "{}", labelled.len());
    for seed in labelled {
        assert!(seed.instances.len() >= 2, "{}: one label only", seed.name);
        let labels: BTreeSet<_> = seed.instances.iter().map(|i| &i.output).collect();
        assert!(labels.len() >= 2, "{}: every instance has the same label", seed.name);
        let words = |label: &&String| label.split_whitespace().count();
        assert!(labels.iter().all(|l| words(l) <= 4), "{}: a long label", seed.name);
    }
}

#[test]
fn nothing_is_empty_untrimmed_or_said_twice() {
    let seeds = seeds();
    let (mut names, mut instructions) = (BTreeSet::new(), BTreeSet::new());
    for seed in &seeds {
        assert!(names.insert(&seed.name), "{} occurs twice", seed.name);
        let instruction = seed.instruction.to_lowercase();
        assert!(instructions.insert(instruction), "{}: instruction occurs twice", seed.name);
        assert!(!seed.instruction.is_empty() && !seed.instances.is_empty(), "{}", seed.name);
        let mut inputs = BTreeSet::new();
        for instance in &seed.instances {
            assert!(!instance.output.is_empty(), "{}: empty output", seed.name);
            assert!(inputs.insert(&instance.input), "{}: an input occurs twice", seed.name);
            for text in [&seed.instruction, &instance.input, &instance.output] {
                assert_eq!(text.trim(), text, "{}: white space at an end", seed.name);
                assert!(!text.contains("\r") && !text.contains('\t'), "{}", seed.name);
            }
        }
    }
}

/// Self-Instruct drops an instruction whose ROUGE-L with an earlier one is 0.7 or more.
#[test]
fn no_two_instructions_are_near_duplicates() {
    let words = |text: &str| -> Vec<String> {
        let lower = text.to_lowercase();
        let split = lower.split(|c: char| !c.is_alphanumeric());
        split.filter(|w| !w.is_empty()).map(str::to_owned).collect()
    };
    let seeds: Vec<_> = seeds().into_iter().map(|s| (words(&s.instruction), s.name)).collect();
    for (i, (a, name)) in seeds.iter().enumerate() {
        for (b, other) in &seeds[..i] {
            let rouge_l = 2.0 * common_subsequence(a, b) as f64 / (a.len() + b.len()) as f64;
            assert!(rouge_l < 0.7, "{name} and {other}: ROUGE-L {rouge_l:.2}");
        }
    }
}

/// Length of the longest common subsequence.
fn common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut above = vec![0; b.len() + 1];
    for x in a {
        let mut row = vec![0];
        for (j, y) in b.iter().enumerate() {
            row.push(if x == y { above[j] + 1 } else { above[j + 1].max(row[j]) });
        }
        above = row;
    }
    above[b.len()]
}
