//! From several places to one configuration: defaults, then RUN.toml, then flags, then `--set`.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::kinds::nearest;
use super::record::Record;
use super::{CONFIG_VERSION, KEYS, Key, Kind, RunConfig};

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was said: `RUN.toml line 3`, `--lr`, `--set lr=x`; empty if nowhere.
    pub place: String,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let colon = if self.place.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.place, self.what)
    }
}

/// Everything that is wrong with a configuration, not only the first thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn one(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { problems: vec![Problem { place: place.into(), what: what.into() }] }
    }

    pub(super) fn from_all(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

/// Settings on their way to a [`RunConfig`]; later layers win.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    values: Table,
    places: BTreeMap<String, String>,
    record: Option<Record>,
}

/// A RUN.toml longer than this is something else.
const MOST_BYTES: usize = 1 << 20;

/// A run's own run.toml names and fingerprints every file of its data, which may be thousands; it must always be
/// possible to go on with a run.
const MOST_RECORDED_BYTES: usize = 16 << 20;

impl Layers {
    /// The defaults alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts from the configuration of a recorded run, for `--resume`.
    pub fn from_recorded(config: &RunConfig) -> Result<Self, ConfigError> {
        let values = Table::try_from(config)
            .map_err(|error| ConfigError::one("the recorded run", error.to_string()))?;
        Ok(Self { values, ..Self::default() })
    }

    /// Adds a RUN.toml (or a run folder's run.toml). `name` is how messages call it.
    pub fn file(mut self, name: &str, text: &str) -> Result<Self, ConfigError> {
        if text.len() > MOST_RECORDED_BYTES {
            return Err(ConfigError::one(name, "it is longer than 16 MiB: not a run's run.toml"));
        }
        if text.len() > MOST_BYTES && !has_record(text) {
            return Err(ConfigError::one(name, "it is longer than 1 MiB: not a RUN.toml"));
        }
        let document = toml::de::DeTable::parse(text)
            .map_err(|error| syntax_problem(name, text, &error))?
            .into_inner();
        let mut values: Table =
            toml::from_str(text).map_err(|error| syntax_problem(name, text, &error))?;
        check_version(name, values.remove("version"))?;
        if let Some(record) = values.remove("record") {
            let record = record.try_into::<Record>();
            let record = record.map_err(|error| ConfigError::one(name, error.to_string()))?;
            self.record = Some(record);
        }
        let mut problems = Vec::new();
        for (key, value) in &values {
            let place = match document.keys().find(|spanned| spanned.get_ref() == key) {
                Some(spanned) => format!("{name} line {}", line_of(text, spanned.span().start)),
                None => name.to_string(),
            };
            if let Err(what) = self.put(key, value, &place) {
                problems.push(Problem { place, what });
            }
        }
        ConfigError::from_all(problems)?;
        Ok(self)
    }

    /// Adds flags: key names (with `_`) and what stood behind them. A key of lists or names may
    /// come often.
    pub fn flags(mut self, flags: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut lists = BTreeMap::<&str, Vec<Value>>::new();
        for (name, text) in flags {
            let place = format!("--{}", name.replace('_', "-"));
            let kind = Key::find(name).map(|key| key.kind);
            let result = match (kind, text.split_once('=')) {
                (Some(Kind::Names), Some((field, column))) => {
                    self.put_text(&format!("{name}.{field}"), column, &place)
                }
                (Some(Kind::Names), None) => Err(format!("expected NAME=TEXT, found {text:?}")),
                (Some(kind @ (Kind::Texts | Kind::Sets)), _) => match kind.parse(text) {
                    Ok(Value::Array(items)) => {
                        let list = lists.entry(name).or_default();
                        list.extend(items);
                        self.put(name, &Value::Array(list.clone()), &place)
                    }
                    other => other.map(|_| ()),
                },
                _ => self.put_text(name, text, &place),
            };
            problems.extend(result.err().map(|what| Problem { place, what }));
        }
        ConfigError::from_all(problems)?;
        Ok(self)
    }

    /// Adds `--set key=value` and `--set columns.prompt=value` settings.
    pub fn set(mut self, settings: &[String]) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        for setting in settings {
            let place = format!("--set {setting}");
            let result = match setting.split_once('=') {
                Some((key, text)) => self.put_text(key.trim(), text.trim(), &place),
                None => Err("expected KEY=VALUE, for example --set lr=1e-4".to_string()),
            };
            problems.extend(result.err().map(|what| Problem { place, what }));
        }
        ConfigError::from_all(problems)?;
        Ok(self)
    }

    /// The configuration, with every value in its range. Also the record, if the file was a run's
    /// run.toml.
    pub fn build(self) -> Result<(RunConfig, Option<Record>), ConfigError> {
        let config: RunConfig = Value::Table(self.values)
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::one("", error.to_string()))?;
        let problems = config.problems().into_iter().map(|(key, what)| Problem {
            place: self.places.get(key).cloned().unwrap_or_default(),
            what,
        });
        ConfigError::from_all(problems.collect())?;
        Ok((config, self.record))
    }

    fn put(&mut self, name: &str, value: &Value, place: &str) -> Result<(), String> {
        let key = Key::find(name).ok_or_else(|| unknown_key(name))?;
        let value = key.kind.accept(value).map_err(|what| format!("{name}: {what}"))?;
        self.values.insert(name.to_string(), value);
        self.places.insert(name.to_string(), place.to_string());
        Ok(())
    }

    fn put_text(&mut self, name: &str, text: &str, place: &str) -> Result<(), String> {
        if let Some((table, field)) = name.split_once('.') {
            return self.put_field(table, field, text, place);
        }
        let key = Key::find(name).ok_or_else(|| unknown_key(name))?;
        if key.optional && text.trim() == "none" {
            self.values.remove(name);
            self.places.insert(name.to_string(), place.to_string());
            return Ok(());
        }
        let value = key.kind.parse(text).map_err(|what| format!("{name}: {what}"))?;
        self.put(name, &value, place)
    }

    fn put_field(
        &mut self,
        name: &str,
        field: &str,
        text: &str,
        place: &str,
    ) -> Result<(), String> {
        let key = Key::find(name).ok_or_else(|| unknown_key(name))?;
        if key.kind != Kind::Names || field.is_empty() {
            return Err(format!("{name} has no part {field:?}; it is {}", key.kind.words()));
        }
        let text = unquoted(text);
        let entry = self.values.entry(name).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(fields) = entry {
            fields.insert(field.to_string(), Value::String(text.to_string()));
        }
        self.places.insert(name.to_string(), place.to_string());
        Ok(())
    }
}

