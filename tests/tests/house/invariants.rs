//! ARCHITECTURE.md promises nothing that no test checks.

use std::collections::BTreeSet;

use crate::sizes::functions;
use crate::source::{files, root};

#[test]
fn every_invariant_names_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    // A test is a function below an attribute that ends with `test]`.
    let mut tests = BTreeSet::new();
    for source in files(&["rs"]) {
        let lines: Vec<&str> = source.text.lines().collect();
        for f in functions(&source.text) {
            let above = lines[..f.first - 1].iter().rev().take_while(|l| !l.trim().is_empty());
            if above.take(6).any(|l| l.trim() == "#[test]") {
                tests.insert(f.name);
            }
        }
    }
    assert!(tests.len() > 100, "only {} tests found", tests.len());
    let paragraphs: Vec<String> = page
        .split("\n\n")
        .filter(|p| p.starts_with("**Architecture invariant:**"))
        .map(|p| p.replace('\n', " "))
        .collect();
    assert!(paragraphs.len() >= 15, "only {} invariants", paragraphs.len());
    let mut complaints = Vec::new();
    for paragraph in &paragraphs {
        let named = paragraph.split_once("Tests: ").map_or("", |(_, list)| list);
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            complaints.push(format!("no test: {paragraph}"));
        }
        for name in names.iter().filter(|name| !tests.contains(**name)) {
            complaints.push(format!("no test is called `{name}`"));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
