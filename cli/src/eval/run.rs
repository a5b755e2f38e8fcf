//! The course of an evaluation: rows, prompts, the model's choices and answers, measures.

use std::path::PathBuf;
use std::time::Instant;

use paddock_datasets::encode::{Example, encode, prompt_tokens};
use paddock_datasets::fewshot::Choice;
use paddock_datasets::template::Template;

use super::answers::{Marks, marks};
use super::engine::{Device, Engine, Likelihood};
use super::measure::{self, AnswerMeasures};
use super::outcome::{Outcome, TemplateOutcome, VERSION};
use super::progress::Progress;
use super::rank::{LengthNorm, Ranked, Ranking, rank, ranking};
use super::rows::{self, Data, Item, Items};
use super::shots::{Shots, longest_choice};
use super::tell;
use crate::error::bad_input;
use crate::generate::Answer;
use crate::open::Opened;
use crate::run::signals::Signals;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Metric {
    /// Accuracy, balanced accuracy, F1, confusion matrix, calibration: for labels.
    Accuracy,
    /// Answers equal to the data's.
    ExactMatch,
    /// ROUGE-1, ROUGE-2 and ROUGE-L (F1).
    Rouge,
    /// BLEU over all rows.
    Bleu,
    /// How surprising the data's answers are to the model.
    Perplexity,
    /// Share of the wishes in a `wishes` column that answers fulfil.
    Wishes,
}

/// How labels are got from the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Classify {
    /// The likeliest of the answers to choose from.
    #[default]
    Rank,
    /// The model answers freely, and the answer is read.
    Generate,
}

/// Worked examples before each question.
#[derive(Clone, Debug)]
pub struct ShotsFrom {
    /// The rows to choose from.
    pub data: Vec<PathBuf>,
    /// How many.
    pub k: usize,
    /// How.
    pub choice: Choice,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to measure; empty: what the rows call for.
    pub metrics: Vec<Metric>,
    /// How labels are got.
    pub classify: Classify,
    /// What likelihoods are divided by.
    pub norm: LengthNorm,
    /// Answers to choose from; empty: those of the template or the rows.
    pub choices: Vec<String>,
    /// Most new tokens; `None`: a quarter more than the longest answer in the rows.
    pub max_new_tokens: Option<u64>,
    /// Leave rows out that are too long, instead of stopping.
    pub drop_long: bool,
    /// Seed of intervals and of the choice of worked examples.
    pub seed: u64,
}

/// One evaluation's surroundings.
pub struct Run<'a> {
    /// The model.
    pub opened: &'a Opened,
    /// What computes.
    pub device: Device,
    /// What is asked for.
    pub request: &'a Request,
    /// Whether to stop.
    pub signals: &'a Signals,
}

/// What the model is to do for one template.
struct Work {
    ranking: Option<Ranking>,
    taught: Vec<Example>,
    prompts: Vec<Vec<u32>>,
    new_tokens: u64,
}

/// What it did.
pub(super) struct Done {
    pub(super) ranked: Option<(Vec<Ranked>, bool)>,
    pub(super) taught: Vec<Likelihood>,
    pub(super) answers: Vec<Answer>,
    pub(super) marks: Vec<Marks>,
}

