//! A run that goes on or is over, as its events and its folder tell it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use eframe::egui::{Context, Rect};
use paddock_cli::open::Machine;
use paddock_cli::run::control::{Wish, ask, asked};
use paddock_cli::run::ending::Ending;
use paddock_cli::run::events::{
    Answer, Done, Event, Failure, Judged, Pause, Plan, Reason, Sample, SavedCheckpoint,
};
use paddock_cli::run::lock::{Holder, holder};
use paddock_cli::run::metrics::{self, Eval, Line, Step};
use paddock_cli::run::overview::{Overview, Tuned};
use paddock_cli::storage::RealStorage;
use paddock_cli::train::on_the_way;

use crate::engine::{Flags, Started, Trail, unasked};
use crate::follow::{Follower, News, follow, watch};

/// Lines of the log that are kept.
const LOG_LINES: usize = 500;

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The process reads model and rows.
    #[default]
    Starting,
    /// Steps are made.
    Training,
    /// It was asked to pause, and makes its step to the end.
    Pausing,
    /// It waits, with its process and its memory.
    Paused,
    /// It was asked to save and stop.
    Stopping,
    /// It was stopped or killed; it can go on.
    Stopped,
    /// It is over.
    Finished,
    /// It failed.
    Failed,
}

/// The state of the run screen.
#[derive(Debug, Default)]
pub struct Run {
    /// The run's folder.
    pub out: PathBuf,
    /// How it stands.
    pub stage: Stage,
    /// What was planned.
    pub plan: Option<Plan>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Its evaluations.
    pub evals: Vec<Eval>,
    /// Prompts with answers before and after.
    pub samples: Vec<Sample>,
    /// Answers on the way, in the order of their steps.
    pub answers: Vec<Answer>,
    /// The step whose answers are looked at; none: the latest.
    pub looked_at: Option<u64>,
    /// The test rows before and after.
    pub judged: Option<Judged>,
    /// How it went, in words.
    pub verdict: Option<String>,
    /// Why it failed, or stopped without being asked to.
    pub failure: Option<Failure>,
    /// The last checkpoint.
    pub checkpoint: Option<SavedCheckpoint>,
    /// What it waits for, if it does.
    pub waits: Option<String>,
    /// What else was said.
    pub log: Vec<String>,
    /// The process, for signals.
    pub pid: Option<u32>,
    /// Most memory that its process was seen to use, in bytes.
    pub memory: u64,
    /// What it computes with.
    pub machine: Machine,
    /// What came out of it.
    pub tuned: Option<Tuned>,
    /// The model that it began with, as `--model` takes it.
    pub base: Option<String>,
    /// Where its loss is drawn on the screen, for a picture.
    pub plot: Option<Rect>,
    /// Whether its events are followed, which tell more than its metrics.
    tells: bool,
    follower: Option<Follower>,
}

impl Run {
    /// Follows a run that was just started.
    pub fn started(ctx: &Context, started: &Started) -> Run {
        let follower = follow(ctx, &started.trail, Some(started.alive.clone()));
        let out = started.trail.out.clone();
        Run { out, tells: true, follower: Some(follower), ..Run::default() }
    }

    /// Opens a run by its folder: one that goes on (started here before, or by core-cli) or one that is over.
    pub fn open(ctx: &Context, path: &Path) -> Option<Run> {
        let overview = Overview::of(path)?;
        let trail = Trail::of(path);
        let mut run = Run { out: path.to_path_buf(), ..Run::default() };
        let holder = holder(path);
        let known = run.read_folder(&overview, holder.as_ref());
        run.machine = Machine::of(&overview.config);
        if let Some(holder) = holder {
            run.pid = Some(holder.pid);
            let paused = asked(path) == Some(Wish::Pause);
            run.stage = if paused { Stage::Paused } else { Stage::Training };
            run.base.clone_from(&overview.config.model);
            run.tells = trail.is_of(holder.since);
            run.follower = Some(match run.tells {
                true => follow(ctx, &trail, None),
                false => watch(ctx, path, known),
            });
        }
        run.look_for_result();
        Some(run)
    }

    /// A run that goes on keeps what was known of it.
    pub fn goes_on_from(&mut self, before: Run) {
        self.steps = before.steps;
        self.evals = before.evals;
        self.samples = before.samples;
        self.answers = before.answers;
        self.plan = before.plan;
        self.log = before.log;
    }

    /// What the run left behind, once it is over.
    fn look_for_result(&mut self) {
        if self.stage == Stage::Finished
            && let Some(overview) = Overview::of(&self.out)
        {
            self.tuned = overview.result();
            self.machine = Machine::of(&overview.config);
            self.memory =
                overview.ending.as_ref().map_or(0, |e| e.peak_memory_bytes).max(self.memory);
            self.base = overview.config.model;
        }
    }

