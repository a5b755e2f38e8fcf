//! The sets of a mixture: read with all their templates, split, and kept apart from what is held out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paddock_core::philox::{Philox, Stream};
use paddock_datasets::mixture::Rates;
use paddock_datasets::prepare::{Progress, ReadFile};
use paddock_datasets::readers::{self, Detected, ReadOptions};
use paddock_datasets::report::EncodeReport;
use paddock_datasets::split::{SplitOptions, split};
use paddock_datasets::template::Template;
use paddock_datasets::tokens::{Facts, Store};

use super::course::{Mixed, SetRows};
use super::reader::{Reader, Wanted};
use super::rows::Rows;
use crate::bundled::data_path;
use crate::data::held::{is_of, known_clusters};
use crate::error::bad_input;
use crate::run::config::mixture::{MOST_ROWS, cluster_of};
use crate::run::config::{MixtureSet, Validation};

/// Held-out rows that judge the model where no number is given.
const JUDGING_ROWS: u64 = 1000;
/// Fewest held-out rows of all sets together, where they allow.
const LEAST_VALIDATION: usize = 32;

/// A mixture that was read.
pub struct ReadMixture {
    /// Rows to learn from: all examples of the first set's first row, of its second, and so on.
    pub train: Rows,
    /// Rows to judge by.
    pub validation: Rows,
    /// How rows are drawn.
    pub mixed: Mixed,
    /// What became of the rows.
    pub report: EncodeReport,
    /// The files read.
    pub files: Vec<ReadFile>,
    /// All templates.
    pub templates: Vec<Template>,
    /// Held-out rows that were left out because their text is trained on too.
    pub shared: u64,
}

/// One set with its rows; each row's examples, one a template, as (store, example).
struct Set<'a> {
    set: &'a MixtureSet,
    stores: Vec<Arc<Store>>,
    rows: Vec<Vec<(u32, usize)>>,
    /// Rows that worked examples come from.
    exemplars: HashSet<u64>,
    held: bool,
    /// Stores that are trained on; those behind them are of templates for judging alone.
    trained: u32,
    /// How often each of these is drawn; empty: all alike.
    weights: Vec<f64>,
}

impl Set<'_> {
    fn first(&self, row: usize) -> Facts {
        let (store, i) = self.rows[row][0];
        self.stores[store as usize].facts(i)
    }
}

/// Reads all sets of the settings' mixture.
pub fn read(reader: &Reader<'_>, progress: &mut dyn Progress) -> anyhow::Result<ReadMixture> {
    let config = reader.config;
    check_clusters(&config.mixture, &config.hold_out)?;
    let mut all = Vec::new();
    let (mut report, mut files) = (EncodeReport::default(), Vec::new());
    let mut templates = Vec::new();
    let mut once = Once { progress, told: HashSet::new() };
    for set in &config.mixture {
        let held = set.cluster().is_some_and(|own| config.hold_out.iter().any(|h| h == own));
        let paths: Vec<PathBuf> =
            set.data.iter().map(|name| data_path(name)).collect::<anyhow::Result<_>>()?;
        if !config.hold_out.is_empty() && !held {
            refuse_rows_of(&paths, &config.hold_out, config.skip_bad)?;
        }
        let (mut named, weights) = trained_with(reader, set)?;
        let trained = named.len();
        for name in &set.judge_template {
            named.extend(reader.templates(name)?.into_iter().map(Some));
        }
        let labels = if set.labels.is_empty() { &config.labels } else { &set.labels };
        let (stores, rows, exemplars) = Default::default();
        let mut found =
            Set { set, stores, rows, exemplars, held, trained: trained as u32, weights };
        for (number, template) in named.into_iter().enumerate() {
            let wanted = Wanted {
                paths: &paths,
                template,
                columns: &set.columns,
                // Held-out tasks are asked without help, as FLAN does.
                labels: (!held).then_some(labels),
                most: Some(set.max_rows.unwrap_or(MOST_ROWS)),
            };
            let (template, tokens) = reader.tokens(&wanted, &mut once)?;
            if number < trained {
                templates.push(template);
            }
            found.exemplars.extend(&tokens.report.exemplar_rows);
            report.absorb(&tokens.report);
            if found.stores.is_empty() {
                files.extend(tokens.files);
            }
            found.stores.push(tokens.store);
        }
        found.rows = rows_of(&found.stores);
        all.push(found);
    }
    if all.iter().all(|set| set.held) {
        return Err(bad_input("hold_out keeps every set of the mixture away; nothing is left"));
    }
    refuse_leaks(&all)?;
    let mut read = ReadMixture {
        train: Rows::default(),
        validation: Rows::default(),
        mixed: Mixed { sets: Vec::new(), rates: rates(reader), rows: 0, seed: config.seed },
        report,
        files,
        templates,
        shared: 0,
    };
    divide(reader, &all, &mut read)?;
    Ok(read)
}

