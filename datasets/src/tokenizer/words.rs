//! A fast path for LLaMA-style BPE, which has no pre-tokenizer: the library would treat a whole
//! text as one word. BPE only ever joins neighbours whose union is in the vocabulary. So between
//! two characters that stand side by side in no vocabulary entry nothing is ever joined, and text
//! may be cut there without changing a token. The cuts give short words, which repeat and are
//! remembered. Where any condition of the argument fails, [`Words::new`] gives `None`.

use std::sync::{PoisonError, RwLock};

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;
use tokenizers::Model;
use tokenizers::models::ModelWrapper;

use crate::tokenizer::Encoded;
use crate::tokenizer::join::{Ranks, join, pair};

/// Words longer than this are not remembered.
const MAX_REMEMBERED: usize = 64;
/// Words longer than this are joined here: the library's queue is slow on very long ones.
const LONG: usize = 256;
/// How many words are remembered.
const CAPACITY: usize = 1 << 18;

/// What is put in front of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Always,
    /// On the first piece only, unless it begins with a space.
    First,
    /// On every piece, unless it begins with a space.
    UnlessThere,
    Never,
}

/// Cuts, remembers, encodes.
pub struct Words {
    prefix: Prefix,
    /// Pairs of neighbouring characters that occur in some entry, as `(left << 32) | right`.
    pairs: FxHashSet<u64>,
    /// The same for pairs of ASCII characters; `▁` stands at the place of the space.
    ascii: Vec<bool>,
    /// Characters of each entry; 0 for the byte entries.
    lengths: Vec<u32>,
    /// Joins and their ranks.
    ranks: Ranks,
    /// The entry of a character.
    letters: FxHashMap<char, u32>,
    /// The entry of each byte.
    bytes: Vec<u32>,
    remembered: RwLock<FxHashMap<Box<str>, Box<[u32]>>>,
}

impl Words {
    /// Of a checked `tokenizer.json`; `None` where cutting is not proved to be safe.
    pub fn new(root: &Value, max_id: u32) -> Option<Self> {
        let prefix = prefix_of(root)?;
        let model = root.get("model")?;
        let flag = |name: &str| model.get(name).and_then(Value::as_bool).unwrap_or(false);
        let absent = |name: &str| model.get(name).is_none_or(Value::is_null);
        if model.get("type")?.as_str()? != "BPE" || !flag("byte_fallback") || flag("ignore_merges")
        {
            return None;
        }
        if !absent("dropout")
            || !absent("continuing_subword_prefix")
            || !absent("end_of_word_suffix")
        {
            return None;
        }
        // Added tokens that are no control tokens are looked for in every text: leave those
        // to the library.
        let added = root.get("added_tokens").and_then(Value::as_array);
        if added.is_some_and(|list| {
            list.iter().any(|t| !t.get("special").and_then(Value::as_bool).unwrap_or(false))
        }) {
            return None;
        }
        let vocab = model.get("vocab")?.as_object()?;
        let mut lengths = vec![0; max_id as usize + 1];
        let mut pairs = FxHashSet::default();
        let mut byte_entries = 0;
        for (text, id) in vocab {
            if is_byte_entry(text) {
                byte_entries += 1;
                continue;
            }
            let id = usize::try_from(id.as_u64()?).ok()?;
            *lengths.get_mut(id)? = u32::try_from(text.chars().count()).ok()?;
            for (left, right) in text.chars().zip(text.chars().skip(1)) {
                pairs.insert(key(left, right));
            }
        }
        let joins_bytes = model.get("merges")?.as_array()?.iter().any(|merge| match merge {
            Value::String(text) => text.split(' ').any(is_byte_entry),
            Value::Array(two) => two.iter().filter_map(Value::as_str).any(is_byte_entry),
            _ => true,
        });
        if byte_entries != 256 || joins_bytes {
            return None;
        }
        let mut ascii = vec![false; 128 * 128];
        for (left, right) in pairs.iter().map(|&k| ((k >> 32) as u32, k as u32)) {
            if let (Some(left), Some(right)) = (small(left), small(right)) {
                ascii[left * 128 + right] = true;
            }
        }
        let (letters, bytes) = letters_and_bytes(vocab)?;
        let ranks = ranks_of(model, vocab)?;
        let remembered = RwLock::default();
        Some(Self { prefix, pairs, ascii, lengths, ranks, letters, bytes, remembered })
    }

