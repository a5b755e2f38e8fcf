//! The course of a study of transfer: one tuning for each number of clusters, number of templates and seed;
//! the held-out cluster is asked after each. What was found is a file and is not done again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use paddock_datasets::fewshot::Choice;
use paddock_datasets::template::Template;
use serde::{Deserialize, Serialize};
use toml::Value;

use super::mix::{Loaded, chosen, load, mixture, pair_template};
use super::spec::{Count, Transfer};
use crate::eval::engine::Device;
use crate::eval::progress::Interrupted;
use crate::eval::rows::{Data, Selection, read};
use crate::eval::run::{Classify, Metric, Request, Run};
use crate::open::Opened;
use crate::run::events::Reason;
use crate::run::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::{read_file, replace_file, sha256_hex};
use crate::study::course::fingerprint;
use crate::study::rows::paths;
use crate::study::tune::{Quiet, trained};
use crate::train::report::duration;
use crate::train::{Launch, train};

/// Version of a cell's file.
const VERSION: u32 = 1;

/// What came of a tuning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Version of this layout.
    pub version: u32,
    /// Clusters that were tuned on; none for the untuned model.
    pub clusters: Vec<String>,
    /// Templates of each; none for the untuned model.
    pub templates: Option<Count>,
    /// The seed.
    pub seed: u64,
    /// Rows of the mixture.
    pub rows: usize,
    /// Seconds of tuning.
    pub seconds: f64,
    /// Tokens of tuning.
    pub tokens: u64,
    /// The held-out cluster, for each number of worked examples.
    pub asked: Vec<Asked>,
}

/// The held-out cluster after a tuning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Worked examples before each question.
    pub shots: usize,
    /// Accuracy with each template.
    pub by_template: Vec<(String, f64)>,
    /// For each row the share of templates with which it was right.
    pub right: Vec<f64>,
}

/// The held-out cluster.
struct Held {
    data: Data,
    pool: Option<Data>,
    templates: Vec<Template>,
}

/// Everything that a tuning needs.
struct Bench<'a> {
    study: &'a Transfer,
    out: &'a Path,
    clusters: &'a [Loaded],
    held: &'a Held,
    model: String,
    device: Device,
    signals: &'a Signals,
}

/// Does what is not done yet; the untuned model first.
pub fn run(
    study: &Transfer,
    out: &Path,
    device: Device,
    signals: &Signals,
) -> anyhow::Result<Vec<Found>> {
    study.check()?;
    std::fs::create_dir_all(out.join("cells"))?;
    let clusters = load(study)?;
    let held = held(study)?;
    let base = Opened::open(&study.model, None)?;
    let model = fingerprint(&base)?;
    drop(base);
    let bench = Bench { study, out, clusters: &clusters, held: &held, model, device, signals };
    let mut plan: Vec<(usize, Option<Count>, u64)> = vec![(0, None, study.seeds[0])];
    for &n in study.numbers.iter().filter(|n| **n > 0) {
        for &templates in &study.templates {
            plan.extend(study.seeds.iter().map(|&seed| (n, Some(templates), seed)));
        }
    }
    let (mut found, mut made, began) = (Vec::new(), 0u32, Instant::now());
    for (number, &(n, templates, seed)) in plan.iter().enumerate() {
        let clusters = chosen(bench.clusters, n, seed);
        let file = out.join("cells").join(bench.stem(&clusters, templates, seed));
        if let Some(known) = known(&file.with_extension("json")) {
            found.push(known);
            continue;
        }
        let names: Vec<&str> = clusters.iter().map(|c| c.name.as_str()).collect();
        let what = match n {
            0 => "the model as it is".to_string(),
            _ => format!("tuned on {}, seed {seed}", names.join(", ")),
        };
        let to_go = match made {
            0 => Duration::ZERO,
            made => began.elapsed() / made * (plan.len() - number) as u32,
        };
        let words =
            if made > 0 { format!("; about {} to go", duration(to_go)) } else { String::new() };
        eprintln!("[{}/{}] {what}{words}", number + 1, plan.len());
        made += 1;
        let one = match n {
            0 => Found {
                version: VERSION,
                seed,
                asked: bench.ask(&Opened::open(&study.model, None)?, seed)?,
                ..Found::default()
            },
            _ => bench.tuned(&clusters, templates, seed, &file, &what)?,
        };
        let text = serde_json::to_vec(&one)?;
        replace_file(&RealStorage, &file.with_extension("json"), &text)?;
        found.push(one);
    }
    Ok(found)
}

fn known(file: &Path) -> Option<Found> {
    let bytes = read_file(&RealStorage, file, 1 << 30).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|f: &Found| f.version == VERSION)
}

