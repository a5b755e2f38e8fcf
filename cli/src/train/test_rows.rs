//! Rows that a run never trains on and answers before and after.

use std::path::Path;

use paddock_datasets::Error;
use paddock_datasets::dedupe::text_key;
use paddock_datasets::encode::{self, DropReason, EncodeOptions, Example, OverLength};
use paddock_datasets::fingerprint::fingerprint;
use paddock_datasets::inspect::longest_text;
use paddock_datasets::prepare::ReadFile;
use paddock_datasets::readers::{self, ReadOptions, Rows};
use paddock_datasets::record::{BadRows, Record};
use paddock_datasets::report::EncodeReport;
use paddock_datasets::split::example_key;
use paddock_datasets::stories::Wish;
use paddock_datasets::template::{Compiled, Template};
use paddock_datasets::tokens::Facts;

use super::setup::Reader;
use crate::error::bad_input;

/// One row to judge by.
pub struct TestRow {
    /// Prompt and answer in the data, as tokens.
    pub example: Example,
    /// The prompt, as tokens.
    pub prompt: Vec<u32>,
    /// The answer in the data.
    pub wanted: String,
    /// What an answer is checked for; empty where the data do not say.
    pub wishes: Vec<Wish>,
    /// What it is told from other rows by.
    pub facts: Facts,
}

impl Reader<'_> {
    /// At most `test_rows` rows of a file, evenly spread. Rows that are too long or have no answer are passed over,
    /// and with `skip_bad` those that cannot be read; the file's notes say how many. With `test_rows` 0 no row is
    /// read: the file is what the run is made from all the same, so that a run may go on with another number of
    /// rows, none too.
    ///
    /// # Errors
    /// If rows cannot be read, as of rows to learn from; if no row can be used.
    pub fn test_rows(
        &self,
        path: &Path,
        template: &Template,
    ) -> anyhow::Result<(Vec<TestRow>, ReadFile)> {
        if !path.is_file() {
            return Err(bad_input(format!("{}: there is no such file", path.display())));
        }
        let read = ReadOptions { skip_bad: self.config.skip_bad, ..ReadOptions::default() };
        if self.config.test_rows == 0 {
            return Ok((Vec::new(), of_file(path, &readers::open(path, &read)?, 0)?));
        }
        let (count, bad) = count_rows(path, &read)?;
        let wanted = self.config.test_rows.min(count);
        let compiled = template.compile()?;
        let (mut rows, mut taken) = (Vec::new(), 0);
        let mut report = EncodeReport { rows_bad: bad.total, ..EncodeReport::default() };
        let mut reading = readers::open(path, &read)?;
        for (i, record) in (0u64..).zip(reading.by_ref().flatten()) {
            if taken < wanted && i >= taken * count / wanted {
                taken += 1;
                match self.test_row(&compiled, &record)? {
                    Ok(row) => rows.push(row),
                    Err(reason) => report.dropped.entry(reason).or_default().push(record.row),
                }
            }
        }
        let left_out = report.dropped_words();
        if rows.is_empty() {
            let why = if left_out.is_empty() { "there are none" } else { left_out.as_str() };
            return Err(bad_input(format!(
                "{}: none of its {count} rows can be used to judge by: {why}",
                path.display()
            )));
        }
        let mut file = of_file(path, &reading, count)?;
        if !left_out.is_empty() {
            file.notes.push(format!("rows that are not asked: {left_out}"));
        }
        Ok((rows, file))
    }

    fn test_row(
        &self,
        template: &Compiled,
        record: &Record,
    ) -> anyhow::Result<Result<TestRow, DropReason>> {
        let rendered = template.render(record)?;
        if rendered.has_empty_answer() {
            return Ok(Err(DropReason::EmptyAnswer));
        }
        let options =
            EncodeOptions { max_tokens: self.max_seq_len as usize, over_length: OverLength::Drop };
        let encoding = encode::encode(self.tokenizer, &rendered)?;
        let example = match encode::fit(self.tokenizer, encoding, record.row, 0, options)? {
            Ok(example) => example,
            Err(reason) => return Ok(Err(reason)),
        };
        let wishes = match record.get("wishes") {
            None => Vec::new(),
            Some(value) => serde_json::from_value(value.clone()).map_err(|e| {
                bad_input(format!("row {} of the test rows: wishes: {e}", record.row))
            })?,
        };
        let prompt = encode::prompt_tokens(self.tokenizer, &rendered)?;
        let facts = Facts::of(&example, example_key(&example), text_key(longest_text(record)));
        let wanted = rendered.last_answer().to_string();
        Ok(Ok(TestRow { example, prompt, wanted, wishes, facts }))
    }
}

/// How many rows can be read, and those that cannot.
///
/// # Errors
/// If there are such, unless they may be skipped; what ends the file early may not.
fn count_rows(path: &Path, read: &ReadOptions) -> anyhow::Result<(u64, BadRows)> {
    let (mut count, mut bad) = (0, BadRows::default());
    for row in readers::open(path, read)? {
        match row {
            Ok(_) => count += 1,
            Err(row) if row.fatal => return Err(Error::BadRow(Box::new(row)).into()),
            Err(row) => bad.push(row),
        }
    }
    if bad.total > 0 && !read.skip_bad {
        return Err(Error::BadRows(bad).into());
    }
    Ok((count, bad))
}

/// The file as the run's record has it.
fn of_file(path: &Path, reading: &Rows, rows: u64) -> anyhow::Result<ReadFile> {
    Ok(ReadFile {
        path: path.to_path_buf(),
        detected: reading.detected().clone(),
        notes: reading.notes().to_vec(),
        fingerprint: fingerprint(path)?,
        rows,
        first_row: 0,
        bad: reading.bad().clone(),
    })
}