    /// What the run's own folder tells; how many lines of metrics.
    fn read_folder(&mut self, overview: &Overview, holder: Option<&Holder>) -> usize {
        let lines = metrics::read(&RealStorage, &self.out.join("metrics.jsonl"));
        let lines = lines.map(|m| m.lines).unwrap_or_default();
        let known = lines.len();
        self.take_metrics(lines);
        let samples = std::fs::read_to_string(self.out.join("samples.jsonl")).unwrap_or_default();
        self.samples = samples.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        self.answers = on_the_way::read(&self.out);
        self.stage = if holder.is_some() { Stage::Training } else { Stage::Stopped };
        if let Some(Ending { done, plan, verdict, judged, .. }) = overview.ending.clone() {
            (self.plan, self.verdict, self.judged) = (plan, verdict, judged);
            if holder.is_none() && done.reason != Reason::Interrupted {
                self.stage = Stage::Finished;
            }
        }
        known
    }

    fn take_metrics(&mut self, lines: Vec<Line>) {
        self.steps.clear();
        self.evals.clear();
        for line in lines {
            match line {
                Line::Step(step) => self.steps.push(step),
                Line::Eval(eval) => self.evals.push(eval),
                Line::Rewind(_) => {}
            }
        }
    }

    /// Takes over what has happened since; whether anything has.
    pub fn poll(&mut self) -> bool {
        let Some(follower) = &self.follower else { return false };
        let news = follower.news();
        let any = !news.is_empty();
        for item in news {
            match item {
                News::Events(events) => events.into_iter().for_each(|event| self.apply(event)),
                News::Memory(bytes) => self.memory = self.memory.max(bytes),
                News::Gone(said) => self.gone(&said),
            }
        }
        any
    }

    /// Its process has gone without a last event.
    fn gone(&mut self, said: &str) {
        self.pid = None;
        let mut asked = self.stage == Stage::Stopping;
        said.lines().for_each(|line| self.say(line.to_string()));
        if let Some(overview) = Overview::of(&self.out) {
            if self.steps.is_empty() {
                self.read_folder(&overview, None);
            }
            let done = overview.ending.as_ref().map(|ending| &ending.done);
            // Metrics do not tell of a stop in the terminal; what was written about its end does.
            let at = self.steps.last().map_or(0, |step| step.step);
            asked |= !self.tells
                && done.is_some_and(|d| d.reason == Reason::Interrupted && d.step >= at);
            if done.is_some_and(|d| matches!(d.reason, Reason::Finished | Reason::EarlyStop)) {
                self.stage = Stage::Finished;
                self.look_for_result();
                return;
            }
        }
        if self.stage == Stage::Starting && self.steps.is_empty() {
            let message = unasked(said, self.tells);
            self.failure = Some(Failure { message, exit_code: 1 });
            self.stage = Stage::Failed;
            return;
        }
        if !matches!(self.stage, Stage::Finished | Stage::Failed) {
            self.stage = Stage::Stopped;
            let message = unasked(said, self.tells);
            self.failure = (!asked).then_some(Failure { message, exit_code: 1 });
        }
    }

    fn say(&mut self, text: String) {
        if self.log.len() >= LOG_LINES {
            self.log.remove(0);
        }
        self.log.push(text);
    }

    fn forget_after(&mut self, step: u64) {
        self.steps.retain(|s| s.step <= step);
        self.evals.retain(|e| e.step <= step);
        self.answers.retain(|a| a.step <= step);
    }

