//! The test rows of a sweep: looked at once, for the setting that the validation rows chose.

use std::path::{Path, PathBuf};

use paddock_datasets::template::Template;
use serde::{Deserialize, Serialize};

use super::cell::file_hash;
use super::course::Tried;
use super::rows::{Files, shared};
use super::spec::Sweep;
use crate::eval::engine::Device;
use crate::eval::rank::LengthNorm;
use crate::eval::rows::{Selection, read};
use crate::eval::run::{Classify, Metric, Request, Run};
use crate::eval::statistics::mean_sd;
use crate::open::Opened;
use crate::run::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::{read_file, replace_file, sha256_hex};

/// test.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// The setting, in words.
    pub setting: String,
    /// Hash of the runs and of the test file that were looked at; none in files of earlier versions.
    #[serde(default)]
    pub key: String,
    /// Test rows.
    pub rows: usize,
    /// Each measure over the seeds.
    pub measures: Vec<Measured>,
    /// How often the test rows have been looked at: more than once if the sweep grew and another setting was
    /// chosen then, or if runs or test rows changed.
    pub looks: u32,
}

/// A measure over the seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub sd: f64,
    /// A share from 0 to 1.
    pub share: bool,
}

/// Judges the chosen setting, unless that was done before.
pub fn test(
    sweep: &Sweep,
    files: &Files,
    best: &Tried,
    out: &Path,
    device: &Device,
    signals: &Signals,
) -> anyhow::Result<Option<Tested>> {
    let Some(path) = &files.test else { return Ok(None) };
    let kept = out.join("test.json");
    let was: Option<Tested> = read_file(&RealStorage, &kept, 1 << 20)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let name = best.setting.words();
    let key = key(&best.folders, path)?;
    if was.as_ref().is_some_and(|was| was.setting == name && was.key == key) {
        return Ok(was);
    }
    let data = read(std::slice::from_ref(path), &Selection::default())?;
    let config = shared(sweep)?;
    let request = Request {
        metrics: vec![Metric::ExactMatch, Metric::Rouge, Metric::Perplexity],
        classify: Classify::Rank,
        norm: LengthNorm::None,
        choices: Vec::new(),
        max_new_tokens: None,
        answer_after: None,
        votes: 1,
        temperature: 0.0,
        drop_long: true,
        seed: 1,
    };
    let (mut names, mut values) = (Vec::new(), Vec::new());
    let mut rows = 0;
    for folder in &best.folders {
        let template = Template::load(&folder.join("template.json"))?;
        let (adapter, model) = (folder.join("adapter"), folder.join("model"));
        let opened = match model.is_dir() {
            true => Opened::open(&model.display().to_string(), None)?,
            false => Opened::open(config.model.as_deref().unwrap_or_default(), Some(&adapter))?,
        };
        let run = Run { opened: &opened, device: device.clone(), request: &request, signals };
        let found = run.all(&data, &[template], None)?;
        let found = found.templates.into_iter().next().unwrap_or_default();
        rows = found.rows.len();
        names = found.measures.iter().map(|m| (m.name.clone(), m.share)).collect();
        values.push(found.measures.iter().map(|m| m.interval.value).collect::<Vec<f64>>());
    }
    let measured = |(i, (name, share)): (usize, (String, bool))| {
        let (mean, sd) = mean_sd(&values.iter().map(|v| v[i]).collect::<Vec<f64>>());
        Measured { name, mean, sd, share }
    };
    let measures = names.into_iter().enumerate().map(measured).collect();
    let looks = was.map_or(0, |was| was.looks) + 1;
    let tested = Tested { setting: name, key, rows, measures, looks };
    replace_file(&RealStorage, &kept, &serde_json::to_vec_pretty(&tested)?)?;
    Ok(Some(tested))
}

/// What the answer of the test rows depends on: the runs, whose names carry their hashes, and the file.
fn key(folders: &[PathBuf], test: &Path) -> anyhow::Result<String> {
    let mut text = file_hash(test)?;
    for name in folders.iter().filter_map(|folder| folder.file_name()) {
        text.push_str(&format!("|{}", name.to_string_lossy()));
    }
    Ok(sha256_hex(text.as_bytes()))
}
