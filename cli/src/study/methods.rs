//! How each kind of cell is computed.

use std::path::Path;
use std::time::Instant;

use paddock_datasets::classic::Sparse;
use paddock_datasets::classic::svm::{Options, Svm};
use paddock_datasets::classic::tfidf::Tfidf;
use paddock_datasets::template::Template;

use super::cell::{Outcome, Settings, Store};
use super::classify::{Answers, Asker};
use super::rows::{Row, Sides, balanced};
use super::spec::{Kind, Rows, Study};
use super::tune::{clear, tune};
use crate::eval::engine::Device;
use crate::eval::progress::Progress;
use crate::open::Opened;
use crate::run::signals::Signals;

/// What cells are computed with.
pub struct Bench<'a> {
    /// The study.
    pub study: &'a Study,
    /// Its folder.
    pub out: &'a Path,
    /// Its rows.
    pub sides: &'a Sides,
    /// How a row becomes a prompt.
    pub template: &'a Template,
    /// The untuned model, unless no method needs it.
    pub opened: Option<&'a Opened>,
    /// What computes.
    pub device: Device,
    /// Whether to stop.
    pub signals: &'a Signals,
}

impl Bench<'_> {
    /// Computes a cell.
    pub fn run(&self, store: &Store, cell: &Settings) -> anyhow::Result<Outcome> {
        let examples = self.examples(cell);
        let mut outcome = match cell.kind {
            Kind::Majority => Ok(self.majority()),
            Kind::Svm => self.svm(&examples),
            Kind::Prompt => self.prompt(cell, &examples),
            Kind::Lora | Kind::Full => self.tuned(store, cell, &examples),
        }?;
        if cell.kind != Kind::Prompt {
            outcome.examples = examples.len();
        }
        Ok(outcome)
    }

    /// The labelled examples of a cell. For one seed all methods get the same ones.
    fn examples(&self, cell: &Settings) -> Vec<&Row> {
        let train = &self.sides.train;
        match cell.examples {
            None => Vec::new(),
            Some(Rows::All) => train.iter().collect(),
            Some(Rows::Some(k)) => {
                let seed = cell.seed.unwrap_or(1);
                let chosen = balanced(train, self.sides.labels.len(), k, seed);
                chosen.into_iter().map(|i| &train[i]).collect()
            }
        }
    }

    /// Validation and test rows, one after the other: what is asked.
    fn asked(&self) -> Vec<&Row> {
        self.sides.validation.iter().chain(&self.sides.test).collect()
    }

    fn divided(&self, mut chosen: Vec<usize>) -> Outcome {
        let test = chosen.split_off(self.sides.validation.len());
        Outcome { validation: chosen, test, ..Outcome::default() }
    }

    fn majority(&self) -> Outcome {
        let mut counts = vec![0; self.sides.labels.len()];
        self.sides.train.iter().for_each(|row| counts[row.label] += 1);
        // The first of equals.
        let most = (0..counts.len()).fold(0, |b, i| if counts[i] > counts[b] { i } else { b });
        self.divided(vec![most; self.asked().len()])
    }

    fn svm(&self, examples: &[&Row]) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let words = Tfidf::fit(examples.iter().map(|row| row.text.as_str()));
        let rows: Vec<Sparse> = examples.iter().map(|row| words.row(&row.text)).collect();
        let labels: Vec<usize> = examples.iter().map(|row| row.label).collect();
        let (classes, features) = (self.sides.labels.len(), words.features());
        let svm = Svm::fit(&rows, &labels, classes, features, &Options::default())?;
        let learn_s = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let chosen: Vec<usize> =
            self.asked().iter().map(|row| svm.class(&words.row(&row.text))).collect();
        let numbers = svm.numbers() + 2 * rows.iter().map(Vec::len).sum::<usize>();
        Ok(Outcome {
            learn_s,
            answer_s: began.elapsed().as_secs_f64(),
            memory_bytes: 8 * numbers as u64,
            ..self.divided(chosen)
        })
    }

    fn ask(&self, opened: &Opened, what: &str, shots: &[&Row]) -> anyhow::Result<(Answers, f64)> {
        let began = Instant::now();
        let asked = self.asked();
        let labels = &self.sides.labels;
        let asker = Asker {
            opened,
            template: self.template,
            labels,
            norm: self.study.length_norm,
            device: self.device.clone(),
        };
        let mut progress = Progress::new(what, asked.len() * labels.len(), self.signals);
        let answers = asker.ask(&asked, shots, &mut progress)?;
        Ok((answers, began.elapsed().as_secs_f64()))
    }

    fn prompt(&self, cell: &Settings, shots: &[&Row]) -> anyhow::Result<Outcome> {
        let opened = self.opened.ok_or_else(|| anyhow::anyhow!("the model is not open"))?;
        let (answers, answer_s) = self.ask(opened, &cell.words(), shots)?;
        let mut notes = Vec::new();
        if answers.shots < shots.len() {
            notes.push(format!(
                "of {} worked examples {} fit into the {} tokens that the model takes",
                shots.len(),
                answers.shots,
                opened.folder.config.max_seq_len
            ));
        }
        Ok(Outcome {
            answer_s,
            answer_tokens: answers.tokens,
            memory_bytes: answers.memory_bytes,
            examples: answers.shots,
            notes,
            ..self.divided(answers.chosen)
        })
    }

    fn tuned(&self, store: &Store, cell: &Settings, rows: &[&Row]) -> anyhow::Result<Outcome> {
        let tuned = tune(self.study, self.out, store, cell, rows, &self.device, self.signals)?;
        let opened = match (tuned.model(), tuned.adapter()) {
            (Some(model), _) => Opened::open(&model, None)?,
            (None, adapter) => Opened::open(&self.study.model, adapter.as_deref())?,
        };
        let (answers, answer_s) = self.ask(&opened, &format!("{}: asking", cell.words()), &[])?;
        drop(opened);
        clear(store, cell, self.study.keep_runs)?;
        Ok(Outcome {
            learn_s: tuned.seconds,
            answer_s,
            learn_tokens: tuned.tokens,
            answer_tokens: answers.tokens,
            memory_bytes: tuned.memory_bytes,
            ..self.divided(answers.chosen)
        })
    }
}
