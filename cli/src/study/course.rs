//! The course of a study: its rows, its cells one after another, each kept as soon as it is known.

use std::path::Path;
use std::time::{Duration, Instant};

use paddock_datasets::template::Template;

use super::cell::{Outcome, Settings, Store};
use super::frozen::{self, Frozen};
use super::methods::Bench;
use super::plan::{Common, Planned, cells};
use super::rows::Sides;
use super::spec::{Kind, Study};
use super::tune::TEMPLATE;
use crate::error::bad_input;
use crate::eval::engine::Device;
use crate::eval::progress::Interrupted;
use crate::eval::templates;
use crate::open::Opened;
use crate::run::fingerprint::Fingerprinter;
use crate::run::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;
use crate::train::report::duration;

/// A finished cell.
#[derive(Clone, Debug)]
pub struct Done {
    /// What it is.
    pub settings: Settings,
    /// What was found.
    pub outcome: Outcome,
}

/// A finished study.
pub struct Finished {
    /// What its rows were.
    pub sides: Sides,
    /// Their files.
    pub frozen: Frozen,
    /// All cells, in order.
    pub cells: Vec<Done>,
    /// How many of them had been done before.
    pub before: usize,
    /// The model in words.
    pub model: String,
}

/// What a study is called: its own name, or the file's.
pub fn name(own: Option<&str>, file: &Path) -> String {
    let stem = file.file_stem().map(|s| s.to_string_lossy().to_string());
    own.map(str::to_string).or(stem).unwrap_or_else(|| "study".to_string())
}

/// The one template that a study's name for it stands for.
pub fn template(name: &str) -> anyhow::Result<Template> {
    let mut found = templates::named(name)?;
    match (found.pop(), found.len()) {
        (Some(template), 0) => Ok(template),
        (_, more) => Err(bad_input(format!(
            "template: {name} names {} templates; a study needs one",
            more + 1
        ))),
    }
}

/// Hash of a model's weights.
pub fn fingerprint(opened: &Opened) -> anyhow::Result<String> {
    let mut prints = Fingerprinter::new(&RealStorage);
    let hashes = opened.folder.files.iter().map(|file| Ok(prints.record(&file.path)?.sha256));
    Ok(hashes.collect::<anyhow::Result<Vec<String>>>()?.join("+"))
}

/// Does all cells that are not done yet.
pub fn run(
    study: &Study,
    out: &Path,
    device: Device,
    signals: &Signals,
) -> anyhow::Result<Finished> {
    study.check()?;
    let (frozen, sides) = frozen::rows(study, out)?;
    let template = template(&study.template)?;
    replace_file(&RealStorage, &out.join(TEMPLATE), template.to_json().as_bytes())?;
    let needs_model = study.method.iter().any(|m| !matches!(m.kind, Kind::Majority | Kind::Svm));
    let opened = needs_model.then(|| Opened::open(&study.model, None)).transpose()?;
    let common = Common {
        split: frozen.hash(),
        model: opened.as_ref().map(fingerprint).transpose()?.unwrap_or_default(),
        template: template.hash(),
    };
    let planned = cells(study, &sides, &common)?;
    let store = Store::new(out)?;
    let bench = Bench {
        study,
        out,
        sides: &sides,
        template: &template,
        opened: opened.as_ref(),
        device,
        signals,
    };
    let mut queue = Queue::new(&planned, &store);
    for (number, cell) in planned.iter().enumerate() {
        if queue.done[number].is_some() {
            continue;
        }
        eprintln!("{}", queue.line(&planned, number));
        let began = Instant::now();
        let outcome = bench.run(&store, &cell.settings)?;
        store.save(&cell.settings, &outcome)?;
        queue.finished(&planned, number, outcome, began.elapsed());
        if signals.stop_requested() {
            return Err(Interrupted.into());
        }
    }
    let model = opened.as_ref().map_or("none".to_string(), |opened| {
        let millions = opened.folder.config.params() as f64 / 1e6;
        format!("{} ({millions:.1} million parameters)", study.model)
    });
    let before = queue.before;
    let outcomes = queue.done.into_iter().flatten();
    let cells = planned.into_iter().zip(outcomes);
    let cells = cells.map(|(p, outcome)| Done { settings: p.settings, outcome }).collect();
    drop(opened);
    Ok(Finished { sides, frozen, cells, before, model })
}

/// What is done, and how long the rest will take.
struct Queue {
    done: Vec<Option<Outcome>>,
    before: usize,
    /// Seconds and work of finished cells, for each kind.
    pace: Vec<(Kind, f64, f64)>,
}

impl Queue {
    fn new(planned: &[Planned], store: &Store) -> Queue {
        let done: Vec<Option<Outcome>> = planned.iter().map(|p| store.load(&p.settings)).collect();
        let before = done.iter().flatten().count();
        let paced = planned.iter().zip(&done).filter_map(|(p, outcome)| {
            let outcome = outcome.as_ref()?;
            Some((p.settings.kind, outcome.learn_s + outcome.answer_s, p.cost))
        });
        let pace = paced.collect();
        if before > 0 {
            eprintln!("{before} of {} cells are done already", planned.len());
        }
        Queue { done, before, pace }
    }

    fn finished(&mut self, planned: &[Planned], number: usize, outcome: Outcome, took: Duration) {
        let cell = &planned[number];
        self.pace.push((cell.settings.kind, took.as_secs_f64(), cell.cost));
        self.done[number] = Some(outcome);
    }

    /// Seconds that a unit of work takes: as in cells of the kind, or else in all.
    fn seconds(&self, kind: Kind) -> Option<f64> {
        let sum = |of: &dyn Fn(Kind) -> bool| {
            let these = self.pace.iter().filter(|(k, _, cost)| of(*k) && *cost > 0.0);
            these.fold((0.0, 0.0), |(s, c), (_, seconds, cost)| (s + seconds, c + cost))
        };
        let rate = |(seconds, cost): (f64, f64)| (cost > 0.0).then(|| seconds / cost);
        let on_model = |k| !matches!(k, Kind::Majority | Kind::Svm);
        rate(sum(&|k| k == kind)).or_else(|| rate(sum(&on_model)))
    }

    fn line(&self, planned: &[Planned], number: usize) -> String {
        let left = planned.iter().zip(&self.done).filter(|(_, done)| done.is_none());
        let seconds: Option<f64> =
            left.map(|(p, _)| Some(p.cost * self.seconds(p.settings.kind)?)).sum();
        let to_go = match seconds {
            Some(seconds) => {
                format!("; about {} to go", duration(Duration::from_secs_f64(seconds)))
            }
            None => String::new(),
        };
        format!("[{}/{}] {}{to_go}", number + 1, planned.len(), planned[number].settings.words())
    }
}
