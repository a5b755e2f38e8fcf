//! Worked examples put before rows of a training set: which rows get them, where they come from, and
//! how they are fitted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use paddock_core::philox::{Philox, Stream};
use serde::{Deserialize, Serialize};

use crate::encode::encode;
use crate::error::{Error, Result};
use crate::fewshot::{Choice, Exemplar, Pool, SEPARATOR, STEP, with_exemplars};
use crate::prepare::{PrepareOptions, Progress};
use crate::readers;
use crate::template::{Compiled, Rendered};
use crate::tokenizer::Tokenizer;

/// Rows read between two words about the progress.
const CHUNK: u64 = 2048;
/// Most exemplars to choose from.
pub const POOL: usize = 512;

/// How worked examples are put before rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shots {
    /// Exemplars of a row.
    pub k: usize,
    /// How they are chosen.
    pub choice: Choice,
    /// Share of the rows that get them, from 0 to 1.
    pub rate: f64,
    /// Seed of all choices.
    pub seed: u64,
    /// Labels with their meaning, stated before the exemplars.
    pub labels: BTreeMap<String, String>,
}

impl Shots {
    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check(&self) -> Result<()> {
        if self.k == 0 || self.k > POOL / 2 {
            let most = POOL / 2;
            return Err(Error::Setting(format!("shots is {}; expected 1 to {most}", self.k)));
        }
        if !(0.0..=1.0).contains(&self.rate) {
            let rate = self.rate;
            return Err(Error::Setting(format!("shots_rate is {rate}; expected 0 to 1")));
        }
        Ok(())
    }

    /// Whether a row gets exemplars.
    fn takes(&self, row: u64) -> bool {
        let word = Philox::new(self.seed, Stream::MIX).block(STEP - 1, row)[0];
        f64::from(word) < self.rate * 4_294_967_296.0
    }

    /// The labels as they are stated; empty without any.
    pub fn preface(&self) -> String {
        if self.labels.is_empty() {
            return String::new();
        }
        let lines = self.labels.iter().map(|(label, meaning)| format!("\n- {label}: {meaning}"));
        format!("The labels are:{}", lines.collect::<String>())
    }

    fn rank(&self, row: u64) -> u64 {
        Philox::new(self.seed, Stream::MIX).below(STEP - 2, row, u64::MAX)
    }
}

/// Gathers a pool from rows as they come: the [`POOL`] rows that the seed ranks first.
pub struct Gather {
    shots: Shots,
    kept: BTreeMap<(u64, u64), Exemplar>,
}

impl Gather {
    /// An empty one.
    pub fn new(shots: &Shots) -> Self {
        Self { shots: shots.clone(), kept: BTreeMap::new() }
    }

    /// Whether a row would be kept, so that others need not be rendered.
    pub fn wants(&self, row: u64) -> bool {
        let last = self.kept.last_key_value().map(|(key, _)| *key);
        self.kept.len() < POOL || last.is_some_and(|last| (self.shots.rank(row), row) < last)
    }

    /// Keeps a rendered row, if it has one answer and is among the first.
    pub fn push(&mut self, row: u64, rendered: &Rendered) {
        if !self.wants(row) || rendered.answers().len() != 1 || rendered.has_empty_answer() {
            return;
        }
        let query = rendered.prompt_only().text;
        let label = rendered.last_answer().trim().to_string();
        let text = format!("{query}{label}");
        self.kept.insert((self.shots.rank(row), row), Exemplar { text, query, label });
        if self.kept.len() > POOL {
            self.kept.pop_last();
        }
    }

    /// The pool, ready to choose from.
    pub fn finish(self) -> Prompter {
        let mut kept: Vec<(u64, Exemplar)> =
            self.kept.into_iter().map(|((_, row), exemplar)| (row, exemplar)).collect();
        kept.sort_by_key(|(row, _)| *row);
        let (rows, exemplars): (Vec<u64>, Vec<Exemplar>) = kept.into_iter().unzip();
        Prompter { pool: Pool::new(exemplars, self.shots.seed), rows, shots: self.shots }
    }
}

/// Puts worked examples before rows.
pub struct Prompter {
    shots: Shots,
    pool: Pool,
    /// Row numbers of the pool, ascending.
    rows: Vec<u64>,
}

impl Prompter {
    /// Rows that exemplars come from.
    pub fn rows(&self) -> &[u64] {
        &self.rows
    }

    /// The row with exemplars before it, if it is one that gets them, and how many were left out to
    /// fit it into `limit` tokens. A row that fits with none of them stays as it is.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn put_before(
        &self,
        rendered: &Rendered,
        row: u64,
        limit: Option<(&Tokenizer, usize)>,
    ) -> Result<Option<(Rendered, usize)>> {
        if !self.shots.takes(row) || rendered.answers().len() != 1 {
            return Ok(None);
        }
        let query = rendered.prompt_only().text;
        let same = self.rows.binary_search(&row).ok();
        let chosen = self.pool.choose(self.shots.choice, self.shots.k, row, &query, same);
        let all = self.pool.exemplars();
        let preface = self.shots.preface();
        for skip in 0..chosen.len() {
            let texts = chosen[skip..].iter().map(|i| all[*i].text.as_str());
            let lines: Vec<&str> =
                Some(preface.as_str()).into_iter().filter(|p| !p.is_empty()).chain(texts).collect();
            let tried = with_exemplars(rendered, &lines, SEPARATOR);
            let fits = match limit {
                None => true,
                Some((tokenizer, most)) => encode(tokenizer, &tried)?.tokens.len() <= most,
            };
            if fits {
                return Ok(Some((tried, skip)));
            }
        }
        Ok(None)
    }
}

/// The exemplars of all files: bad rows are passed over here and told when they are read again.
pub(crate) fn gather(
    paths: &[PathBuf],
    options: &PrepareOptions,
    shots: &Shots,
    template: &Compiled,
    progress: &mut dyn Progress,
) -> Result<Prompter> {
    shots.check()?;
    let mut gather = Gather::new(shots);
    let mut first_row = 0;
    for path in paths {
        let limit = options.limit_rows.unwrap_or(u64::MAX);
        let mut read = 0;
        for item in readers::open(path, &options.read)? {
            if read == limit {
                break;
            }
            let row = first_row + read;
            read += 1;
            if read.is_multiple_of(CHUNK) && !progress.rows(path, row) {
                return Err(Error::Interrupted);
            }
            if let Ok(record) = item
                && gather.wants(row)
                && let Ok(rendered) = template.render(&record)
            {
                gather.push(row, &rendered);
            }
        }
        first_row += read;
    }
    Ok(gather.finish())
}
