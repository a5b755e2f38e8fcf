//! Starting a run, or going on with one: folder, lock, record, plan; then the loop; then what remains.

use std::path::{Path, PathBuf};

use anyhow::Context;
use paddock_datasets::prepare::Progress;
use paddock_datasets::readers::Detected;

use super::forecast::forecast;
use super::go::{Clock, Loop, Outlets};
use super::on_the_way::Watched;
use super::report::Listener;
use super::saved::checkpoint_bytes;
use super::session::Session;
use super::setup::Setup;
use super::spike::Losses;
use super::verdict::Facts;
use super::{held_out, instead, judge, outcome, samples, time};
use crate::bundled::cache_folder;
use crate::data::day::today;
use crate::error::bad_input;
use crate::run::checkpoint::{check_space, latest_good, set_aside_bad, sweep};
use crate::run::config::diff::{compare, permit};
use crate::run::config::{
    Continuation, Layers, Record, RecordedFile, RunConfig, RunFile, Validation, Versions,
};
use crate::run::control::Control;
use crate::run::events::{Event, Reason, Start, Warning};
use crate::run::fingerprint::{Fingerprinter, compare_recorded};
use crate::run::folder::RunFolder;
use crate::run::metrics::MetricsWriter;
use crate::run::signals::Signals;
use crate::storage::whole::{read_file, replace_file};
use crate::storage::{RealStorage, Storage};

/// Fewer held-out rows than this say little.
const FEW_HELD_OUT: usize = 20;

/// What the person asked for.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// RUN.toml's name and text, if one was given.
    pub file: Option<(String, String)>,
    /// Keys and texts of flags.
    pub flags: Vec<(String, String)>,
    /// Texts of `--set`.
    pub set: Vec<String>,
    /// Go on with the run in `out`.
    pub resume: bool,
    /// Go on although settings changed that change the result.
    pub allow_changes: bool,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Why.
    pub reason: Reason,
    /// Its folder.
    pub folder: PathBuf,
}

/// Runs from settings to results.
pub fn train(
    launch: &Launch,
    listener: &mut dyn Listener,
    signals: &Signals,
) -> anyhow::Result<Ended> {
    train_on(launch, listener, signals, &RealStorage)
}

/// As [`train`], with checkpoints, metrics and records written through this storage.
pub fn train_on(
    launch: &Launch,
    listener: &mut dyn Listener,
    signals: &Signals,
    storage: &dyn Storage,
) -> anyhow::Result<Ended> {
    let mut layers = Layers::new();
    if let Some((name, text)) = &launch.file {
        layers = layers.file(name, text)?;
    }
    let asked = layers.flags(&launch.flags)?.set(&launch.set)?;
    let (config, _) = asked.build()?;
    let resumed = if launch.resume { Some(Resumed::open(launch, &config, storage)?) } else { None };
    let (mut config, instead) = match &resumed {
        Some(resumed) => (resumed.config.clone(), resumed.instead.clone()),
        None => {
            let mut config = config;
            let instead = instead::of_cuda(&mut config, None)?;
            (config, instead)
        }
    };
    if let Some(message) = instead {
        listener.event(&Event::Warning(Warning { message }))?;
    }
    // One day for all rows, and for every resume.
    config.today.get_or_insert_with(today);
    let setup = Setup::prepare(config, &mut Told { listener, signals })?;
    for message in notices(&setup) {
        listener.event(&Event::Warning(Warning { message }))?;
    }
    let mut session = Session::plan(&setup)?;
    let mut plan = forecast(&session);
    let record = record(&setup, &session, storage)?;
    let (folder, old) = match resumed {
        Some(resumed) => {
            resumed.same_inputs(&record)?;
            (resumed.folder, Some(resumed.file))
        }
        None => (new_folder(&setup)?, None),
    };
    check_space(storage, folder.path(), checkpoint_bytes(&session.model))?;
    if listener.wants_time() && !launch.resume {
        plan.seconds = time::reckoned(&mut session, plan.memory_bytes, signals)?;
    }
    listener.event(&Event::Plan(plan.clone()))?;
    session.forecast = Some(plan);
    session.made_from = record.model.iter().map(|file| file.sha256.clone()).collect();
    session.begin()?;
    start_or_go_on(&mut session, &folder, old, record, storage, listener, signals)
}

/// Tells the listener how reading goes.
pub struct Told<'a> {
    /// Who hears of it.
    pub listener: &'a mut dyn Listener,
    /// Whether to stop.
    pub signals: &'a Signals,
}

