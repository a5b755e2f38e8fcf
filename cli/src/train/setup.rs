//! Before a run: the model opened, the rows read, rendered, encoded and split.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paddock_core::config::Config;
use paddock_core::model::{LoraConfig, Method, Module};
use paddock_datasets::prepare::{Progress, ReadFile};
use paddock_datasets::report::EncodeReport;
use paddock_datasets::split::{SplitOptions, split};
use paddock_datasets::template::{Body, Pair, Template};
use sha2::{Digest, Sha256};

use super::cache::Tokens;
use super::course::Mixed;
use super::held_out::Taught;
use super::mixture::{self, row_key};
use super::reader::Wanted;
pub use super::reader::{Reader, named_template};
use super::replay::replay;
use super::rows::Rows;
use super::test_rows::TestRow;
use crate::bundled;
use crate::error::bad_input;
use crate::open::Opened;
use crate::run::config::{self, RunConfig, Validation};

/// Fewest validation rows of an automatic split, where that is no more than a fifth of the rows.
const LEAST_VALIDATION: usize = 32;

/// Everything that a run is made of, before any memory is planned.
pub struct Setup {
    /// The settings.
    pub config: RunConfig,
    /// The model.
    pub opened: Opened,
    /// What is trained.
    pub method: Method,
    /// The template that travels with the result. Of several (a mixture's) it is the one for questions
    /// typed by a person.
    pub template: Template,
    /// Hash of all templates.
    pub template_hash: String,
    /// Rows to learn from.
    pub train: Rows,
    /// How they are drawn, where they are of several sets.
    pub mixed: Option<Mixed>,
    /// Rows to judge by.
    pub validation: Rows,
    /// The file that they are of, where it is one of its own.
    pub validation_file: Option<String>,
    /// What became of that file's rows.
    pub validation_report: Option<EncodeReport>,
    /// Held-out rows that were left out because their text is trained on too.
    pub shared: u64,
    /// Rows that the model answers before and after training, to be judged.
    pub test: Vec<TestRow>,
    /// Test rows that were left out because their text is trained on too.
    pub shared_tests: u64,
    /// What became of the rows.
    pub report: EncodeReport,
    /// The files read.
    pub files: Vec<ReadFile>,
    /// Longest row in tokens that the run takes.
    pub max_seq_len: u64,
}

impl Setup {
    /// Opens and reads everything that the settings name. `progress` hears of files and rows.
    pub fn prepare(config: RunConfig, progress: &mut dyn Progress) -> anyhow::Result<Setup> {
        let model = config
            .model
            .clone()
            .ok_or_else(|| bad_input("no model is named; give a model folder with --model"))?;
        let adapter = config.init_adapter.as_deref().map(Path::new);
        let opened = Opened::open(&model, adapter)?;
        let method = method(&config, &opened)?;
        let allowed = u64::from(opened.folder.config.max_seq_len);
        if let Some(asked) = config.max_seq_len.filter(|&n| n > allowed) {
            return Err(bad_input(format!(
                "max_seq_len is {asked}; this model was made for at most {allowed} tokens"
            )));
        }
        let max_seq_len = config.max_seq_len.unwrap_or(allowed).min(config.micro_batch_tokens);
        let names = resolve(&config)?;
        let reader = Reader { config: &config, tokenizer: &opened.tokenizer, max_seq_len };
        let Parts {
            template,
            template_hash,
            mut train,
            mixed,
            mut validation,
            mut shared,
            report,
            mut files,
        } = parts(&reader, &names, progress)?;
        let own = of_its_own(&reader, &names.validation, &template, progress)?;
        files.extend(own.iter().flat_map(|(_, tokens)| tokens.files.clone()));
        if train.is_empty() {
            return Err(bad_input("no row is left to train on"));
        }
        files.extend(replay(&reader, &mut train, progress)?);
        let mut test = Vec::new();
        if let Some(path) = names.test.filter(|path| config.test_rows > 0 || path.is_file()) {
            let (rows, file) = reader.test_rows(&path, &template)?;
            files.push(file);
            test = rows;
        }
        let stores = own.iter().map(|(_, tokens)| &tokens.store);
        let asked = stores.flat_map(|store| (0..store.len()).map(|i| store.facts(i)));
        let asked = asked.chain(test.iter().map(|row| row.facts));
        let taught = Taught::of(&train, asked, mixed.is_some() || report.few_shot > 0);
        let shared_tests = taught.remove_from(&mut test)?;
        if let Some((path, tokens)) = &own {
            (validation, shared) = taught.without(path, &tokens.store)?;
        }
        let (validation_file, validation_report) =
            own.map(|(path, tokens)| (path, tokens.report)).unzip();
        Ok(Setup {
            config,
            opened,
            method,
            template,
            template_hash,
            train,
            mixed,
            validation,
            validation_file,
            validation_report,
            shared,
            test,
            shared_tests,
            report,
            files,
            max_seq_len,
        })
    }

    /// Rows of one pass.
    pub fn epoch_rows(&self) -> u64 {
        self.mixed.as_ref().map_or(self.train.len() as u64, |mixed| mixed.rows)
    }

