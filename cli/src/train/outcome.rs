//! The end of a run: the best state back, answers before and after, adapter or model written and
//! checked, the verdict.

use std::cell::RefCell;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use paddock_core::model::{Method, init};
use paddock_core::slot::Slot;
use serde_json::{Map, json};

use super::judge::{self, Judgement};
use super::launch::Ended;
use super::outlets::Outlets;
use super::recorded::model_fingerprint;
use super::samples::{self, Prompt};
use super::session::Session;
use super::verdict::{Facts, words};
use crate::model::ModelFolder;
use crate::model::adapter::{self, AdapterNote};
use crate::model::export::{Export, Source};
use crate::report::RunReport;
use crate::run::checkpoint::find_step;
use crate::run::config::RunFile;
use crate::run::ending::{ENDING_VERSION, Ending};
use crate::run::events::{Done, Event, Judged, Reason, Sample, Verdict, Warning};
use crate::run::folder::RunFolder;
use crate::run::metrics::{self, Line};
use crate::run::publish::IfTaken;
use crate::run::signals::{EXIT_INTERRUPTED, Signals};
use crate::run::tensorboard::event_file;
use crate::storage::Storage;
use crate::storage::whole::{read_file, replace_file};

/// The validation loss before the first step, from the metrics of a run that goes on.
pub fn first_eval(storage: &dyn Storage, folder: &RunFolder) -> anyhow::Result<Option<f64>> {
    let lines = metrics::read(storage, &folder.metrics())?.lines;
    Ok(lines.iter().find_map(|line| match line {
        Line::Eval(eval) if eval.step == 0 => Some(eval.eval_loss),
        _ => None,
    }))
}

/// The losses of all steps so far, from the metrics of a run that goes on.
pub fn step_losses(storage: &dyn Storage, folder: &RunFolder) -> anyhow::Result<Vec<f64>> {
    let lines = metrics::read(storage, &folder.metrics())?.lines;
    Ok(lines
        .iter()
        .filter_map(|line| match line {
            Line::Step(step) => Some(step.loss),
            Line::Eval(_) | Line::Rewind(_) => None,
        })
        .collect())
}

/// The last step that changed something, from the metrics of a run that goes on.
pub fn last_step(storage: &dyn Storage, folder: &RunFolder) -> anyhow::Result<Option<u64>> {
    let lines = metrics::read(storage, &folder.metrics())?.lines;
    Ok(lines.iter().rev().find_map(|line| match line {
        Line::Step(step) => Some(step.step),
        Line::Eval(_) | Line::Rewind(_) => None,
    }))
}

/// Answers of the model before training: made at the start, read back when a run goes on (full training
/// has changed the model by then).
pub fn base_answers(
    session: &mut Session<'_>,
    prompts: &[Prompt],
    folder: &RunFolder,
    storage: &dyn Storage,
    signals: &Signals,
) -> anyhow::Result<Vec<String>> {
    let path = folder.samples();
    if let Ok(bytes) = read_file(storage, &path, 64 << 20) {
        let text = String::from_utf8_lossy(&bytes).to_string();
        let read = |line: &str| serde_json::from_str::<Sample>(line).ok()?.base;
        let answers: Vec<String> = text.lines().filter_map(read).collect();
        if answers.len() >= prompts.len() {
            return Ok(answers);
        }
    }
    if session.run.step > 0 && session.setup.method == Method::Full {
        return Ok(Vec::new());
    }
    let answers = samples::answers(session, prompts, true, &|| !signals.stop_requested())?;
    write_samples(storage, &path, &samples::pair(0, prompts, &answers, &[]))?;
    Ok(answers)
}

fn write_samples(storage: &dyn Storage, path: &Path, list: &[Sample]) -> anyhow::Result<()> {
    let mut text = String::new();
    for sample in list {
        text.push_str(&serde_json::to_string(sample)?);
        text.push('\n');
    }
    Ok(replace_file(storage, path, text.as_bytes())?)
}

/// What is known of the model before training.
pub struct Before {
    /// The prompts of the samples.
    pub prompts: Vec<Prompt>,
    /// Its answers to them.
    pub answers: Vec<String>,
    /// How it did on the test rows.
    pub judged: Option<Judgement>,
}

