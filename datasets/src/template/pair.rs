//! A bare pair of prompt and answer, with fixed words before, between and after if wanted.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::record::Record;
use crate::template::columns::{Columns, optional_text, required_text};
use crate::template::rendered::Rendered;

/// The fixed words. With all of them empty, prompt and answer are joined as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pair {
    /// Before the prompt.
    pub before: String,
    /// Between the prompt and the input column, where one is named and not empty.
    pub before_input: String,
    /// Between prompt and answer.
    pub between: String,
}

impl Pair {
    /// Prompt of a row.
    pub fn render_prompt(
        &self,
        name: &str,
        columns: &Columns,
        record: &Record,
    ) -> Result<Rendered> {
        let prompt = required_text(name, record, columns.prompt_or("prompt"))?;
        let mut out = Rendered::default();
        out.literal(&self.before);
        out.data(&prompt);
        if let Some(column) = &columns.input {
            let input = optional_text(name, record, column)?;
            if !input.is_empty() {
                out.literal(&self.before_input);
                out.data(&input);
            }
        }
        out.literal(&self.between);
        Ok(out)
    }

    /// Prompt and answer of a row.
    pub fn render(&self, name: &str, columns: &Columns, record: &Record) -> Result<Rendered> {
        let mut out = self.render_prompt(name, columns, record)?;
        out.answer(&columns.answer_text(name, record, columns.answer_or("completion"))?);
        Ok(out)
    }
}
