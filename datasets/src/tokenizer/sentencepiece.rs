//! SentencePiece models of LLaMA 1 and 2 (`tokenizer.model`), turned in memory into the same BPE
//! that `tokenizer.json` files describe. The protobuf reader knows four wire types and checks
//! every length against what is left.

use std::path::Path;

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// A vocabulary entry.
struct Piece {
    text: String,
    score: f32,
    kind: u64,
}

/// Bytes of a piece: every way to cut one in two is looked at.
const LONGEST_PIECE: usize = 4096;

const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;
const BYTE: u64 = 6;
/// `TrainerSpec.model_type` of BPE.
const BPE: u64 = 2;

/// Fields of a protobuf message, in file order.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

enum Field<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn varint(&mut self) -> std::result::Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or("the file ends inside a number")?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number of more than ten bytes".to_string())
    }

    fn take(&mut self, len: u64) -> std::result::Result<&'a [u8], String> {
        let left = self.bytes.len() - self.at;
        let len = usize::try_from(len).ok().filter(|len| *len <= left).ok_or_else(|| {
            format!("a field of {len} bytes at byte {}, but only {left} are left", self.at)
        })?;
        let slice = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(slice)
    }

    fn next(&mut self) -> std::result::Result<Option<(u64, Field<'a>)>, String> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Other)?,
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(len)?)
            }
            5 => match self.take(4)? {
                [a, b, c, d] => Field::Fixed32([*a, *b, *c, *d]),
                _ => Field::Other,
            },
            wire => return Err(format!("unknown wire type {wire} at byte {}", self.at)),
        };
        Ok(Some((key >> 3, field)))
    }
}

fn read_piece(bytes: &[u8]) -> std::result::Result<Piece, String> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
    let mut fields = Fields::new(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => {
                if text.len() > LONGEST_PIECE {
                    let found = text.len();
                    return Err(format!("a piece of {found} bytes; {LONGEST_PIECE} are the most"));
                }
                piece.text = std::str::from_utf8(text).map_err(|e| e.to_string())?.to_string();
            }
            (2, Field::Fixed32(score)) => piece.score = f32::from_le_bytes(score),
            (3, Field::Varint(kind)) => piece.kind = kind,
            _ => {}
        }
    }
    Ok(piece)
}

/// What of the two specs matters here.
struct Specs {
    model_type: u64,
    charsmap: bool,
    dummy_prefix: bool,
    collapse_spaces: bool,
}

fn read_specs(number: u64, bytes: &[u8], specs: &mut Specs) -> std::result::Result<(), String> {
    let mut fields = Fields::new(bytes);
    while let Some((field_number, field)) = fields.next()? {
        match (number, field_number, field) {
            (2, 3, Field::Varint(model_type)) => specs.model_type = model_type,
            (3, 2, Field::Bytes(map)) => specs.charsmap = !map.is_empty(),
            (3, 3, Field::Varint(flag)) => specs.dummy_prefix = flag != 0,
            (3, 4, Field::Varint(flag)) => specs.collapse_spaces = flag != 0,
            _ => {}
        }
    }
    Ok(())
}

/// Reads a model and writes it as the content of a `tokenizer.json`.
pub fn to_tokenizer_json(path: &Path, bytes: &[u8]) -> Result<Value> {
    let fail = |at: String, message: String| Error::Tokenizer { path: path.into(), at, message };
    let mut pieces = Vec::new();
    let mut specs =
        Specs { model_type: 1, charsmap: false, dummy_prefix: true, collapse_spaces: true };
    let mut fields = Fields::new(bytes);
    loop {
        let at = format!("byte {}", fields.at);
        match fields.next().map_err(|m| fail(at.clone(), m))? {
            None => break,
            Some((1, Field::Bytes(piece))) => {
                let number = pieces.len();
                let piece = read_piece(piece).map_err(|m| fail(format!("piece {number}"), m))?;
                pieces.push(piece);
            }
            Some((number @ (2 | 3), Field::Bytes(spec))) => {
                read_specs(number, spec, &mut specs).map_err(|m| fail(at, m))?;
            }
            Some(_) => {}
        }
    }
    check_supported(&pieces, &specs).map_err(|m| fail("model".to_string(), m))?;
    Ok(build(&pieces, &specs))
}

fn check_supported(pieces: &[Piece], specs: &Specs) -> std::result::Result<(), String> {
    if pieces.is_empty() {
        return Err("holds no SentencePiece vocabulary".to_string());
    }
    let advice = "LLaMA models use BPE without normalisation; convert this one to tokenizer.json";
    if specs.model_type != BPE {
        return Err(format!("is of model type {}, expected 2 (BPE); {advice}", specs.model_type));
    }
    if specs.charsmap || specs.collapse_spaces {
        return Err(format!("normalises text (characters map or collapsed spaces); {advice}"));
    }
    if pieces.iter().filter(|p| p.kind == BYTE).count() != 256 {
        return Err(format!("has no byte fallback (256 byte pieces); {advice}"));
    }
    let mut seen = FxHashMap::default();
    for (id, piece) in pieces.iter().enumerate() {
        if let Some(first) = seen.insert(piece.text.as_str(), id) {
            return Err(format!("pieces {first} and {id} are both {:?}", piece.text));
        }
    }
    Ok(())
}

fn build(pieces: &[Piece], specs: &Specs) -> Value {
    let vocab: serde_json::Map<String, Value> =
        pieces.iter().enumerate().map(|(id, p)| (p.text.clone(), id.into())).collect();
    let added: Vec<Value> = pieces
        .iter()
        .enumerate()
        .filter(|(_, p)| matches!(p.kind, UNKNOWN | CONTROL | USER_DEFINED))
        .map(|(id, p)| {
            json!({"id": id, "content": p.text, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": p.kind != USER_DEFINED})
        })
        .collect();
    let unk = pieces.iter().find(|p| p.kind == UNKNOWN).map(|p| p.text.clone());
    let mut normalizers = Vec::new();
    if specs.dummy_prefix {
        normalizers.push(json!({"type": "Prepend", "prepend": "▁"}));
    }
    normalizers.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if specs.dummy_prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "dropout": null, "unk_token": unk,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                  "vocab": vocab, "merges": merges(pieces)},
    })
}

/// SentencePiece joins the neighbours whose union has the best score. As a list of merges: every
/// way to cut a piece into two pieces, best score first.
fn merges(pieces: &[Piece]) -> Vec<Value> {
    let ids: FxHashMap<&str, usize> = pieces
        .iter()
        .enumerate()
        .filter(|(_, p)| !matches!(p.kind, UNKNOWN | CONTROL | BYTE | UNUSED))
        .map(|(id, p)| (p.text.as_str(), id))
        .collect();
    let mut found: Vec<(f32, usize, usize, usize)> = Vec::new();
    for (&text, &id) in &ids {
        for (cut, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(cut);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                found.push((pieces[id].score, id, l, r));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    found.iter().map(|&(_, _, l, r)| json!([pieces[l].text, pieces[r].text])).collect()
}

/// Names what is no tokenizer file at all.
pub fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<()> {
    let found = match bytes {
        b if b.starts_with(b"version https://git-lfs") => {
            "is a Git LFS pointer: run `git lfs pull`"
        }
        [] => "is empty: fetch it again",
        b if b.starts_with(b"<") => "is a web page, not a tokenizer: fetch the raw file",
        _ => return Ok(()),
    };
    Err(Error::Tokenizer { path: path.into(), at: "byte 0".into(), message: found.into() })
}
