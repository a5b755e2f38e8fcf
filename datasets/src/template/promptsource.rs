//! Promptsource templates: Jinja with `|||` between question and answer, and `answer_choices`.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::value::Value as JinjaValue;
use minijinja::{Error as JinjaError, ErrorKind, State};
use paddock_core::philox::{Philox, Stream};
use serde::{Deserialize, Serialize};
use serde_yaml_ng::Value as Yaml;

use crate::error::{Error, Result};
use crate::record::Record;
use crate::template::columns::hint;
use crate::template::jinja::{Engine, Style, python};
use crate::template::rendered::{Rendered, replace_marks};
use crate::template::{Body, Columns, Template, VERSION};

const SEPARATOR: &str = "|||";
/// Stands for a `|||` that comes from the data while a row is rendered.
const HIDDEN_SEPARATOR: &str = "\u{fdd3}";

/// The body of such a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSource {
    /// `question ||| answer`.
    pub jinja: String,
    /// Choices separated by `|||`, themselves Jinja.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_choices: Option<String>,
    /// Between question and answer, which are stripped of blanks themselves.
    #[serde(default = "line_break")]
    pub between: String,
    /// The data set's original task, not one turned round.
    #[serde(default)]
    pub original_task: bool,
    /// Metrics by which the task is judged.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// Seed of the `choice` filter.
    #[serde(default)]
    pub seed: u64,
}

fn line_break() -> String {
    "\n".to_string()
}

/// A template ready to render rows.
pub struct Compiled {
    main: Engine,
    choices: Option<Engine>,
    name: String,
    body: PromptSource,
    /// Fields that are filled by a column of another name.
    fields: BTreeMap<String, String>,
    /// Variables that tell a place in the choices.
    places: Vec<String>,
}

/// Question and answer of a row, and the answers to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The question.
    pub input: String,
    /// The answer; `None` if the template writes none for this row.
    pub target: Option<String>,
    /// The choices, if the template has them.
    pub choices: Option<Vec<String>>,
}

impl Compiled {
    /// Compiles both sources.
    pub fn new(name: &str, body: &PromptSource, fields: &BTreeMap<String, String>) -> Result<Self> {
        let engine = |source: &str| {
            let mut engine = Engine::new(name, source, Style::Plain)?;
            add_helpers(&mut engine, body.seed);
            Ok::<_, Error>(engine)
        };
        Ok(Self {
            main: engine(&body.jinja)?,
            choices: body.answer_choices.as_deref().map(engine).transpose()?,
            name: name.to_string(),
            body: body.clone(),
            fields: fields.clone(),
            places: places(&body.jinja),
        })
    }

    /// Question, answer and choices of a row, each stripped of blanks.
    pub fn parts(&self, record: &Record) -> Result<Parts> {
        let mut row = serde_json::Value::Object(record.columns.clone());
        hide_separators(&mut row);
        let strip = |text: &str| text.replace(HIDDEN_SEPARATOR, SEPARATOR).trim().to_string();
        let choices = match &self.choices {
            None => None,
            Some(engine) => {
                let text = engine.render(record.row, self.context(record, &row, None))?;
                Some(text.split(SEPARATOR).map(strip).collect::<Vec<_>>())
            }
        };
        let context = self.context(record, &row, choices.as_deref());
        let text = self.main.render(record.row, context).map_err(|e| name_columns(e, record))?;
        let mut parts = text.split(SEPARATOR).map(strip);
        let input = parts.next().unwrap_or_default();
        let target = parts.next();
        Ok(Parts { input, target, choices })
    }

    fn context(
        &self,
        record: &Record,
        row: &serde_json::Value,
        choices: Option<&[String]>,
    ) -> JinjaValue {
        let mut variables: Vec<(String, JinjaValue)> = Vec::new();
        if let serde_json::Value::Object(columns) = row {
            let pairs = columns.iter().map(|(n, v)| (n.clone(), python::from_json(v)));
            variables.extend(pairs);
            for (field, column) in &self.fields {
                variables.retain(|(name, _)| name != field);
                let value = columns.get(column).map(python::from_json);
                variables.extend(value.map(|value| (field.clone(), value)));
            }
        }
        if let Some(choices) = choices {
            for (name, value) in &mut variables {
                if self.places.contains(name)
                    && let Some(place) = value.as_str().and_then(|text| place(text, choices))
                {
                    *value = place.into();
                }
            }
            let hidden = choices.iter().map(|c| c.replace(SEPARATOR, HIDDEN_SEPARATOR));
            variables.push(("answer_choices".to_string(), hidden.collect::<Vec<_>>().into()));
        }
        variables.push((ROW.to_string(), record.row.into()));
        JinjaValue::from_pairs(variables)
    }

    /// The row as text with spans.
    pub fn render(&self, record: &Record) -> Result<Rendered> {
        let parts = self.parts(record)?;
        let mut out = self.question(&parts);
        out.answer(parts.target.as_deref().unwrap_or_default());
        Ok(out)
    }

    /// The question alone.
    pub fn render_prompt(&self, record: &Record) -> Result<Rendered> {
        Ok(self.question(&self.parts(record)?))
    }

    fn question(&self, parts: &Parts) -> Rendered {
        let mut out = Rendered::default();
        out.data(&parts.input);
        out.literal(&self.body.between);
        out
    }

