//! The repository's files, and Rust source with everything blanked out that is not code.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A text file of the repository.
pub struct Source {
    /// Its path from the root, with forward slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Every text file with one of these extensions (or names), build outputs excepted.
pub fn files(extensions: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), Path::new(""), extensions, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(root: &Path, below: &Path, extensions: &[&str], found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(root.join(below)).expect("a folder of the repository");
    for entry in entries.map(|e| e.expect("a folder entry")) {
        let name = entry.file_name().into_string().expect("a file name in UTF-8");
        let path = below.join(&name);
        let kind = entry.file_type().expect("a file type");
        if kind.is_dir() && !["target", ".git", "runs"].contains(&name.as_str()) {
            walk(root, &path, extensions, found);
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or(&name);
        if kind.is_file() && extensions.contains(&extension) {
            let text = std::fs::read(root.join(&path)).expect("a readable file");
            let text = String::from_utf8_lossy(&text).into_owned();
            found.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
        }
    }
}

/// `text` with comments, strings and characters turned into blanks; lines stay where they are.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => line_end(bytes, i),
            b'/' if bytes.get(i + 1) == Some(&b'*') => block_comment_end(bytes, i),
            b'"' => string_end(bytes, i),
            b'r' if !in_word(bytes, i) => raw_string_end(bytes, i).unwrap_or(i),
            b'\'' => char_end(bytes, i).unwrap_or(i),
            _ => i,
        };
        let blank = out[i..end].iter_mut().filter(|b| **b != b'\n');
        blank.for_each(|b| *b = b' ');
        i = end.max(i + 1);
    }
    String::from_utf8(out).expect("whole characters are blanked")
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

/// Whether the byte before belongs to a name (`br"…"` is a string, `for` is none).
fn in_word(bytes: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| bytes[i]);
    let name = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    name(before(1)) && (before(1) != Some(b'b') || name(before(2)))
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let body = at + hashes + 2;
    let len = bytes[body..].windows(close.len()).position(|w| w == close)?;
    Some(body + len + close.len())
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        let close = bytes[at + 3..].iter().position(|&b| b == b'\'')?;
        return Some(at + 3 + close + 1);
    }
    // One character of up to four bytes, then a quote.
    (2..=5)
        .map(|n| at + n)
        .find(|&end| bytes.get(end) == Some(&b'\''))
        .filter(|&end| {
            std::str::from_utf8(&bytes[at + 1..end]).is_ok_and(|s| s.chars().count() == 1)
        })
        .map(|end| end + 1)
}

/// The words of blanked code: names, keywords and numbers, each with its byte offset.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.split(move |c: char| !is_name(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

#[test]
fn only_code_is_left() {
    let text = r##"fn a<'x>(c: char) { /* { /* } */ */ let s = "}\"{"; let r = r#"{"}"#; '{'; '\''; b"{" } // }"##;
    let code = code(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.matches('{').count(), 1);
    assert_eq!(code.matches('}').count(), 1);
    assert!(code.contains("fn a<'x>(c: char)"));
    let line = "let x = \"ä\"; let y = 'ö'; for r in r..r {}";
    assert!(super::source::code(line).ends_with("for r in r..r {}"));
}
