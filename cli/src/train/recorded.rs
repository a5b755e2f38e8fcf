//! What a run is made from, as its run.toml records it, and what is compared when it goes on.

use std::path::Path;

use anyhow::Context;

use super::instead;
use super::launch::Launch;
use super::report::Listener;
use super::session::Session;
use super::setup::Setup;
use crate::error::bad_input;
use crate::open::joined;
use crate::run::checkpoint::{BadCheckpoint, latest_good, set_aside_bad};
use crate::run::config::diff::{compare, permit};
use crate::run::config::{
    Continuation, Layers, Record, RecordedFile, RunConfig, RunFile, Versions,
};
use crate::run::ending::{ENDING, Ending};
use crate::run::events::{Event, Warning};
use crate::run::fingerprint::{Fingerprinter, Trust, compare_named, compare_recorded};
use crate::run::folder::RunFolder;
use crate::storage::Storage;
use crate::storage::whole::read_file;

/// Files of a model's folder that the result depends on beside its weights: its shape, its tokens, its chat template
/// and where its answers end.
const SETTINGS: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// A run that is to go on.
pub(super) struct Resumed {
    pub folder: RunFolder,
    pub file: RunFile,
    pub config: RunConfig,
    /// What it computes with although something else was asked for.
    pub instead: Option<String>,
}

impl Resumed {
    pub fn open(
        launch: &Launch,
        asked: &RunConfig,
        storage: &dyn Storage,
    ) -> anyhow::Result<Resumed> {
        let out = asked.out.as_ref().ok_or_else(|| {
            bad_input("--resume needs to know which run: give its folder with --out runs/NAME")
        })?;
        let folder = RunFolder::resume(Path::new(out), &[])?;
        let path = folder.run_toml();
        let text = read_file(storage, &path, 16 << 20)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let text = String::from_utf8(text)
            .map_err(|_| bad_input(format!("{}: not text", path.display())))?;
        let file = RunFile::parse(&path.display().to_string(), &text)?;
        let mut layers = Layers::from_recorded(&file.config)?;
        if let Some((name, text)) = &launch.file {
            layers = layers.file(name, text)?;
        }
        let (mut config, _) = layers.flags(&launch.flags)?.set(&launch.set)?.build()?;
        config.out.clone_from(&file.config.out);
        let instead = instead::of_cuda(&mut config, Some(&file.config))?;
        let changes = compare(&file.config, &config)?;
        permit(&changes, launch.allow_changes)?;
        Ok(Resumed { folder, file, config, instead })
    }

    /// The model with its tokenizer, the template and the data must be what they were.
    pub fn same_inputs(&self, now: &Record) -> anyhow::Result<()> {
        let was = &self.file.record;
        let mut changed = compare_recorded(&was.model, &now.model);
        changed.extend(compare_named(&was.model_settings, &now.model_settings));
        // Test rows that nobody asked for were not written down at first.
        let unasked = self.file.config.test_rows == 0 && now.data.len() == was.data.len() + 1;
        let data = &now.data[..now.data.len() - usize::from(unasked)];
        changed.extend(compare_recorded(&was.data, data));
        if let (Some(before), Some(after)) = (&was.template_sha256, &now.template_sha256)
            && before != after
        {
            let what = "the template: another one than at the start, so that rows would be rendered otherwise";
            changed.push(what.to_string());
        }
        if changed.is_empty() {
            return Ok(());
        }
        Err(bad_input(format!(
            "the run cannot go on, because what it was made from has changed: {}. Put the old files \
             back, or start a new run.",
            changed.join("; ")
        )))
    }
}

/// Takes a run up at its newest good checkpoint, and returns the seconds of training until then. One that was killed
/// before its first checkpoint begins anew.
///
/// # Errors
/// If no checkpoint can be used of a run that had saved some: nothing has been touched then.
pub(super) fn taken_up(
    session: &mut Session<'_>,
    folder: &RunFolder,
    storage: &dyn Storage,
    listener: &mut dyn Listener,
) -> anyhow::Result<f64> {
    let checkpoints = folder.checkpoints();
    let search = latest_good(storage, &checkpoints)?;
    let Some(found) = &search.found else {
        may_begin_anew(folder, storage, &search.bad)?;
        return Ok(0.0);
    };
    for bad in &search.bad {
        listener.event(&Event::Warning(Warning { message: bad.to_string() }))?;
    }
    set_aside_bad(storage, &checkpoints, &search.bad)?;
    session.restore(storage, found)
}