    /// One event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Start(start) => {
                self.pid = Some(start.pid);
                // What was read from the folder comes again, up to where the run went on.
                match start.resumed_from {
                    None => {
                        self.steps.clear();
                        self.evals.clear();
                        self.answers.clear();
                    }
                    Some(step) => {
                        self.forget_after(step);
                        self.say(format!("Going on from step {step}."));
                    }
                }
            }
            Event::Plan(plan) => self.plan = Some(plan),
            Event::Step(step) => {
                if self.stage == Stage::Starting {
                    self.stage = Stage::Training;
                }
                self.steps.push(step);
            }
            Event::Eval(eval) => {
                let best = if eval.best { ", the best so far" } else { "" };
                self.say(format!(
                    "Step {}: loss on held-out rows {:.3}{best}.",
                    eval.step, eval.eval_loss
                ));
                self.evals.push(eval);
            }
            Event::Rewind(rewind) => {
                self.forget_after(rewind.step);
                self.say(format!("Note: {rewind}."));
            }
            Event::Sample(sample) => {
                self.samples.retain(|s| s.prompt != sample.prompt);
                self.samples.push(sample);
            }
            Event::Answer(answer) => self.answers.push(answer),
            Event::Judged(judged) => self.judged = Some(judged),
            Event::Checkpoint(saved) => {
                self.say(format!("Step {}: saved.", saved.step));
                self.checkpoint = Some(saved);
            }
            Event::Warning(warning) => self.say(format!("Note: {}", warning.message)),
            Event::Pause(pause) => self.pause(pause),
            Event::Verdict(verdict) => self.verdict = Some(verdict.message),
            Event::Error(failure) => {
                self.failure = Some(failure);
                self.stage = Stage::Failed;
                self.pid = None;
                self.waits = None;
            }
            Event::Done(done) => self.done(&done),
        }
    }

    /// Whether a run that failed was saved before, so that it can be tried from there once the reason is gone.
    pub fn may_go_on(&self) -> bool {
        self.checkpoint.is_some() && self.out.join("run.toml").is_file()
    }

    fn done(&mut self, done: &Done) {
        self.pid = None;
        self.stage = match done.reason {
            Reason::Interrupted => Stage::Stopped,
            Reason::Failed => Stage::Failed,
            Reason::Finished | Reason::EarlyStop => Stage::Finished,
        };
        self.look_for_result();
        self.say(match done.reason {
            Reason::Interrupted => format!("Stopped and saved at step {}.", done.step),
            _ => "The run is over.".to_string(),
        });
    }

    fn pause(&mut self, pause: Pause) {
        self.say(pause.message.clone());
        match (pause.asked, pause.waiting) {
            (false, waiting) => self.waits = waiting.then_some(pause.message),
            (true, true) => self.stage = Stage::Paused,
            (true, false) if self.stage != Stage::Stopping => self.stage = Stage::Training,
            (true, false) => {}
        }
    }

    /// Asks the run's process for something, through its folder: this works for every run that goes on, whoever
    /// started it.
    pub fn wish(&mut self, wish: Wish) {
        let mut done = ask(&self.out, wish);
        if let (Err(_), Wish::Stop, Some(pid)) = (&done, wish, self.pid) {
            // A full disk takes no word; a signal needs no room.
            done = paddock_cli::run::process::interrupt(pid);
        }
        match done {
            Ok(()) => {
                self.stage = match wish {
                    // Metrics do not tell when it has come to rest.
                    Wish::Pause if !self.tells => Stage::Paused,
                    Wish::Pause => Stage::Pausing,
                    Wish::Go => Stage::Training,
                    Wish::Stop => Stage::Stopping,
                }
            }
            Err(error) => self.say(format!("It could not be asked to {}: {error}", wish.word())),
        }
    }

    /// What it computes with, as settings; none for what a run takes by itself.
    pub fn machine_flags(&self) -> Flags {
        if self.machine.backend == Machine::default().backend {
            return Flags::new();
        }
        let mut flags = vec![("backend".to_string(), self.machine.backend.to_string())];
        flags.extend(self.machine.device.iter().map(|name| ("device".to_string(), name.clone())));
        flags
    }

    /// Whether a process works on it.
    pub fn active(&self) -> bool {
        use Stage::{Paused, Pausing, Starting, Stopping, Training};
        matches!(self.stage, Starting | Training | Pausing | Paused | Stopping)
    }

    /// Whether the loss on held-out rows fell, or was not measured.
    pub fn learned(&self) -> bool {
        match (self.evals.first(), self.best()) {
            (Some(first), Some(best)) => best.eval_loss < 0.995 * first.eval_loss,
            (first, _) => first.is_none(),
        }
    }

    /// The best evaluation so far.
    pub fn best(&self) -> Option<&Eval> {
        self.evals.iter().rev().find(|eval| eval.best)
    }

    /// The part of the steps that is done, from 0 to 1.
    pub fn share(&self) -> f32 {
        let Some(plan) = &self.plan else { return 0.0 };
        let done = self.steps.last().map_or(0, |step| step.step);
        (done as f64 / plan.steps.max(1) as f64).clamp(0.0, 1.0) as f32
    }

    /// How long the steps that are left will take, by the latest ones.
    pub fn left(&self) -> Option<Duration> {
        let plan = self.plan.as_ref()?;
        let last = self.steps.last()?;
        let before = &self.steps[self.steps.len().saturating_sub(40)];
        let steps = last.step.checked_sub(before.step).filter(|n| *n > 0)?;
        let each = (last.elapsed_s - before.elapsed_s) / steps as f64;
        let left = each * plan.steps.saturating_sub(last.step) as f64;
        left.is_finite().then(|| Duration::from_secs_f64(left.clamp(0.0, 1e8)))
    }
}