    /// Names that it reads and does not set itself, sorted.
    pub fn variables(&self) -> Vec<String> {
        let engines = [Some(&self.main), self.choices.as_ref()];
        let names: std::collections::BTreeSet<String> =
            engines.into_iter().flatten().flat_map(Engine::variables).collect();
        names.into_iter().collect()
    }

    /// The template's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Variables in `answer_choices[NAME]`.
fn places(source: &str) -> Vec<String> {
    let name = |rest: &str| rest.split(']').next().map(|name| name.trim().to_string());
    source.split("answer_choices[").skip(1).filter_map(name).collect()
}

/// The place that a text tells, since tables have no numbers: the number that it is, or the choice.
fn place(text: &str, choices: &[String]) -> Option<usize> {
    let text = text.trim();
    let number = text.parse().ok().filter(|place| *place < choices.len());
    number.or_else(|| choices.iter().position(|choice| choice.eq_ignore_ascii_case(text)))
}

/// The variable that tells the `choice` filter which row it is in.
const ROW: &str = "__row";

fn add_helpers(engine: &mut Engine, seed: u64) {
    let env = engine.env_mut();
    env.add_filter("choice", move |state: &mut State, list: JinjaValue| choice(state, &list, seed));
    env.add_filter("most_frequent", |list: JinjaValue| most_frequent(&list));
}

/// One of a list by seed, row and how many draws the row had before: the same in every run.
fn choice(
    state: &mut State,
    list: &JinjaValue,
    seed: u64,
) -> std::result::Result<JinjaValue, JinjaError> {
    let items: Vec<JinjaValue> = list.try_iter()?.collect();
    if items.is_empty() {
        let message = "choice: the list is empty";
        return Err(JinjaError::new(ErrorKind::InvalidOperation, message));
    }
    let row = state.lookup(ROW).and_then(|v| u64::try_from(v).ok()).unwrap_or_default();
    let draws = state.get_temp("draws").and_then(|v| u32::try_from(v).ok()).unwrap_or_default();
    state.set_temp("draws", JinjaValue::from(draws.wrapping_add(1)));
    let index = Philox::new(seed, Stream::MIX).below(draws, row, items.len() as u64);
    Ok(items[index as usize].clone())
}

/// The most frequent items, in order of first appearance.
fn most_frequent(list: &JinjaValue) -> std::result::Result<JinjaValue, JinjaError> {
    let mut counts: Vec<(JinjaValue, usize)> = Vec::new();
    for item in list.try_iter()? {
        match counts.iter_mut().find(|(known, _)| *known == item) {
            Some((_, count)) => *count += 1,
            None => counts.push((item, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or_default();
    Ok(counts.into_iter().filter(|(_, n)| *n == most).map(|(item, _)| item).collect())
}

fn hide_separators(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            replace_marks(text);
            if text.contains(SEPARATOR) {
                *text = text.replace(SEPARATOR, HIDDEN_SEPARATOR);
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(hide_separators),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(hide_separators),
        _ => {}
    }
}

/// Adds the row's columns to an error about an undefined variable.
fn name_columns(error: Error, record: &Record) -> Error {
    match error {
        Error::Render { template, row, message } if message.starts_with("undefined value") => {
            let variable = message.split('`').nth(1).unwrap_or_default().to_string();
            let message = format!("{message}{}", hint(&variable, record.names()));
            Error::Render { template, row, message }
        }
        other => other,
    }
}

/// Reads all templates of a promptsource file (`templates.yaml`), in file order.
pub fn load(path: &Path) -> Result<Vec<Template>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
    parse(&path.display().to_string(), &text)
}

/// Parses the text of a promptsource file; `file` is for messages.
pub fn parse(file: &str, text: &str) -> Result<Vec<Template>> {
    let fail = |message: String| Error::Template { name: file.to_string(), message };
    let root: Yaml = serde_yaml_ng::from_str(text).map_err(|e| fail(e.to_string()))?;
    let Some(Yaml::Mapping(entries)) = root.get("templates") else {
        return Err(fail("has no mapping called \"templates\"".to_string()));
    };
    let mut templates = Vec::with_capacity(entries.len());
    for (id, entry) in entries {
        let entry = untagged(entry);
        let text = |key: &str| entry.get(key).and_then(Yaml::as_str).map(str::to_string);
        let id = id.as_str().unwrap_or("?");
        let name = text("name").ok_or_else(|| fail(format!("template {id} has no name")))?;
        let jinja = text("jinja").ok_or_else(|| fail(format!("template {id} has no jinja")))?;
        let metadata = entry.get("metadata").map(untagged);
        let flag = metadata.and_then(|m| m.get("original_task")).and_then(Yaml::as_bool);
        let metrics = metadata.and_then(|m| m.get("metrics")).and_then(Yaml::as_sequence);
        let body = PromptSource {
            jinja,
            answer_choices: text("answer_choices"),
            between: line_break(),
            original_task: flag.unwrap_or(false),
            metrics: metrics
                .map(|list| list.iter().filter_map(Yaml::as_str).map(str::to_string).collect())
                .unwrap_or_default(),
            seed: 0,
        };
        let columns = Columns::default();
        templates.push(Template { version: VERSION, name, columns, body: Body::Jinja(body) });
    }
    Ok(templates)
}

fn untagged(value: &Yaml) -> &Yaml {
    match value {
        Yaml::Tagged(tagged) => &tagged.value,
        other => other,
    }
}