    /// Tokens of one pass, and how many of them count in the loss; of a mixture what is to be expected.
    pub fn epoch_tokens(&self) -> (u64, u64) {
        let sizes: Vec<(u64, u64)> =
            self.train.facts().map(|f| (u64::from(f.tokens), u64::from(f.trained))).collect();
        let sum = |part: &[(u64, u64)]| part.iter().fold((0, 0), |s, x| (s.0 + x.0, s.1 + x.1));
        let Some(mixed) = &self.mixed else { return sum(&sizes) };
        let mut all = (0.0, 0.0);
        for set in &mixed.sets {
            let part = &sizes[set.starts[0]..set.starts[set.starts.len() - 1]];
            let own = sum(part);
            let times = set.share * mixed.rows as f64 / part.len().max(1) as f64;
            all = (all.0 + times * own.0 as f64, all.1 + times * own.1 as f64);
        }
        (all.0.round() as u64, all.1.round() as u64)
    }

    /// Optimizer steps of one pass over the training rows.
    pub fn steps_per_epoch(&self) -> u64 {
        self.epoch_rows().div_ceil(self.config.batch_size)
    }

    /// Optimizer steps of the whole run: what `epochs` asks for, or `max_steps`.
    pub fn total_steps(&self) -> u64 {
        let by_epochs = (self.config.epochs * self.steps_per_epoch() as f64).ceil() as u64;
        self.config.max_steps.unwrap_or(by_epochs).max(1)
    }

    /// Looks at the held-out rows: before the first step, now and then, and at the end.
    pub fn evaluations(&self) -> u64 {
        let every = self.config.eval_every.unwrap_or(self.steps_per_epoch()).max(1);
        1 + self.total_steps().div_ceil(every)
    }
}

/// Rows of both sides with what there is to say about them.
struct Parts {
    template: Template,
    template_hash: String,
    train: Rows,
    mixed: Option<Mixed>,
    validation: Rows,
    shared: u64,
    report: EncodeReport,
    files: Vec<ReadFile>,
}

/// Reads the rows of one set, or of a mixture.
fn parts(
    reader: &Reader<'_>,
    names: &Resolved,
    progress: &mut dyn Progress,
) -> anyhow::Result<Parts> {
    let config = reader.config;
    let named = config.template.as_deref().map(|name| reader.template(name)).transpose()?;
    let column = |field: &str| config.columns.get(field).map(String::as_str);
    let (prompt, input, answer) = (column("prompt"), column("input"), column("answer"));
    let named = named.map(|template| template.with_columns(prompt, input, answer));
    if config.mixture.is_empty() {
        let labels = Some(&config.labels);
        let (paths, columns) = (&names.train, &config.columns);
        let wanted = Wanted { paths, template: named, columns, labels, most: None };
        let (template, tokens) = reader.tokens(&wanted, progress)?;
        let (train, validation) = divide(&tokens, &names.validation, config.seed)?;
        let Tokens { report, files, .. } = tokens;
        let template_hash = template.hash();
        let (mixed, shared) = (None, 0);
        return Ok(Parts {
            template,
            template_hash,
            train,
            mixed,
            validation,
            shared,
            report,
            files,
        });
    }
    let read = mixture::read(reader, progress)?;
    let hashes: Vec<String> = read.templates.iter().map(Template::hash).collect();
    let digest = Sha256::digest(hashes.join("\n").as_bytes());
    let template_hash = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let template = match (named, &read.templates[..]) {
        (Some(template), _) => template,
        (None, [one]) => one.clone(),
        (None, _) => question(),
    };
    Ok(Parts {
        template,
        template_hash,
        train: read.train,
        mixed: Some(read.mixed),
        validation: read.validation,
        shared: read.shared,
        report: read.report,
        files: read.files,
    })
}

/// How a person asks a model that learned from many templates: the question, a line break, the answer.
fn question() -> Template {
    let pair = Pair { between: "\n".to_string(), ..Pair::default() };
    Template { body: Body::Prompt(pair), ..Template::prompt() }
}

/// The rows of a validation file, and its name.
fn of_its_own(
    reader: &Reader<'_>,
    validation: &Validation,
    template: &Template,
    progress: &mut dyn Progress,
) -> anyhow::Result<Option<(String, Tokens)>> {
    let Validation::File(path) = validation else { return Ok(None) };
    let paths = &[PathBuf::from(path)];
    let template = mixture::asking(reader, template)?;
    let columns = &reader.config.columns;
    let wanted = Wanted { paths, template, columns, labels: None, most: None };
    Ok(Some((path.clone(), reader.tokens(&wanted, progress)?.1)))
}

/// Files behind the names of data.
struct Resolved {
    train: Vec<PathBuf>,
    validation: Validation,
    test: Option<PathBuf>,
}

