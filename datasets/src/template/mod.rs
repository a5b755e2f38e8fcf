//! Templates: one object, whatever its clothes, that turns a row into text with spans. It is
//! written to `template.json`, travels with every artefact and has a content hash.

pub mod alpaca;
pub mod chat;
pub mod check;
pub mod clusters;
pub mod columns;
pub mod compiled;
pub mod date;
pub mod flan;
pub mod jinja;
pub mod library;
pub mod messages;
pub mod pair;
pub mod promptsource;
pub mod rendered;
pub mod text;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::chat::Chat;
pub use self::columns::Columns;
pub use self::compiled::Compiled;
pub use self::flan::FlanPair;
pub use self::pair::Pair;
pub use self::promptsource::PromptSource;
pub use self::rendered::{Rendered, Role, Span};
use crate::error::{Error, Result};
use crate::readers::layout::PAIRS;
use crate::readers::{Detected, Layout};
use crate::record::Record;
use crate::tokenizer::Tokenizer;

/// Version of `template.json` that this program writes; it reads this and all older ones.
pub const VERSION: u32 = 1;

/// The first instance of a Self-Instruct seed task.
const SEED_TASK: &str = "{{ instruction }}{% if instances[0].input %}\n\n{{ instances[0].input }}\
{% endif %} ||| {{ instances[0].output }}";

/// A conversation as plain text, for models without a chat template of their own.
const CONVERSATION: &str = "{% if tools %}### Tools:\n{{ tools | tojson }}\n\n{% endif %}\
{% for message in messages %}{% if message.role == 'assistant' %}### Assistant:\n{% generation %}\
{{ message.content or '' }}{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}\
{% endgeneration %}\n\n{% elif message.role == 'system' %}### System:\n{{ message.content }}\n\n\
{% elif message.role == 'tool' %}### Tool:\n{{ message.content }}\n\n\
{% else %}### User:\n{{ message.content }}\n\n{% endif %}{% endfor %}\
{% if add_generation_prompt %}### Assistant:\n{% endif %}";

/// A template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Version of the file's schema.
    pub version: u32,
    /// What people call it; no part of the hash.
    pub name: String,
    /// Which columns it reads.
    #[serde(default)]
    pub columns: Columns,
    /// What it does.
    pub body: Body,
}

/// The kinds of template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Body {
    /// The two Alpaca prompts.
    Alpaca,
    /// A bare pair.
    Prompt(Pair),
    /// Plain text without a prompt.
    Text,
    /// Promptsource: Jinja with `|||`.
    Jinja(PromptSource),
    /// A chat template.
    Chat(Chat),
}

impl Template {
    /// The Alpaca prompts.
    pub fn alpaca() -> Self {
        Self::of("alpaca", Columns::default(), Body::Alpaca)
    }

    /// A bare pair of prompt and answer.
    pub fn prompt() -> Self {
        Self::of("prompt", Columns::default(), Body::Prompt(Pair::default()))
    }

    /// Plain text, all of it learned: for pretraining.
    pub fn text() -> Self {
        Self::of("text", Columns::default(), Body::Text)
    }

    /// A conversation of any length as plain text; every answer in it is learned.
    pub fn conversation() -> Self {
        let body = Chat { jinja: CONVERSATION.to_string(), ..Chat::default() };
        Self::of("conversation", Columns::default(), Body::Chat(body))
    }

    fn of(name: &str, columns: Columns, body: Body) -> Self {
        Self { version: VERSION, name: name.to_string(), columns, body }
    }