/// The templates that a set is trained with, and how often each is drawn if that is stated.
fn trained_with(
    reader: &Reader<'_>,
    set: &MixtureSet,
) -> anyhow::Result<(Vec<Option<Template>>, Vec<f64>)> {
    let (mut named, mut weights) = (Vec::new(), Vec::new());
    for (i, name) in set.template.iter().enumerate() {
        let found = reader.templates(name)?;
        if let Some(weight) = set.template_weight.get(i) {
            // Several under one name share its weight.
            weights.extend(std::iter::repeat_n(weight / found.len() as f64, found.len()));
        }
        named.extend(found.into_iter().map(Some));
    }
    if named.is_empty() {
        named.push(None);
    }
    Ok((named, weights))
}

/// The template by which rows of a file of their own are judged: of a mixture the first one that is kept for
/// that, or the one named for questions; nothing where their columns decide.
pub fn asking(reader: &Reader<'_>, template: &Template) -> anyhow::Result<Option<Template>> {
    let config = reader.config;
    if let Some(name) = config.mixture.iter().flat_map(|set| &set.judge_template).next() {
        return Ok(reader.templates(name)?.into_iter().next());
    }
    let own = config.mixture.is_empty() || config.template.is_some();
    Ok(own.then(|| template.clone()))
}

/// The examples of each row. With one template each example is a row of its own.
fn rows_of(stores: &[Arc<Store>]) -> Vec<Vec<(u32, usize)>> {
    if let [one] = stores {
        return (0..one.len()).map(|i| vec![(0, i)]).collect();
    }
    let mut rows: BTreeMap<u64, Vec<(u32, usize)>> = BTreeMap::new();
    for (number, store) in stores.iter().enumerate() {
        for i in 0..store.len() {
            rows.entry(store.facts(i).row).or_default().push((number as u32, i));
        }
    }
    rows.into_values().collect()
}

fn rates(reader: &Reader<'_>) -> Rates {
    let config = reader.config;
    let trained = |set: &&MixtureSet| {
        !set.cluster().is_some_and(|own| config.hold_out.iter().any(|held| held == own))
    };
    let sets = config.mixture.iter().filter(trained);
    let weights: Vec<f64> = sets.filter_map(|set| set.weight).collect();
    let (temperature, cap) = (config.mixture_temperature, config.mixture_cap);
    match (weights.is_empty(), temperature == 1.0) {
        (false, _) => Rates::Weights(weights),
        (true, true) => Rates::Proportional { cap },
        (true, false) => Rates::Temperature { temperature, cap },
    }
}

