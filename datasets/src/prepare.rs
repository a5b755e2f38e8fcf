//! Files to examples in one call: read, render, encode, count. Only a chunk of rows is held at a
//! time; where the examples go is the caller's choice.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustc_hash::FxHashSet;

use crate::dedupe::text_key;
use crate::encode::{self, DropReason, EncodeOptions, Encoding, Example, OverLength};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::inspect::{DUPLICATE_ROWS, longest_text};
use crate::readers::{self, Detected, ReadOptions};
use crate::record::{BadRow, BadRows, Record};
use crate::report::EncodeReport;
use crate::sample::Sample;
use crate::shots::{Prompter, Shots, gather};
use crate::split::example_key;
use crate::template::{Compiled, Template};
use crate::tokenizer::Tokenizer;
use crate::tokens::Facts;

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
    /// Put worked examples before rows.
    pub shots: Option<Shots>,
    /// Take only some rows.
    pub sample: Option<Sample>,
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

/// Reads all files and makes examples of their rows, all of them in memory.
///
/// # Errors
/// As [`prepare`].
pub fn load_examples(
    paths: &[PathBuf],
    options: &PrepareOptions,
    tokenizer: &Tokenizer,
    progress: &mut dyn Progress,
) -> Result<Prepared> {
    let mut examples = Vec::new();
    let (report, files) = prepare(paths, options, tokenizer, progress, &mut |part| {
        examples.extend(part.into_iter().map(|(example, _)| example));
        Ok(())
    })?;
    Ok(Prepared { examples, report, files })
}

/// Takes examples as they are made, some at a time.
pub type Sink<'a> = dyn FnMut(Vec<(Example, Facts)>) -> Result<()> + 'a;

/// Reads all files and hands the examples of their rows to `sink`.
///
/// # Errors
/// - [`Error::BadRows`]: rows that cannot be read or rendered, all of them counted, unless
///   `read.skip_bad`;
/// - [`Error::NoRows`]: none of the rows can be used;
/// - [`Error::Template`]: a row begins with BOS twice;
/// - [`Error::Interrupted`]: `progress` said stop;
/// - what opening, the template, the tokenizer and `sink` report.
pub fn prepare(
    paths: &[PathBuf],
    options: &PrepareOptions,
    tokenizer: &Tokenizer,
    progress: &mut dyn Progress,
    sink: &mut Sink,
) -> Result<(EncodeReport, Vec<ReadFile>)> {
    let template = options.template.compile()?;
    let prompter = match &options.shots {
        None => None,
        Some(shots) => Some(gather(paths, options, shots, &template, progress)?),
    };
    let taken = match &options.sample {
        None => None,
        Some(sample) => sample.limit(paths, options)?.map(|limit| (*sample, limit)),
    };
    let mut work = Work {
        options,
        template,
        taken,
        tokenizer,
        prompter,
        made: Vec::new(),
        report: EncodeReport::default(),
        bad: BadRows::default(),
        seen: FxHashSet::default(),
        first_row: 0,
    };
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        files.push(work.file(path, progress, sink)?);
    }
    let Work { mut report, bad, prompter, .. } = work;
    report.exemplar_rows = prompter.map(|p| p.rows().to_vec()).unwrap_or_default();
    let Some(first) = paths.first() else {
        return Err(Error::Setting("no data file is named; give one with --data".to_string()));
    };
    if bad.total > 0 && !options.read.skip_bad {
        return Err(Error::BadRows(bad));
    }
    report.rows_bad = bad.total;
    if report.rows_used == 0 {
        let why = report.dropped_words();
        let why = if why.is_empty() { "there are none".to_string() } else { why };
        return Err(Error::NoRows { path: first.clone(), read: report.rows_read, why });
    }
    Ok((report, files))
}

/// Length and time of a file: while they stay, its content is taken to stay too.
fn stamp(path: &Path) -> Result<(u64, Option<std::time::SystemTime>)> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, "open", e))?;
    Ok((meta.len(), meta.modified().ok()))
}

