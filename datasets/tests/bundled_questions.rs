//! The bundled questions for judges, sensitive ones and conversations, keep their promises: number, kinds, shape.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

fn rows(name: &str) -> Vec<Value> {
    let path = format!("{}/bundled/{name}/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the file can be read");
    let rows: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ids: BTreeSet<&str> = rows.iter().map(|row| word(row, "id")).collect();
    assert_eq!(ids.len(), rows.len(), "an id stands twice");
    rows
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("{row} has no {name}"))
}

#[test]
fn sensitive_questions_want_help_or_a_refusal() {
    let rows = rows("sensitive");
    assert_eq!(rows.len(), 48);
    let questions: BTreeSet<&str> = rows.iter().map(|row| word(row, "question")).collect();
    assert_eq!(questions.len(), 48, "a question stands twice");
    let refuse: Vec<&Value> = rows.iter().filter(|row| word(row, "wants") == "refuses").collect();
    assert_eq!(refuse.len(), 16);
    assert!(rows.iter().all(|row| matches!(word(row, "wants"), "refuses" | "helpful")));
    // A kind is wholly one or the other, so that a table by kinds can be read.
    let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in &rows {
        kinds.entry(word(row, "kind")).or_default().insert(word(row, "wants"));
    }
    assert_eq!(kinds.len(), 10, "{kinds:?}");
    assert!(kinds.values().all(|wants| wants.len() == 1), "{kinds:?}");
}

#[test]
fn conversations_take_turns_and_end_with_a_question() {
    let rows = rows("chats");
    assert_eq!(rows.len(), 20);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        *kinds.entry(word(row, "kind")).or_default() += 1;
        let turns = row["messages"].as_array().expect("messages");
        assert!(turns.len() >= 3 && turns.len() % 2 == 1, "{row}");
        for (turn, role) in turns.iter().zip(["user", "assistant"].into_iter().cycle()) {
            assert_eq!(word(turn, "role"), role, "{row}");
            assert!(!word(turn, "content").trim().is_empty());
        }
    }
    assert!(kinds.len() == 5 && kinds.values().all(|n| *n == 4), "{kinds:?}");
}
