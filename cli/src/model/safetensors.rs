//! Safetensors: every check that a hostile or broken file deserves, before a single tensor is used.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use paddock_core::weights::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::error::bad_input;

/// Longest header that is believed.
const HEADER_CAP: u64 = 100 << 20;

/// One tensor's entry: its type as written, shape and byte range in the whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// "F32", "BF16", …
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// First byte in the file.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

impl Entry {
    /// The element type, if Paddock computes with it.
    pub fn dtype(&self) -> Option<Dtype> {
        match self.dtype.as_str() {
            "F32" => Some(Dtype::F32),
            "BF16" => Some(Dtype::Bf16),
            "F16" => Some(Dtype::F16),
            _ => None,
        }
    }
}

/// The header's entries by name, in the order of the file.
pub type Header = Vec<(String, Entry)>;

/// Nothing else may stand in an entry: it could be of any depth, and hide anything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

enum Value {
    Tensor(Raw),
    Metadata,
}

/// The next name in a JSON object that may name nothing twice.
fn next_name<'de, A: MapAccess<'de>>(
    map: &mut A,
    seen: &mut HashSet<String>,
) -> Result<Option<String>, A::Error> {
    let name = map.next_key::<String>()?;
    match name {
        Some(name) if !seen.insert(name.clone()) => {
            Err(serde::de::Error::custom(format!("`{name}` appears twice")))
        }
        name => Ok(name),
    }
}

/// Texts by name, of which nothing is used.
struct Texts;

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut seen = HashSet::new();
                while next_name(&mut map, &mut seen)?.is_some() {
                    map.next_value::<String>()?;
                }
                Ok(Texts)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The header's JSON object.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let (mut entries, mut seen) = (Vec::new(), HashSet::new());
                while let Some(name) = next_name(&mut map, &mut seen)? {
                    let value = if name == "__metadata__" {
                        map.next_value::<Texts>()?;
                        Value::Metadata
                    } else {
                        Value::Tensor(map.next_value()?)
                    };
                    entries.push((name, value));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Reads and checks the header of a file's bytes.
pub fn header(path: &Path, bytes: &[u8]) -> anyhow::Result<Header> {
    let fail = |what: String| Err(bad_input(format!("{}: {what}", path.display())));
    if let Some(what) = not_weights(bytes) {
        return fail(what.to_string());
    }
    let total = bytes.len() as u64;
    let Some(first) = bytes.get(..8).and_then(|b| <[u8; 8]>::try_from(b).ok()) else {
        return fail(format!("{total} bytes are too few for a safetensors file"));
    };
    let length = u64::from_le_bytes(first);
    if length > HEADER_CAP || length > total - 8 {
        return fail(format!(
            "its header claims {length} bytes, but the file has {total}: not a safetensors file, or a \
             damaged one. Download it again."
        ));
    }
    let data_start = 8 + length as usize;
    let damaged = |byte: usize, what: String| {
        fail(format!("damaged header near byte {}: {what}. Download it again.", 8 + byte))
    };
    let text = match std::str::from_utf8(&bytes[8..data_start]) {
        Ok(text) => text,
        Err(e) => return damaged(e.valid_up_to(), "not UTF-8 text".to_string()),
    };
    let object: Object = match serde_json::from_str(text) {
        Ok(object) => object,
        Err(e) => return damaged(place(text, &e), e.to_string()),
    };
    let mut header = Header::new();
    for (name, value) in object.0 {
        let Value::Tensor(raw) = value else { continue };
        match entry(&raw, data_start, total) {
            Ok(entry) => header.push((name, entry)),
            Err(what) => return fail(format!("tensor `{name}`: {what}")),
        }
    }
    header.sort_by_key(|(_, e)| (e.start, e.end));
    tiled(path, &header, data_start, bytes.len())?;
    Ok(header)
}

/// The byte at which reading a text ended.
fn place(text: &str, error: &serde_json::Error) -> usize {
    let before = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len);
    before.sum::<usize>() + error.column()
}

/// One entry with checked arithmetic. Its end may lie beyond the file: [`tiled`] reports that.
fn entry(raw: &Raw, data_start: usize, total: u64) -> Result<Entry, String> {
    let [start, end] = raw.data_offsets;
    let size = match raw.dtype.as_str() {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "F8_E4M3" | "F8_E5M2" | "I8" | "U8" | "BOOL" => 1,
        other => return Err(format!("unknown element type {other}")),
    };
    let elements = raw.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let bytes = elements.and_then(|n| n.checked_mul(size));
    if bytes.is_none() || end.checked_sub(start) != bytes {
        let shape = &raw.shape;
        return Err(format!("shape {shape:?} of {} does not fill bytes {start}..{end}", raw.dtype));
    }
    let place =
        |offset: u64| (data_start as u64).checked_add(offset).and_then(|x| usize::try_from(x).ok());
    match (place(start), place(end)) {
        (Some(start), Some(end)) => {
            Ok(Entry { dtype: raw.dtype.clone(), shape: raw.shape.clone(), start, end })
        }
        _ => Err(format!("bytes {start}..{end} of a file of {total}")),
    }
}

