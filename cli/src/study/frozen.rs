//! The split of a study, written down once: three files and their hashes. Whoever looks at the results
//! later can see on which rows they were got, and nothing changes them unnoticed.

use std::path::{Path, PathBuf};

use paddock_datasets::record::{Record, scalar_text};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::rows::{Row, Sides, divided, paths, to_json};
use super::spec::Study;
use crate::error::bad_input;
use crate::storage::RealStorage;
use crate::storage::whole::{hash_file, read_file, replace_file, sha256_hex};

/// Version of split.json.
const VERSION: u32 = 1;

/// Largest file of a side.
const MOST_BYTES: u64 = 4 << 30;

/// split.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// Version of this layout.
    pub version: u32,
    /// Hash of what the split was asked to be, the contents of the source files included.
    pub asked: String,
    /// The answers, sorted.
    pub labels: Vec<String>,
    /// Name, rows and SHA-256 of each side's file.
    pub sides: Vec<Side>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// A side's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// train, validation or test.
    pub name: String,
    /// Its rows.
    pub rows: usize,
    /// SHA-256 of NAME.jsonl.
    pub sha256: String,
}

impl Frozen {
    /// One hash for the whole split.
    pub fn hash(&self) -> String {
        let hashes: Vec<&str> = self.sides.iter().map(|side| side.sha256.as_str()).collect();
        sha256_hex(format!("{}|{}", hashes.join("|"), self.labels.join("|")).as_bytes())
    }

    /// The hash of one side.
    pub fn side(&self, name: &str) -> &str {
        self.sides.iter().find(|side| side.name == name).map_or("", |side| &side.sha256)
    }
}

/// The file of a side.
pub fn side_path(out: &Path, side: &str) -> PathBuf {
    out.join("split").join(format!("{side}.jsonl"))
}

/// The rows of the study: divided and written down the first time, read back afterwards.
///
/// # Errors
/// If the sources or the wishes are not those of the split that is there, or its files were changed.
pub fn rows(study: &Study, out: &Path) -> anyhow::Result<(Frozen, Sides)> {
    let asked = asked(study)?;
    let path = out.join("split").join("split.json");
    if !path.exists() {
        freeze(study, out, &asked)?;
    }
    let text = read_file(&RealStorage, &path, MOST_BYTES)?;
    let frozen: Frozen =
        serde_json::from_slice(&text).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
    if frozen.asked != asked {
        return Err(bad_input(format!(
            "{}: this split was made from other rows or by other wishes (data, split, task, most_rows). \
             Results on another split cannot stand beside these: name another folder with out = \"…\"",
            path.display()
        )));
    }
    let mut sides =
        Sides { labels: frozen.labels.clone(), notes: frozen.notes.clone(), ..Sides::default() };
    for side in &frozen.sides {
        let rows = read_side(out, side, &frozen.labels)?;
        match side.name.as_str() {
            "train" => sides.train = rows,
            "validation" => sides.validation = rows,
            _ => sides.test = rows,
        }
    }
    Ok((frozen, sides))
}

fn asked(study: &Study) -> anyhow::Result<String> {
    let mut sources = Vec::new();
    for names in [&study.data, &study.validation_data, &study.test_data] {
        let mut hashes = Vec::new();
        for path in paths(names)? {
            let found = hash_file(&RealStorage, &path)
                .map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
            hashes.push(found.sha256);
        }
        sources.push(hashes);
    }
    let wishes = json!([VERSION, sources, study.split, study.most_rows, study.task]);
    Ok(sha256_hex(wishes.to_string().as_bytes()))
}

/// Rows as lines of JSON.
pub fn lines<'r>(rows: impl Iterator<Item = &'r Row>) -> String {
    rows.map(|row| format!("{}\n", to_json(row))).collect()
}

fn freeze(study: &Study, out: &Path, asked: &str) -> anyhow::Result<()> {
    let sides = divided(study)?;
    std::fs::create_dir_all(out.join("split"))?;
    let mut list = Vec::new();
    for (name, rows) in sides.each() {
        let text = lines(rows.iter());
        replace_file(&RealStorage, &side_path(out, name), text.as_bytes())?;
        let sha256 = sha256_hex(text.as_bytes());
        list.push(Side { name: name.to_string(), rows: rows.len(), sha256 });
    }
    let Sides { labels, notes, .. } = sides;
    let frozen = Frozen { version: VERSION, asked: asked.to_string(), labels, sides: list, notes };
    let text = serde_json::to_string_pretty(&frozen)?;
    Ok(replace_file(&RealStorage, &out.join("split").join("split.json"), text.as_bytes())?)
}

fn read_side(out: &Path, side: &Side, labels: &[String]) -> anyhow::Result<Vec<Row>> {
    let path = side_path(out, &side.name);
    let changed = || {
        bad_input(format!(
            "{}: it is not the file that was written when the study began (its hash is another). Put \
             it back, or name another folder with out = \"…\"",
            path.display()
        ))
    };
    let bytes = read_file(&RealStorage, &path, MOST_BYTES).map_err(|_| changed())?;
    if sha256_hex(&bytes) != side.sha256 {
        return Err(changed());
    }
    let text = String::from_utf8(bytes).map_err(|_| changed())?;
    let mut rows = Vec::with_capacity(side.rows);
    for (line, number) in text.lines().zip(0..) {
        let columns = serde_json::from_str(line).map_err(|_| changed())?;
        let record = Record { row: number, byte: None, line: Some(number + 1), columns };
        let get = |name: &str| record.get(name).and_then(scalar_text);
        let text = get("text").ok_or_else(changed)?;
        let answer = get("output").ok_or_else(changed)?;
        let label = labels.iter().position(|l| *l == answer).ok_or_else(changed)?;
        rows.push(Row { record, text, label });
    }
    Ok(rows)
}
