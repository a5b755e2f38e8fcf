//! Llama 3's rank file (`tokenizer.model`: a base-64 token and its rank a line), turned in memory
//! into the byte-level BPE that its `tokenizer.json` describes.

use std::path::Path;

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// How Llama 3 cuts text before BPE (a fact of the format).
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How many special tokens follow the ranks.
const SPECIALS: usize = 256;

/// Bytes of a token: every way to cut one in two is looked at.
const LONGEST_TOKEN: usize = 4096;

/// True if the bytes look like a rank file.
pub fn is_rank_file(bytes: &[u8]) -> bool {
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or(bytes);
    parse_line(line).is_ok()
}

fn parse_line(line: &[u8]) -> std::result::Result<(Vec<u8>, u32), String> {
    let text = std::str::from_utf8(line).map_err(|e| e.to_string())?;
    let (token, rank) = text.trim_end().split_once(' ').ok_or("expected a token and its rank")?;
    let rank = rank.parse().map_err(|_| format!("{rank:?} is not a rank"))?;
    Ok((base64(token).ok_or_else(|| format!("{token:?} is not base 64"))?, rank))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 || digits.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut have) = (0u32, 0);
    for byte in digits.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
            bits &= (1 << have) - 1;
        }
    }
    Some(out)
}

/// The names of Llama 3.1's special tokens, in order; Llama 3's differ only in reserved ones.
fn special_names() -> Vec<String> {
    let mut names: Vec<String> = ["begin_of_text", "end_of_text"].map(String::from).to_vec();
    let mut reserved = 0..;
    let mut reserve = |names: &mut Vec<String>, n: usize| {
        names.extend(reserved.by_ref().take(n).map(|i: u32| format!("reserved_special_token_{i}")));
    };
    reserve(&mut names, 2);
    names.push("finetune_right_pad_id".to_string());
    reserve(&mut names, 1);
    let tail = ["start_header_id", "end_header_id", "eom_id", "eot_id", "python_tag"];
    names.extend(tail.map(String::from));
    let missing = SPECIALS - names.len();
    reserve(&mut names, missing);
    names.iter().map(|name| format!("<|{name}|>")).collect()
}

/// The printable character that stands for each byte in byte-level vocabularies (as in GPT-2).
fn byte_chars() -> Vec<char> {
    let printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256;
    (0..256u32)
        .map(|b| {
            let code = if printable(b) {
                b
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap_or('\u{fffd}')
        })
        .collect()
}

/// Reads a rank file and writes it as the content of a `tokenizer.json`.
pub fn to_tokenizer_json(path: &Path, bytes: &[u8]) -> Result<Value> {
    let fail = |line: usize, message: String| Error::Tokenizer {
        path: path.into(),
        at: format!("line {}", line + 1),
        message,
    };
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    let mut ranks: FxHashMap<Vec<u8>, u32> = FxHashMap::default();
    for (number, line) in bytes.split(|&b| b == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (token, rank) = parse_line(line).map_err(|m| fail(number, m))?;
        if token.len() > LONGEST_TOKEN {
            return Err(fail(
                number,
                format!("a token of {} bytes; {LONGEST_TOKEN} are the most", token.len()),
            ));
        }
        if rank as usize != tokens.len() {
            return Err(fail(number, format!("rank {rank}, expected {}", tokens.len())));
        }
        if ranks.insert(token.clone(), rank).is_some() {
            return Err(fail(number, "the token stands in the file twice".to_string()));
        }
        tokens.push(token);
    }
    if let Some(byte) = (0..=255u8).find(|b| !ranks.contains_key([*b].as_slice())) {
        return Err(fail(0, format!("byte 0x{byte:02x} has no rank of its own")));
    }
    Ok(build(&tokens, &ranks))
}

fn build(tokens: &[Vec<u8>], ranks: &FxHashMap<Vec<u8>, u32>) -> Value {
    let chars = byte_chars();
    let spelled = |token: &[u8]| token.iter().map(|&b| chars[usize::from(b)]).collect::<String>();
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(rank, t)| (spelled(t), rank.into())).collect();
    let mut merges = Vec::new();
    for token in tokens {
        let mut ways: Vec<(u32, u32, usize)> = (1..token.len())
            .filter_map(|cut| {
                let (left, right) = token.split_at(cut);
                Some((*ranks.get(left)?, *ranks.get(right)?, cut))
            })
            .collect();
        ways.sort_unstable();
        merges.extend(
            ways.into_iter()
                .map(|(_, _, cut)| json!([spelled(&token[..cut]), spelled(&token[cut..])])),
        );
    }
    let added: Vec<Value> = special_names()
        .into_iter()
        .enumerate()
        .map(|(i, name)| {
            json!({"id": tokens.len() + i, "content": name, "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
                            "trim_offsets": true, "use_regex": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated",
             "invert": false},
            byte_level]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                    "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
                  "vocab": vocab, "merges": merges},
    })
}
