//! What the files beside a tokenizer say: which tokens begin and end a text, the chat template.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// A token as a configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRef {
    /// By its text.
    Text(String),
    /// By its number.
    Id(u32),
}

/// The settings of a model folder that concern tokens.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Put first in every text.
    pub bos: Option<TokenRef>,
    /// Put after every answer.
    pub eos: Option<TokenRef>,
    /// Further tokens at which generation stops.
    pub stops: Vec<TokenRef>,
    /// Jinja source of the chat template.
    pub chat_template: Option<String>,
    /// Tokens that tokenizer_config.json adds: (id, entry).
    pub added: Vec<(u32, Value)>,
    /// `vocab_size` of config.json: rows of the model's embedding.
    pub model_vocab: Option<u64>,
}

/// The texts of the files that are there.
#[derive(Debug, Clone, Default)]
pub struct ConfigTexts {
    /// tokenizer_config.json.
    pub tokenizer_config: Option<String>,
    /// config.json.
    pub config: Option<String>,
    /// generation_config.json.
    pub generation_config: Option<String>,
    /// chat_template.jinja.
    pub chat_template: Option<String>,
}

impl ConfigTexts {
    /// Reads what there is in a model folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Error::io(&path, "read", error)),
            }
        };
        Ok(Self {
            tokenizer_config: read("tokenizer_config.json")?,
            config: read("config.json")?,
            generation_config: read("generation_config.json")?,
            chat_template: read("chat_template.jinja")?,
        })
    }

    /// Takes the settings out. tokenizer_config.json has the first word, config.json the second.
    pub fn settings(&self, folder: &Path) -> Result<Settings> {
        let parse = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => serde_json::from_str::<Value>(text).map(Some).map_err(|e| {
                let at = format!("line {}, column {}", e.line(), e.column());
                Error::Tokenizer { path: folder.join(name), at, message: e.to_string() }
            }),
        };
        let tokenizer = parse("tokenizer_config.json", &self.tokenizer_config)?;
        let config = parse("config.json", &self.config)?;
        let generation = parse("generation_config.json", &self.generation_config)?;
        let mut settings = Settings {
            bos: pick("bos_token", tokenizer.as_ref(), config.as_ref()),
            eos: pick("eos_token", tokenizer.as_ref(), config.as_ref()),
            ..Settings::default()
        };
        if let Some(tokenizer) = &tokenizer {
            if tokenizer.get("add_bos_token") == Some(&Value::Bool(false)) {
                settings.bos = None;
            }
            settings.chat_template = chat_template(tokenizer);
            settings.added = added_tokens(&folder.join("tokenizer_config.json"), tokenizer)?;
        }
        if let Some(text) = &self.chat_template {
            settings.chat_template = Some(text.clone());
        }
        for source in [&config, &generation].into_iter().flatten() {
            settings.stops.extend(ids(source.get("eos_token_id")).into_iter().map(TokenRef::Id));
        }
        settings.model_vocab =
            config.as_ref().and_then(|c| c.get("vocab_size")).and_then(Value::as_u64);
        Ok(settings)
    }
}

/// `bos_token` of tokenizer_config.json (null means none), else `bos_token_id` of config.json.
fn pick(key: &str, tokenizer: Option<&Value>, config: Option<&Value>) -> Option<TokenRef> {
    match tokenizer.and_then(|t| t.get(key)) {
        Some(Value::String(text)) => return Some(TokenRef::Text(text.clone())),
        Some(Value::Object(token)) => {
            if let Some(Value::String(text)) = token.get("content") {
                return Some(TokenRef::Text(text.clone()));
            }
        }
        Some(_) => return None,
        None => {}
    }
    ids(config?.get(format!("{key}_id"))).first().map(|id| TokenRef::Id(*id))
}

fn ids(value: Option<&Value>) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A string, or a list of named templates of which "default" counts.
fn chat_template(tokenizer: &Value) -> Option<String> {
    match tokenizer.get("chat_template")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => list
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template"))
            .and_then(Value::as_str)
            .map(str::to_string),
        _ => None,
    }
}

fn added_tokens(path: &Path, tokenizer: &Value) -> Result<Vec<(u32, Value)>> {
    let Some(Value::Object(entries)) = tokenizer.get("added_tokens_decoder") else {
        return Ok(Vec::new());
    };
    let mut added = Vec::with_capacity(entries.len());
    for (key, entry) in entries {
        let fail = |message: &str| Error::Tokenizer {
            path: path.to_path_buf(),
            at: format!("added_tokens_decoder.{key}"),
            message: message.to_string(),
        };
        let id = key.parse().map_err(|_| fail("the key is not a token number"))?;
        if entry.get("content").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(fail("has no \"content\""));
        }
        added.push((id, entry.clone()));
    }
    added.sort_by_key(|(id, _)| *id);
    Ok(added)
}
