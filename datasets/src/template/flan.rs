//! FLAN-style pairs: an input and a target, each with `{column}` fields, several for a data set,
//! some turned round (the input is to be written for a given label). They become Jinja templates.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::template::{Body, Template};

/// One pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlanPair {
    /// Name of the template.
    pub name: String,
    /// The question; `{column}` is filled in, `{{` and `}}` are braces.
    pub input: String,
    /// The answer, likewise.
    pub target: String,
    /// Answers to choose from, separated by `|||`; `{options}` in the input lists them.
    #[serde(default)]
    pub choices: Option<String>,
    /// Turned round: the data set's input is what is to be written.
    #[serde(default)]
    pub inverted: bool,
}

impl FlanPair {
    /// The same as a template.
    ///
    /// # Errors
    /// [`Error::TemplateAt`] for a brace without its twin or a field that is no column name.
    pub fn to_template(&self) -> Result<Template> {
        let input = self.jinja(&self.input)?;
        let target = self.jinja(&self.target)?;
        let choices = self.choices.as_deref().map(|text| self.jinja(text)).transpose()?;
        let jinja = format!("{input} ||| {target}");
        let mut template = Template::jinja(&self.name, &jinja, choices.as_deref());
        if let Body::Jinja(body) = &mut template.body {
            body.original_task = !self.inverted;
        }
        Ok(template)
    }

    /// `{column}` becomes an expression; everything else is plain text.
    fn jinja(&self, source: &str) -> Result<String> {
        let mut out = String::new();
        let mut plain = String::new();
        let mut chars = source.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '{' | '}' if chars.next_if(|(_, next)| *next == c).is_some() => plain.push(c),
                '}' => return Err(self.fault(source, at, "a } without its {")),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some((_, '}')) => break,
                            Some((_, c)) => name.push(c),
                            None => return Err(self.fault(source, at, "a { without its }")),
                        }
                    }
                    let good = !name.is_empty()
                        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
                        && !name.starts_with(|c: char| c.is_numeric());
                    if !good {
                        let message = format!("{{{name}}} is no column name");
                        return Err(self.fault(source, at, &message));
                    }
                    flush(&mut plain, &mut out);
                    match name.as_str() {
                        "options" => {
                            out.push_str(
                                "OPTIONS:{% for o in answer_choices %}\n- {{ o }}{% endfor %}",
                            );
                        }
                        name => out.push_str(&format!("{{{{ {name} }}}}")),
                    }
                }
                c => plain.push(c),
            }
        }
        flush(&mut plain, &mut out);
        Ok(out)
    }

    fn fault(&self, source: &str, at: usize, message: &str) -> Error {
        let before = &source[..at];
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let line = before.matches('\n').count() + 1;
        let text = source.lines().nth(line - 1).unwrap_or_default();
        Error::TemplateAt {
            name: self.name.clone(),
            line,
            column,
            message: message.to_string(),
            excerpt: format!("  {text}\n  {}^", " ".repeat(column - 1)),
        }
    }
}

/// Plain text that could be read as Jinja goes in as a string.
fn flush(plain: &mut String, out: &mut String) {
    if plain.contains(['{', '}', '#']) {
        let quoted = plain.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        out.push_str(&format!("{{{{ \"{quoted}\" }}}}"));
    } else {
        out.push_str(plain);
    }
    plain.clear();
}