impl Run<'_> {
    /// Evaluates with each of the templates in turn.
    pub fn all(
        &self,
        data: &Data,
        templates: &[Template],
        shots: Option<(&Data, usize, Choice)>,
    ) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let mut outcome = Outcome { version: VERSION, ..Outcome::default() };
        for template in templates {
            let metrics = self.metrics(data, template)?;
            let classify = metrics.contains(&Metric::Accuracy);
            let mut items = rows::render(data, template, &self.request.choices, classify)?;
            let mut notes = Vec::new();
            if let Some((pool, k, choice)) = shots {
                let pool = rows::render(pool, template, &self.request.choices, classify)?;
                let shots = Shots::new(&pool.items, choice, k, self.request.seed);
                let left_out = self.put_before(&shots, &mut items)?;
                if left_out > 0 {
                    notes.push(format!(
                        "{left_out} worked examples were left out, because prompts with all {k} are longer \
                         than the model takes"
                    ));
                }
            }
            let mut found = self.one(items, &metrics, &template.name)?;
            found.template.clone_from(&template.name);
            found.template_sha256 = template.hash();
            found.notes.splice(0..0, notes);
            outcome.how = self.how(&metrics);
            outcome.templates.push(found);
        }
        outcome.compare_templates();
        outcome.seconds = began.elapsed().as_secs_f64();
        Ok(outcome)
    }

    fn limit(&self) -> usize {
        self.opened.folder.config.max_seq_len as usize
    }

    fn put_before(&self, shots: &Shots, items: &mut Items) -> anyhow::Result<usize> {
        let tokenizer = &self.opened.tokenizer;
        let answer = match items.items.iter().all(|item| item.choices.is_empty()) {
            true => self.new_tokens(&items.items)? as usize,
            false => longest_choice(tokenizer, &items.items)?,
        };
        shots.put_before(tokenizer, &mut items.items, self.limit(), answer)
    }

    /// What is measured: what was asked for, or what the rows call for.
    fn metrics(&self, data: &Data, template: &Template) -> anyhow::Result<Vec<Metric>> {
        if !self.request.metrics.is_empty() {
            return Ok(self.request.metrics.clone());
        }
        let first = &data.records[0];
        if first.get("wishes").is_some() {
            return Ok(vec![Metric::Wishes, Metric::Perplexity]);
        }
        let parts = template.compile()?.parts(first)?;
        let has_choices = parts.choices.is_some() || first.get("choices").is_some();
        if has_choices || !self.request.choices.is_empty() {
            return Ok(vec![Metric::Accuracy]);
        }
        Ok(vec![Metric::ExactMatch, Metric::Rouge, Metric::Bleu, Metric::Perplexity])
    }

    fn how(&self, metrics: &[Metric]) -> String {
        if !metrics.contains(&Metric::Accuracy) {
            return "the likeliest token at each place, until the model ends the answer"
                .to_string();
        }
        match self.request.classify {
            Classify::Rank => format!(
                "the likeliest of the answers to choose from (log-likelihood {})",
                self.request.norm.words()
            ),
            Classify::Generate => {
                "the label that the model's own answer names, greedily generated".to_string()
            }
        }
    }

    /// One template's items.
    pub fn one(
        &self,
        items: Items,
        metrics: &[Metric],
        name: &str,
    ) -> anyhow::Result<TemplateOutcome> {
        let Items { items, unlabelled } = items;
        let mut notes = Vec::new();
        if !unlabelled.is_empty() {
            notes.push(format!(
                "{} rows without a label or answer are left out (rows {:?})",
                unlabelled.len(),
                &unlabelled[..unlabelled.len().min(8)]
            ));
        }
        let items = self.short_enough(items, &mut notes)?;
        let done = self.ask(&items, metrics, name)?;
        let mut outcome = TemplateOutcome { notes, ..TemplateOutcome::default() };
        tell::fill(&mut outcome, &items, &done, metrics, self.request.seed);
        Ok(outcome)
    }

    /// Items that the model can take whole.
    fn short_enough(&self, items: Vec<Item>, notes: &mut Vec<String>) -> anyhow::Result<Vec<Item>> {
        let (mut kept, mut long) = (Vec::with_capacity(items.len()), Vec::new());
        for item in items {
            let mut most = 0;
            let answers = if item.choices.is_empty() { &item.references } else { &item.choices };
            for answer in answers {
                let mut whole = item.prompt.clone();
                whole.answer(answer);
                most = most.max(encode(&self.opened.tokenizer, &whole)?.tokens.len());
            }
            if most <= self.limit() { kept.push(item) } else { long.push((item.row, most)) }
        }
        let Some(&(row, tokens)) = long.first() else { return Ok(kept) };
        let (n, limit) = (long.len(), self.limit());
        if !self.request.drop_long || kept.is_empty() {
            return Err(bad_input(format!(
                "{n} rows are longer than the {limit} tokens that the model takes (row {row} has {tokens}); \
                 leave them out with --drop-long, or shorten them"
            )));
        }
        notes.push(format!("{n} rows above {limit} tokens are left out (the first is row {row})"));
        Ok(kept)
    }

    fn new_tokens(&self, items: &[Item]) -> anyhow::Result<u64> {
        if let Some(asked) = self.request.max_new_tokens {
            return Ok(asked);
        }
        let mut longest = 0;
        for text in items.iter().map(Item::wanted) {
            longest = longest.max(self.opened.tokenizer.encode_plain(text)?.ids.len() as u64);
        }
        Ok((longest + longest / 4 + 2).max(8))
    }

    fn work(&self, items: &[Item], metrics: &[Metric]) -> anyhow::Result<Work> {
        let tokenizer = &self.opened.tokenizer;
        let labels = metrics.contains(&Metric::Accuracy);
        let ranks = labels && self.request.classify == Classify::Rank;
        let ranking = ranks.then(|| ranking(tokenizer, items, self.limit())).transpose()?;
        let mut taught = Vec::new();
        if metrics.contains(&Metric::Perplexity) {
            for item in items.iter().filter(|item| !item.wanted().is_empty()) {
                let mut whole = item.prompt.clone();
                whole.answer(item.wanted());
                let found = encode(tokenizer, &whole)?;
                let (tokens, trained) = (found.tokens, found.trained);
                taught.push(Example { tokens, trained, row: item.row, template: 0, cut: false });
            }
        }
        let speaks = metrics.iter().any(|m| match m {
            Metric::Accuracy => !ranks,
            Metric::Perplexity => false,
            _ => true,
        });
        let mut prompts = Vec::new();
        for item in items.iter().filter(|_| speaks) {
            prompts.push(prompt_tokens(tokenizer, &item.prompt)?);
        }
        let new_tokens = if speaks { self.new_tokens(items)? } else { 0 };
        Ok(Work { ranking, taught, prompts, new_tokens })
    }

    fn ask(&self, items: &[Item], metrics: &[Metric], name: &str) -> anyhow::Result<Done> {
        let work = self.work(items, metrics)?;
        let ranked = work.ranking.iter().flat_map(|r| &r.examples);
        let longest = ranked.chain(&work.taught).map(|e| e.tokens.len());
        let longest = longest.chain(work.prompts.iter().map(Vec::len)).max().unwrap_or(2) as u64;
        let mut engine = Engine::new(self.opened, &self.device, longest, work.new_tokens)?;
        let stage = |what: &str, n| Progress::new(&format!("{what} ({name})"), n, self.signals);
        let mut done =
            Done { ranked: None, taught: Vec::new(), answers: Vec::new(), marks: Vec::new() };
        if let Some(ranking) = &work.ranking {
            let mut progress = stage("choosing", ranking.examples.len());
            let found = engine.likelihoods(&ranking.examples, &mut progress)?;
            done.ranked = Some((rank(items, &found, self.request.norm), ranking.end_counts));
        }
        if !work.taught.is_empty() {
            done.taught =
                engine.likelihoods(&work.taught, &mut stage("reading", work.taught.len()))?;
        }
        if !work.prompts.is_empty() {
            let mut progress = stage("answering", work.prompts.len());
            done.answers = engine.answers(&work.prompts, work.new_tokens, &mut progress)?;
            done.marks = items.iter().zip(&done.answers).map(|(i, a)| marks(i, a)).collect();
        }
        Ok(done)
    }
}

/// Which measures of answers the metrics ask for.
pub(super) fn answer_measures(metrics: &[Metric]) -> AnswerMeasures {
    let has = |m| metrics.contains(&m);
    AnswerMeasures {
        wishes: has(Metric::Wishes),
        exact: has(Metric::ExactMatch),
        rouge: has(Metric::Rouge),
        bleu: has(Metric::Bleu),
    }
}

/// Reads rows with nothing selected: for worked examples.
pub fn pool(from: &ShotsFrom, selection: &rows::Selection) -> anyhow::Result<Data> {
    rows::read(&from.data, &rows::Selection { limit: None, ..selection.clone() })
}

pub(super) use measure::Labelled;
