//! Starting a run, or going on with one: folder, lock, record, plan; then the loop; then what remains.

use std::path::{Path, PathBuf};

use paddock_datasets::prepare::Progress;
use paddock_datasets::readers::Detected;

use super::fits::preflight;
use super::forecast::forecast;
use super::go::Loop;
use super::notices::notices;
use super::on_the_way::Watched;
use super::outlets::{Clock, Outlets};
use super::recorded::{Resumed, record, run_file, taken_up};
use super::report::Listener;
use super::saved::checkpoint_bytes;
use super::session::Session;
use super::setup::Setup;
use super::spike::Losses;
use super::verdict::Facts;
use super::{held_out, instead, judge, outcome, samples, time};
use crate::bundled::cache_folder;
use crate::data::day::today;
use crate::run::checkpoint::{check_space, sweep};
use crate::run::config::{Layers, Record, RunFile, Validation};
use crate::run::control::Control;
use crate::run::ending::Ending;
use crate::run::events::{Event, Reason, Start, Warning};
use crate::run::folder::RunFolder;
use crate::run::loading::Loading;
use crate::run::metrics::MetricsWriter;
use crate::run::signals::Signals;
use crate::storage::whole::replace_file;
use crate::storage::{RealStorage, Storage};

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
    let loading = Loading::watch(signals);
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
    if let Some(message) = preflight(&session, &plan)? {
        listener.event(&Event::Warning(Warning { message }))?;
    }
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
    session.model_is_as_recorded()?;
    drop(loading);
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

fn start_or_go_on(
    session: &mut Session<'_>,
    folder: &RunFolder,
    old: Option<RunFile>,
    record: Record,
    storage: &dyn Storage,
    listener: &mut dyn Listener,
    signals: &Signals,
) -> anyhow::Result<Ended> {
    let loading = Loading::watch(signals);
    let resumes = old.is_some();
    let elapsed = if resumes { taken_up(session, folder, storage, listener)? } else { 0.0 };
    sweep(storage, &folder.checkpoints())?;
    let step = session.run.step;
    let control = Control::watch(folder.path(), signals);
    listener.event(&Event::Start(Start {
        out: folder.path().display().to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        resumed_from: resumes.then_some(step),
    }))?;
    let (file, other) = run_file(session.setup, old, record, step)?;
    for message in other {
        listener.event(&Event::Warning(Warning { message }))?;
    }
    replace_file(storage, &folder.run_toml(), file.to_text()?.as_bytes())?;
    replace_file(storage, &folder.template(), session.setup.template.to_json().as_bytes())?;
    Ending::reopen(storage, folder.path(), session.forecast.as_ref())?;
    held_out::write(session.setup, folder, storage)?;
    let metrics = if resumes {
        MetricsWriter::go_back(storage, &folder.metrics(), step, session.run.rewinds)?.0
    } else {
        MetricsWriter::start(storage, &folder.metrics())?
    };
    // From here on everything looks itself, and has something to save.
    drop(loading);
    let prompts = samples::prompts(session)?;
    let base = outcome::base_answers(session, &prompts, folder, storage, signals)?;
    let mut go_on = |_| !signals.stop_requested();
    let judged = judge::before(session, folder, storage, listener, &mut go_on)?;
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