/// A run without a checkpoint begins at step 0, which costs nothing only if it has never saved anything.
fn may_begin_anew(
    folder: &RunFolder,
    storage: &dyn Storage,
    bad: &[BadCheckpoint],
) -> anyhow::Result<()> {
    let saved = Ending::read(storage, folder.path()).map_or(0, |ending| ending.done.step);
    let result = [folder.adapter(), folder.model()].into_iter().find(|path| path.exists());
    let why = match (bad, saved, result) {
        ([], 0, None) => return Ok(()),
        ([], 0, Some(path)) => format!("there is none, although the run wrote {}", path.display()),
        ([], step, _) => format!("there is none, although {ENDING} says that it saved step {step}"),
        (bad, ..) => bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    };
    Err(bad_input(format!(
        "{}: the run cannot go on, because no checkpoint of it can be used: {why}. It would begin again at step 0 and \
         replace what it has made, so nothing was changed. Put its checkpoints back from a copy, or train anew into \
         another folder with --out.",
        folder.checkpoints().display()
    )))
}

/// What the run is made from: versions, fingerprints of model and data, the template's hash.
pub(super) fn record(
    setup: &Setup,
    session: &Session<'_>,
    storage: &dyn Storage,
) -> anyhow::Result<Record> {
    let model = setup.opened.weight_files(storage, Trust::Nothing)?;
    let model_settings = model_settings(setup, storage)?;
    let data = setup
        .files
        .iter()
        .map(|file| RecordedFile {
            path: file.path.display().to_string(),
            bytes: file.fingerprint.bytes,
            sha256: file.fingerprint.sha256.clone(),
        })
        .collect();
    let versions = Versions {
        paddock: env!("CARGO_PKG_VERSION").into(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        backend: session.b.name().into(),
        simd: session.b.name().strip_prefix("cpu ").unwrap_or("").into(),
        threads: setup.config.threads.unwrap_or(0),
    };
    let template_sha256 = Some(setup.template_hash.clone());
    Ok(Record { versions, model, model_settings, data, template_sha256, ..Record::default() })
}

/// The files of [`SETTINGS`] that are read, and the settings of the adapter that the run begins from.
fn model_settings(setup: &Setup, storage: &dyn Storage) -> anyhow::Result<Vec<RecordedFile>> {
    let folder = &setup.opened.folder.path;
    let mut prints = Fingerprinter::new(storage);
    let mut found: Vec<RecordedFile> = Vec::new();
    for name in SETTINGS {
        let path = folder.join(name);
        // Of two tokenizers the first is read.
        let stands_back = name == "tokenizer.model" && folder.join("tokenizer.json").exists();
        if path.exists() && !stands_back {
            found.push(RecordedFile { path: name.into(), ..prints.record(&path)? });
        }
    }
    if let Some(adapter) = &setup.config.init_adapter {
        found.push(prints.record(&Path::new(adapter).join("adapter_config.json"))?);
    }
    Ok(found)
}

/// Fingerprint of the model of a run.
pub fn model_fingerprint(record: &Record) -> String {
    joined(&record.model)
}

/// The run's record: what it is made from, and each time that it went on. With it what a person should be told:
/// why a run that goes on here may end in other bits.
pub(super) fn run_file(
    setup: &Setup,
    old: Option<RunFile>,
    record: Record,
    step: u64,
) -> anyhow::Result<(RunFile, Vec<String>)> {
    let config = setup.config.resolved(setup.total_steps());
    let Some(old) = old else { return Ok((RunFile { config, record }, Vec::new())) };
    let other = old.record.versions.differences(&record.versions);
    let mut notes: Vec<String> =
        compare(&old.config, &config)?.iter().map(ToString::to_string).collect();
    notes.extend_from_slice(&other);
    let Record { continuations, rewinds, .. } = old.record;
    let mut record = Record { continuations, rewinds, ..record };
    record.continuations.push(Continuation { step, notes });
    Ok((RunFile { config, record }, other))
}