/// Training rows and held-out rows of all sets.
fn divide(reader: &Reader<'_>, all: &[Set<'_>], read: &mut ReadMixture) -> anyhow::Result<()> {
    let config = reader.config;
    let cap = config.mixture_cap;
    let trained = all.iter().filter(|set| !set.held).count().max(1);
    let holds_clusters = all.iter().any(|set| set.held);
    let mut kept: Vec<(Facts, Arc<Store>, usize)> = Vec::new();
    let mut texts: HashSet<u64> = HashSet::new();
    for set in all.iter().filter(|set| !set.held) {
        let rows = set.rows.len();
        let free: Vec<usize> =
            (0..rows).filter(|row| !set.exemplars.contains(&set.first(*row).row)).collect();
        let drawn = (rows as u64).min(cap) as f64;
        let wanted = match &config.validation {
            _ if holds_clusters => 0.0,
            Validation::None | Validation::File(_) => 0.0,
            Validation::Share(share) => share * drawn,
            Validation::Rows(rows) => *rows as f64 / trained as f64,
        };
        let share = (wanted / free.len().max(1) as f64).min(0.5);
        let least = if share > 0.0 { LEAST_VALIDATION.div_ceil(trained).min(rows / 5) } else { 0 };
        let keys: Vec<u128> = free.iter().map(|row| row_key(&set.first(*row))).collect();
        let options = SplitOptions { share, min_rows: least, seed: config.seed };
        let held: HashSet<usize> =
            split(&keys, &options).validation.iter().map(|i| free[*i]).collect();
        let (name, templates) = (set.set.title().to_string(), u64::from(set.trained));
        let weights = set.weights.clone();
        let (starts, drawn_with) = Default::default();
        let mut own = SetRows { name, share: 0.0, templates, starts, weights, drawn_with };
        let numbers: Vec<u32> =
            set.stores.iter().map(|store| read.train.add_store(Arc::clone(store))).collect();
        for (row, examples) in set.rows.iter().enumerate() {
            if held.contains(&row) {
                kept.push(one_of(set, row, config.seed));
                continue;
            }
            let start = read.train.len();
            for (store, i) in examples.iter().filter(|(store, _)| *store < set.trained) {
                read.train.push(numbers[*store as usize], *i);
                own.drawn_with.extend((!own.weights.is_empty()).then_some(*store as u16));
            }
            if read.train.len() > start {
                own.starts.push(start);
                texts.insert(set.first(row).text);
            }
        }
        own.starts.push(read.train.len());
        if own.rows() == 0 {
            return Err(bad_input(format!("{}: no row is left to train on", own.name)));
        }
        read.mixed.sets.push(own);
    }
    let sizes: Vec<u64> = read.mixed.sets.iter().map(SetRows::rows).collect();
    let shares = read.mixed.rates.shares(&sizes)?;
    read.mixed.sets.iter_mut().zip(shares).for_each(|(set, share)| set.share = share);
    let by_size = sizes.iter().map(|rows| (*rows).min(cap)).sum();
    read.mixed.rows = config.mixture_rows.unwrap_or(by_size).max(1);
    if holds_clusters && config.validation != Validation::None {
        kept = judging(all, config.seed, &config.validation);
    }
    for (facts, store, i) in kept {
        // The same text in two sets would be learned from one and judged by the other.
        if facts.text != 0 && texts.contains(&facts.text) {
            read.shared += 1;
            continue;
        }
        read.validation.add(store, [i]);
    }
    Ok(())
}

