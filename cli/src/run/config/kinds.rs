//! The kinds of values that a key of RUN.toml can have, and how each is read: from TOML, from a
//! flag, from `--set`.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use super::mixture::MixtureSet;

/// What may stand behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A number with or without a fraction.
    Number,
    /// A whole number from 0 up.
    Count,
    /// `true` or `false`.
    Switch,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A list of texts; a single text is a list of one.
    Texts,
    /// Names and texts: a section, or `key.name = value`.
    Names,
    /// See [`Validation`].
    Validation,
    /// See [`MixtureSet`].
    Sets,
}

impl Kind {
    /// The kind in words, for messages and help.
    pub fn words(self) -> String {
        match self {
            Self::Text => "a text".to_string(),
            Self::Number => "a number".to_string(),
            Self::Count => "a whole number, 0 or more".to_string(),
            Self::Switch => "true or false".to_string(),
            Self::Choice(names) => format!("one of {}", names.join(", ")),
            Self::Texts => "a list of texts".to_string(),
            Self::Names => "a list of NAME=TEXT".to_string(),
            Self::Sets => "sets such as { data = \"a.jsonl\", template = \"alpaca\" }".to_string(),
            Self::Validation => {
                "a share of the rows (0.1), a number of rows (200), a file, or none".to_string()
            }
        }
    }

    /// The placeholder for the value in a flag's help.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Number => "NUMBER",
            Self::Count => "COUNT",
            Self::Switch => "true|false",
            Self::Choice(_) => "CHOICE",
            Self::Texts => "TEXT",
            Self::Names => "NAME=TEXT",
            Self::Validation => "SHARE|ROWS|FILE|none",
            Self::Sets => "SET",
        }
    }

    /// Brings a TOML value into the form that the configuration has, or says what was found.
    pub(super) fn accept(self, value: &Value) -> Result<Value, String> {
        let wrong = || format!("expected {}, found {}", self.words(), found(value));
        match (self, value) {
            (Self::Text, Value::String(_)) | (Self::Switch, Value::Boolean(_)) => Ok(value.clone()),
            (Self::Number, Value::Float(_)) => Ok(value.clone()),
            (Self::Number, Value::Integer(whole)) => Ok(Value::Float(*whole as f64)),
            (Self::Count, Value::Integer(0..)) => Ok(value.clone()),
            (Self::Choice(names), Value::String(text)) => accept_choice(names, text),
            (Self::Texts, Value::String(_)) => Ok(Value::Array(vec![value.clone()])),
            (Self::Texts, Value::Array(items)) if items.iter().all(Value::is_str) => {
                Ok(value.clone())
            }
            (Self::Names, Value::Table(names)) if names.values().all(Value::is_str) => {
                Ok(value.clone())
            }
            (Self::Sets, Value::Array(_)) => {
                let sets: Result<Vec<MixtureSet>, _> = value.clone().try_into();
                sets.map_err(|e| e.message().trim().to_string())?;
                Ok(value.clone())
            }
            (Self::Sets, Value::Table(_)) => self.accept(&Value::Array(vec![value.clone()])),
            (Self::Validation, Value::String(_) | Value::Float(_) | Value::Integer(_)) => {
                Validation::from_toml(value)?.to_toml()
            }
            _ => Err(wrong()),
        }
    }

    /// Reads what stands behind a flag or the `=` of `--set`.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        let wrong = || format!("expected {}, found {text:?}", self.words());
        let value = match self {
            Self::Text | Self::Choice(_) => Value::String(text.to_string()),
            Self::Number => Value::Float(text.trim().parse().map_err(|_| wrong())?),
            Self::Count => Value::Integer(text.trim().parse().map_err(|_| wrong())?),
            Self::Switch => Value::Boolean(text.trim().parse().map_err(|_| wrong())?),
            Self::Texts => parse_texts(text).ok_or_else(wrong)?,
            Self::Sets => return self.accept(&parse_value(text).ok_or_else(wrong)?),
            Self::Names => return Err("give one name at a time: columns.NAME=TEXT".to_string()),
            Self::Validation => Validation::parse(text).to_toml()?,
        };
        self.accept(&value).map_err(|_| match self {
            Self::Choice(names) => accept_choice(names, text).err().unwrap_or_else(wrong),
            _ => wrong(),
        })
    }
}

