//! The rows of a sweep. All its runs are judged by the same validation rows, and a smaller number of training
//! rows is the beginning of a larger one.

use std::path::{Path, PathBuf};

use paddock_core::philox::{Philox, Stream};
use paddock_datasets::record::Record;
use paddock_datasets::split::{SplitOptions, group_keys, split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cell::file_hash;
use super::spec::Sweep;
use crate::bundled;
use crate::error::bad_input;
use crate::eval::rows::{Selection, read};
use crate::run::config::{Layers, RunConfig, Validation};
use crate::storage::RealStorage;
use crate::storage::whole::{read_file, replace_file, sha256_hex};
use crate::study::spec::Rows;

/// Seed of the division and of the order; the seeds of runs are for training alone.
const SEED: u64 = 1;

/// Fewest validation rows where the data allow.
const LEAST: usize = 32;

/// Files of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// Hash of the rows that they were made from.
    pub asked: String,
    /// All training rows, in an order that is fixed.
    pub train: PathBuf,
    /// How many.
    pub rows: usize,
    /// The validation rows.
    pub validation: PathBuf,
    /// The test rows, if there are any.
    pub test: Option<PathBuf>,
}

/// The shared settings, without what varies.
pub fn shared(sweep: &Sweep) -> anyhow::Result<RunConfig> {
    let text = toml::to_string(&sweep.run)?;
    Ok(Layers::new().file("[run]", &text)?.build()?.0)
}

/// Divides the rows, once: a sweep that goes on finds them as they were.
pub fn files(sweep: &Sweep, out: &Path) -> anyhow::Result<Files> {
    let config = shared(sweep)?;
    let mut paths = Vec::new();
    let (mut validation, mut test) = (None, sweep.test.as_deref().map(bundled::data_path));
    for name in &config.data {
        match name.strip_prefix(bundled::PREFIX) {
            Some(built_in) => {
                let data = bundled::data(built_in)?;
                paths.push(data.train);
                validation = validation.or(data.validation);
                test = test.or(data.test.map(Ok));
            }
            None => paths.push(PathBuf::from(name)),
        }
    }
    let selection = Selection { skip_bad: config.skip_bad, ..Selection::default() };
    let mut records = read(&paths, &selection)?.records;
    if let Validation::File(file) = &config.validation {
        validation = Some(bundled::data_path(file)?);
    }
    let own = validation.is_none();
    let held = divided(&mut records, &config, own)?;
    Philox::new(SEED, Stream::MIX).shuffle(0, &mut records);
    let dir = out.join("rows");
    let (train_text, held_text) = (lines(&records), lines(&held));
    let held_hash = match &validation {
        Some(file) => file_hash(file)?,
        None => String::new(),
    };
    let files = Files {
        asked: sha256_hex(format!("{train_text}|{held_text}{held_hash}").as_bytes()),
        train: dir.join("train.jsonl"),
        rows: records.len(),
        validation: validation.unwrap_or_else(|| dir.join("validation.jsonl")),
        test: test.transpose()?,
    };
    let list = dir.join("rows.json");
    if let Ok(bytes) = read_file(&RealStorage, &list, 1 << 20) {
        let was: Option<Files> = serde_json::from_slice(&bytes).ok();
        if was.as_ref().is_some_and(|was| *was != files) {
            return Err(bad_input(format!(
                "{}: this sweep began with other rows; name another folder with out = \"…\"",
                list.display()
            )));
        }
    }
    std::fs::create_dir_all(&dir)?;
    replace_file(&RealStorage, &files.train, train_text.as_bytes())?;
    if own {
        replace_file(&RealStorage, &files.validation, held_text.as_bytes())?;
    }
    replace_file(&RealStorage, &list, &serde_json::to_vec_pretty(&files)?)?;
    Ok(files)
}

/// Takes the validation rows out of the others; equal rows stay on one side.
fn divided(
    records: &mut Vec<Record>,
    config: &RunConfig,
    own: bool,
) -> anyhow::Result<Vec<Record>> {
    if !own {
        return Ok(Vec::new());
    }
    let share = match config.validation {
        Validation::Share(share) => share,
        Validation::Rows(n) => n as f64 / records.len() as f64,
        Validation::None | Validation::File(_) => {
            return Err(bad_input(
                "the sweep: settings are chosen by validation rows; give run.validation a share, a number \
                 of rows or a file",
            ));
        }
    };
    let texts: Vec<String> = records.iter().map(line).collect();
    let keys = group_keys(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let min_rows = LEAST.min(records.len() / 5);
    let sides = split(&keys, &SplitOptions { share, min_rows, seed: SEED });
    if sides.validation.is_empty() || sides.train.is_empty() {
        return Err(bad_input("the sweep: there are too few different rows to hold some out"));
    }
    let held = sides.validation.iter().map(|&i| records[i].clone()).collect();
    *records = sides.train.iter().map(|&i| records[i].clone()).collect();
    Ok(held)
}

fn line(record: &Record) -> String {
    Value::Object(record.columns.clone()).to_string()
}

fn lines(records: &[Record]) -> String {
    records.iter().map(|record| format!("{}\n", line(record))).collect()
}

/// The file with so many training rows.
pub fn part(files: &Files, rows: Rows) -> anyhow::Result<PathBuf> {
    let Rows::Some(n) = rows else { return Ok(files.train.clone()) };
    if n > files.rows {
        return Err(bad_input(format!(
            "vary.rows asks for {n} rows, but there are {} to learn from",
            files.rows
        )));
    }
    let path = files.train.with_file_name(format!("train-{n}.jsonl"));
    let all = String::from_utf8(read_file(&RealStorage, &files.train, u64::MAX)?)?;
    let text: String = all.split_inclusive('\n').take(n).collect();
    replace_file(&RealStorage, &path, text.as_bytes())?;
    Ok(path)
}
