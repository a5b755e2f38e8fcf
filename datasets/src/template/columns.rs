//! Which column of a row plays which part.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::record::{Record, name_list, scalar_text, type_word};

/// Columns by their part. What is not stated takes the template's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The question or instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Further context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// For templates with named fields: the column that fills a field, where it has another name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Words to say instead of the values of the answer column, such as `0` → `negative`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub answer_words: BTreeMap<String, String>,
}

impl Columns {
    /// The question's column.
    pub fn prompt_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.prompt.as_deref().unwrap_or(default)
    }

    /// The context's column.
    pub fn input_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.input.as_deref().unwrap_or(default)
    }

    /// The answer's column.
    pub fn answer_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.answer.as_deref().unwrap_or(default)
    }

    /// The answer's text; blank if the field is null.
    pub fn answer_text(&self, template: &str, record: &Record, column: &str) -> Result<String> {
        let text = match lookup(template, record, column)? {
            Value::Null => return Ok(String::new()),
            // Several accepted answers (Super-NaturalInstructions): the first is taught.
            Value::Array(list) => match list.first() {
                None => return Ok(String::new()),
                Some(first) => text_of(template, record, column, first)?,
            },
            value => text_of(template, record, column, value)?,
        };
        if self.answer_words.is_empty() {
            return Ok(text);
        }
        self.answer_words.get(&text).cloned().ok_or_else(|| {
            let known: Vec<_> = self.answer_words.keys().map(String::as_str).collect();
            render_error(
                template,
                record,
                format!(
                    "column {column:?} is {text:?}, for which no word is given (given: {})",
                    known.join(", ")
                ),
            )
        })
    }
}

/// The text of a column that must be there.
pub fn required_text(template: &str, record: &Record, column: &str) -> Result<String> {
    let value = lookup(template, record, column)?;
    text_of(template, record, column, value)
}

/// The text of a column that may be absent or null: then empty.
pub fn optional_text(template: &str, record: &Record, column: &str) -> Result<String> {
    match record.get(column) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(value) => text_of(template, record, column, value),
    }
}

fn text_of(template: &str, record: &Record, column: &str, value: &Value) -> Result<String> {
    scalar_text(value).ok_or_else(|| {
        let message = format!("column {column:?} holds {}, expected text", type_word(value));
        render_error(template, record, message)
    })
}

fn lookup<'a>(template: &str, record: &'a Record, column: &str) -> Result<&'a Value> {
    record.get(column).ok_or_else(|| {
        let message = format!("there is no column {column:?}{}", hint(column, record.names()));
        render_error(template, record, message)
    })
}

/// A render error of a row.
pub fn render_error(template: &str, record: &Record, message: String) -> Error {
    Error::Render { template: template.to_string(), row: record.row, message }
}

/// "; did you mean …?" and the list of what there is.
pub fn hint<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let nearest = known
        .iter()
        .map(|name| {
            (strsim::damerau_levenshtein(&wanted.to_lowercase(), &name.to_lowercase()), *name)
        })
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(wanted.len()) / 2);
    let list = name_list(known.iter().map(|n| format!("{n:?}")));
    match nearest {
        Some((_, name)) => format!("; did you mean {name:?}? The columns are {list}"),
        None => format!("; the columns are {list}"),
    }
}