    fn may_cut(&self, left: char, right: char) -> bool {
        match (small(left as u32), small(right as u32)) {
            (Some(left), Some(right)) => !self.ascii[left * 128 + right],
            _ => !self.pairs.contains(&key(left, right)),
        }
    }

    /// Encodes a piece of text that begins at byte `base` of the whole and appends to `out`.
    pub fn encode(
        &self,
        model: &ModelWrapper,
        text: &str,
        base: usize,
        out: &mut Encoded,
    ) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let prefixed = match self.prefix {
            Prefix::Always => true,
            Prefix::First => base == 0 && !text.starts_with([' ', '▁']),
            Prefix::UnlessThere => !text.starts_with([' ', '▁']),
            Prefix::Never => false,
        };
        let mut normal = String::with_capacity(text.len() + text.len() / 2 + 3);
        if prefixed {
            normal.push('▁');
        }
        normal.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));
        let first_token = out.ids.len();
        self.ids(model, &normal, &mut out.ids)?;
        self.offsets(text, base, prefixed, first_token, out);
        Ok(())
    }

    fn ids(&self, model: &ModelWrapper, normal: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        let mut fresh: FxHashMap<&str, Box<[u32]>> = FxHashMap::default();
        let known = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        let mut start = 0;
        let mut left = None;
        let ends = normal.char_indices().map(|(at, c)| (at, Some(c)));
        for (at, right) in ends.chain([(normal.len(), None)]) {
            let cut = match (left, right) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(left), Some(right)) => self.may_cut(left, right),
            };
            left = right;
            if !cut {
                continue;
            }
            let word = &normal[start..at];
            start = at;
            if let Some(tokens) = known.get(word).or_else(|| fresh.get(word)) {
                ids.extend_from_slice(tokens);
                continue;
            }
            if word.len() > LONG {
                ids.extend(join(&self.ranks, self.letters(word)));
                continue;
            }
            let tokens = model.tokenize(word).map_err(|e| e.to_string())?;
            let tokens: Box<[u32]> = tokens.iter().map(|t| t.id).collect();
            ids.extend_from_slice(&tokens);
            if word.len() <= MAX_REMEMBERED {
                fresh.insert(word, tokens);
            }
        }
        drop(known);
        if !fresh.is_empty() {
            let mut known = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
            for (word, tokens) in fresh {
                if known.len() < CAPACITY {
                    known.insert(word.into(), tokens);
                }
            }
        }
        Ok(())
    }

    /// The word as single characters; such as have no entry as their bytes.
    fn letters(&self, word: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(word.len());
        for c in word.chars() {
            match self.letters.get(&c) {
                Some(id) => ids.push(*id),
                None => {
                    let mut buffer = [0; 4];
                    let bytes = c.encode_utf8(&mut buffer).bytes();
                    ids.extend(bytes.map(|b| self.bytes[usize::from(b)]));
                }
            }
        }
        ids
    }

    /// Where each new token stands in the source: entries count characters, byte entries bytes.
    fn offsets(&self, text: &str, base: usize, prefixed: bool, first: usize, out: &mut Encoded) {
        let mut at = 0;
        let mut pending_prefix = prefixed;
        // Bytes of the character at `at` that byte entries have covered already.
        let mut covered = 0;
        let width = |at: usize| text[at..].chars().next().map_or(0, char::len_utf8);
        for index in first..out.ids.len() {
            let chars = self.lengths.get(out.ids[index] as usize).copied().unwrap_or(0);
            let start = at;
            let end = if chars == 0 {
                let end = at + width(at);
                covered += 1;
                // The prefix is in the vocabulary of every real model; where it is not, its three
                // bytes come first and cover nothing.
                if pending_prefix {
                    if covered == '▁'.len_utf8() {
                        (covered, pending_prefix) = (0, false);
                    }
                    at
                } else {
                    if covered >= width(at) {
                        (at, covered) = (end, 0);
                    }
                    end
                }
            } else {
                let mut left = chars;
                if pending_prefix {
                    (left, pending_prefix) = (left - 1, false);
                    if left == 0 {
                        // A prefix alone is said to stand where the first character does.
                        out.offsets.push((base + start, base + at + width(at)));
                        continue;
                    }
                }
                for _ in 0..left {
                    at += width(at);
                }
                at
            };
            out.offsets.push((base + start, base + end));
        }
    }
}

