//! Python's way of writing values, since templates of the field were written for it.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};

/// A JSON value as the interpreter's own.
pub fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => Value::from(n),
            (None, Some(n)) => Value::from(n),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(from_json).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, item)| (name.as_str(), from_json(item))))
        }
    }
}

/// `str(value)`.
pub fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => value.as_str().map_or_else(|| value.to_string(), str::to_string),
        ValueKind::Undefined => String::new(),
        _ => {
            let mut out = String::new();
            representation(value, &mut out);
            out
        }
    }
}

/// `repr(value)`, appended.
fn representation(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::None | ValueKind::Undefined => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => number(value, out),
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                representation(&key, out);
                out.push_str(": ");
                representation(&value.get_item(&key).unwrap_or_default(), out);
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                representation(&item, out);
            }
            out.push(']');
        }
        _ => out.push_str(&value.to_string()),
    }
}

/// Whole numbers as they are; floats with at least one decimal, as both languages print them.
fn number(value: &Value, out: &mut String) {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => {
            if float != 0.0 && (float.abs() >= 1e16 || float.abs() < 1e-4) {
                // Python writes the exponent with a sign and at least two digits.
                let text = format!("{float:e}");
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let (sign, exponent) =
                    exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
                let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
            } else {
                let _ = write!(out, "{float:?}");
            }
        }
        _ => out.push_str(&value.to_string()),
    }
}

fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
pub fn json(value: &serde_json::Value, indent: Option<usize>) -> String {
    let mut out = String::new();
    write_json(value, indent, 0, &mut out);
    out
}

fn write_json(value: &serde_json::Value, indent: Option<usize>, depth: usize, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        if let Some(width) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value {
        serde_json::Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(comma);
                }
                line(out, depth + 1);
                write_json(item, indent, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        serde_json::Value::Object(fields) if !fields.is_empty() => {
            out.push('{');
            for (i, (name, item)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push_str(comma);
                }
                line(out, depth + 1);
                out.push_str(&plain_json(&serde_json::Value::from(name.as_str())));
                out.push_str(": ");
                write_json(item, indent, depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        other => out.push_str(&plain_json(other)),
    }
}

/// As `to_string` has it, which takes ten times as long for a text of quotes.
fn plain_json(value: &serde_json::Value) -> String {
    // Numbers, text and empty lists cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}