/// Everything after the loop.
pub fn finish(
    session: &mut Session<'_>,
    mut out: Outlets<'_, '_>,
    mut reason: Reason,
    mut facts: Facts,
    before: &Before,
    file: &RunFile,
    elapsed_s: f64,
) -> anyhow::Result<Ended> {
    let mut best = session.run.best_score.is_finite().then_some(session.run.best_step);
    let path = out.folder.path().to_path_buf();
    let (mut list, mut judged, mut verdict) = (Vec::new(), None, None);
    if reason != Reason::Interrupted {
        learned_something(session)?;
        let last = session.run.step;
        best = best_back(session, &mut out, best, &mut facts)?;
        let signals = out.signals;
        let tuned =
            samples::answers(session, &before.prompts, false, &|| !signals.stop_requested())?;
        list = samples::pair(best.unwrap_or(last), &before.prompts, &before.answers, &tuned);
        write_samples(out.storage, &out.folder.samples(), &list)?;
        write_result(session, &mut out, file).context(
            "the result could not be written; the run's \
             checkpoints are kept, and --resume tries again",
        )?;
        for sample in &list {
            out.listener.event(&Event::Sample(sample.clone()))?;
        }
        judged = judge_tuned(session, &mut out, before.judged.as_ref())?;
        facts.judged = judged.as_ref().map(|both| (both.base.value, both.tuned.value));
        // What is not judged yet is judged by --resume.
        if signals.stop_requested() {
            reason = Reason::Interrupted;
        }
    }
    if reason != Reason::Interrupted {
        let mut details = Map::new();
        details.insert("loss_before".into(), json!(facts.before));
        details.insert("loss_best".into(), json!(facts.best));
        details.insert("best_step".into(), json!(best));
        details.insert("peak_memory_bytes".into(), json!(super::forecast::peak_bytes()));
        let setup = session.setup;
        facts.rows = (setup.epoch_rows(), setup.validation.len() as u64);
        facts.epochs = setup.config.epochs;
        let same = |sample: &&Sample| sample.base.is_some() && sample.base == sample.tuned;
        facts.answers = (list.len(), list.iter().filter(same).count());
        let message = words(&facts);
        out.listener.event(&Event::Verdict(Verdict { message: message.clone(), details }))?;
        verdict = Some(message);
    }
    let said = (list.as_slice(), judged.as_ref(), verdict.as_deref());
    let reported = write_report(session, &out, file, best, said);
    unless_stopped(reason, reported, &mut out)?;
    let done = Done {
        reason,
        step: session.run.step,
        best_step: best,
        out: path.display().to_string(),
        elapsed_s,
        exit_code: if reason == Reason::Interrupted { EXIT_INTERRUPTED } else { 0 },
    };
    let plan = session.forecast.clone();
    let peak_memory_bytes = super::forecast::peak_bytes();
    let (version, done_as) = (ENDING_VERSION, done.clone());
    let ending = Ending { version, done: done_as, plan, verdict, judged, peak_memory_bytes };
    unless_stopped(reason, ending.write(out.storage, &out.folder.ending()), &mut out)?;
    out.listener.event(&Event::Done(done))?;
    Ok(Ended { reason, folder: path })
}

/// An adapter or model that is what it was at the start is no result.
fn learned_something(session: &Session<'_>) -> anyhow::Result<()> {
    let run = &session.run;
    anyhow::ensure!(
        run.step == 0 || run.skipped < run.step,
        "the run has no result, so none was written: of its {} steps none had finite numbers, so all of them were \
         passed over and nothing was learned. The warnings name rows and places; try a lower --lr in a new run, or \
         look at the rows named and at the model.",
        run.step
    );
    Ok(())
}

/// Takes the best state back, and returns its step. If its checkpoint cannot be used, the last state is the result,
/// and what is known of the best one is replaced by what is known of that one.
fn best_back(
    session: &mut Session<'_>,
    out: &mut Outlets<'_, '_>,
    best: Option<u64>,
    facts: &mut Facts,
) -> anyhow::Result<Option<u64>> {
    let last = session.run.step;
    let Some(step) = best.filter(|&step| step != last) else { return Ok(best) };
    let error = match find_step(out.storage, &out.folder.checkpoints(), step) {
        Ok(found) => {
            session.restore_weights(out.storage, &found)?;
            return Ok(best);
        }
        Err(error) => error,
    };
    let message = format!(
        "the best state, of step {step}, cannot be taken back, so the result is the last state, of step {last}: \
         {error}. Put that checkpoint back from a copy, and --resume writes the best state after all."
    );
    out.listener.event(&Event::Warning(Warning { message }))?;
    let lines = metrics::read(out.storage, &out.folder.metrics())?.lines;
    facts.last = lines.iter().rev().find_map(|line| match line {
        Line::Eval(eval) if eval.step == last => Some(eval.eval_loss),
        _ => None,
    });
    facts.best = facts.last.filter(|loss| loss.is_finite());
    (facts.best_step, facts.lost_best) = (last, Some(step));
    Ok(Some(last))
}

/// A run that was stopped has saved its state, and its exit code says so: what cannot be written after that is told.
fn unless_stopped(
    reason: Reason,
    written: anyhow::Result<()>,
    out: &mut Outlets<'_, '_>,
) -> anyhow::Result<()> {
    match written {
        Err(error) if reason == Reason::Interrupted => {
            let message = format!("{error:#}. The run's state is saved, and --resume goes on.");
            out.listener.event(&Event::Warning(Warning { message }))
        }
        other => other,
    }
}

