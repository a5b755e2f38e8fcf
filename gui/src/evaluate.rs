//! How good the answers are: the model before and after, and with worked examples in its prompt.

use std::path::PathBuf;

use eframe::egui::Context;
use paddock_cli::eval::outcome::{Outcome, TemplateOutcome};
use paddock_cli::eval::votes::{Pair, Vote, pairs, preference};
use paddock_cli::run::overview::Tuned;

use crate::engine::Engine;
use crate::task::{Pulse, Work};

/// Seed of the sides in blind voting.
const SEED: u64 = 1;

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// What the rows call for.
    #[default]
    Automatic,
    /// The answers are labels.
    Labels,
    /// The answers are texts.
    Texts,
}

impl Measure {
    /// All of them, with a word for each.
    pub const ALL: [(Measure, &'static str); 3] = [
        (Measure::Automatic, "what the rows call for"),
        (Measure::Labels, "labels: accuracy, confusion"),
        (Measure::Texts, "texts: ROUGE, BLEU, exact"),
    ];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Measure::Automatic => &[],
            Measure::Labels => &["--metric", "accuracy"],
            Measure::Texts => &["--metric", "exact-match", "--metric", "rouge", "--metric", "bleu"],
        }
    }
}

/// One who was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What it is called.
    pub who: &'static str,
    /// What was found.
    pub outcome: Outcome,
}

impl Asked {
    /// The one template's outcome.
    pub fn found(&self) -> Option<&TemplateOutcome> {
        self.outcome.templates.first()
    }
}

/// The state of the screen.
#[derive(Debug)]
pub struct Evaluate {
    /// The run that is judged.
    pub run: PathBuf,
    /// The rows, as `--data` takes them.
    pub data: String,
    /// `COLUMN=VALUE`: only rows that have this value there; empty: all.
    pub only: String,
    /// At most so many rows.
    pub limit: usize,
    /// What is measured.
    pub measure: Measure,
    /// Worked examples for the model before training; 0: it is not asked that way.
    pub shots: usize,
    /// What was found.
    pub work: Work<Vec<Asked>>,
    /// Pairs of answers for blind voting.
    pub pairs: Vec<Pair>,
    /// The votes so far.
    pub votes: Vec<Vote>,
}

impl Default for Evaluate {
    fn default() -> Evaluate {
        Evaluate {
            run: PathBuf::new(),
            data: String::new(),
            only: String::new(),
            limit: 60,
            measure: Measure::Automatic,
            shots: 0,
            work: Work::Idle,
            pairs: Vec::new(),
            votes: Vec::new(),
        }
    }
}

/// What core-cli is asked for one of them.
fn arguments(e: &Evaluate, model: &str, adapter: Option<&PathBuf>, template: &str) -> Vec<String> {
    let mut list: Vec<String> =
        ["eval", "--model", model, "--data", e.data.trim(), "--template", template, "--drop-long"]
            .map(str::to_string)
            .to_vec();
    if let Some(adapter) = adapter {
        list.extend(["--adapter".to_string(), adapter.display().to_string()]);
    }
    list.extend(["--limit".to_string(), e.limit.max(1).to_string()]);
    if !e.only.trim().is_empty() {
        list.extend(["--where".to_string(), e.only.trim().to_string()]);
    }
    list.extend(e.measure.arguments().iter().map(|word| (*word).to_string()));
    list
}

impl Evaluate {
    /// Asks the model before and after, one after the other.
    pub fn start(&mut self, ctx: &Context, engine: &Engine, tuned: &Tuned, base: &str) {
        self.pairs.clear();
        self.votes.clear();
        let carrier = tuned.adapter.clone().unwrap_or_else(|| PathBuf::from(&tuned.model));
        let template = carrier.join("template.json").display().to_string();
        let before = arguments(self, base, None, &template);
        let mut list = vec![("before training", before.clone())];
        if self.shots > 0 {
            let mut with = before;
            with.extend(["--shots".to_string(), self.shots.to_string()]);
            with.extend(["--shots-from".to_string(), self.data.trim().to_string()]);
            list.push(("before, with worked examples", with));
        }
        list.push((
            "after training",
            arguments(self, &tuned.model, tuned.adapter.as_ref(), &template),
        ));
        let engine = engine.clone();
        self.work.start(ctx, move |pulse| {
            let count = list.len() as f32;
            let mut all = Vec::new();
            for (i, (who, list)) in list.into_iter().enumerate() {
                pulse.share(i as f32 / count);
                all.push(Asked { who, outcome: ask(&engine, list, pulse)? });
            }
            Ok(all)
        });
    }

    /// Takes over what was found.
    pub fn poll(&mut self) {
        if !self.work.poll() {
            return;
        }
        let Some(all) = self.work.done() else { return };
        let found = |i: usize| all.get(i).and_then(Asked::found);
        if let (Some(first), Some(second)) = (found(0), found(all.len().saturating_sub(1))) {
            self.pairs = pairs(first, second, SEED);
        }
    }

    /// The pair that is to be judged next.
    pub fn pair(&self) -> Option<&Pair> {
        self.pairs.get(self.votes.len())
    }

    /// Takes down a vote for the answer on the left, on the right, or neither.
    pub fn vote(&mut self, left: Option<bool>) {
        let Some(pair) = self.pair() else { return };
        self.votes.push(match left {
            None => Vote::Tie,
            Some(left) if left != pair.swapped => Vote::First,
            Some(_) => Vote::Second,
        });
    }

    /// The votes in a sentence.
    pub fn tally(&self) -> Option<String> {
        let found = preference(&self.votes, SEED)?;
        let percent = |x: f64| 100.0 * x;
        Some(format!(
            "After {} votes, the tuned model is preferred in {:.0} of 100 cases (95 times in 100 between {:.0} and \
             {:.0}; a tie counts half).",
            self.votes.len(),
            percent(found.value),
            percent(found.low),
            percent(found.high)
        ))
    }

    /// What is missing before it can start, in words.
    pub fn missing(&self) -> Option<String> {
        if self.work.busy() {
            return Some("The models are being asked.".to_string());
        }
        self.data.trim().is_empty().then(|| "Name the rows to judge by first.".to_string())
    }
}

/// Runs core-cli and reads what it found.
fn ask(engine: &Engine, mut list: Vec<String>, pulse: &Pulse) -> anyhow::Result<Outcome> {
    let name = format!("eval-{}-{:?}.json", std::process::id(), std::thread::current().id());
    let file = std::env::temp_dir().join(name);
    // A file that a crash left behind would stand in the way.
    let _ = std::fs::remove_file(&file);
    list.extend(["--json".to_string(), file.display().to_string()]);
    let asked = engine.ask(&list, pulse);
    let text = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    asked?;
    Ok(serde_json::from_str(&text?)?)
}