/// Whether a run wrote this down: it has a `[record]` section, or a table of one.
fn has_record(text: &str) -> bool {
    let begins = |line: &str| line.trim_start_matches('[').starts_with("record");
    text.lines().any(|line| line.starts_with('[') && begins(line))
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

/// An unknown key is an error with the nearest name, never ignored.
fn unknown_key(name: &str) -> String {
    let alias = ALIASES.iter().find(|(other, _)| *other == name).map(|(_, key)| *key);
    let hint = alias.or_else(|| nearest(name, KEYS.iter().map(|key| key.name)));
    match hint {
        Some(near) => format!("there is no key {name:?}; did you mean {near}?"),
        None => format!("there is no key {name:?}; core-cli train --help lists them all"),
    }
}

/// What other programs call these keys.
const ALIASES: &[(&str, &str)] = &[
    ("learning_rate", "lr"),
    ("lora_r", "lora_rank"),
    ("r", "lora_rank"),
    ("rank", "lora_rank"),
    ("alpha", "lora_alpha"),
    ("target_modules", "lora_targets"),
    ("num_train_epochs", "epochs"),
    ("output_dir", "out"),
    ("output", "out"),
    ("dataset", "data"),
    ("model_name_or_path", "model"),
    ("base_model", "model"),
    ("cutoff_len", "max_seq_len"),
    ("max_length", "max_seq_len"),
    ("per_device_train_batch_size", "batch_size"),
    ("gradient_accumulation_steps", "micro_batch_tokens"),
    ("gradient_checkpointing", "recompute"),
    ("fp16", "precision"),
    ("bf16", "precision"),
    ("dtype", "precision"),
    ("lr_scheduler_type", "lr_schedule"),
    ("eval_steps", "eval_every"),
    ("save_steps", "save_every"),
    ("val_set_size", "validation"),
    ("device", "backend"),
    ("early_stopping_patience", "patience"),
];

fn check_version(name: &str, version: Option<Value>) -> Result<(), ConfigError> {
    match version {
        None => Ok(()),
        Some(Value::Integer(1..=CONFIG_VERSION)) => Ok(()),
        Some(Value::Integer(newer)) if newer > CONFIG_VERSION => {
            let what = format!(
                "it is of version {newer}, but this program reads versions 1 to {CONFIG_VERSION}; \
                 use a newer Paddock"
            );
            Err(ConfigError::one(name, what))
        }
        Some(other) => Err(ConfigError::one(name, format!("{other} is no version; write 1"))),
    }
}

fn syntax_problem(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let place = match error.span() {
        Some(span) => format!("{name} line {}", line_of(text, span.start)),
        None => name.to_string(),
    };
    ConfigError::one(place, format!("this is no TOML: {}", error.message()))
}

fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::{RecordedFile, RunFile};

    #[test]
    fn a_run_of_thousands_of_files_can_be_read_again() -> Result<(), ConfigError> {
        let path = |i: usize| format!("/data/set/part-{i:06}-of-012000.jsonl");
        let data: Vec<String> = (0..12_000).map(path).collect();
        let recorded = |path: &String| {
            let (path, sha256) = (path.clone(), "0123456789abcdef".repeat(4));
            RecordedFile { path, bytes: 1 << 40, sha256 }
        };
        let record = Record { data: data.iter().map(recorded).collect(), ..Record::default() };
        let config = RunConfig { model: Some("model".into()), data, ..RunConfig::default() };
        let file = RunFile { config, record };
        let text = file.to_text()?;
        assert!(text.len() > 2 * MOST_BYTES && text.len() < MOST_RECORDED_BYTES, "{}", text.len());
        assert!(RunFile::parse("run.toml", &text)? == file);
        // What nobody recorded is no RUN.toml at this length, whatever its comments and texts say.
        let long = format!("{}\n# [record]\ntemplate = \"[record]\"\n", "# text\n".repeat(200_000));
        let error = Layers::new().file("RUN.toml", &long).unwrap_err().to_string();
        assert!(error.contains("longer than 1 MiB: not a RUN.toml"), "{error}");
        let longer = format!("{}[record]\n", "# text\n".repeat(3_000_000));
        let error = Layers::new().file("run.toml", &longer).unwrap_err().to_string();
        assert!(error.contains("longer than 16 MiB"), "{error}");
        Ok(())
    }
}
