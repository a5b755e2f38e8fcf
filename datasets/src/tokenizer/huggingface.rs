//! `tokenizer.json`: checked first, so that a damaged file is named by its JSON path, then handed
//! to the `tokenizers` library. A panic of the library on what the check let through is caught.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::Tokenizer as Library;

use crate::error::{Error, Result};

/// Largest token number accepted: far above any vocabulary, far below what would exhaust memory.
const MAX_ID: u64 = 16 << 20;

/// An added token of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Its number.
    pub id: u32,
    /// Its text.
    pub content: String,
    /// A control token: never made from user text.
    pub special: bool,
    /// Takes blanks before it along.
    pub lstrip: bool,
    /// Takes blanks after it along.
    pub rstrip: bool,
}

/// Parses and checks the JSON of a `tokenizer.json`.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(bytes).map_err(|e| fail(path, "file", &e.to_string()))?;
    serde_json::from_str(text).map_err(|e| {
        fail(path, &format!("line {}, column {}", e.line(), e.column()), &e.to_string())
    })
}

fn fail(path: &Path, at: &str, message: &str) -> Error {
    Error::Tokenizer { path: path.into(), at: at.to_string(), message: message.to_string() }
}

fn token_id(path: &Path, at: &str, value: Option<&Value>) -> Result<u32> {
    let id = value.and_then(Value::as_u64).filter(|id| *id <= MAX_ID);
    id.and_then(|id| u32::try_from(id).ok())
        .ok_or_else(|| fail(path, at, &format!("expected a token number from 0 to {MAX_ID}")))
}

/// Checks the parts whose damage is common: vocabulary, merges, added tokens.
/// Gives the added tokens and the largest token number.
pub fn check(path: &Path, root: &Value) -> Result<(Vec<Added>, u32)> {
    let Some(model) = root.get("model").and_then(Value::as_object) else {
        return Err(fail(path, "model", "is missing; this is no tokenizer.json"));
    };
    let mut max_id = 0;
    match model.get("vocab") {
        Some(Value::Object(vocab)) => {
            for (token, id) in vocab {
                max_id = max_id.max(token_id(path, &format!("model.vocab[{token:?}]"), Some(id))?);
            }
            check_merges(path, model, vocab)?;
        }
        Some(Value::Array(pieces)) => {
            max_id = u32::try_from(pieces.len().saturating_sub(1))
                .map_err(|_| fail(path, "model.vocab", "has too many pieces"))?;
        }
        _ => return Err(fail(path, "model.vocab", "is missing")),
    }
    let mut added = Vec::new();
    let empty = Vec::new();
    let list = match root.get("added_tokens") {
        None | Some(Value::Null) => &empty,
        Some(Value::Array(list)) => list,
        Some(_) => return Err(fail(path, "added_tokens", "expected a list")),
    };
    for (i, entry) in list.iter().enumerate() {
        let at = format!("added_tokens[{i}]");
        let id = token_id(path, &format!("{at}.id"), entry.get("id"))?;
        let content = entry.get("content").and_then(Value::as_str).filter(|text| !text.is_empty());
        let content = content
            .ok_or_else(|| fail(path, &format!("{at}.content"), "expected a text"))?
            .to_string();
        let flag = |name: &str| entry.get(name).and_then(Value::as_bool).unwrap_or(false);
        let (special, lstrip, rstrip) = (flag("special"), flag("lstrip"), flag("rstrip"));
        max_id = max_id.max(id);
        added.push(Added { id, content, special, lstrip, rstrip });
    }
    Ok((added, max_id))
}

fn check_merges(
    path: &Path,
    model: &serde_json::Map<String, Value>,
    vocab: &serde_json::Map<String, Value>,
) -> Result<()> {
    let Some(Value::Array(merges)) = model.get("merges") else { return Ok(()) };
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("");
    for (i, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(two) => match two.as_slice() {
                [Value::String(left), Value::String(right)] => {
                    Some((left.as_str(), right.as_str()))
                }
                _ => None,
            },
            _ => None,
        };
        let at = || format!("model.merges[{i}]");
        let (left, right) = pair.ok_or_else(|| fail(path, &at(), "expected two tokens"))?;
        let tail = right.strip_prefix(prefix).unwrap_or(right);
        for token in [left, right, &format!("{left}{tail}")] {
            if !vocab.contains_key(token) {
                let message = format!("{token:?} is not in model.vocab");
                return Err(fail(path, &at(), &message));
            }
        }
    }
    Ok(())
}

