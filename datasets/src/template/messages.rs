//! Rows as conversations: the layouts that data sets use for them become one list of messages.

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::record::{Record, type_word};
use crate::template::columns::{Columns, optional_text, render_error, required_text};

/// Messages of a row (each with `role` and `content`) and its tools, if it has any.
pub struct Conversation {
    /// In order.
    pub messages: Vec<Value>,
    /// As the chat template wants them; null if there are none.
    pub tools: Value,
}

/// Reads a row of OpenAI messages, ShareGPT, preference pairs (the chosen answer), or question and
/// answer columns.
pub fn conversation(name: &str, columns: &Columns, record: &Record) -> Result<Conversation> {
    let mut messages = if let Some(list) = record.get("messages") {
        read_list(name, record, "messages", list)?
    } else if let Some(list) = record.get("conversations") {
        read_list(name, record, "conversations", list)?
    } else if record.get("chosen").is_some() {
        preference(name, columns, record)?
    } else {
        question_and_answer(name, columns, record)?
    };
    // A conversation with a separate chosen answer.
    if record.get("conversations").is_some() && record.get("chosen").is_some() {
        messages.extend(read_answer(name, record, "chosen")?);
    }
    let has_system = messages.first().is_some_and(|m| m["role"] == "system");
    if !has_system {
        let system = optional_text(name, record, "system")?;
        if !system.is_empty() {
            messages.insert(0, json!({"role": "system", "content": system}));
        }
    }
    Ok(Conversation { messages, tools: tools(name, record)? })
}

fn read_list(name: &str, record: &Record, column: &str, list: &Value) -> Result<Vec<Value>> {
    let Value::Array(items) = list else {
        let message = format!("column {column:?} holds {}, expected a list", type_word(list));
        return Err(render_error(name, record, message));
    };
    items
        .iter()
        .enumerate()
        .map(|(i, item)| {
            message(item).map_err(|why| {
                render_error(name, record, format!("column {column:?}, message {i}: {why}"))
            })
        })
        .collect()
}

/// One message; ShareGPT's names become OpenAI's.
fn message(item: &Value) -> std::result::Result<Value, String> {
    let Value::Object(fields) = item else {
        return Err(format!("found {}, expected an object", type_word(item)));
    };
    let role = fields.get("role").or_else(|| fields.get("from"));
    let role = match role.and_then(Value::as_str) {
        Some("human" | "user") => "user",
        Some("gpt" | "chatgpt" | "bot" | "assistant" | "model" | "function_call") => "assistant",
        Some("system") => "system",
        Some("tool" | "function" | "observation") => "tool",
        Some(other) if fields.contains_key("role") => other,
        Some(other) => return Err(format!("\"from\" is {other:?}, expected human, gpt or system")),
        None => return Err("has neither \"role\" nor \"from\"".to_string()),
    };
    let mut out = Map::new();
    out.insert("role".to_string(), role.into());
    let content = fields.get("content").or_else(|| fields.get("value")).unwrap_or(&Value::Null);
    // Of an answer without text, its template and its calls of tools decide.
    if content.is_null() && role != "assistant" {
        return Err(format!("the message of {role:?} has no content"));
    }
    out.insert("content".to_string(), flat_content(content)?);
    let known = ["role", "from", "content", "value"];
    for (key, value) in fields.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        out.insert(key.clone(), value.clone());
    }
    Ok(Value::Object(out))
}

/// Text as it is; a list of text parts as their text.
fn flat_content(content: &Value) -> std::result::Result<Value, String> {
    match content {
        Value::String(_) | Value::Null => Ok(content.clone()),
        Value::Array(parts) => {
            let mut text = String::new();
            for part in parts {
                let piece = part.get("text").or_else(|| part.get("value")).and_then(Value::as_str);
                text.push_str(piece.ok_or("a part of the content is no text")?);
            }
            Ok(text.into())
        }
        other => Err(format!("the content is {}, expected text", type_word(other))),
    }
}

/// The answer columns of preference data: text, one message, or a whole conversation.
fn read_answer(name: &str, record: &Record, column: &str) -> Result<Vec<Value>> {
    let fail = |why: String| render_error(name, record, format!("column {column:?}: {why}"));
    match record.get(column) {
        Some(Value::String(text)) => Ok(vec![json!({"role": "assistant", "content": text})]),
        Some(Value::Array(_)) => read_list(name, record, column, &record.columns[column]),
        Some(item @ Value::Object(_)) => Ok(vec![message(item).map_err(fail)?]),
        Some(other) => Err(fail(format!("found {}", type_word(other)))),
        None => Err(fail("is missing".to_string())),
    }
}

fn preference(name: &str, columns: &Columns, record: &Record) -> Result<Vec<Value>> {
    let chosen = read_answer(name, record, "chosen")?;
    // A whole conversation already holds its question.
    if chosen.len() > 1 {
        return Ok(chosen);
    }
    let prompt = columns.prompt_or("prompt");
    let mut messages = match record.get(prompt) {
        Some(list @ Value::Array(_)) => read_list(name, record, prompt, list)?,
        _ => {
            let text = required_text(name, record, prompt)?;
            vec![json!({"role": "user", "content": text})]
        }
    };
    messages.extend(chosen);
    Ok(messages)
}

/// Question columns by the names that data sets use; the answer may be missing (a bare prompt).
fn question_and_answer(name: &str, columns: &Columns, record: &Record) -> Result<Vec<Value>> {
    let first = |stated: &Option<String>, known: &[&str]| -> Option<String> {
        stated
            .clone()
            .or_else(|| known.iter().find(|c| record.get(c).is_some()).map(|c| c.to_string()))
    };
    let prompt = first(&columns.prompt, &["instruction", "prompt", "question"]);
    let prompt = prompt.unwrap_or_else(|| "messages".to_string());
    let mut question = required_text(name, record, &prompt)?;
    let input = optional_text(name, record, columns.input_or("input"))?;
    if !input.is_empty() && prompt != columns.input_or("input") {
        question = format!("{question}\n\n{input}");
    }
    let mut messages = vec![json!({"role": "user", "content": question})];
    let answers = ["output", "completion", "response", "answer"];
    if let Some(column) = first(&columns.answer, &answers)
        && record.get(&column).is_some()
    {
        let answer = columns.answer_text(name, record, &column)?;
        messages.push(json!({"role": "assistant", "content": answer}));
    }
    Ok(messages)
}

/// Tools as a list; some data sets store it as JSON text.
fn tools(name: &str, record: &Record) -> Result<Value> {
    match record.get("tools") {
        None | Some(Value::Null) => Ok(Value::Null),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Value::Null),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|e| {
            render_error(name, record, format!("column \"tools\" holds broken JSON: {e}"))
        }),
        Some(list) => Ok(list.clone()),
    }
}
