//! How good the answers are: the model before and after, and with worked examples in its prompt.

use std::path::{Path, PathBuf};

use eframe::egui::Context;
use paddock_cli::bundled;
use paddock_cli::eval::outcome::{Outcome, TemplateOutcome};
use paddock_cli::eval::votes::{Pair, Vote, pairs, preference};
use paddock_cli::run::command::arguments as as_arguments;
use paddock_cli::run::config::RunConfig;
use paddock_cli::run::overview::Tuned;
use paddock_cli::train::held_out::HELD_OUT;

use crate::engine::{Engine, Flags};
use crate::forgetting::Forgetting;
use crate::grading::Grading;
use crate::task::{Pulse, Work};

/// Fields that a mapped column can fill.
const FIELDS: [&str; 3] = ["prompt", "input", "answer"];

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
    /// Whether the run wrote down which rows it held out.
    pub knows_held_out: bool,
    /// The rows that the run held out are asked, and not those of `data`.
    pub held_out: bool,
    /// The rows, as `--data` takes them.
    pub data: String,
    /// Templates that the run never trained with, which are asked in too.
    pub judge_templates: Vec<String>,
    /// Columns that fill the fields of templates.
    pub columns: Flags,
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
    /// Answers graded one by one.
    pub grading: Grading,
    /// What training may have cost.
    pub forgetting: Forgetting,
}

impl Default for Evaluate {
    fn default() -> Evaluate {
        Evaluate {
            run: PathBuf::new(),
            knows_held_out: false,
            held_out: false,
            data: String::new(),
            judge_templates: Vec::new(),
            columns: Flags::new(),
            only: String::new(),
            limit: 60,
            measure: Measure::Automatic,
            shots: 0,
            work: Work::Idle,
            pairs: Vec::new(),
            votes: Vec::new(),
            grading: Grading::default(),
            forgetting: Forgetting::default(),
        }
    }
}

/// `--backend` and `--device` for a command.
pub fn machine_arguments(machine: &Flags) -> Vec<String> {
    as_arguments("", machine).into_iter().skip(1).collect()
}

/// What core-cli is asked for one of them.
fn arguments(e: &Evaluate, model: &str, adapter: Option<&PathBuf>, template: &str) -> Vec<String> {
    let run = e.run.display().to_string();
    let (which, rows) =
        if e.held_out { ("--held-out-by", run.as_str()) } else { ("--data", e.data.trim()) };
    let mut list: Vec<String> =
        ["eval", "--model", model, which, rows, "--template", template, "--drop-long"]
            .map(str::to_string)
            .to_vec();
    for template in &e.judge_templates {
        list.extend(["--template".to_string(), template.clone()]);
    }
    for (field, column) in &e.columns {
        list.extend(["--columns".to_string(), format!("{field}={column}")]);
    }
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
    /// What is to be asked of a run's model: of its own rows those that it never trained on, where it has such.
    pub fn of_run(run: &Path, config: Option<RunConfig>) -> Evaluate {
        let config = config.unwrap_or_default();
        let test = config.test.clone().or_else(|| {
            let built_in = config.data.first()?.strip_prefix(bundled::PREFIX)?;
            bundled::data(built_in).ok()?.test.and(config.data.first().cloned())
        });
        let knows_held_out = run.join(HELD_OUT).is_file();
        let sets = || config.mixture.iter();
        let fields = config.columns.iter().chain(sets().flat_map(|set| &set.columns));
        let known = |(field, _): &(&String, &String)| FIELDS.contains(&field.as_str());
        let mut columns: Flags =
            fields.filter(known).map(|(field, column)| (field.clone(), column.clone())).collect();
        columns.sort();
        columns.dedup();
        let data = config.data.first().or(sets().flat_map(|set| &set.data).next());
        Evaluate {
            run: run.to_path_buf(),
            held_out: test.is_none() && knows_held_out,
            knows_held_out,
            data: test.or(data.cloned()).unwrap_or_default(),
            judge_templates: sets().flat_map(|set| set.judge_template.clone()).collect(),
            columns,
            ..Evaluate::default()
        }
    }

    /// Asks the model before and after, one after the other.
    pub fn start(
        &mut self,
        ctx: &Context,
        engine: &Engine,
        tuned: &Tuned,
        base: &str,
        machine: &Flags,
    ) {
        self.pairs.clear();
        self.votes.clear();
        self.grading = Grading::default();
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
        list.iter_mut().for_each(|(_, list)| list.extend(machine_arguments(machine)));
        let engine = engine.clone();
        self.work.start(ctx, move |pulse| {
            let count = list.len() as f32;
            let mut all = Vec::new();
            for (i, (who, list)) in list.into_iter().enumerate() {
                pulse.share(i as f32 / count);
                let outcome = serde_json::from_str(&ask_json(&engine, list, pulse)?)?;
                all.push(Asked { who, outcome });
            }
            Ok(all)
        });
    }

    /// Takes over what was found.
    pub fn poll(&mut self) {
        self.forgetting.work.poll();
        if !self.work.poll() {
            return;
        }
        let Some(all) = self.work.done() else { return };
        let found = |i: usize| all.get(i).and_then(Asked::found);
        if let (Some(first), Some(second)) = (found(0), found(all.len().saturating_sub(1))) {
            self.pairs = pairs(first, second, SEED);
        }
        self.grading = Grading::of(all);
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
            "After {} vote{}, the tuned model is preferred in {:.0} of 100 cases (95 times in 100 between {:.0} and \
             {:.0}; a tie counts half).",
            self.votes.len(),
            if self.votes.len() == 1 { "" } else { "s" },
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
        let unnamed = self.data.trim().is_empty() && (!self.held_out || self.shots > 0);
        unnamed.then(|| "Name the rows to judge by first.".to_string())
    }
}

/// Runs core-cli, and gives the JSON file in which it writes what it found.
pub fn ask_json(engine: &Engine, mut list: Vec<String>, pulse: &Pulse) -> anyhow::Result<String> {
    let name = format!("eval-{}-{:?}.json", std::process::id(), std::thread::current().id());
    let file = std::env::temp_dir().join(name);
    // A file that a crash left behind would stand in the way.
    let _ = std::fs::remove_file(&file);
    list.extend(["--json".to_string(), file.display().to_string()]);
    let asked = engine.ask(&list, pulse);
    let text = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    asked?;
    Ok(text?)
}
