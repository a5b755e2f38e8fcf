//! The runs of a sweep, one after another. What came of a run is a file; a run whose file is there is not
//! made again, and a run that was stopped goes on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use toml::Value;

use super::cell::{Cell, Cells};
use super::rows::{Files, files};
use super::spec::{Measure, SWEEP_VERSION, Setting, Sweep};
use super::test::{Tested, test};
use crate::error::bad_input;
use crate::eval::engine::Device;
use crate::eval::progress::Interrupted;
use crate::eval::statistics::mean_sd;
use crate::run::events::Reason;
use crate::run::metrics::{self, Line};
use crate::run::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::{read_file, replace_file};
use crate::study::tune::{Quiet, trained};
use crate::train::report::duration;
use crate::train::{Launch, train};

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Version of this layout.
    pub version: u32,
    /// The measure of the validation rows, at its best.
    pub score: f64,
    /// Their loss then.
    pub loss: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// Tokens of all steps.
    pub tokens: u64,
    /// Memory planned.
    pub memory_bytes: u64,
}

/// A setting with all its runs.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The setting.
    pub setting: Setting,
    /// What came of each seed.
    pub found: Vec<Found>,
    /// The folders of its runs.
    pub folders: Vec<PathBuf>,
    /// Mean of the measure.
    pub mean: f64,
    /// Its standard deviation over seeds.
    pub sd: f64,
}

/// A finished sweep.
pub struct Swept {
    /// All settings, in order.
    pub tried: Vec<Tried>,
    /// The one that was chosen.
    pub best: usize,
    /// What the test rows say of it, if there are any.
    pub tested: Option<Tested>,
    /// The rows.
    pub files: Files,
}

/// Makes all runs that are not made yet, chooses, tests.
pub fn run(sweep: &Sweep, out: &Path, device: &Device, signals: &Signals) -> anyhow::Result<Swept> {
    let settings = sweep.settings()?;
    let files = files(sweep, out)?;
    let dir = out.join("cells");
    std::fs::create_dir_all(&dir)?;
    let mut cells = Cells::new(sweep, &files, device, &dir);
    let (all, began) = (settings.len() * sweep.seeds.len(), Instant::now());
    let (mut number, mut made) = (0, 0);
    let mut tried = Vec::new();
    for setting in settings {
        let (mut found, mut folders) = (Vec::new(), Vec::new());
        for &seed in &sweep.seeds {
            number += 1;
            let cell = cells.cell(&setting, seed)?;
            let known = known(&cell.file).filter(|_| cell.folder.is_dir() || !sweep.keep_runs);
            let result = match known {
                Some(known) => known,
                None => {
                    let to_go = match made {
                        0 => String::new(),
                        made => {
                            let left = (all - number + 1) as u32;
                            let each = began.elapsed() / made;
                            format!("; about {} to go", duration(each * left))
                        }
                    };
                    eprintln!("[{number}/{all}] {}, seed {seed}{to_go}", setting.words());
                    made += 1;
                    one(sweep, &cell, &setting, signals)?
                }
            };
            found.push(result);
            folders.push(cell.folder);
        }
        let (mean, sd) = of_scores(&found);
        tried.push(Tried { setting, found, folders, mean, sd });
    }
    let by = sweep.choose_by;
    let best = (0..tried.len())
        .fold(0, |b, i| if by.better(tried[i].mean, tried[b].mean) { i } else { b });
    made_again(sweep, &mut cells, &mut tried[best], signals)?;
    let tested = test(sweep, &files, &tried[best], out, device, signals)?;
    if !sweep.keep_runs {
        let others = tried.iter().enumerate().filter(|(i, _)| *i != best);
        for folder in others.flat_map(|(_, t)| &t.folders).filter(|f| f.is_dir()) {
            std::fs::remove_dir_all(folder)?;
        }
    }
    Ok(Swept { tried, best, tested, files })
}

