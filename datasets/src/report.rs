//! What became of the rows: counts that are shown before training and kept in the run folder.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::encode::{DropReason, Encoding, Example};

/// Rows of one kind: how many, and the first row numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many.
    pub total: u64,
    /// The first [`Counted::KEEP`] row numbers.
    pub first: Vec<u64>,
}

impl Counted {
    /// How many row numbers are kept.
    pub const KEEP: usize = 20;

    /// Counts a row.
    pub fn push(&mut self, row: u64) {
        self.total += 1;
        if self.first.len() < Self::KEEP {
            self.first.push(row);
        }
    }
}

/// Counts over all files of a run. Row numbers run over all files in reading order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EncodeReport {
    /// Rows read, bad ones included.
    pub rows_read: u64,
    /// Rows used.
    pub rows_used: u64,
    /// Bad rows that were skipped.
    pub rows_bad: u64,
    /// Rows left out, by reason.
    pub dropped: BTreeMap<DropReason, Counted>,
    /// Used rows whose prompt was cut.
    pub cut: Counted,
    /// Rows equal (in tokens and mask) to an earlier one, looked for in the first 4,000,000 rows; they
    /// are used.
    pub duplicates: Counted,
    /// Rows with a blank answer, used or not.
    pub empty_answers: Counted,
    /// Special-token text in user text (it stays text).
    pub special_text: u64,
    /// Rows whose prompt's own tokens do not begin the whole example's; looked for in the first
    /// [`EncodeReport::PREFIX_ROWS`] rows.
    pub prefix_mismatches: Counted,
    /// Tokens of used rows.
    pub tokens: u64,
    /// Of these, trained ones.
    pub trained_tokens: u64,
    /// Answers of used rows.
    pub answers: u64,
    /// Of these, such that end in a trained EOS or end-of-turn token.
    pub answers_ended: u64,
    /// Used rows with worked examples before them.
    #[serde(default)]
    pub few_shot: u64,
    /// Rows that worked examples come from.
    #[serde(default)]
    pub exemplar_rows: Vec<u64>,
    /// Worked examples that were left out because they did not fit.
    #[serde(default)]
    pub shots_left_out: u64,
    /// Longest used row.
    pub longest: u64,
    /// Lengths before the limit: rows by the power of two at or above their length.
    pub lengths: BTreeMap<u64, u64>,
}

impl EncodeReport {
    /// How many rows are encoded twice to see whether the prompt is a prefix.
    pub const PREFIX_ROWS: u64 = 256;

    /// Rows left out, by reason in words that follow a number.
    pub fn left_out(&self) -> Vec<(&'static str, u64)> {
        let dropped = self.dropped.iter().map(|(reason, counted)| (reason.words(), counted.total));
        dropped.chain((self.rows_bad > 0).then_some(("unreadable", self.rows_bad))).collect()
    }

    /// Counts an encoding before the limit is looked at.
    pub(crate) fn seen(&mut self, encoding: &Encoding) {
        self.special_text += encoding.special_text as u64;
        let bucket = (encoding.tokens.len() as u64).next_power_of_two();
        *self.lengths.entry(bucket).or_default() += 1;
    }

    /// Counts a used row.
    pub(crate) fn used(&mut self, example: &Example, answers: usize, ended: usize) {
        self.rows_used += 1;
        self.tokens += example.tokens.len() as u64;
        self.trained_tokens += example.trained_tokens() as u64;
        self.answers += answers as u64;
        self.answers_ended += ended as u64;
        self.longest = self.longest.max(example.tokens.len() as u64);
        if example.cut {
            self.cut.push(example.row);
        }
    }

    /// Counts a dropped row.
    pub(crate) fn dropped(&mut self, row: u64, reason: DropReason) {
        self.dropped.entry(reason).or_default().push(row);
    }

    /// Adds the counts of other files; their row numbers are those of their own set.
    pub fn absorb(&mut self, other: &EncodeReport) {
        let add = |to: &mut Counted, from: &Counted| {
            to.total += from.total;
            let room = Counted::KEEP.saturating_sub(to.first.len());
            to.first.extend(from.first.iter().take(room));
        };
        self.rows_read += other.rows_read;
        self.rows_used += other.rows_used;
        self.rows_bad += other.rows_bad;
        for (reason, counted) in &other.dropped {
            add(self.dropped.entry(*reason).or_default(), counted);
        }
        add(&mut self.cut, &other.cut);
        add(&mut self.duplicates, &other.duplicates);
        add(&mut self.empty_answers, &other.empty_answers);
        add(&mut self.prefix_mismatches, &other.prefix_mismatches);
        self.special_text += other.special_text;
        self.tokens += other.tokens;
        self.trained_tokens += other.trained_tokens;
        self.answers += other.answers;
        self.answers_ended += other.answers_ended;
        self.few_shot += other.few_shot;
        self.shots_left_out += other.shots_left_out;
        self.longest = self.longest.max(other.longest);
        for (bound, rows) in &other.lengths {
            *self.lengths.entry(*bound).or_default() += rows;
        }
    }

    /// Share of trained tokens among all.
    pub fn trained_share(&self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.trained_tokens as f64 / self.tokens as f64 }
    }

    /// "3 with an empty answer (rows 1, 2, 5), 2 too long (rows …)"; empty if nothing was dropped.
    pub fn dropped_words(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if self.rows_bad > 0 {
            parts.push(format!("{} unreadable", self.rows_bad));
        }
        for (reason, counted) in &self.dropped {
            let rows: Vec<String> = counted.first.iter().map(u64::to_string).collect();
            let more = if counted.total > rows.len() as u64 { ", …" } else { "" };
            let rows = rows.join(", ");
            parts.push(format!("{} {} (rows {rows}{more})", counted.total, reason.words()));
        }
        parts.join("; ")
    }
}
