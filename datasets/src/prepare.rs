//! Files to examples in one call: read, render, encode, count.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustc_hash::FxHashSet;

use crate::encode::{self, DropReason, EncodeOptions, Encoding, Example, OverLength};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::readers::{self, Detected, ReadOptions};
use crate::record::{BadRow, BadRows, Record};
use crate::report::EncodeReport;
use crate::split::example_key;
use crate::template::{Compiled, Template};
use crate::tokenizer::Tokenizer;

/// Rows rendered and encoded at once.
const CHUNK: usize = 2048;

/// What to do with the rows.
#[derive(Debug, Clone)]
pub struct PrepareOptions {
    /// How to read files.
    pub read: ReadOptions,
    /// The template.
    pub template: Template,
    /// Limit of length.
    pub encode: EncodeOptions,
    /// Use rows with a blank answer (EOS is then all that is learned) instead of dropping them.
    pub keep_empty_answers: bool,
    /// Read at most so many rows of each file.
    pub limit_rows: Option<u64>,
}

/// Told now and then how far reading has come; may stop it.
pub trait Progress {
    /// `rows` have been read over all files so far, `path` is being read. False stops.
    fn rows(&mut self, path: &Path, rows: u64) -> bool;

    /// A file was opened and recognised: to be shown, since nothing is guessed silently.
    fn opened(&mut self, _path: &Path, _detected: &Detected, _notes: &[String]) {}
}

/// Says nothing and never stops.
pub struct Quiet;

impl Progress for Quiet {
    fn rows(&mut self, _path: &Path, _rows: u64) -> bool {
        true
    }
}

/// One file that was read.
#[derive(Debug, Clone)]
pub struct ReadFile {
    /// Its path as given.
    pub path: PathBuf,
    /// What it turned out to be.
    pub detected: Detected,
    /// What was noticed.
    pub notes: Vec<String>,
    /// Size and hash, to see a change later.
    pub fingerprint: Fingerprint,
    /// Rows read, bad ones included.
    pub rows: u64,
    /// Number of its first row in the run's count.
    pub first_row: u64,
    /// Bad rows.
    pub bad: BadRows,
}

/// Examples of a run with what there is to say about them.
#[derive(Debug)]
pub struct Prepared {
    /// The examples, in reading order.
    pub examples: Vec<Example>,
    /// Counts.
    pub report: EncodeReport,
    /// Files.
    pub files: Vec<ReadFile>,
}

impl Prepared {
    /// Keys of the examples, for [`crate::split::split`].
    pub fn keys(&self) -> Vec<u128> {
        self.examples.par_iter().map(example_key).collect()
    }
}

/// Reads all files and makes examples of their rows.
///
/// # Errors
/// - [`Error::BadRows`]: rows that cannot be read or rendered, all of them counted, unless
///   `read.skip_bad`;
/// - [`Error::NoRows`]: none of the rows can be used;
/// - [`Error::Interrupted`]: `progress` said stop;
/// - what opening, the template and the tokenizer report.
pub fn load_examples(
    paths: &[PathBuf],
    options: &PrepareOptions,
    tokenizer: &Tokenizer,
    progress: &mut dyn Progress,
) -> Result<Prepared> {
    let mut work = Work {
        options,
        template: options.template.compile()?,
        tokenizer,
        examples: Vec::new(),
        report: EncodeReport::default(),
        bad: BadRows::default(),
        seen: FxHashSet::default(),
        first_row: 0,
    };
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        files.push(work.file(path, progress)?);
    }
    let Work { examples, mut report, bad, .. } = work;
    let Some(first) = paths.first() else {
        return Err(Error::Setting("no data file is named; give one with --data".to_string()));
    };
    if bad.total > 0 && !options.read.skip_bad {
        return Err(Error::BadRows(bad));
    }
    report.rows_bad = bad.total;
    if examples.is_empty() {
        let why = report.dropped_words();
        let why = if why.is_empty() { "there are none".to_string() } else { why };
        return Err(Error::NoRows { path: first.clone(), read: report.rows_read, why });
    }
    Ok(Prepared { examples, report, files })
}

struct Work<'a> {
    options: &'a PrepareOptions,
    template: Compiled,
    tokenizer: &'a Tokenizer,
    examples: Vec<Example>,
    report: EncodeReport,
    bad: BadRows,
    seen: FxHashSet<u128>,
    /// Rows of the files before this one.
    first_row: u64,
}