fn held(study: &Transfer) -> anyhow::Result<Held> {
    let cluster = &study.cluster[&study.held_out];
    let selection = Selection { limit: study.test_rows, ..Selection::default() };
    let data = read(&paths(&cluster.test_data)?, &selection)?;
    let pool = match study.shots.iter().any(|k| *k > 0) {
        true => Some(read(&paths(&cluster.data)?, &Selection::default())?),
        false => None,
    };
    Ok(Held { data, pool, templates: cluster.all_templates()? })
}

impl Bench<'_> {
    /// A name that carries the hash of everything that the result depends on.
    fn stem(&self, clusters: &[&Loaded], templates: Option<Count>, seed: u64) -> String {
        let study = self.study;
        let held: Vec<String> = self.held.templates.iter().map(Template::hash).collect();
        let rows = |data: &Data| -> String {
            let text: String = data.records.iter().map(|r| format!("{:?}", r.columns)).collect();
            sha256_hex(text.as_bytes())
        };
        let hashes: Vec<&str> = clusters.iter().map(|c| c.hash.as_str()).collect();
        let all = (
            (VERSION, &self.model, hashes, templates, seed),
            (held, rows(&self.held.data), self.held.pool.as_ref().map(rows)),
            (&study.shots, study.length_norm, study.settings.to_string()),
        );
        let key = sha256_hex(serde_json::to_string(&all).unwrap_or_default().as_bytes());
        key.chars().take(16).collect()
    }

    /// Asks the held-out cluster with all of its templates.
    fn ask(&self, opened: &Opened, seed: u64) -> anyhow::Result<Vec<Asked>> {
        let request = Request {
            metrics: vec![Metric::Accuracy],
            classify: Classify::Rank,
            norm: self.study.length_norm,
            choices: Vec::new(),
            max_new_tokens: None,
            drop_long: true,
            seed,
        };
        let run =
            Run { opened, device: self.device.clone(), request: &request, signals: self.signals };
        let mut all = Vec::new();
        for &k in &self.study.shots {
            let pool = self.held.pool.as_ref().filter(|_| k > 0);
            let shots = pool.map(|pool| (pool, k, Choice::Balanced));
            let outcome = run.all(&self.held.data, &self.held.templates, shots)?;
            let mut rows: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
            let mut by_template = Vec::new();
            for template in &outcome.templates {
                let value = template.measures.first().map_or(f64::NAN, |m| m.interval.value);
                by_template.push((template.template.clone(), value));
                for row in &template.rows {
                    let entry = rows.entry(row.row).or_default();
                    *entry = (entry.0 + row.score, entry.1 + 1.0);
                }
            }
            let right = rows.into_values().map(|(sum, n)| sum / n).collect();
            all.push(Asked { shots: k, by_template, right });
        }
        Ok(all)
    }

    fn tuned(
        &self,
        clusters: &[&Loaded],
        templates: Option<Count>,
        seed: u64,
        file: &Path,
        what: &str,
    ) -> anyhow::Result<Found> {
        let count = templates.unwrap_or(Count(crate::study::spec::Rows::All));
        let text = mixture(clusters, count, seed)?;
        let (data, folder) = (file.with_extension("rows.jsonl"), file.with_extension("run"));
        replace_file(&RealStorage, &data, text.as_bytes())?;
        let template = self.out.join("pairs.json");
        replace_file(&RealStorage, &template, pair_template().to_json().as_bytes())?;
        let mut table = self.study.settings.clone();
        let path = |p: &Path| Value::String(p.display().to_string());
        table.insert("model".into(), Value::String(self.study.model.clone()));
        table.insert("data".into(), Value::Array(vec![path(&data)]));
        table.insert("template".into(), path(&template));
        table.insert("out".into(), path(&folder));
        table.insert("seed".into(), Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX)));
        table.insert("validation".into(), Value::String("none".into()));
        for (key, value) in [("samples", 0), ("test_rows", 0), ("keep_checkpoints", 1)] {
            table.insert(key.into(), Value::Integer(value));
        }
        self.device.machine.fill(&mut table);
        let launch = Launch {
            file: Some(("settings".to_string(), toml::to_string(&table)?)),
            resume: folder.join("run.toml").is_file(),
            ..Launch::default()
        };
        let ended = train(&launch, &mut Quiet::new(what, self.signals), self.signals)?;
        if ended.reason == Reason::Interrupted {
            return Err(Interrupted.into());
        }
        let (tokens, seconds) = trained(&folder)?;
        let (model, adapter) = (folder.join("model"), folder.join("adapter"));
        let opened = match model.is_dir() {
            true => Opened::open(&model.display().to_string(), None)?,
            false => Opened::open(&self.study.model, Some(&adapter))?,
        };
        let asked = self.ask(&opened, seed)?;
        drop(opened);
        if !self.study.keep_runs {
            std::fs::remove_dir_all(&folder)?;
            std::fs::remove_file(&data)?;
        }
        Ok(Found {
            version: VERSION,
            clusters: clusters.iter().map(|c| c.name.clone()).collect(),
            templates,
            seed,
            rows: text.lines().count(),
            seconds,
            tokens,
            asked,
        })
    }
}