/// Rows of the sets that are held out, evenly spread where there are too many.
fn judging(all: &[Set<'_>], seed: u64, validation: &Validation) -> Vec<(Facts, Arc<Store>, usize)> {
    let most = match validation {
        Validation::Rows(rows) => *rows,
        _ => JUDGING_ROWS,
    } as usize;
    let rows: Vec<(&Set<'_>, usize)> = all
        .iter()
        .filter(|set| set.held)
        .flat_map(|set| (0..set.rows.len()).map(move |row| (set, row)))
        .collect();
    let count = rows.len().min(most);
    (0..count).map(|i| rows[i * rows.len() / count]).map(|(s, r)| one_of(s, r, seed)).collect()
}

/// One example of a row, its template chosen by seed.
fn one_of(set: &Set<'_>, row: usize, seed: u64) -> (Facts, Arc<Store>, usize) {
    let all = &set.rows[row];
    let judge: Vec<(u32, usize)> =
        all.iter().filter(|(store, _)| *store >= set.trained).copied().collect();
    let examples = if judge.is_empty() { all } else { &judge };
    let random = Philox::new(seed, Stream::SPLIT);
    let choice = random.below(u32::MAX, row as u64, examples.len() as u64) as usize;
    let (store, i) = examples[choice];
    (set.first(row), Arc::clone(&set.stores[store as usize]), i)
}

/// What keeps rows on one side: their text, or their tokens where that is too short to tell.
pub fn row_key(facts: &Facts) -> u128 {
    if facts.text == 0 { facts.key } else { u128::from(facts.text) }
}

/// Every set must say where it belongs, or nothing could be held out.
fn check_clusters(sets: &[MixtureSet], hold_out: &[String]) -> anyhow::Result<()> {
    if hold_out.is_empty() {
        return Ok(());
    }
    let own: Vec<&str> = sets.iter().filter_map(MixtureSet::cluster).collect();
    known_clusters("hold_out", hold_out, &own)?;
    for name in hold_out {
        if !own.contains(&name.as_str()) {
            let own = own.join(", ");
            return Err(bad_input(format!(
                "hold_out names {name}, but no set of the mixture is of it (they are of {own})"
            )));
        }
    }
    for set in sets {
        let title = set.title();
        let Some(cluster) = set.cluster() else {
            return Err(bad_input(format!(
                "{title}: it is not known to which cluster it belongs, so it could not be told from \
                 what is held out; write cluster = \"NAME\" in its section"
            )));
        };
        let is_held = |name: &str| hold_out.iter().any(|held| held == name);
        let leak = set.template.iter().find(|t| cluster_of(t).is_some_and(is_held));
        if let (Some(template), false) = (leak, is_held(cluster)) {
            return Err(bad_input(format!(
                "{title}: its template {template} is of a cluster that is held out, though the set is \
                 said to be of {cluster}"
            )));
        }
    }
    Ok(())
}

/// Refuses rows to train on that say they are of a cluster that is held out.
fn refuse_rows_of(paths: &[PathBuf], hold_out: &[String], skip_bad: bool) -> anyhow::Result<()> {
    for path in paths {
        let rows = readers::open(path, &ReadOptions { skip_bad, ..ReadOptions::default() })?;
        if !rows.detected().columns.iter().any(|c| c == "cluster" || c == "template") {
            continue;
        }
        for record in rows.flatten() {
            if let Some(held) = hold_out.iter().find(|held| is_of(&record, held)) {
                return Err(bad_input(format!(
                    "{}: row {} is of the cluster {held}, which is held out; leave the file out of \
                     the mixture",
                    path.display(),
                    record.row
                )));
            }
        }
    }
    Ok(())
}

/// Refuses texts that are both held out and trained on.
fn refuse_leaks(all: &[Set<'_>]) -> anyhow::Result<()> {
    let mut held: HashMap<u64, (&str, u64)> = HashMap::new();
    for set in all.iter().filter(|set| set.held) {
        for row in 0..set.rows.len() {
            let facts = set.first(row);
            held.entry(facts.text).or_insert((set.set.title(), facts.row));
        }
    }
    held.remove(&0);
    let (mut count, mut first) = (0u64, None);
    for set in all.iter().filter(|set| !set.held) {
        for row in 0..set.rows.len() {
            let facts = set.first(row);
            if let Some((other, twin)) = held.get(&facts.text) {
                count += 1;
                first.get_or_insert((set.set.title(), facts.row, *other, *twin));
            }
        }
    }
    let Some((title, row, other, twin)) = first else { return Ok(()) };
    Err(bad_input(format!(
        "{count} rows to train on have a text that is held out, such as row {row} of {title}, which is \
         row {twin} of {other}; leave them out"
    )))
}

/// Says only once what a file was recognised as: it is read for each template.
struct Once<'a> {
    progress: &'a mut dyn Progress,
    told: HashSet<PathBuf>,
}

impl Progress for Once<'_> {
    fn rows(&mut self, path: &Path, rows: u64) -> bool {
        self.progress.rows(path, rows)
    }

    fn opened(&mut self, path: &Path, detected: &Detected, notes: &[String]) {
        if self.told.insert(path.to_path_buf()) {
            self.progress.opened(path, detected, notes);
        }
    }
}