fn accept_choice(names: &[&str], text: &str) -> Result<Value, String> {
    if names.contains(&text) {
        return Ok(Value::String(text.to_string()));
    }
    let hint = nearest(text, names.iter().copied());
    let hint = hint.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    Err(format!("expected one of {}, found {text:?}{hint}", names.join(", ")))
}

/// `["a", "b"]` is a list; anything else is a list of one. A comma may belong to a file's name.
fn parse_texts(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with('[') {
        return Some(Value::Array(vec![Value::String(text.to_string())]));
    }
    parse_value(text)
}

/// One TOML value.
fn parse_value(text: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
    (table.len() == 1).then(|| table.get("value").cloned()).flatten()
}

fn found(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {text:?}"),
        Value::Table(_) => "a section".to_string(),
        other => other.to_string(),
    }
}

/// The name that is most like `text`, if any is like it at all.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase().replace('-', "_");
    names
        .map(|name| (strsim::jaro_winkler(&text, name), name))
        .filter(|(likeness, name)| *likeness > 0.7 || strsim::levenshtein(&text, name) <= 2)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A type that a key can have.
pub(super) trait KeyType {
    const KIND: Kind;
    /// Whether the key may be absent.
    const OPTIONAL: bool = false;
}

impl KeyType for String {
    const KIND: Kind = Kind::Text;
}
impl KeyType for f64 {
    const KIND: Kind = Kind::Number;
}
impl KeyType for u64 {
    const KIND: Kind = Kind::Count;
}
impl KeyType for bool {
    const KIND: Kind = Kind::Switch;
}
impl KeyType for Vec<String> {
    const KIND: Kind = Kind::Texts;
}
impl KeyType for BTreeMap<String, String> {
    const KIND: Kind = Kind::Names;
}
impl KeyType for Validation {
    const KIND: Kind = Kind::Validation;
}
impl<T: KeyType> KeyType for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;
}

/// Where the validation rows come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Validation {
    /// There is no validation.
    None,
    /// This share of the rows, between 0 and 1.
    Share(f64),
    /// This many rows.
    Rows(u64),
    /// A file of its own.
    File(String),
}

impl Validation {
    fn parse(text: &str) -> Self {
        let trimmed = text.trim();
        if trimmed == "none" {
            Self::None
        } else if let Ok(rows) = trimmed.parse() {
            Self::Rows(rows)
        } else if let Ok(share) = trimmed.parse() {
            Self::Share(share)
        } else {
            Self::File(text.to_string())
        }
    }

    fn from_toml(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Self::parse(text)),
            Value::Float(share) => Ok(Self::Share(*share)),
            Value::Integer(rows) => {
                u64::try_from(*rows).map(Self::Rows).map_err(|_| format!("{rows} is below 0"))
            }
            other => Err(format!("found {}", found(other))),
        }
    }

    fn to_toml(&self) -> Result<Value, String> {
        Ok(match self {
            Self::None => Value::String("none".to_string()),
            Self::Share(share) => Value::Float(*share),
            Self::Rows(rows) => {
                Value::Integer(i64::try_from(*rows).map_err(|_| "too many rows".to_string())?)
            }
            Self::File(path) => Value::String(path.clone()),
        })
    }
}

impl Serialize for Validation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Share(share) => serializer.serialize_f64(*share),
            Self::Rows(rows) => serializer.serialize_u64(*rows),
            Self::File(path) => serializer.serialize_str(path),
        }
    }
}

impl<'de> Deserialize<'de> for Validation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_toml(&value).map_err(D::Error::custom)
    }
}