/// Adds the tokens of tokenizer_config.json that the file lacks.
pub fn add_missing(root: &mut Value, extra: &[(u32, Value)]) {
    let Some(root) = root.as_object_mut() else { return };
    let slot = root.entry("added_tokens").or_insert_with(|| json!([]));
    if slot.is_null() {
        *slot = json!([]);
    }
    let Some(list) = slot.as_array_mut() else { return };
    let before = list.len();
    for (id, entry) in extra {
        let content = entry.get("content").and_then(Value::as_str).unwrap_or_default();
        if list.iter().any(|t| t.get("content").and_then(Value::as_str) == Some(content)) {
            continue;
        }
        let flag = |name: &str| entry.get(name).and_then(Value::as_bool).unwrap_or(false);
        list.push(json!({
            "id": id, "content": content, "single_word": flag("single_word"),
            "lstrip": flag("lstrip"), "rstrip": flag("rstrip"), "normalized": flag("normalized"),
            "special": flag("special"),
        }));
    }
    if list.len() > before {
        // The library numbers new tokens in the order of the list.
        list.sort_by_key(|t| t.get("id").and_then(Value::as_u64));
    }
}

/// Builds the library's tokenizer: no truncation, padding or tokens put around a text; special
/// tokens are not recognised in text (our own cutting does that where it is meant).
pub fn build(path: &Path, mut root: Value, added: &[Added]) -> Result<Library> {
    if let Some(root) = root.as_object_mut() {
        for key in ["truncation", "padding", "post_processor"] {
            root.insert(key.to_string(), Value::Null);
        }
    }
    let text = root.to_string();
    let built = catch_unwind(AssertUnwindSafe(|| Library::from_bytes(text.as_bytes())));
    let mut library = match built {
        Ok(Ok(library)) => library,
        Ok(Err(error)) => return Err(fail(path, "file", &error.to_string())),
        Err(_) => {
            let message = "the tokenizers library cannot use it: it is damaged";
            return Err(fail(path, "file", message));
        }
    };
    for (i, token) in added.iter().enumerate() {
        let found = library.token_to_id(&token.content);
        if found != Some(token.id) {
            let got = found.map_or("no number".to_string(), |id| id.to_string());
            let message = format!(
                "{:?} should be token {}, but the file's vocabulary gives it {got}",
                token.content, token.id
            );
            return Err(fail(path, &format!("added_tokens[{i}].id"), &message));
        }
    }
    library.set_encode_special_tokens(true);
    Ok(library)
}

/// The same file for pieces of text after the first: nothing is put in front of them. `None` where
/// the file treats all pieces alike.
pub fn continued(root: &Value) -> Option<Value> {
    let mut root = root.clone();
    let pre = root.get_mut("pre_tokenizer")?;
    set_never(pre).then_some(root)
}

fn set_never(pre: &mut Value) -> bool {
    if pre.get("type").and_then(Value::as_str) == Some("Sequence") {
        let list = pre.get_mut("pretokenizers").and_then(Value::as_array_mut);
        return list.is_some_and(|list| list.iter_mut().fold(false, |any, p| set_never(p) | any));
    }
    let metaspace = pre.get("type").and_then(Value::as_str) == Some("Metaspace");
    if metaspace && pre.get("prepend_scheme").and_then(Value::as_str) == Some("first") {
        pre["prepend_scheme"] = json!("never");
        return true;
    }
    false
}

/// Whether a text may be encoded in pieces: no step puts anything in front of a later piece or takes anything off it.
pub fn cuts_freely(root: &Value) -> bool {
    let step = |name: &str| root.get(name).filter(|step| !step.is_null());
    step("normalizer").is_none_or(keeps_ends) && step("pre_tokenizer").is_none_or(keeps_ends)
}

fn keeps_ends(step: &Value) -> bool {
    let text = |name: &str| step.get(name).and_then(Value::as_str);
    match text("type") {
        Some("Sequence") => {
            let list = step.get("normalizers").or_else(|| step.get("pretokenizers"));
            list.and_then(Value::as_array).is_some_and(|list| list.iter().all(keeps_ends))
        }
        // A "first" one becomes "never" for later pieces: see `continued`.
        Some("Metaspace") => matches!(text("prepend_scheme"), Some("first" | "never")),
        Some("ByteLevel") => step.get("add_prefix_space") == Some(&Value::Bool(false)),
        Some("Split" | "Digits" | "Replace" | "NFC" | "NFD" | "NFKC" | "NFKD") => true,
        _ => false,
    }
}
