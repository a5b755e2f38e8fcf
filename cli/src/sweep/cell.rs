//! One run of a sweep: its settings, and a name that carries the hash of all that its result depends on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::rows::{Files, part};
use super::spec::{SWEEP_VERSION, Setting, Sweep};
use crate::bundled;
use crate::eval::engine::Device;
use crate::model::ModelFolder;
use crate::open::model_path;
use crate::run::fingerprint::{Fingerprinter, Trust};
use crate::storage::RealStorage;
use crate::storage::whole::sha256_hex;
use crate::study::tune::computed_with;
use crate::train::setup::named_template;

/// The model's own template: it stands in the model's folder, not in a file of its own.
const CHAT: &str = "chat";

/// A run.
pub(super) struct Cell {
    /// The whole RUN.toml, without its folder.
    pub(super) table: Table,
    /// Its folder.
    pub(super) folder: PathBuf,
    /// The file that says what came of it.
    pub(super) file: PathBuf,
}

/// Makes the cells of a sweep; what a model or template holds is hashed once.
pub(super) struct Cells<'a> {
    sweep: &'a Sweep,
    files: &'a Files,
    device: &'a Device,
    dir: PathBuf,
    models: BTreeMap<String, String>,
    templates: BTreeMap<String, String>,
}

impl<'a> Cells<'a> {
    pub(super) fn new(sweep: &'a Sweep, files: &'a Files, device: &'a Device, dir: &Path) -> Self {
        let (models, templates) = (BTreeMap::new(), BTreeMap::new());
        Self { sweep, files, device, dir: dir.to_path_buf(), models, templates }
    }

    /// The run of a setting and a seed.
    pub(super) fn cell(&mut self, setting: &Setting, seed: u64) -> anyhow::Result<Cell> {
        let table = self.table(setting, seed)?;
        let inside = [
            contents(&table, "model", &mut self.models, weights)?,
            contents(&table, "template", &mut self.templates, template)?,
        ];
        let by = format!("{:?}", self.sweep.choose_by);
        let stem = self.dir.join(stem(&table, &by, &self.files.asked, &inside));
        let (file, folder) = (stem.with_extension("json"), stem.with_extension("run"));
        Ok(Cell { table, folder, file })
    }

    fn table(&self, setting: &Setting, seed: u64) -> anyhow::Result<Table> {
        let mut table = self.sweep.run.clone();
        let text = |path: &Path| Value::String(path.display().to_string());
        table.extend(setting.keys.iter().cloned());
        table.insert("data".into(), Value::Array(vec![text(&part(self.files, setting.rows)?)]));
        table.insert("validation".into(), text(&self.files.validation));
        table.insert("seed".into(), Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX)));
        for (key, value) in [("samples", 0), ("test_rows", 0), ("keep_checkpoints", 1)] {
            table.insert(key.into(), Value::Integer(value));
        }
        computed_with(&mut table, self.device);
        Ok(table)
    }
}

/// Hash of what the value of a key names; nothing where the key is not there.
fn contents(
    table: &Table,
    key: &str,
    known: &mut BTreeMap<String, String>,
    hash: fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let Some(name) = table.get(key).and_then(Value::as_str) else { return Ok(String::new()) };
    if let Some(found) = known.get(name) {
        return Ok(found.clone());
    }
    let found = hash(name)?;
    known.insert(name.to_string(), found.clone());
    Ok(found)
}

fn weights(model: &str) -> anyhow::Result<String> {
    let folder = ModelFolder::open(&model_path(model)?)?;
    let hashes = folder.files.iter().map(|file| file_hash(&file.path));
    Ok(hashes.collect::<anyhow::Result<Vec<String>>>()?.join("+"))
}

fn template(name: &str) -> anyhow::Result<String> {
    if name == CHAT { Ok(name.to_string()) } else { Ok(named_template(name)?.hash()) }
}

/// SHA-256 of a file.
pub(super) fn file_hash(path: &Path) -> anyhow::Result<String> {
    let prints = Fingerprinter::new(&RealStorage);
    let mut prints = prints.keeping(bundled::cache_folder().join("hashes"), Trust::Kept);
    Ok(prints.record(path)?.sha256)
}

/// A name that carries the hash of all settings that change the result, of the measure, of the rows, and of
/// what named files hold.
fn stem(table: &Table, by: &str, rows: &str, inside: &[String]) -> String {
    let mut own = table.clone();
    // These change time and roundings only.
    for key in ["threads", "device", "backend"] {
        own.remove(key);
    }
    let text = format!("{SWEEP_VERSION}|{by}|{rows}|{}|{own}", inside.join("|"));
    sha256_hex(text.as_bytes()).chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_changes_a_result_changes_its_name() {
        let table = |text: &str| text.parse::<Table>().expect("TOML");
        let inside = |model: &str| [model.to_string(), "t".to_string()];
        let one = stem(&table("lr = 0.1"), "Loss", "rows", &inside("m"));
        assert_eq!(one, stem(&table("lr = 0.1\nthreads = 3"), "Loss", "rows", &inside("m")));
        for other in [
            stem(&table("lr = 0.2"), "Loss", "rows", &inside("m")),
            stem(&table("lr = 0.1"), "ExactMatch", "rows", &inside("m")),
            stem(&table("lr = 0.1"), "Loss", "others", &inside("m")),
            stem(&table("lr = 0.1"), "Loss", "rows", &inside("n")),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_template_file_that_changes_is_another() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("template.json");
        let name = path.display().to_string();
        let write = |source: &str| {
            let template = paddock_datasets::template::Template::jinja("t", source, None);
            std::fs::write(&path, template.to_json()).expect("a template");
            template_of(&name)
        };
        assert_ne!(write("{{ a }} ||| {{ b }}"), write("{{ b }} ||| {{ a }}"));
    }

    fn template_of(name: &str) -> String {
        template(name).expect("a hash")
    }
}