    /// By the name of a built-in template.
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "alpaca" => Some(Self::alpaca()),
            "prompt" => Some(Self::prompt()),
            "text" => Some(Self::text()),
            "conversation" => Some(Self::conversation()),
            _ => None,
        }
    }

    /// Names that [`Template::built_in`] knows.
    pub const BUILT_IN: &'static [&'static str] = &["alpaca", "prompt", "text", "conversation"];

    /// The template that suits a detected layout, if one does without further statements.
    pub fn for_layout(detected: &Detected) -> Option<Self> {
        match detected.layout {
            Layout::Alpaca => Some(Self::alpaca()),
            Layout::PromptCompletion => {
                let has = |name: &str| detected.columns.iter().any(|c| c == name);
                let (prompt, answer) = PAIRS.iter().find(|(p, a)| has(p) && has(a))?;
                Some(Self::prompt().with_columns(Some(prompt), None, Some(answer)))
            }
            Layout::SuperNaturalInstructions => {
                Some(Self::alpaca().with_columns(Some("definition"), Some("input"), Some("output")))
            }
            Layout::SelfInstructSeed => Some(Self::jinja("self-instruct-seed", SEED_TASK, None)),
            // The model's own template, if it has one, is better: see [`Template::chat`].
            Layout::ShareGpt | Layout::Messages | Layout::Preference => Some(Self::conversation()),
            Layout::Table => None,
        }
    }

    /// The same template with columns stated where given.
    pub fn with_columns(
        mut self,
        prompt: Option<&str>,
        input: Option<&str>,
        answer: Option<&str>,
    ) -> Self {
        let set = |slot: &mut Option<String>, value: Option<&str>| {
            if let Some(value) = value {
                *slot = Some(value.to_string());
            }
        };
        set(&mut self.columns.prompt, prompt);
        set(&mut self.columns.input, input);
        set(&mut self.columns.answer, answer);
        self
    }

    /// Reads `template.json`.
    pub fn from_json(text: &str) -> Result<Self> {
        let fail = |message: String| Error::Template { name: "template.json".into(), message };
        let value: Value = serde_json::from_str(text).map_err(|e| fail(e.to_string()))?;
        let version = value.get("version").and_then(Value::as_u64);
        match version {
            None => return Err(fail("has no \"version\"".to_string())),
            Some(v) if v > u64::from(VERSION) => {
                return Err(fail(format!(
                    "has version {v}, this program reads up to {VERSION}; use a newer one"
                )));
            }
            Some(_) => {}
        }
        serde_json::from_value(value).map_err(|e| fail(e.to_string()))
    }

    /// Reads a template file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
        Self::from_json(&text)
    }

    /// The text of `template.json`.
    pub fn to_json(&self) -> String {
        // Strings, integers and maps with string keys: nothing here can fail to serialise.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// SHA-256 of the content (not the name), as 64 hexadecimal digits.
    pub fn hash(&self) -> String {
        let unnamed = Self { name: String::new(), ..self.clone() };
        hex(&Sha256::digest(unnamed.to_json().as_bytes()))
    }

    /// The model's own chat template; `today` (2026-01-31) is the day that it may tell.
    pub fn chat(tokenizer: &Tokenizer, today: &str) -> Option<Self> {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        let body = Chat {
            jinja: tokenizer.chat_template()?.to_string(),
            bos_token: text(tokenizer.bos()),
            eos_token: text(tokenizer.eos()),
            specials: tokenizer.special_texts().map(str::to_string).collect(),
            today: today.to_string(),
        };
        Some(Self::of("chat", Columns::default(), Body::Chat(body)))
    }

    /// A Jinja template in promptsource's form.
    pub fn jinja(name: &str, jinja: &str, answer_choices: Option<&str>) -> Self {
        let body = PromptSource {
            jinja: jinja.to_string(),
            answer_choices: answer_choices.map(str::to_string),
            between: "\n".to_string(),
            ..PromptSource::default()
        };
        Self::of(name, Columns::default(), Body::Jinja(body))
    }

    /// Makes it ready for many rows.
    ///
    /// # Errors
    /// [`Error::TemplateAt`] names line and column of a fault in Jinja source.
    pub fn compile(&self) -> Result<Compiled> {
        Compiled::new(self)
    }

    /// Prompt and answer of one row; for many rows compile once.
    pub fn render(&self, record: &Record) -> Result<Rendered> {
        self.compile()?.render(record)
    }

    /// What the model is given, for a row that need not have an answer.
    pub fn render_prompt(&self, record: &Record) -> Result<Rendered> {
        self.compile()?.render_prompt(record)
    }

    /// What the model is given for a question typed by a person.
    pub fn render_question(&self, question: &str, input: &str) -> Result<Rendered> {
        self.compile()?.render_question(question, input)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