/// The tuned model beside the model before; `None` if a signal came, or nothing is judged.
fn judge_tuned(
    session: &mut Session<'_>,
    out: &mut Outlets<'_, '_>,
    base: Option<&Judgement>,
) -> anyhow::Result<Option<Judged>> {
    let (Some(base), signals) = (base, out.signals) else { return Ok(None) };
    let Some(tuned) = judge::judge(session, false, &mut |_| !signals.stop_requested())? else {
        return Ok(None);
    };
    let both = judge::compared(session, base, &tuned);
    out.listener.event(&Event::Judged(both.clone()))?;
    Ok(Some(both))
}

/// Each time the run went back, from its metrics, into its record.
fn with_rewinds(
    session: &Session<'_>,
    out: &Outlets<'_, '_>,
    file: &RunFile,
) -> anyhow::Result<RunFile> {
    let mut file = file.clone();
    if session.run.rewinds > 0 {
        let lines = metrics::read(out.storage, &out.folder.metrics())?.lines;
        let words = |line: &Line| match line {
            Line::Rewind(rewind) => Some(rewind.to_string()),
            _ => None,
        };
        file.record.rewinds = lines.iter().filter_map(words).collect();
        replace_file(out.storage, &out.folder.run_toml(), file.to_text()?.as_bytes())?;
    }
    Ok(file)
}

/// report.html and, on request, TensorBoard's file, from what is known and what the run wrote down.
fn write_report(
    session: &Session<'_>,
    out: &Outlets<'_, '_>,
    file: &RunFile,
    best: Option<u64>,
    (samples, judged, verdict): (&[Sample], Option<&Judged>, Option<&str>),
) -> anyhow::Result<()> {
    let file = &with_rewinds(session, out, file)?;
    let Some(plan) = &session.forecast else { return Ok(()) };
    let mut metrics = metrics::read(out.storage, &out.folder.metrics())?.lines;
    for line in &mut metrics {
        // The best point of the curve is that of the state that was kept, or there is none.
        if let Line::Eval(eval) = line {
            eval.best &= Some(eval.step) == best;
        }
    }
    if session.setup.config.tensorboard {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let file = out.folder.path().join("events.out.tfevents.paddock");
        replace_file(out.storage, &file, &event_file(&metrics, now))?;
    }
    let name = out.folder.path().file_name().map(|n| n.to_string_lossy().to_string());
    let report = RunReport {
        name: name.unwrap_or_default(),
        plan,
        settings: &file.to_text()?,
        metrics: &metrics,
        samples,
        judged,
        verdict,
        peak_bytes: super::forecast::peak_bytes(),
    };
    Ok(replace_file(out.storage, &out.folder.report(), report.html().as_bytes())?)
}

/// adapter/ after LoRA, model/ after full training. Written beside, read back, renamed: an earlier one stays until
/// the new one is whole.
fn write_result(
    session: &mut Session<'_>,
    out: &mut Outlets<'_, '_>,
    file: &RunFile,
) -> anyhow::Result<()> {
    let base_model = session.setup.config.model.clone().unwrap_or_default();
    let fingerprint = model_fingerprint(&file.record);
    let Method::Lora(lora) = session.setup.method else {
        let weights = session.setup.opened.weights()?;
        let params = &session.model.params;
        let order = params.in_tensor_order().iter().map(|&i| params.items[i].slot);
        let (order, b) = (order.collect::<Vec<Slot>>(), RefCell::new(&mut *session.b));
        let read = |i: usize| Ok(init::read(&mut **b.borrow_mut(), order[i])?);
        let export = Export {
            from: &session.setup.opened.folder.path,
            to: &out.folder.model(),
            config: &session.model.config,
            new_rows: 0,
            dtype: None,
            template: Some(out.folder.template()),
        };
        let source = Source::Trained { weights: &weights, read: &read };
        // Its headers are read as whoever opens the model will read them.
        let mut check = |new: &Path| ModelFolder::open(new).map(drop);
        return export.write(out.storage, &source, IfTaken::Replace, &mut check);
    };
    let values = session.values()?;
    let pairs = session.model.params.items.iter().zip(&values);
    let mut second = pairs.filter(|(param, _)| param.name.contains("lora_B"));
    if second.all(|(_, values)| values.iter().all(|&x| x == 0.0)) {
        let message = "the adapter is still what it was at the start: it changes no answer";
        out.listener.event(&Event::Warning(Warning { message: message.into() }))?;
    }
    let note = AdapterNote {
        base_model: &base_model,
        base_fingerprint: &fingerprint,
        template_hash: &session.setup.template.hash(),
        template: &read_file(out.storage, &out.folder.template(), 64 << 20)?,
    };
    let (params, to) = (&session.model.params, out.folder.adapter());
    adapter::write(out.storage, &to, &lora, params, &values, &note)
}