/// No row of such a template is as the model has learned rows to be, so the first one ends it.
fn two_bos(name: &str, row: u64) -> Error {
    Error::Template {
        name: name.to_string(),
        message: format!(
            "row {row} begins with BOS, the token that begins a text, twice. Let the template write it once or \
             leave it out: where it writes none, one is put first by itself. (The chat template of a model is in \
             its tokenizer_config.json.)"
        ),
    }
}

struct Work<'a> {
    options: &'a PrepareOptions,
    template: Compiled,
    tokenizer: &'a Tokenizer,
    prompter: Option<Prompter>,
    /// Rows are taken up to this rank.
    taken: Option<(Sample, u64)>,
    /// Examples of the chunk at hand.
    made: Vec<(Example, Facts)>,
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
    /// Worked examples were put before it, and so many left out.
    shots: Option<usize>,
    /// Hash of its longest text.
    text: u64,
    outcome: std::result::Result<(Encoding, u128), DropReason>,
}

impl Work<'_> {
    fn file(
        &mut self,
        path: &Path,
        progress: &mut dyn Progress,
        sink: &mut Sink,
    ) -> Result<ReadFile> {
        let before = stamp(path)?;
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
                    Ok(record) if self.passes(record.row) => chunk.push(record),
                    Ok(_) => {}
                    Err(bad) if bad.fatal => return Err(Error::BadRow(Box::new(bad))),
                    Err(bad) => own_bad.push(bad),
                }
            }
            let last = chunk.len() < CHUNK;
            self.chunk(path, &chunk, &mut own_bad)?;
            sink(std::mem::take(&mut self.made))?;
            if !progress.rows(path, self.first_row + read) {
                return Err(Error::Interrupted);
            }
            if last {
                break;
            }
        }
        if stamp(path)? != before {
            let path = path.display();
            return Err(Error::Setting(format!(
                "{path} changed while it was being read; wait until it is written, then start again"
            )));
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

    /// Whether a row of this file is among those taken.
    fn passes(&self, row: u64) -> bool {
        let fits = |(sample, limit): &(Sample, u64)| sample.rank(self.first_row + row) <= *limit;
        self.taken.as_ref().is_none_or(fits)
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
        let mut rendered = self.template.render(record)?;
        let empty_answer = rendered.has_empty_answer();
        let text = text_key(longest_text(record));
        if empty_answer && !self.options.keep_empty_answers {
            let outcome = Err(DropReason::EmptyAnswer);
            let (prefix_mismatch, shots) = (false, None);
            return Ok(Done { row, empty_answer, prefix_mismatch, shots, text, outcome });
        }
        let mut shots = None;
        if let Some(prompter) = &self.prompter {
            let limit = Some((self.tokenizer, self.options.encode.max_tokens));
            if let Some((with, left_out)) = prompter.put_before(&rendered, row, limit)? {
                (rendered, shots) = (with, Some(left_out));
            }
        }
        let encoding = encode::encode(self.tokenizer, &rendered)?;
        if encoding.begins_with_two_bos(self.tokenizer) {
            return Err(two_bos(&self.options.template.name, row));
        }
        let prefix_mismatch = row < EncodeReport::PREFIX_ROWS && !empty_answer && {
            let prompt = encode::prompt_tokens(self.tokenizer, &rendered)?;
            !encoding.tokens.starts_with(&prompt)
        };
        let key = encoding.key();
        let outcome = Ok((encoding, key));
        Ok(Done { row, empty_answer, prefix_mismatch, shots, text, outcome })
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
        if let Some(left_out) = done.shots {
            self.report.few_shot += 1;
            self.report.shots_left_out += left_out as u64;
        }
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
                    let looked = (self.seen.len() as u64) < DUPLICATE_ROWS;
                    if looked && !self.seen.insert(key) {
                        self.report.duplicates.push(row);
                    }
                    self.report.used(&example, answers, ended);
                    // A cut prompt makes other tokens than those that the key was made of.
                    let key = if example.cut { example_key(&example) } else { key };
                    let facts = Facts::of(&example, key, done.text);
                    self.made.push((example, facts));
                }
            }
        }
        Ok(())
    }
}
