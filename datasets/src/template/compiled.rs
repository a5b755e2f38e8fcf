//! A template ready to render many rows.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::record::Record;
use crate::template::rendered::Rendered;
use crate::template::{Body, Columns, Pair, Template, alpaca, chat, promptsource, text};

/// A template whose Jinja source, if it has one, is compiled. Shared between threads.
pub struct Compiled {
    name: String,
    columns: Columns,
    body: CompiledBody,
}

enum CompiledBody {
    Alpaca,
    Prompt(Pair),
    Text,
    Jinja(Box<promptsource::Compiled>),
    Chat(Box<chat::Compiled>),
}

impl Compiled {
    /// Compiles.
    pub fn new(template: &Template) -> Result<Self> {
        let (name, columns) = (template.name.clone(), template.columns.clone());
        let body = match &template.body {
            Body::Alpaca => CompiledBody::Alpaca,
            Body::Prompt(pair) => CompiledBody::Prompt(pair.clone()),
            Body::Text => CompiledBody::Text,
            Body::Jinja(body) => {
                let fields = &columns.fields;
                CompiledBody::Jinja(Box::new(promptsource::Compiled::new(&name, body, fields)?))
            }
            Body::Chat(body) => {
                CompiledBody::Chat(Box::new(chat::Compiled::new(&name, body, &columns)?))
            }
        };
        Ok(Self { name, columns, body })
    }

    /// Prompt and answer of a row.
    ///
    /// # Errors
    /// [`Error::Render`] where a column or variable is missing or holds no text. A null or blank
    /// answer is no error here: see [`Rendered::has_empty_answer`].
    pub fn render(&self, record: &Record) -> Result<Rendered> {
        match &self.body {
            CompiledBody::Alpaca => alpaca::render(&self.name, &self.columns, record),
            CompiledBody::Prompt(pair) => pair.render(&self.name, &self.columns, record),
            CompiledBody::Text => text::render(&self.name, &self.columns, record),
            CompiledBody::Jinja(compiled) => compiled.render(record),
            CompiledBody::Chat(compiled) => compiled.render(record),
        }
    }

    /// What the model is given, for a row that need not have an answer.
    pub fn render_prompt(&self, record: &Record) -> Result<Rendered> {
        match &self.body {
            CompiledBody::Alpaca => alpaca::render_prompt(&self.name, &self.columns, record),
            CompiledBody::Prompt(pair) => pair.render_prompt(&self.name, &self.columns, record),
            CompiledBody::Text => Ok(Rendered::default()),
            CompiledBody::Jinja(compiled) => compiled.render_prompt(record),
            CompiledBody::Chat(compiled) => compiled.render_prompt(record),
        }
    }

    /// Question, answer and choices of a promptsource template.
    pub fn parts(&self, record: &Record) -> Result<promptsource::Parts> {
        match &self.body {
            CompiledBody::Jinja(compiled) => compiled.parts(record),
            _ => {
                let rendered = self.render(record)?;
                Ok(promptsource::Parts {
                    input: rendered.prompt_only().text,
                    target: Some(rendered.last_answer().to_string()),
                    choices: None,
                })
            }
        }
    }

    /// Names that a Jinja template reads and does not set itself, sorted; none for other kinds.
    pub fn variables(&self) -> Vec<String> {
        match &self.body {
            CompiledBody::Jinja(compiled) => compiled.variables(),
            _ => Vec::new(),
        }
    }

    /// The text of a chat template for messages in Hugging Face's form, without spans.
    ///
    /// # Errors
    /// [`Error::Template`] if it is no chat template.
    pub fn chat_text(&self, messages: &[Value], tools: &Value, open: bool) -> Result<String> {
        match &self.body {
            CompiledBody::Chat(compiled) => compiled.raw_text(messages, tools, open),
            _ => Err(Error::Template {
                name: self.name.clone(),
                message: "is no chat template".to_string(),
            }),
        }
    }

    /// What the model is given for a question typed by a person.
    ///
    /// # Errors
    /// [`Error::Template`] for a Jinja template: its question has several parts, so a row is
    /// needed.
    pub fn render_question(&self, question: &str, input: &str) -> Result<Rendered> {
        let prompt = match &self.body {
            CompiledBody::Alpaca | CompiledBody::Chat(_) => self.columns.prompt_or("instruction"),
            CompiledBody::Prompt(_) => self.columns.prompt_or("prompt"),
            CompiledBody::Text => {
                let mut prompt = Rendered::default();
                prompt.data(question);
                prompt.data(input);
                return Ok(prompt);
            }
            CompiledBody::Jinja(_) => {
                let message = "asks for named columns; give a row instead of a bare question";
                let message = message.to_string();
                return Err(Error::Template { name: self.name.clone(), message });
            }
        };
        let context = self.columns.input_or("input");
        let record = Record::from_pairs([(prompt, question.into()), (context, input.into())]);
        self.render_prompt(&record)
    }
}
