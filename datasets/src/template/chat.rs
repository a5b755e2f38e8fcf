//! Chat templates of `tokenizer_config.json`, rendered as Hugging Face renders them.
//!
//! What is trained: the text of `{% generation %}` blocks; in a template without them, what each
//! assistant message adds to the prompt before it. What the data wrote never becomes a control
//! token: special-token text in it is broken up by a marker before rendering, and put together
//! again, as plain text, after.

use std::ops::Range;

use minijinja::{Error as JinjaError, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::record::Record;
use crate::template::columns::{Columns, render_error};
use crate::template::date::Date;
use crate::template::jinja::{Engine, Style, python};
use crate::template::messages::{Conversation, conversation};
use crate::template::rendered::{Rendered, Role, replace_marks};

/// Breaks up special-token text of the data. A noncharacter: where data hold one, it is replaced.
const BROKEN: char = '\u{fdd0}';
/// Begins and ends a generation block.
const BEGIN: char = '\u{fdd1}';
const END: char = '\u{fdd2}';

/// The body of such a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// The source, as the model's folder has it.
    pub jinja: String,
    /// What `bos_token` stands for; empty if the model has none.
    #[serde(default)]
    pub bos_token: String,
    /// What `eos_token` stands for; empty if the model has none.
    #[serde(default)]
    pub eos_token: String,
    /// Texts of the model's control tokens.
    #[serde(default)]
    pub specials: Vec<String>,
    /// The day that `strftime_now` tells, as 2026-01-31: fixed, so that a run can be repeated.
    #[serde(default)]
    pub today: String,
}

/// A chat template ready to render rows.
pub struct Compiled {
    engine: Engine,
    blocks: bool,
    name: String,
    body: Chat,
    columns: Columns,
}

impl Compiled {
    /// Compiles the source.
    pub fn new(name: &str, body: &Chat, columns: &Columns) -> Result<Self> {
        let (source, blocks) = mark_generation(&body.jinja);
        let mut engine = Engine::new(name, &source, Style::Chat)?;
        let date = if body.today.is_empty() {
            None
        } else {
            let message = format!("today is {:?}, expected a day such as 2026-01-31", body.today);
            let fail = || Error::Template { name: name.to_string(), message };
            Some(Date::parse(&body.today).ok_or_else(fail)?)
        };
        engine.env_mut().add_function("strftime_now", move |format: String| match date {
            Some(date) => Ok(date.format(&format)),
            None => Err(JinjaError::new(
                ErrorKind::InvalidOperation,
                "the template asks for the date, but none was fixed for this run",
            )),
        });
        let (name, body, columns) = (name.to_string(), body.clone(), columns.clone());
        Ok(Self { engine, blocks, name, body, columns })
    }

    /// A row with all its answers.
    pub fn render(&self, record: &Record) -> Result<Rendered> {
        let talk = self.conversation(record)?;
        let text = self.text(record.row, &talk.messages, &talk.tools, false)?;
        let answers = match self.blocks {
            true => Vec::new(),
            false => self.added_by_answers(record, &talk, &text)?,
        };
        let mut rendered = self.spans(&text, &answers);
        rendered.empty_answer =
            talk.messages.iter().any(says_nothing) || self.teaches_nothing(&rendered);
        Ok(rendered)
    }

    /// What the model is given: the messages before the last answer, and the opening of the next.
    pub fn render_prompt(&self, record: &Record) -> Result<Rendered> {
        let mut talk = self.conversation(record)?;
        if talk.messages.last().is_some_and(is_answer) {
            talk.messages.pop();
        }
        let text = self.text(record.row, &talk.messages, &talk.tools, true)?;
        let mut rendered = self.spans(&text, &[]);
        // Earlier answers are part of the prompt here.
        for span in &mut rendered.spans {
            (span.trained, span.role) = (false, Role::Prompt);
        }
        Ok(rendered)
    }

    /// The text that Hugging Face would give for these messages, without spans.
    pub fn raw_text(&self, messages: &[Value], tools: &Value, open: bool) -> Result<String> {
        Ok(self.text(0, messages, tools, open)?.replace([BEGIN, END], ""))
    }

    /// Whether an answer consists of control tokens alone: the template reads another field.
    fn teaches_nothing(&self, rendered: &Rendered) -> bool {
        rendered.answers().into_iter().any(|answer| {
            let mut text = rendered.text[answer].to_string();
            for special in self.body.specials.iter().filter(|special| !special.is_empty()) {
                text = text.replace(special.as_str(), "");
            }
            text.trim().is_empty()
        })
    }

    fn conversation(&self, record: &Record) -> Result<Conversation> {
        let mut talk = conversation(&self.name, &self.columns, record)?;
        for message in &mut talk.messages {
            // A template would write "None", and the model would learn to say it.
            if says_nothing(message) && message["content"].is_null() {
                message["content"] = "".into();
            }
            self.break_up(message);
        }
        self.break_up(&mut talk.tools);
        Ok(talk)
    }

    /// Puts the marker after the first character of each special-token text.
    fn break_up(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                replace_marks(text);
                for special in &self.body.specials {
                    if let Some(first) = special.chars().next().filter(|_| text.contains(special)) {
                        let rest = &special[first.len_utf8()..];
                        *text = text.replace(special.as_str(), &format!("{first}{BROKEN}{rest}"));
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.break_up(item)),
            Value::Object(fields) => {
                for (mut name, mut item) in std::mem::take(fields) {
                    replace_marks(&mut name);
                    self.break_up(&mut item);
                    fields.insert(name, item);
                }
            }
            _ => {}
        }
    }