/// Of built-in data, the validation and test rows come along unless others are named.
fn resolve(config: &RunConfig) -> anyhow::Result<Resolved> {
    let test = config.test.as_deref().map(bundled::data_path).transpose()?;
    let mut all = Resolved { train: Vec::new(), validation: config.validation.clone(), test };
    for name in &config.data {
        let Some(built_in) = name.strip_prefix(bundled::PREFIX) else {
            all.train.push(PathBuf::from(name));
            continue;
        };
        let data = bundled::data(built_in)?;
        all.train.push(data.train);
        let is_default = config.validation == RunConfig::default().validation;
        if let (true, 1, Some(file)) = (is_default, config.data.len(), data.validation) {
            all.validation = Validation::File(file.display().to_string());
        }
        all.test = all.test.or(data.test);
    }
    Ok(all)
}

/// Training and validation rows of one data set.
fn divide(tokens: &Tokens, chosen: &Validation, seed: u64) -> anyhow::Result<(Rows, Rows)> {
    let store = &tokens.store;
    let rows = store.len();
    let share = match chosen {
        Validation::None | Validation::File(_) => {
            return Ok((Rows::of(Arc::clone(store), 0..rows), Rows::default()));
        }
        Validation::Share(share) => *share,
        Validation::Rows(wanted) => {
            if *wanted as usize * 2 > rows {
                return Err(bad_input(format!(
                    "validation asks for {wanted} rows, but there are only {rows} usable ones; at \
                     most half of them can be held out"
                )));
            }
            *wanted as f64 / rows as f64
        }
    };
    let min_rows =
        if matches!(chosen, Validation::Rows(_)) { 0 } else { LEAST_VALIDATION.min(rows / 5) };
    // What stands before other rows as a worked example is never judged by, nor is a row that is equal to it.
    let exemplars: HashSet<u64> = tokens.report.exemplar_rows.iter().copied().collect();
    let (shown, free): (Vec<usize>, Vec<usize>) =
        (0..rows).partition(|i| exemplars.contains(&store.facts(*i).row));
    let with_shots = tokens.report.few_shot > 0;
    let key = |i: &usize| match store.facts(*i) {
        // Worked examples differ before rows that are equal.
        facts if with_shots => row_key(&facts),
        facts => facts.key,
    };
    let shown: HashSet<u128> = shown.iter().map(key).collect();
    let apart: Vec<usize> = free.iter().copied().filter(|i| !shown.contains(&key(i))).collect();
    // A text that most rows share, as a system prompt is, makes none of them equal.
    let free = if apart.len() * 2 >= free.len() { apart } else { free };
    let keys: Vec<u128> = free.iter().map(key).collect();
    let share = (share * rows as f64 / free.len().max(1) as f64).min(0.5);
    let sides = split(&keys, &SplitOptions { share, min_rows, seed });
    let mut is_validation = vec![false; rows];
    sides.validation.iter().for_each(|&i| is_validation[free[i]] = true);
    let side = |held: bool| (0..rows).filter(|i| is_validation[*i] == held).collect::<Vec<_>>();
    Ok((Rows::of(Arc::clone(store), side(false)), Rows::of(Arc::clone(store), side(true))))
}

/// What the settings want trained.
fn method(config: &RunConfig, opened: &Opened) -> anyhow::Result<Method> {
    match &opened.adapter {
        Some(_) if config.method == config::Method::Full => Err(bad_input(
            "init_adapter continues a LoRA; with --method full merge it first (core-cli export \
             --merge) and train the merged model",
        )),
        // Shape and scale are the adapter's; dropout is the run's.
        Some(adapter) => {
            Ok(Method::Lora(LoraConfig { dropout: config.lora_dropout as f32, ..adapter.lora }))
        }
        None => method_of(config, &opened.folder.config),
    }
}

/// What the settings want trained of a model of this shape, from the start.
pub fn method_of(config: &RunConfig, shape: &Config) -> anyhow::Result<Method> {
    if config.method == config::Method::Full {
        return Ok(Method::Full);
    }
    let rank = u32::try_from(config.lora_rank)
        .map_err(|_| bad_input(format!("lora_rank is {}", config.lora_rank)))?;
    let lora = LoraConfig {
        rank,
        alpha: config.effective_lora_alpha(),
        rank_stabilised: config.rslora,
        dropout: config.lora_dropout as f32,
        targets: targets(&config.lora_targets)?,
    };
    lora.validate(shape).map_err(|e| bad_input(e.to_string()))?;
    Ok(Method::Lora(lora))
}

/// Modules by name; `all-linear` is all seven.
fn targets(names: &[String]) -> anyhow::Result<[bool; 7]> {
    let mut targets = [false; 7];
    for name in names.iter().flat_map(|n| n.split(',')).map(str::trim) {
        if name == "all-linear" {
            return Ok([true; 7]);
        }
        let known = Module::ALL.map(Module::name);
        let module = Module::from_name(name).ok_or_else(|| {
            let nearest = known.iter().max_by(|a, b| {
                strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name))
            });
            let hint = nearest.map_or(String::new(), |n| format!(" Did you mean {n}?"));
            let all = known.join(", ");
            bad_input(format!("lora_targets: there is no `{name}`.{hint} Known: all-linear, {all}"))
        })?;
        targets[module as usize] = true;
    }
    Ok(targets)
}