fn of_scores(found: &[Found]) -> (f64, f64) {
    mean_sd(&found.iter().map(|f| f.score).collect::<Vec<f64>>())
}

/// Makes the runs of the chosen setting again whose folders were taken away when another one was best.
fn made_again(
    sweep: &Sweep,
    cells: &mut Cells<'_>,
    best: &mut Tried,
    signals: &Signals,
) -> anyhow::Result<()> {
    for (i, &seed) in sweep.seeds.iter().enumerate() {
        if best.folders[i].is_dir() {
            continue;
        }
        eprintln!("{}, seed {seed}: made again, its folder is gone", best.setting.words());
        let cell = cells.cell(&best.setting, seed)?;
        best.found[i] = one(sweep, &cell, &best.setting, signals)?;
    }
    (best.mean, best.sd) = of_scores(&best.found);
    Ok(())
}

fn known(file: &Path) -> Option<Found> {
    let bytes = read_file(&RealStorage, file, 1 << 20).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|f: &Found| f.version == SWEEP_VERSION)
}

fn one(sweep: &Sweep, cell: &Cell, setting: &Setting, signals: &Signals) -> anyhow::Result<Found> {
    let (folder, file) = (&cell.folder, &cell.file);
    // While a run is made again its folder is there, but it is not known what came of it.
    if file.exists() {
        std::fs::remove_file(file)?;
    }
    // Below, the checkpoints of a run that has ended are taken away. It cannot go on without them, so it is made anew.
    if folder.is_dir() && !folder.join("checkpoints").is_dir() {
        std::fs::remove_dir_all(folder)?;
    }
    let mut table = cell.table.clone();
    table.insert("out".into(), Value::String(folder.display().to_string()));
    let launch = Launch {
        file: Some((setting.words(), toml::to_string(&table)?)),
        resume: folder.join("run.toml").is_file(),
        ..Launch::default()
    };
    let mut listener = Quiet::new(&setting.words(), signals);
    let ended = train(&launch, &mut listener, signals)?;
    if ended.reason == Reason::Interrupted {
        return Err(Interrupted.into());
    }
    let (tokens, seconds) = trained(folder)?;
    let (score, loss) = score(sweep.choose_by, folder)?;
    let memory_bytes = listener.memory_bytes;
    let found = Found { version: SWEEP_VERSION, score, loss, seconds, tokens, memory_bytes };
    replace_file(&RealStorage, file, &serde_json::to_vec_pretty(&found)?)?;
    let checkpoints = folder.join("checkpoints");
    if checkpoints.is_dir() {
        std::fs::remove_dir_all(checkpoints)?;
    }
    Ok(found)
}

/// The measure at the state that the run kept, the one of the least loss; and that loss.
fn score(by: Measure, folder: &Path) -> anyhow::Result<(f64, f64)> {
    let lines = metrics::read(&RealStorage, &folder.join("metrics.jsonl"))?.lines;
    let evals = lines.into_iter().filter_map(|line| match line {
        // The state before the first step is not kept.
        Line::Eval(eval) if eval.step > 0 => Some(eval),
        _ => None,
    });
    let best = evals.min_by(|a, b| a.eval_loss.total_cmp(&b.eval_loss));
    let best = best.ok_or_else(|| bad_input("the run was never judged by validation rows"))?;
    let score = match by {
        Measure::Loss => best.eval_loss,
        Measure::TokenAccuracy => best.token_accuracy,
        Measure::ExactMatch => best.exact_match.ok_or_else(|| {
            bad_input("choose_by = \"exact_match\" needs answers of at most 32 tokens")
        })?,
    };
    Ok((score, best.eval_loss))
}

/// Time of all runs together.
pub fn total(tried: &[Tried]) -> Duration {
    let seconds: f64 = tried.iter().flat_map(|t| &t.found).map(|f| f.seconds).sum();
    Duration::from_secs_f64(seconds.max(0.0))
}