    fn text(&self, row: u64, messages: &[Value], tools: &Value, open: bool) -> Result<String> {
        let context = json!({
            "messages": messages, "tools": tools, "documents": null,
            "add_generation_prompt": open,
            "bos_token": self.body.bos_token, "eos_token": self.body.eos_token,
        });
        self.engine.render(row, python::from_json(&context))
    }

    /// For each assistant message, the bytes that it adds to the prompt before it.
    fn added_by_answers(
        &self,
        record: &Record,
        talk: &Conversation,
        whole: &str,
    ) -> Result<Vec<Range<usize>>> {
        let mut answers = Vec::new();
        for (i, _) in talk.messages.iter().enumerate().filter(|(_, m)| is_answer(m)) {
            let before = self.text(record.row, &talk.messages[..i], &talk.tools, true)?;
            let with = self.text(record.row, &talk.messages[..=i], &talk.tools, false)?;
            if !with.starts_with(&before) || !whole.starts_with(&with) {
                let message = format!(
                    "what message {i} adds cannot be told: the template writes earlier messages \
                     differently once it is there. Put {{% generation %}} and {{% endgeneration %}} \
                     around the answer in the template"
                );
                return Err(render_error(&self.name, record, message));
            }
            answers.push(before.len()..self.without_tail(&with, before.len()));
        }
        Ok(answers)
    }

    /// The end of an answer: blanks after its last control token are not taught.
    fn without_tail(&self, text: &str, start: usize) -> usize {
        let trimmed = text[start..].trim_end();
        let ends = self.body.specials.iter().any(|special| trimmed.ends_with(special.as_str()));
        if ends { start + trimmed.len() } else { text.len() }
    }

    /// Takes the markers out and cuts the text into spans.
    fn spans(&self, marked: &str, answers: &[Range<usize>]) -> Rendered {
        // Kind of each character: (trained, literal).
        let mut text = String::with_capacity(marked.len());
        let mut kinds: Vec<(usize, bool, bool)> = Vec::new();
        let mut inside = false;
        // The first answer that does not end before the character at hand.
        let mut next = 0;
        // Bytes of `text` below this are plain text of the data.
        let mut plain_until = 0;
        for (at, c) in marked.char_indices() {
            match c {
                BEGIN | END if self.blocks => inside = c == BEGIN,
                BROKEN => {
                    if let Some((start, _, literal)) = kinds.last_mut() {
                        *literal = false;
                        plain_until = *start + self.broken_len(&text[*start..], marked, at);
                    }
                }
                _ => {
                    while answers.get(next).is_some_and(|range| range.end <= at) {
                        next += 1;
                    }
                    let trained = inside || answers.get(next).is_some_and(|a| a.start <= at);
                    kinds.push((text.len(), trained, text.len() >= plain_until));
                    text.push(c);
                }
            }
        }
        let mut out = Rendered::default();
        let mut from = 0;
        for (i, &(start, trained, literal)) in kinds.iter().enumerate() {
            let next = kinds.get(i + 1);
            if next.is_some_and(|&(_, t, l)| (t, l) == (trained, literal)) {
                continue;
            }
            let end = next.map_or(text.len(), |next| next.0);
            debug_assert!(start < end);
            let role = if trained { Role::Answer } else { Role::Prompt };
            out.push(&text[from..end], role, trained, literal);
            from = end;
        }
        out
    }

    /// Length of the special text that the marker at byte `at` breaks up after `first`.
    fn broken_len(&self, first: &str, marked: &str, at: usize) -> usize {
        let rest = &marked[at + BROKEN.len_utf8()..];
        let fits = |special: &&String| {
            special.strip_prefix(first).is_some_and(|tail| rest.starts_with(tail))
        };
        self.body.specials.iter().filter(fits).map(String::len).max().unwrap_or(first.len())
    }
}

fn is_answer(message: &Value) -> bool {
    message["role"] == "assistant"
}

/// An assistant message without text and without a call of a tool.
fn says_nothing(message: &Value) -> bool {
    let blank = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let fields = ["content", "tool_calls", "function_call"];
    is_answer(message) && fields.iter().all(|name| blank(&message[*name]))
}

/// Turns generation blocks, which the interpreter does not know, into markers in the output. They
/// stay blocks, so that line breaks around them are treated as Hugging Face treats them.
fn mark_generation(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut found = false;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start + 2..].find("%}") else { break };
        let tag = &rest[start + 2..start + 2 + len];
        let left = tag.chars().next().filter(|c| matches!(c, '-' | '+'));
        let right = tag.chars().last().filter(|c| matches!(c, '-' | '+'));
        let word = tag.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let marker = match word {
            "generation" => Some(BEGIN),
            "endgeneration" => Some(END),
            _ => None,
        };
        out.push_str(&rest[..start]);
        match marker {
            Some(marker) => {
                found = true;
                let side = |c: Option<char>| c.map(String::from).unwrap_or_default();
                let (left, right) = (side(left), side(right));
                out.push_str(&format!("{{%{left} if true %}}{marker}{{% endif {right}%}}"));
            }
            None => out.push_str(&rest[start..start + len + 4]),
        }
        rest = &rest[start + len + 4..];
    }
    out.push_str(rest);
    (out, found)
}