/// A row after rendering and encoding.
struct Done {
    row: u64,
    empty_answer: bool,
    prefix_mismatch: bool,
    outcome: std::result::Result<(Encoding, u128), DropReason>,
}

impl Work<'_> {
    fn file(&mut self, path: &Path, progress: &mut dyn Progress) -> Result<ReadFile> {
        let fingerprint = fingerprint(path)?;
        let mut rows = readers::open(path, &self.options.read)?;
        progress.opened(path, rows.detected(), rows.notes());
        let limit = self.options.limit_rows.unwrap_or(u64::MAX);
        let mut read = 0;
        let mut own_bad = BadRows::default();
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            while chunk.len() < CHUNK && read < limit {
                let Some(item) = rows.next() else { break };
                read += 1;
                match item {
                    Ok(record) => chunk.push(record),
                    Err(bad) if bad.fatal => return Err(Error::BadRow(Box::new(bad))),
                    Err(bad) => own_bad.push(bad),
                }
            }
            let last = chunk.is_empty();
            self.chunk(path, &chunk, &mut own_bad)?;
            if !progress.rows(path, self.first_row + read) {
                return Err(Error::Interrupted);
            }
            if last {
                break;
            }
        }
        let file = ReadFile {
            path: path.to_path_buf(),
            detected: rows.detected().clone(),
            notes: rows.notes().to_vec(),
            fingerprint,
            rows: read,
            first_row: self.first_row,
            bad: own_bad.clone(),
        };
        self.bad.append(own_bad);
        self.first_row += read;
        self.report.rows_read += read;
        Ok(file)
    }

    fn chunk(&mut self, path: &Path, chunk: &[Record], bad: &mut BadRows) -> Result<()> {
        let done: Vec<Result<Done>> = chunk.par_iter().map(|record| self.row(record)).collect();
        for (record, done) in chunk.iter().zip(done) {
            match done {
                Ok(done) => self.count(done)?,
                Err(Error::Render { template, message, .. }) => {
                    bad.push(BadRow::not_rendered(path, record, &template, message));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Renders and encodes; runs on any thread.
    fn row(&self, record: &Record) -> Result<Done> {
        let row = self.first_row + record.row;
        let rendered = self.template.render(record)?;
        let empty_answer = rendered.has_empty_answer();
        if empty_answer && !self.options.keep_empty_answers {
            let outcome = Err(DropReason::EmptyAnswer);
            return Ok(Done { row, empty_answer, prefix_mismatch: false, outcome });
        }
        let encoding = encode::encode(self.tokenizer, &rendered)?;
        let prefix_mismatch = row < EncodeReport::PREFIX_ROWS && !empty_answer && {
            let prompt = encode::prompt_tokens(self.tokenizer, &rendered)?;
            !encoding.tokens.starts_with(&prompt)
        };
        let key = encoding.key();
        Ok(Done { row, empty_answer, prefix_mismatch, outcome: Ok((encoding, key)) })
    }

    fn count(&mut self, done: Done) -> Result<()> {
        let row = done.row;
        if done.empty_answer {
            self.report.empty_answers.push(row);
        }
        if done.prefix_mismatch {
            self.report.prefix_mismatches.push(row);
        }
        let (encoding, key) = match done.outcome {
            Ok(encoding) => encoding,
            Err(reason) => {
                self.report.dropped(row, reason);
                return Ok(());
            }
        };
        self.report.seen(&encoding);
        let options = self.options.encode;
        let parts = match options.over_length {
            OverLength::Pieces => encode::pieces(self.tokenizer, encoding, options.max_tokens),
            _ => vec![encoding],
        };
        let whole = parts.len() == 1;
        for part in parts {
            let key = if whole { key } else { part.key() };
            let (answers, ended) = (part.answers, part.answers_ended);
            match encode::fit(self.tokenizer, part, row, 0, options)? {
                Err(reason) => self.report.dropped(row, reason),
                Ok(example) => {
                    if !self.seen.insert(key) {
                        self.report.duplicates.push(row);
                    }
                    self.report.used(&example, answers, ended);
                    self.examples.push(example);
                }
            }
        }
        Ok(())
    }
}
