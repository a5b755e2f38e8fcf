//! Tokenizers of model folders: `tokenizer.json`, SentencePiece `tokenizer.model` (LLaMA 1 and 2)
//! and Llama 3's rank file. User text never becomes control tokens: special tokens are recognised
//! only in text that a template wrote itself.

pub mod huggingface;
pub mod join;
pub mod sentencepiece;
pub mod settings;
pub mod stream;
pub mod tiktoken;
pub mod train;
pub mod words;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer as Library;

use self::huggingface::Added;
use self::settings::{ConfigTexts, Settings, TokenRef};
use self::words::Words;
use crate::error::{Error, Result};
use crate::template::hex;

pub use self::stream::StreamDecoder;

/// Tokens of a text with their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token numbers.
    pub ids: Vec<u32>,
    /// Bytes `start..end` of the text for each token.
    pub offsets: Vec<(usize, usize)>,
    /// How often the text of a special token stood in user text (and stayed text).
    pub special_text: usize,
}

/// A tokenizer with what its model folder says about special tokens.
pub struct Tokenizer {
    library: Library,
    /// For pieces of a text after the first, where the file treats those differently.
    continued: Option<Library>,
    words: Option<Words>,
    /// A text may be encoded in pieces: nothing is put in front of the later ones.
    cuts_freely: bool,
    /// Control tokens, longest first.
    specials: Vec<Added>,
    /// By first byte of the text: whether a control token may begin there.
    special_starts: [bool; 256],
    /// By number: tokens that user text must never become.
    is_special: Vec<bool>,
    bos: Option<u32>,
    eos: Option<u32>,
    stops: Vec<u32>,
    chat_template: Option<String>,
    model_vocab: Option<u64>,
    max_id: u32,
    fingerprint: String,
    path: PathBuf,
}

