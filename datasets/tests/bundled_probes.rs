//! The bundled probe suite keeps the promises of `bundled/probes/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

const ITEMS_PER_KIND: usize = 40;

/// Kind and number of choices.
const KINDS: [(&str, usize); 11] = [
    ("arithmetic", 4),
    ("closed_book_facts", 4),
    ("code_reading", 4),
    ("common_sense", 4),
    ("copying", 4),
    ("grammar", 2),
    ("naming_entities", 4),
    ("ordering", 4),
    ("other_language", 4),
    ("sentiment", 2),
    ("story_continuation", 2),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    id: String,
    kind: String,
    prompt: String,
    choices: Vec<String>,
    answer: usize,
}

impl Probe {
    fn right(&self) -> &str {
        &self.choices[self.answer]
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bundled/probes")
}

fn probes(kind: &str) -> Vec<Probe> {
    let path = folder().join(format!("{kind}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{kind}.jsonl: {e}"));
    let parse = |(i, line)| {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{kind}.jsonl line {}: {e}", i + 1))
    };
    text.lines().enumerate().map(parse).collect()
}

#[test]
fn the_files_are_the_eleven_kinds() {
    let entries = std::fs::read_dir(folder()).expect("the folder of probes can be read");
    let paths = entries.map(|e| e.expect("a folder entry").path());
    let found: BTreeSet<String> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(found, KINDS.iter().map(|(kind, _)| (*kind).to_owned()).collect());
}

#[test]
fn items_have_the_stated_shape() {
    for (kind, choices) in KINDS {
        let probes = probes(kind);
        assert_eq!(probes.len(), ITEMS_PER_KIND, "{kind}");
        for (i, probe) in probes.iter().enumerate() {
            assert_eq!(probe.id, format!("{kind}_{i:02}"));
            assert_eq!(probe.kind, kind);
            assert_eq!(probe.choices.len(), choices, "{}", probe.id);
            assert!(probe.answer < choices, "{}", probe.id);
            for text in probe.choices.iter().chain([&probe.prompt]) {
                assert!(!text.is_empty() && text.trim() == text, "{}: {text:?}", probe.id);
            }
        }
    }
}

#[test]
fn every_position_is_right_equally_often() {
    for (kind, choices) in KINDS {
        let mut counts = vec![0; choices];
        for probe in probes(kind) {
            counts[probe.answer] += 1;
        }
        assert_eq!(counts, vec![ITEMS_PER_KIND / choices; choices], "{kind}");
    }
}

#[test]
fn no_prompt_and_no_choice_of_an_item_occurs_twice() {
    let mut prompts = BTreeSet::new();
    for (kind, choices) in KINDS {
        for probe in probes(kind) {
            let prompt = probe.prompt.to_lowercase();
            assert!(prompts.insert(prompt), "{}: its prompt occurs twice", probe.id);
            let distinct: BTreeSet<_> = probe.choices.iter().collect();
            assert_eq!(distinct.len(), choices, "{}: a choice twice", probe.id);
        }
    }
}

/// The longest (or shortest) choice must not be a clue.
#[test]
fn length_does_not_give_the_answer_away() {
    for (kind, choices) in KINDS {
        let (mut longest, mut shortest) = (0, 0);
        for probe in probes(kind) {
            let length = probe.right().chars().count();
            let mut others: Vec<_> = probe.choices.iter().map(|c| c.chars().count()).collect();
            others.remove(probe.answer);
            longest += usize::from(others.iter().all(|&other| other < length));
            shortest += usize::from(others.iter().all(|&other| other > length));
        }
        let limit = ITEMS_PER_KIND / choices + 5;
        assert!(longest <= limit, "{kind}: the longest is right {longest} times");
        assert!(shortest <= limit, "{kind}: the shortest is right {shortest} times");
    }
}

#[test]
fn sentiment_keeps_the_order_of_its_labels() {
    for probe in probes("sentiment") {
        assert_eq!(probe.choices, ["negative", "positive"], "{}", probe.id);
    }
}

#[test]
fn copies_equal_their_line() {
    for probe in probes("copying") {
        let line = probe.prompt.lines().find_map(|l| l.strip_prefix("Line: "));
        assert_eq!(line, Some(probe.right()), "{}", probe.id);
    }
}

#[test]
fn sums_come_out() {
    let mut by_operation: BTreeMap<String, usize> = BTreeMap::new();
    for probe in probes("arithmetic") {
        let Some(sum) = probe.prompt.strip_prefix("Calculate: ") else { continue };
        let words: Vec<&str> = sum.split(' ').collect();
        let [a, operation, b, "="] = words[..] else { panic!("{}: {sum}", probe.id) };
        let number = |word: &str| word.parse::<i64>().unwrap_or_else(|e| panic!("{word}: {e}"));
        let (a, b) = (number(a), number(b));
        let result = match operation {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "/" if a % b == 0 => a / b,
            other => panic!("{}: {other}", probe.id),
        };
        assert_eq!(number(probe.right()), result, "{}", probe.id);
        *by_operation.entry(operation.to_owned()).or_default() += 1;
    }
    assert_eq!(by_operation.into_values().collect::<Vec<_>>(), [7; 4]);
}

#[test]
fn lists_are_sorted() {
    let mut checked = 0;
    for probe in probes("ordering") {
        let line = probe.prompt.lines().next().unwrap_or_default();
        let right: Vec<&str> = probe.right().split(", ").collect();
        if let Some(list) = line.strip_prefix("Sort by the alphabet: ") {
            let mut words: Vec<&str> = list.split(", ").collect();
            words.sort();
            assert_eq!(words, right, "{}", probe.id);
            checked += 1;
        }
        if let Some(list) = line.strip_prefix("Sort from small to large: ") {
            let mut numbers: Vec<&str> = list.split(", ").collect();
            numbers.sort_by_key(|n| n.parse::<i64>().unwrap_or_else(|e| panic!("{n}: {e}")));
            assert_eq!(numbers, right, "{}", probe.id);
            checked += 1;
        }
    }
    assert_eq!(checked, 20);
}
