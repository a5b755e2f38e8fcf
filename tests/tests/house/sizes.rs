//! Lengths of files and functions, against limits and a list of exceptions that may only shrink.

use std::collections::BTreeMap;

use crate::source::{Source, code, files, root, words};

/// Lines of a source file, its `#[cfg(test)]` part not counted.
const FILE: usize = 400;
/// Lines of a file of tests.
const TEST_FILE: usize = 600;
/// Lines of a function.
const FUNCTION: usize = 70;
/// Lines of a function, whatever the exceptions say.
const FUNCTION_HARD: usize = 100;

/// A function: its name, first and last line (counted from 1).
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub first: usize,
    pub last: usize,
}

/// Every function with a body, nested ones too.
pub fn functions(text: &str) -> Vec<Function> {
    let code = code(text);
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    let mut found = Vec::new();
    let mut words = words(&code).peekable();
    while let Some((at, word)) = words.next() {
        // `fn(…)` without a name is a type.
        let Some(&(name_at, name)) = words.peek().filter(|_| word == "fn") else { continue };
        if !code[at + 2..name_at].trim().is_empty() {
            continue;
        }
        if let Some(end) = body_end(code.as_bytes(), name_at) {
            found.push(Function { name: name.to_owned(), first: line(at), last: line(end) });
        }
    }
    found
}

/// Where the body's last brace is; `None` for a declaration.
fn body_end(code: &[u8], from: usize) -> Option<usize> {
    let (mut braces, mut parens) = (0usize, 0i32);
    for (i, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => parens += 1,
            b')' | b']' => parens -= 1,
            b';' if braces == 0 && parens == 0 => return None,
            b'{' => braces += 1,
            b'}' if braces <= 1 => return Some(i),
            b'}' => braces -= 1,
            _ => {}
        }
    }
    None
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| ["tests", "benches", "tests.rs"].contains(&part))
}

/// Lines that count: all of a test file, those before the inner tests of another.
fn counted_lines(source: &Source) -> usize {
    let lines = source.text.lines();
    if is_test(&source.path) {
        return lines.count();
    }
    let all: Vec<&str> = lines.collect();
    // Inner tests stand at the end, after the last `#[cfg(test)]` that begins a module.
    let tests = all.windows(2).rposition(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod "));
    let tests = tests.filter(|&at| all[at + 1].ends_with('{'));
    tests.unwrap_or(all.len())
}

/// (path or path::function) -> lines, of everything that is longer than its limit.
fn too_long() -> BTreeMap<String, usize> {
    let mut long = BTreeMap::new();
    for source in files(&["rs"]) {
        let lines = counted_lines(&source);
        if lines > if is_test(&source.path) { TEST_FILE } else { FILE } {
            long.insert(source.path.clone(), lines);
        }
        for f in functions(&source.text) {
            let lines = f.last - f.first + 1;
            if lines > FUNCTION {
                long.insert(format!("{}::{}", source.path, f.name), lines);
            }
        }
    }
    long
}

/// The list: `path[::function] lines reason`.
fn exceptions() -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(root().join("tests/house/exceptions.txt"))
        .expect("tests/house/exceptions.txt");
    let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, ' ');
            let (name, limit) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let limit = limit.parse().unwrap_or_else(|_| panic!("no number of lines in `{line}`"));
            assert!(parts.next().is_some_and(|r| r.len() > 10), "no reason given in `{line}`");
            (name.to_owned(), limit)
        })
        .collect()
}

#[test]
fn files_and_functions_are_short() {
    let (long, allowed) = (too_long(), exceptions());
    let mut complaints = Vec::new();
    for (name, &lines) in &long {
        match allowed.get(name) {
            None => complaints.push(format!("{name}: {lines} lines are too many")),
            Some(&limit) if lines > limit => {
                complaints.push(format!("{name}: {lines} lines; exceptions.txt allows {limit}"));
            }
            Some(_) => {}
        }
        if name.contains("::") && lines > FUNCTION_HARD {
            complaints.push(format!("{name}: {lines} lines; no exception goes beyond 100"));
        }
    }
    for name in allowed.keys().filter(|name| !long.contains_key(*name)) {
        complaints.push(format!("{name}: short enough now; take it off exceptions.txt"));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn functions_are_found() {
    let text = "trait T {\n    fn a(&self) -> [u8; 3];\n    fn b() {\n        { \"}\" }\n    }\n}\n\
                fn c(f: fn(u8) -> u8) -> u8 {\n    fn d() {}\n    f(1)\n}\n";
    let found: Vec<_> = functions(text).iter().map(|f| (f.name.clone(), f.first, f.last)).collect();
    let expected = [("b", 3, 5), ("c", 7, 10), ("d", 8, 8)];
    assert_eq!(found, expected.map(|(n, a, b)| (n.to_owned(), a, b)));
}
