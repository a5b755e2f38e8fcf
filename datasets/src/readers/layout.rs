//! Tells format and layout of a data file and says why; either can be stated instead.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::{Record, name_list};

/// How rows are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// An array of objects, or objects after one another.
    Json,
    /// One object a line.
    Jsonl,
    /// A table separated by commas (or another character).
    Csv,
    /// A table separated by tabs.
    Tsv,
    /// Apache Parquet.
    Parquet,
    /// `__label__` lines.
    FastText,
    /// A Super-NaturalInstructions task file.
    Task,
}

/// What the columns mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `instruction`, `input` (may be absent or empty), `output`.
    Alpaca,
    /// A pair such as `prompt` and `completion`.
    PromptCompletion,
    /// `conversations` of `from` and `value`.
    ShareGpt,
    /// `messages` of `role` and `content`.
    Messages,
    /// `chosen` and `rejected`.
    Preference,
    /// `definition`, `input`, `output` list.
    SuperNaturalInstructions,
    /// `instruction` with a list of `instances`.
    SelfInstructSeed,
    /// Any other columns.
    Table,
}

macro_rules! named {
    ($type:ty, $($variant:path => $name:literal),+ $(,)?) => {
        impl $type {
            /// All of them with their names.
            pub const NAMES: &'static [(&'static str, $type)] = &[$(($name, $variant)),+];
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = Self::NAMES.iter().find(|(_, v)| v == self).map_or("", |(n, _)| n);
                f.write_str(name)
            }
        }
        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::NAMES.iter().find(|(n, _)| *n == text).map(|(_, v)| *v).ok_or_else(|| {
                    let all: Vec<_> = Self::NAMES.iter().map(|(n, _)| *n).collect();
                    format!("{text:?} is not one of {}", all.join(", "))
                })
            }
        }
    };
}

named!(Format,
    Format::Json => "json", Format::Jsonl => "jsonl", Format::Csv => "csv", Format::Tsv => "tsv",
    Format::Parquet => "parquet", Format::FastText => "fasttext", Format::Task => "task");
named!(Layout,
    Layout::Alpaca => "alpaca", Layout::PromptCompletion => "prompt-completion",
    Layout::ShareGpt => "sharegpt", Layout::Messages => "messages",
    Layout::Preference => "preference",
    Layout::SuperNaturalInstructions => "super-natural-instructions",
    Layout::SelfInstructSeed => "self-instruct-seed", Layout::Table => "table");

/// What a file turned out to be, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// Format.
    pub format: Format,
    /// "none", "gzip" or "zstd".
    pub compression: &'static str,
    /// Layout.
    pub layout: Layout,
    /// Column names of the first rows, in order of first appearance.
    pub columns: Vec<String>,
    /// The reasons in words, to be shown.
    pub why: String,
}

/// Tells the format from the unpacked head; `extension` is the lower-case ending of the name
/// without `.gz` or `.zst`.
pub fn detect_format(head: &[u8], extension: &str) -> (Format, String) {
    let first = head.iter().copied().find(|b| !b.is_ascii_whitespace());
    let start = head.trim_ascii_start();
    if head.starts_with(b"PAR1") {
        return (Format::Parquet, "it begins with Parquet's mark".to_string());
    }
    if start.starts_with(b"__label__") {
        return (Format::FastText, "its first line begins with __label__".to_string());
    }
    match first {
        Some(b'[') => return (Format::Json, "it begins with [".to_string()),
        Some(b'{') => return detect_object(head, extension),
        _ => {}
    }
    match extension {
        "tsv" => (Format::Tsv, "its name ends in .tsv".to_string()),
        "csv" => (Format::Csv, "its name ends in .csv".to_string()),
        "json" => (Format::Json, "its name ends in .json".to_string()),
        "jsonl" | "ndjson" => (Format::Jsonl, format!("its name ends in .{extension}")),
        _ => {
            let line = head.split(|&b| b == b'\n').next().unwrap_or(head);
            let count = |byte: u8| line.iter().filter(|&&b| b == byte).count();
            if count(b'\t') > 0 {
                (Format::Tsv, "its first line holds tabs".to_string())
            } else {
                (Format::Csv, "it is text that is neither JSON nor separated by tabs".to_string())
            }
        }
    }
}

/// A file that begins with `{`: lines of objects, a task file, or objects over several lines.
fn detect_object(head: &[u8], extension: &str) -> (Format, String) {
    let start = head.trim_ascii_start();
    let line = start.split(|&b| b == b'\n').next().unwrap_or(start);
    let whole_line = line.len() < start.len() || head.len() < crate::readers::source::HEAD;
    let parsed = whole_line.then(|| serde_json::from_slice::<Value>(line).ok()).flatten();
    let task = |text: &[u8]| {
        let has = |name: &[u8]| text.windows(name.len()).any(|w| w == name);
        // The definition may stand behind the instances, far beyond the head.
        has(b"\"Definition\"") && (has(b"\"Instances\"") || has(b"\"Positive Examples\""))
            || has(b"\"Positive Examples\"") && has(b"\"Instruction_language\"")
    };
    match parsed {
        Some(value) if value.get("Instances").is_some() && value.get("Definition").is_some() => {
            (Format::Task, "it is an object with Definition and Instances".to_string())
        }
        Some(_) => (Format::Jsonl, "there is one JSON object on each line".to_string()),
        None if task(start) => {
            (Format::Task, "it is a Super-NaturalInstructions task, one object".to_string())
        }
        None if matches!(extension, "jsonl" | "ndjson") => {
            (Format::Jsonl, format!("its name ends in .{extension}"))
        }
        None => (Format::Json, "it begins with an object over several lines".to_string()),
    }
}

/// Pairs of column names that are known to mean question and answer.
pub const PAIRS: &[(&str, &str)] = &[
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("instruction", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("input", "output"),
    ("inputs", "targets"),
    ("source", "target"),
    ("query", "response"),
];

/// Tells the layout from the first rows.
pub fn detect_layout(rows: &[Record]) -> (Layout, String) {
    let Some(first) = rows.first() else {
        return (Layout::Table, "there is no row to look at".to_string());
    };
    // Some rows may be broken: reading names them. What the first and most others have is the layout.
    let most = |name: &str| {
        let have = rows.iter().filter(|row| row.get(name).is_some()).count();
        first.get(name).is_some() && 2 * have >= rows.len()
    };
    let is_list = |name: &str| matches!(first.get(name), Some(Value::Array(_)));
    if most("chosen") && most("rejected") {
        return (Layout::Preference, "rows have chosen and rejected".to_string());
    }
    if most("definition") && most("positive_examples") && most("output") {
        let why = "rows come from a Super-NaturalInstructions task";
        return (Layout::SuperNaturalInstructions, why.to_string());
    }
    if most("instruction") && is_list("instances") {
        return (Layout::SelfInstructSeed, "rows have instruction and instances".to_string());
    }
    if is_list("conversations") {
        return (Layout::ShareGpt, "rows have a list called conversations".to_string());
    }
    if is_list("messages") {
        return (Layout::Messages, "rows have a list called messages".to_string());
    }
    if most("instruction") && most("output") {
        return (Layout::Alpaca, "rows have instruction and output".to_string());
    }
    for (prompt, answer) in PAIRS {
        if most(prompt) && most(answer) {
            return (Layout::PromptCompletion, format!("rows have {prompt} and {answer}"));
        }
    }
    let names = first.columns.keys().cloned();
    (Layout::Table, format!("the columns are {}", name_list(names)))
}