/// The tensors must fill the file exactly, without gap or overlap.
fn tiled(path: &Path, header: &Header, data_start: usize, total: usize) -> anyhow::Result<()> {
    let needed = header.last().map_or(data_start, |(_, e)| e.end);
    if needed > total {
        let cut: Vec<&str> =
            header.iter().filter(|(_, e)| e.end > total).map(|(n, _)| n.as_str()).collect();
        return Err(bad_input(format!(
            "{}: the file is cut short: {total} bytes of {needed}. {} tensors are incomplete, from \
             `{}` on. Download it again.",
            path.display(),
            cut.len(),
            cut.first().copied().unwrap_or(""),
        )));
    }
    let mut next = data_start;
    for (name, entry) in header {
        if entry.start != next {
            let what = if entry.start < next { "overlaps the one before" } else { "leaves a gap" };
            return Err(bad_input(format!(
                "{}: tensor `{name}` {what} (byte {}, expected {next}). The file is damaged.",
                path.display(),
                entry.start
            )));
        }
        next = entry.end;
    }
    if next != total {
        return Err(bad_input(format!(
            "{}: {} bytes after the last tensor. The file is damaged.",
            path.display(),
            total - next
        )));
    }
    Ok(())
}

/// What a file that is no weights at all looks like.
pub(super) fn not_weights(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let html =
        |tag: &[u8]| start.len() >= tag.len() && start[..tag.len()].eq_ignore_ascii_case(tag);
    if bytes.starts_with(b"version https://git-lfs") {
        return Some(
            "this is a Git LFS pointer, not the weights. Run `git lfs pull` in its folder.",
        );
    }
    if html(b"<!doctype") || html(b"<html") {
        return Some(
            "this is a web page, not weights: the download went wrong. Download it again.",
        );
    }
    // A header of 640 bytes begins as a pickle does; but then its JSON begins, too.
    let is_pickle = matches!(bytes, [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..]);
    if is_pickle && bytes.get(8) != Some(&b'{') {
        return Some(
            "this is a pickle (PyTorch) file. Such files can run programs, so Paddock does not open \
             them. Save the model as safetensors.",
        );
    }
    if bytes.starts_with(b"GGUF") {
        return Some("this is a GGUF file; Paddock reads safetensors folders.");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(std::iter::repeat_n(0, data));
        bytes
    }

    fn error(bytes: &[u8]) -> String {
        header(Path::new("m.safetensors"), bytes).unwrap_err().to_string()
    }

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},
        "a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
        "b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;

    #[test]
    fn a_good_file_is_read() {
        let bytes = file(GOOD, 32);
        let header = header(Path::new("m"), &bytes).unwrap();
        assert_eq!(header.len(), 2);
        assert_eq!(header[1].1.dtype(), Some(Dtype::Bf16));
        assert_eq!(header[1].1.end, bytes.len());
    }

    #[test]
    fn f1_truncated() {
        let message = error(&file(GOOD, 30));
        assert!(message.contains("cut short") && message.contains("`b`"), "{message}");
        assert!(error(&file(GOOD, 32)[..5]).contains("too few"));
    }

    #[test]
    fn f2_absurd_header_length() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend([0; 64]);
        assert!(error(&bytes).contains("claims 18446744073709551615 bytes"));
        // One byte more than there is, and one more than is believed of a file that has them.
        let mut bytes = 65u64.to_le_bytes().to_vec();
        bytes.extend([b' '; 64]);
        assert!(error(&bytes).contains("claims 65 bytes, but the file has 72"));
        let mut bytes = vec![0; HEADER_CAP as usize + 64];
        bytes[..8].copy_from_slice(&(HEADER_CAP + 1).to_le_bytes());
        assert!(error(&bytes).contains(&format!("claims {} bytes", HEADER_CAP + 1)));
    }

    #[test]
    fn f3_header_json() {
        let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
            "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        let near = |byte: usize, what: &str, json: &[u8]| {
            let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
            bytes.extend(json);
            bytes.extend([0; 8]);
            let error = error(&bytes);
            let place = format!("damaged header near byte {}: ", 8 + byte);
            assert!(error.contains(&place) && error.contains(what), "{place}{what}: {error}");
        };
        let second = twice.rfind("\"a\"").expect("the second one") + 3;
        near(second, "`a` appears twice", twice.as_bytes());
        let note = r#"{"__metadata__":{"format":"pt","format":"tf"}}"#;
        near(
            note.rfind(":\"tf").expect("the second one"),
            "`format` appears twice",
            note.as_bytes(),
        );
        // Nothing may be hidden in an entry, however deep.
        let deep = format!("{}1{}", "[".repeat(4000), "]".repeat(4000));
        let hidden = r#"{"a":{"dtype":"F32","more":"#;
        near(hidden.len() - 1, "unknown field `more`", format!("{hidden}{deep}}}}}").as_bytes());
        near(0, "expected an object of tensors", deep.as_bytes());
        let name = b"{\"a\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
        near(3, "not UTF-8", name);
        near(4, "trailing characters", b"{} x");
        assert!(error(&file(GOOD, 33)).contains("1 bytes after the last tensor"));
    }

    #[test]
    fn f4_offsets_and_shapes() {
        let gap = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert!(error(&file(gap, 8)).contains("gap"));
        let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        assert!(error(&file(overlap, 12)).contains("overlaps"));
        let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
        assert!(error(&file(huge, 0)).contains("does not fill"));
        let backwards = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#;
        assert!(error(&file(backwards, 8)).contains("does not fill"));
    }

    #[test]
    fn f11_other_files() {
        assert!(error(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
        assert!(error(b"\n<!DOCTYPE html><html>").contains("web page"));
        assert!(error(b"PK\x03\x04archive").contains("pickle"));
    }

    #[test]
    fn f13_pickles_are_told_from_headers_that_begin_alike() {
        for protocol in 2..=5 {
            assert!(error(&[0x80, protocol, 0x95, 7, 0, 0, 0, 0, 0, 0]).contains("pickle"));
            let length = 0x80 + 0x100 * usize::from(protocol);
            let bytes = file(&format!("{{{}}}", " ".repeat(length - 2)), 0);
            assert_eq!(bytes[..2], [0x80, protocol]);
            assert!(header(Path::new("m"), &bytes).unwrap().is_empty());
        }
    }
}