type Vocab = serde_json::Map<String, Value>;

fn id_of(vocab: &Vocab, token: &str) -> Option<u32> {
    vocab.get(token).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok())
}

fn letters_and_bytes(vocab: &Vocab) -> Option<(FxHashMap<char, u32>, Vec<u32>)> {
    let mut letters = FxHashMap::default();
    for token in vocab.keys() {
        let mut chars = token.chars();
        if let (Some(c), None) = (chars.next(), chars.next()) {
            letters.insert(c, id_of(vocab, token)?);
        }
    }
    let bytes =
        (0..=255u8).map(|b| id_of(vocab, &format!("<0x{b:02X}>"))).collect::<Option<_>>()?;
    Some((letters, bytes))
}

fn ranks_of(model: &Value, vocab: &Vocab) -> Option<Ranks> {
    let mut ranks = Ranks::default();
    for (rank, merge) in model.get("merges")?.as_array()?.iter().enumerate() {
        let (left, right) = match merge {
            Value::String(text) => text.split_once(' ')?,
            Value::Array(two) => (two.first()?.as_str()?, two.get(1)?.as_str()?),
            _ => return None,
        };
        let joined = id_of(vocab, &format!("{left}{right}"))?;
        let key = pair(id_of(vocab, left)?, id_of(vocab, right)?);
        // The library keeps the last of equal merges.
        ranks.insert(key, (u32::try_from(rank).ok()?, joined));
    }
    Some(ranks)
}

fn key(left: char, right: char) -> u64 {
    (u64::from(left as u32) << 32) | u64::from(right as u32)
}

/// ASCII characters, and `▁` at the space's place: no space is left when text is cut.
fn small(c: u32) -> Option<usize> {
    match c {
        0x2581 => Some(0x20),
        0x20 => None,
        c if c < 128 => Some(c as usize),
        _ => None,
    }
}

fn is_byte_entry(text: &str) -> bool {
    text.len() == 6
        && text.starts_with("<0x")
        && text.ends_with('>')
        && text[3..5].bytes().all(|b| b.is_ascii_hexdigit())
}

/// The two forms in which LLaMA tokenizers write "put ▁ in front, ▁ for each space".
fn prefix_of(root: &Value) -> Option<Prefix> {
    let normalizer = root.get("normalizer").filter(|v| !v.is_null());
    let pre = root.get("pre_tokenizer").filter(|v| !v.is_null());
    let replaces = |step: &Value| {
        step.get("type").and_then(Value::as_str) == Some("Replace")
            && step.pointer("/pattern/String").and_then(Value::as_str) == Some(" ")
            && step.get("content").and_then(Value::as_str) == Some("▁")
    };
    let prepends = |step: &Value| {
        step.get("type").and_then(Value::as_str) == Some("Prepend")
            && step.get("prepend").and_then(Value::as_str) == Some("▁")
    };
    match (normalizer, pre) {
        (Some(normalizer), None) => {
            match normalizer.get("normalizers").and_then(Value::as_array).map(Vec::as_slice) {
                Some([first, second]) if prepends(first) && replaces(second) => {
                    Some(Prefix::Always)
                }
                Some([only]) if replaces(only) => Some(Prefix::Never),
                _ => None,
            }
        }
        (None, Some(pre)) => {
            let is = |key: &str, value: &str| pre.get(key).and_then(Value::as_str) == Some(value);
            if !is("type", "Metaspace")
                || !is("replacement", "▁")
                || pre.get("split") != Some(&Value::Bool(false))
            {
                return None;
            }
            match pre.get("prepend_scheme").and_then(Value::as_str)? {
                "always" => Some(Prefix::UnlessThere),
                "first" => Some(Prefix::First),
                "never" => Some(Prefix::Never),
                _ => None,
            }
        }
        _ => None,
    }
}
