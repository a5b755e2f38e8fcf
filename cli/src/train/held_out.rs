//! Which rows a run held out: those of files of their own without what is trained on, all of them written down in
//! its folder, so that whoever judges the model later asks the very rows that it has not seen.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paddock_datasets::tokens::{Facts, Store};
use serde::{Deserialize, Serialize};

use super::rows::Rows;
use super::setup::Setup;
use super::test_rows::TestRow;
use crate::bundled;
use crate::error::bad_input;
use crate::run::folder::RunFolder;
use crate::storage::whole::{read_file, replace_file};
use crate::storage::{RealStorage, Storage};

/// Which of the rows to judge by are trained on.
pub struct Taught {
    /// Tokens and mask.
    keys: HashSet<u128>,
    /// Longest texts of rows.
    texts: HashSet<u64>,
}

/// Notes whose text it is; `None` once it is more than one's.
fn only<T: PartialEq>(owners: &mut HashMap<u64, Option<T>>, text: u64, owner: T) {
    match owners.get_mut(&text) {
        Some(known) if known.as_ref() != Some(&owner) => *known = None,
        Some(_) => {}
        None => _ = owners.insert(text, Some(owner)),
    }
}

impl Taught {
    /// Looks for the rows that are asked about among those to learn from, of which there may be far more: only
    /// keys of the former are kept. Rows are equal if their tokens and mask are. `by_text`, where several templates
    /// or worked examples make different tokens of equal rows, also if their longest text is, and is no other row's:
    /// a text that many rows share (a system prompt, an instruction) says nothing of one of them.
    pub fn of(train: &Rows, asked: impl Iterator<Item = Facts>, by_text: bool) -> Taught {
        let (mut asked_keys, mut asked_texts) = (HashSet::new(), HashMap::new());
        for facts in asked {
            asked_keys.insert(facts.key);
            only(&mut asked_texts, facts.text, facts.key);
        }
        let (mut keys, mut texts) = (HashSet::new(), HashMap::new());
        // Without rows to judge by nothing is compared.
        let rows = (!asked_keys.is_empty()).then(|| train.facts()).into_iter().flatten();
        for facts in rows {
            if asked_keys.contains(&facts.key) {
                keys.insert(facts.key);
            }
            if by_text && facts.text != 0 && matches!(asked_texts.get(&facts.text), Some(Some(_))) {
                only(&mut texts, facts.text, facts.row);
            }
        }
        let texts = texts.into_iter().filter(|(_, row)| row.is_some()).map(|(text, _)| text);
        Taught { keys, texts: texts.collect() }
    }

    fn has(&self, facts: &Facts) -> bool {
        self.keys.contains(&facts.key) || self.texts.contains(&facts.text)
    }

    /// The rows of a validation file without those that are trained on, and the number of these.
    ///
    /// # Errors
    /// If that leaves none.
    pub fn without(&self, path: &str, store: &Arc<Store>) -> anyhow::Result<(Rows, u64)> {
        let rows = store.len();
        let kept: Vec<usize> = (0..rows).filter(|&i| !self.has(&store.facts(i))).collect();
        if kept.is_empty() {
            return Err(bad_input(format!(
                "{path}: the text of every row is trained on too ({rows} rows), so they cannot show what the model \
                 has learned. Name rows that are not trained on with --validation FILE, or let some be held out: \
                 --validation 0.1"
            )));
        }
        let shared = (rows - kept.len()) as u64;
        Ok((Rows::of(Arc::clone(store), kept), shared))
    }

    /// Removes test rows that are trained on; how many.
    ///
    /// # Errors
    /// If that leaves none.
    pub fn remove_from(&self, tests: &mut Vec<TestRow>) -> anyhow::Result<u64> {
        let before = tests.len();
        tests.retain(|row| !self.has(&row.facts));
        if before > 0 && tests.is_empty() {
            return Err(bad_input(format!(
                "the text of every test row is trained on too ({before} rows), so answers to them would show nothing. \
                 Name rows that are not trained on with --test FILE, or turn judging off with --test-rows 0"
            )));
        }
        Ok((before - tests.len()) as u64)
    }
}

/// The file's name in a run folder.
pub const HELD_OUT: &str = "held_out.json";
const VERSION: u32 = 1;

/// Rows that a run never trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOut {
    version: u32,
    /// The files, as named to the run.
    pub data: Vec<String>,
    /// Numbers over all files of the rows held out; none: all rows of the files.
    pub rows: Option<BTreeSet<u64>>,
}

/// Writes the file of a run. A mixture has none: its held-out rows are those of several sets.
pub fn write(setup: &Setup, folder: &RunFolder, storage: &dyn Storage) -> anyhow::Result<()> {
    if !setup.config.mixture.is_empty() || setup.validation.is_empty() {
        return Ok(());
    }
    let data = setup.config.data.clone();
    let rows = || setup.validation.facts().map(|facts| facts.row).collect();
    let found = match &setup.validation_file {
        Some(path) => {
            // Of a file that shares rows with the training rows, the others.
            let rows = (setup.shared > 0).then(rows);
            HeldOut { version: VERSION, data: vec![path.clone()], rows }
        }
        None => HeldOut { version: VERSION, data, rows: Some(rows()) },
    };
    Ok(replace_file(storage, &folder.path().join(HELD_OUT), &serde_json::to_vec(&found)?)?)
}

/// What the run in `folder` held out; nothing if it did not write that down.
pub fn read(folder: &Path) -> Option<HeldOut> {
    let bytes = read_file(&RealStorage, &folder.join(HELD_OUT), 1 << 30).ok()?;
    let found: HeldOut = serde_json::from_slice(&bytes).ok()?;
    (found.version == VERSION).then_some(found)
}

/// The same for a command: the files and the rows.
///
/// # Errors
/// If the folder holds nothing of the kind.
pub fn of_run(folder: &Path) -> anyhow::Result<(Vec<PathBuf>, Option<BTreeSet<u64>>)> {
    let found = read(folder).ok_or_else(|| {
        bad_input(format!(
            "{}: this run did not write down which rows it held out ({HELD_OUT}); name rows with --data",
            folder.display()
        ))
    })?;
    let paths = found.data.iter().map(|name| bundled::data_path(name));
    Ok((paths.collect::<anyhow::Result<_>>()?, found.rows))
}