impl Tokenizer {
    /// Loads the tokenizer of a model folder: `tokenizer.json`, else `tokenizer.model`.
    pub fn load(folder: &Path) -> Result<Self> {
        let configs = ConfigTexts::read(folder)?;
        for name in ["tokenizer.json", "tokenizer.model"] {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => return Self::from_bytes(&path, &bytes, &configs),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(&path, "read", error)),
            }
        }
        Err(Error::Tokenizer {
            path: folder.to_path_buf(),
            at: "folder".to_string(),
            message: "holds neither tokenizer.json nor tokenizer.model; copy one from the model's \
                      source"
                .to_string(),
        })
    }

    /// From the bytes of one tokenizer file, told by its content; `path` is for messages.
    pub fn from_bytes(path: &Path, bytes: &[u8], configs: &ConfigTexts) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut settings = configs.settings(folder)?;
        let no_config = configs.tokenizer_config.is_none() && configs.config.is_none();
        let mut root = if bytes.trim_ascii_start().starts_with(b"{") {
            huggingface::parse(path, bytes)?
        } else if tiktoken::is_rank_file(bytes) {
            if no_config {
                default_ends(&mut settings, "<|begin_of_text|>", "<|end_of_text|>");
                let more = ["<|eom_id|>", "<|eot_id|>"];
                settings.stops.extend(more.map(|t| TokenRef::Text(t.to_string())));
            }
            tiktoken::to_tokenizer_json(path, bytes)?
        } else {
            sentencepiece::refuse_pointer(path, bytes)?;
            if no_config {
                default_ends(&mut settings, "<s>", "</s>");
            }
            sentencepiece::to_tokenizer_json(path, bytes)?
        };
        huggingface::add_missing(&mut root, &settings.added);
        Self::from_root(path, root, settings, hex(&Sha256::digest(bytes)))
    }

    fn from_root(
        path: &Path,
        root: Value,
        settings: Settings,
        fingerprint: String,
    ) -> Result<Self> {
        let (added, max_id) = huggingface::check(path, &root)?;
        let words = Words::new(&root, max_id);
        let cuts_freely = huggingface::cuts_freely(&root);
        let continued = match huggingface::continued(&root) {
            Some(root) => Some(huggingface::build(path, root, &added)?),
            None => None,
        };
        let unk = root.pointer("/model/unk_token").and_then(Value::as_str).map(str::to_string);
        let library = huggingface::build(path, root, &added)?;
        let mut specials: Vec<Added> = added.into_iter().filter(|t| t.special).collect();
        specials.sort_by_key(|t| std::cmp::Reverse(t.content.len()));
        let mut special_starts = [false; 256];
        let mut is_special = vec![false; max_id as usize + 1];
        for token in &specials {
            special_starts[usize::from(token.content.as_bytes()[0])] = true;
            // Text that the vocabulary cannot spell becomes "unknown": that is no control token.
            is_special[token.id as usize] = unk.as_deref() != Some(token.content.as_str());
        }
        let mut tokenizer = Self {
            library,
            continued,
            words,
            cuts_freely,
            specials,
            special_starts,
            is_special,
            bos: None,
            eos: None,
            stops: Vec::new(),
            chat_template: settings.chat_template,
            model_vocab: settings.model_vocab,
            max_id,
            fingerprint,
            path: path.to_path_buf(),
        };
        tokenizer.bos = tokenizer.resolve("bos_token", settings.bos.as_ref())?;
        tokenizer.eos = tokenizer.resolve("eos_token", settings.eos.as_ref())?;
        tokenizer.stops.extend(tokenizer.eos);
        for stop in &settings.stops {
            if let Some(id) = tokenizer.resolve("eos_token_id", Some(stop))?
                && !tokenizer.stops.contains(&id)
            {
                tokenizer.stops.push(id);
            }
        }
        Ok(tokenizer)
    }

    fn resolve(&self, what: &str, token: Option<&TokenRef>) -> Result<Option<u32>> {
        let fail = |message: String| Error::Tokenizer {
            path: self.path.clone(),
            at: what.to_string(),
            message,
        };
        match token {
            None => Ok(None),
            Some(TokenRef::Id(id)) if *id <= self.max_id => Ok(Some(*id)),
            Some(TokenRef::Id(id)) => Err(fail(format!(
                "config.json names token {id}, but the tokenizer ends at {}",
                self.max_id
            ))),
            Some(TokenRef::Text(text)) => self
                .library
                .token_to_id(text)
                .map(Some)
                .ok_or_else(|| fail(format!("{text:?} is not in the vocabulary"))),
        }
    }

    /// Tokens of user text. Nothing in it becomes a control token.
    pub fn encode_plain(&self, text: &str) -> Result<Encoded> {
        self.encode(text, &[])
    }

    /// Tokens of a text of which the `literal` byte ranges were written by a template: there, and
    /// only there, the text of a special token becomes that token. The ranges come in order and do not touch.
    pub fn encode(&self, text: &str, literal: &[Range<usize>]) -> Result<Encoded> {
        self.encode_cut(text, literal, &[])
    }

    /// The same, and no token but a control token reaches over one of the bytes `cuts`, which come in order.
    pub fn encode_cut(
        &self,
        text: &str,
        literal: &[Range<usize>],
        cuts: &[usize],
    ) -> Result<Encoded> {
        let mut out = Encoded::default();
        // Most texts have about four bytes a token; growing once more costs little.
        out.ids.reserve(text.len() / 4);
        out.offsets.reserve(text.len() / 4);
        let bytes = text.as_bytes();
        let (mut done, mut at) = (0, 0);
        while at < bytes.len() {
            let Some(token) = self.special_at(bytes, at) else {
                at += 1;
                continue;
            };
            let end = at + token.content.len();
            let range = literal.get(literal.partition_point(|range| range.end < end));
            if range.is_none_or(|range| range.start > at) {
                out.special_text += 1;
                at = end;
                continue;
            }
            let start = if token.lstrip { text[done..at].trim_end().len() + done } else { at };
            let stop = if token.rstrip { text.len() - text[end..].trim_start().len() } else { end };
            self.encode_pieces(text, done..start, cuts, &mut out)?;
            out.ids.push(token.id);
            out.offsets.push((start, stop));
            (done, at) = (stop, stop);
        }
        self.encode_pieces(text, done..text.len(), cuts, &mut out)?;
        Ok(out)
    }

    fn encode_pieces(
        &self,
        text: &str,
        part: Range<usize>,
        cuts: &[usize],
        out: &mut Encoded,
    ) -> Result<()> {
        let mut done = part.start;
        let cuts = &cuts[cuts.partition_point(|cut| *cut <= part.start)..];
        for end in cuts.iter().copied().take_while(|cut| *cut < part.end).chain([part.end]) {
            self.encode_piece(&text[done..end], done, out)?;
            done = end;
        }
        Ok(())
    }

    /// Whether a text may be encoded in pieces; SentencePiece may put a blank in front of each.
    pub fn cuts_freely(&self) -> bool {
        self.cuts_freely
    }

    fn special_at(&self, bytes: &[u8], at: usize) -> Option<&Added> {
        if !self.special_starts[usize::from(bytes[at])] {
            return None;
        }
        self.specials.iter().find(|token| bytes[at..].starts_with(token.content.as_bytes()))
    }

    fn encode_piece(&self, text: &str, base: usize, out: &mut Encoded) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let fail = |message: String| Error::Encode { bytes: text.len(), message };
        let first = out.ids.len();
        let caught = catch_unwind(AssertUnwindSafe(|| match &self.words {
            Some(words) => words.encode(self.library.get_model(), text, base, out),
            None => {
                let library = self.continued.as_ref().filter(|_| base > 0).unwrap_or(&self.library);
                let encoding = library.encode(text, false).map_err(|e| e.to_string())?;
                out.ids.extend_from_slice(encoding.get_ids());
                let offsets = encoding.get_offsets();
                out.offsets.extend(offsets.iter().map(|(start, end)| (base + start, base + end)));
                Ok(())
            }
        }));
        match caught {
            Ok(Ok(())) => {}
            Ok(Err(message)) => return Err(fail(message)),
            Err(_) => return Err(fail("the tokenizers library gave up on it".to_string())),
        }
        let control = out.ids[first..].iter().find(|&&id| self.is_control(id));
        match control {
            None => Ok(()),
            Some(id) => Err(fail(format!("user text would become the control token {id}"))),
        }
    }

    fn is_control(&self, id: u32) -> bool {
        self.is_special.get(id as usize).copied().unwrap_or(false)
    }

    /// True for control tokens (BOS, EOS, end of turn, …).
    pub fn is_special(&self, id: u32) -> bool {
        self.specials.iter().any(|token| token.id == id)
    }

    /// Texts of the control tokens.
    pub fn special_texts(&self) -> impl Iterator<Item = &str> {
        self.specials.iter().map(|token| token.content.as_str())
    }

    /// Text of tokens; with `skip_special` control tokens leave none.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let decode = || self.library.decode(ids, skip_special).map_err(|e| e.to_string());
        match catch_unwind(AssertUnwindSafe(decode)) {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(message)) => Err(Error::Encode { bytes: ids.len(), message }),
            Err(_) => Err(Error::Encode {
                bytes: ids.len(),
                message: "the tokenizers library gave up on decoding".to_string(),
            }),
        }
    }

    /// A decoder for tokens that arrive one by one after the tokens `before`.
    pub fn stream_decoder(&self, before: &[u32], skip_special: bool) -> StreamDecoder<'_> {
        StreamDecoder::new(self, before, skip_special)
    }

    /// The token that begins every text, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends an answer, if the model has one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Tokens at which generation stops: EOS and what the configuration names besides.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// Jinja source of the model's chat template, if it has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// The number of a token's exact text, as the vocabulary spells it.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.library.token_to_id(text)
    }

    /// A token as the vocabulary spells it.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id)
    }

    /// Largest token number; a model needs one row more than this.
    pub fn max_id(&self) -> u32 {
        self.max_id
    }

    /// Token numbers lie below this.
    pub fn vocab_size(&self) -> usize {
        self.max_id as usize + 1
    }

    /// Refuses a model whose embedding has fewer rows than the tokenizer has tokens.
    pub fn check_rows(&self, rows: u64) -> Result<()> {
        if u64::from(self.max_id) < rows {
            return Ok(());
        }
        let id = self.max_id;
        let token = self.token_text(id).unwrap_or_default();
        Err(Error::Tokenizer {
            path: self.path.clone(),
            at: format!("token {id} ({token:?})"),
            message: format!(
                "the model's embedding has {rows} rows, so its last token is {}; the tokenizer is \
                 of another model, or the model must be given more rows: core-cli export --fit-tokenizer \
                 writes one that has them",
                rows.saturating_sub(1)
            ),
        })
    }

    /// `vocab_size` of config.json, if there was one.
    pub fn model_vocab(&self) -> Option<u64> {
        self.model_vocab
    }

    /// SHA-256 of the tokenizer file.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn default_ends(settings: &mut Settings, bos: &str, eos: &str) {
    settings.bos = Some(TokenRef::Text(bos.to_string()));
    settings.eos = Some(TokenRef::Text(eos.to_string()));
}
