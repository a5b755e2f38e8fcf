//! A Super-NaturalInstructions task file: one object with a definition, examples and instances.

use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::readers::{RawRow, check_text};
use crate::record::BadRow;

/// A task file is read whole; the largest of the collection is far below this.
const CAP: u64 = 1 << 30;

/// Rows of a task file: `definition`, `input`, `output` (a list), `id`, `positive_examples`,
/// `negative_examples`, `categories`.
pub fn read_task(
    reader: Box<dyn BufRead + Send>,
    path: &Path,
) -> Result<impl Iterator<Item = std::result::Result<RawRow, BadRow>> + use<>> {
    let mut bytes = Vec::new();
    reader.take(CAP).read_to_end(&mut bytes).map_err(|e| Error::io(path, "read", e))?;
    let broken =
        |why: String| Error::not_data(path, &why, "expected a Super-NaturalInstructions task");
    let text = check_text(&bytes).map_err(|kind| broken(kind.to_string()))?;
    let task: Value =
        serde_json::from_str(text).map_err(|e| broken(format!("is broken JSON ({e})")))?;
    let Value::Object(mut task) = task else {
        return Err(broken("holds no object".to_string()));
    };
    let Some(Value::Array(instances)) = task.remove("Instances") else {
        return Err(broken("has no list called \"Instances\"".to_string()));
    };
    let definition = match task.remove("Definition") {
        Some(Value::Array(mut texts)) if !texts.is_empty() => texts.swap_remove(0),
        Some(text @ Value::String(_)) => text,
        _ => return Err(broken("has no \"Definition\"".to_string())),
    };
    let list = |value: Option<Value>| value.unwrap_or(Value::Array(Vec::new()));
    let positive = list(task.remove("Positive Examples"));
    let negative = list(task.remove("Negative Examples"));
    let categories = list(task.remove("Categories"));
    Ok(instances.into_iter().enumerate().map(move |(row, instance)| {
        let mut columns = Map::new();
        columns.insert("definition".to_string(), definition.clone());
        if let Value::Object(fields) = instance {
            columns.extend(fields);
        }
        columns.insert("positive_examples".to_string(), positive.clone());
        columns.insert("negative_examples".to_string(), negative.clone());
        columns.insert("categories".to_string(), categories.clone());
        Ok(RawRow { row: row as u64, byte: None, line: None, columns })
    }))
}