impl Progress for Told<'_> {
    fn rows(&mut self, path: &Path, rows: u64) -> bool {
        if !path.starts_with(cache_folder()) {
            self.listener.busy(&format!("reading {}: {rows} rows so far", path.display()));
        }
        !self.signals.stop_requested()
    }

    fn opened(&mut self, path: &Path, detected: &Detected, notes: &[String]) {
        // Of built-in rows nothing had to be found out.
        if !path.starts_with(cache_folder()) {
            let mut message = format!("{}: {}", path.display(), detected.why);
            notes.iter().for_each(|note| message.push_str(&format!("; {note}")));
            self.listener.note(&message);
        }
    }
}

/// A run that is to go on.
struct Resumed {
    folder: RunFolder,
    file: RunFile,
    config: RunConfig,
    /// What it computes with although something else was asked for.
    instead: Option<String>,
}

impl Resumed {
    fn open(launch: &Launch, asked: &RunConfig, storage: &dyn Storage) -> anyhow::Result<Resumed> {
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

    /// The model and the data must be what they were.
    fn same_inputs(&self, now: &Record) -> anyhow::Result<()> {
        let was = &self.file.record;
        let mut changed = compare_recorded(&was.model, &now.model);
        changed.extend(compare_recorded(&was.data, &now.data));
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

/// What a person should know before a run: double counting, rows that cannot teach, odd prompts.
pub fn notices(setup: &Setup) -> Vec<String> {
    let report = &setup.report;
    let mut notices = Vec::new();
    let held_out = setup.validation.len();
    if (1..FEW_HELD_OUT).contains(&held_out) {
        notices.push(format!(
            "only {held_out} rows are held out to judge by, so the loss on them is a rough guide; more rows, \
             or --validation FILE, make it a better one"
        ));
    }
    if !setup.opened.unused.is_empty() {
        notices.push(format!(
            "{} tensors of the model's files are not used, such as `{}`",
            setup.opened.unused.len(),
            setup.opened.unused[0]
        ));
    }
    notices.extend(setup.opened.folder.odd_index.clone());
    if report.prefix_mismatches.total > 0 {
        notices.push(format!(
            "in {} of the first {} rows the prompt alone is cut into other tokens than the prompt with \
             its answer (rows {:?}); let the template end the prompt with a line break or a space",
            report.prefix_mismatches.total,
            report.rows_read.min(256),
            report.prefix_mismatches.first
        ));
    }
    if report.special_text > 0 {
        notices.push(format!(
            "text like a control token occurs {} times in the rows; it is read as plain text",
            report.special_text
        ));
    }
    if report.answers_ended < report.answers {
        notices.push(format!(
            "{} of {} answers do not end with an end token, so the model may not learn to stop",
            report.answers - report.answers_ended,
            report.answers
        ));
    }
    if setup.shared > 0 {
        notices.push(format!(
            "{} held-out rows have a text that is trained on too; they were left out",
            setup.shared
        ));
    }
    if report.duplicates.total > 0 {
        notices
            .push(format!("{} rows are equal to others; they are used", report.duplicates.total));
    }
    notices
}

/// The folder of a new run: `out`, or a free name under runs/.
fn new_folder(setup: &Setup) -> anyhow::Result<RunFolder> {
    let c = &setup.config;
    let sets = c.mixture.iter().flat_map(|set| &set.data);
    let mut inputs: Vec<PathBuf> = c.data.iter().chain(sets).map(PathBuf::from).collect();
    inputs.push(setup.opened.folder.path.clone());
    inputs.extend(c.init_adapter.iter().map(PathBuf::from));
    if let Validation::File(path) = &c.validation {
        inputs.push(PathBuf::from(path));
    }
    if let Some(out) = &c.out {
        return Ok(RunFolder::create(Path::new(out), &inputs)?);
    }
    let name = |text: &str| -> String {
        let stem = Path::new(text).file_stem().map(|s| s.to_string_lossy().to_string());
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        stem.unwrap_or_default().chars().map(plain).take(24).collect()
    };
    let model = name(c.model.as_deref().unwrap_or("model"));
    let data = if c.mixture.is_empty() { c.data.first() } else { None };
    let data = name(data.map_or("mixture", String::as_str));
    let stem = format!("{model}-{data}-{}", c.method);
    Ok(RunFolder::create_next(Path::new("runs"), stem.trim_matches('-'), &inputs)?)
}

/// What the run is made from: versions, fingerprints of model and data, the template's hash.
fn record(setup: &Setup, session: &Session<'_>, storage: &dyn Storage) -> anyhow::Result<Record> {
    let mut prints = Fingerprinter::new(storage);
    let mut model = Vec::new();
    for file in &setup.opened.folder.files {
        let mut entry = prints.record(&file.path)?;
        entry.path = file.path.file_name().map_or(entry.path, |n| n.to_string_lossy().into());
        model.push(entry);
    }
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
    Ok(Record { versions, model, data, template_sha256, ..Record::default() })
}

/// Fingerprint of a model: of all its weight files together.
pub fn model_fingerprint(record: &Record) -> String {
    record.model.iter().map(|f| f.sha256.as_str()).collect::<Vec<_>>().join("+")
}

fn start_or_go_on(
    session: &mut Session<'_>,
    folder: &RunFolder,
    old: Option<RunFile>,
    record: Record,
    storage: &dyn Storage,
    listener: &mut dyn Listener,
    signals: &Signals,
) -> anyhow::Result<Ended> {
    let checkpoints = folder.checkpoints();
    sweep(storage, &checkpoints)?;
    let mut elapsed = 0.0;
    let resumes = old.is_some();
    if resumes {
        let search = latest_good(storage, &checkpoints)?;
        for bad in &search.bad {
            listener.event(&Event::Warning(Warning { message: bad.to_string() }))?;
        }
        set_aside_bad(storage, &checkpoints, &search.bad)?;
        if let Some(found) = &search.found {
            elapsed = session.restore(storage, found)?;
        }
    }
    let step = session.run.step;
    let control = Control::watch(folder.path(), signals);
    listener.event(&Event::Start(Start {
        out: folder.path().display().to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        resumed_from: resumes.then_some(step),
    }))?;
    let file = run_file(session.setup, old, record, step)?;
    replace_file(storage, &folder.run_toml(), file.to_text()?.as_bytes())?;
    replace_file(storage, &folder.template(), session.setup.template.to_json().as_bytes())?;
    held_out::write(session.setup, folder, storage)?;
    let metrics = if resumes {
        MetricsWriter::go_back(storage, &folder.metrics(), step, session.run.rewinds)?.0
    } else {
        MetricsWriter::start(storage, &folder.metrics())?
    };
    let prompts = samples::prompts(session)?;
    let base = outcome::base_answers(session, &prompts, folder, storage, signals)?;
    let mut go_on = |_| !signals.stop_requested();
    let judged = judge::before(session, folder, storage, &mut go_on)?;
    for sample in samples::pair(0, &prompts, &base, &[]) {
        listener.event(&Event::Sample(sample))?;
    }
    let watched = Watched::new(session, &prompts, folder)?;
    let out = Outlets { storage, folder, metrics, listener, signals, control: &control };
    let mut run = Loop::new(session, out, Clock::from(elapsed));
    run.watched = watched;
    run.facts.before = outcome::first_eval(storage, folder)?;
    run.losses = Losses::of(outcome::step_losses(storage, folder)?.into_iter());
    let reason = run.run()?;
    let facts = Facts {
        train: run.facts.train,
        before: run.facts.before,
        last: run.facts.last,
        stopped_early: run.facts.stopped_early,
        ..Facts::of(&run.session.run)
    };
    let clock = run.clock.elapsed_s();
    let Loop { session, out, .. } = run;
    let before = outcome::Before { prompts, answers: base, judged };
    outcome::finish(session, out, reason, facts, &before, &file, clock)
}

fn run_file(
    setup: &Setup,
    old: Option<RunFile>,
    record: Record,
    step: u64,
) -> anyhow::Result<RunFile> {
    let config = setup.config.resolved(setup.total_steps());
    let Some(old) = old else { return Ok(RunFile { config, record }) };
    let mut notes: Vec<String> =
        compare(&old.config, &config)?.iter().map(ToString::to_string).collect();
    let (was, now) = (&old.record.versions, &record.versions);
    if was.paddock != now.paddock || was.backend != now.backend || was.platform != now.platform {
        notes.push(format!(
            "not bit for bit the same as without the pause: {} on {} before, {} on {} now",
            was.backend, was.platform, now.backend, now.platform
        ));
    }
    let Record { continuations, rewinds, .. } = old.record;
    let mut record = Record { continuations, rewinds, ..record };
    record.continuations.push(Continuation { step, notes });
    Ok(RunFile { config, record })
}
