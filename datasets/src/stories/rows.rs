//! Instruction rows: what they are, how a set of them is made, how they are written.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::apart::Apart;
use super::draws::{Draws, Purpose};
use super::grammar::GrammarError;
use super::kinds::Maker;
use super::wishes::{Wish, check};

/// What a row is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Trained on.
    Train,
    /// Watched during training.
    Validation,
    /// Judged at the end.
    Test,
}

/// What a row asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A story with a name, a place and an object.
    Tell,
    /// A story of exactly n sentences.
    Exact,
    /// A story with some words and without another.
    Words,
    /// A story with a happy or sad ending.
    Ending,
    /// The answer to a question about the story in the input.
    Question,
    /// The characters of the story in the input.
    Characters,
    /// A title for the story in the input.
    Title,
    /// How the story in the input ends.
    HowEnds,
    /// The word that is missing in the story in the input.
    Gap,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Tell,
        Self::Exact,
        Self::Words,
        Self::Ending,
        Self::Question,
        Self::Characters,
        Self::Title,
        Self::HowEnds,
        Self::Gap,
    ];
}

/// Kinds of twenty rows in turn: four fifths ask for a story or about its parts.
const TURNS: [Kind; 20] = [
    Kind::Tell,
    Kind::Exact,
    Kind::Question,
    Kind::Words,
    Kind::Ending,
    Kind::Gap,
    Kind::Tell,
    Kind::Characters,
    Kind::Exact,
    Kind::Words,
    Kind::Ending,
    Kind::Title,
    Kind::Tell,
    Kind::Question,
    Kind::Exact,
    Kind::HowEnds,
    Kind::Words,
    Kind::Ending,
    Kind::Gap,
    Kind::Tell,
];

/// An instruction with its answer and what the answer is checked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What to do.
    pub instruction: String,
    /// The story it is about; empty where a story is asked for.
    pub input: String,
    /// A right answer.
    pub output: String,
    /// What answers are checked for.
    pub wishes: Vec<Wish>,
    /// What the row asks for.
    pub kind: Kind,
    /// What the row is used for.
    pub split: Split,
}

impl Row {
    /// Input and output: the text that must not come back in another split.
    fn story_text(&self) -> String {
        format!("{} {}", self.input, self.output)
    }
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoriesError {
    /// The grammar files cannot be read.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// The grammar has no more stories that differ enough.
    #[error(
        "asked for {wanted} {split:?} rows, but after {made} rows no further one differs enough \
         from the others; ask for fewer rows"
    )]
    TooMany {
        /// Rows asked for.
        wanted: usize,
        /// Rows made.
        made: usize,
        /// Split.
        split: Split,
    },
    /// A line that is no row.
    #[error("line {line} is not a row of stories: {source}")]
    Row {
        /// Line, counted from 1.
        line: usize,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// The rows cannot be written.
    #[error("cannot write rows: {0}")]
    Write(#[from] std::io::Error),
}

/// The largest share of a row's runs of eight words that one row of an earlier split may have too.
pub const MOST_SHARED_ACROSS: f64 = 0.34;
/// The same for rows of one split.
pub const MOST_SHARED_WITHIN: f64 = 0.6;
/// Draws for one row before giving up; about thirty are usual for test rows.
const MOST_DRAWS: u64 = 5_000;

/// Makes training, validation and test rows, in this order. The same seed gives the same rows.
///
/// # Errors
/// [`StoriesError::TooMany`] when so many different rows cannot be made.
pub fn generate(
    seed: u64,
    n_train: usize,
    n_validation: usize,
    n_test: usize,
) -> Result<Vec<Row>, StoriesError> {
    let maker = Maker::new()?;
    let mut rows = Vec::new();
    let mut earlier = Apart::default();
    let splits =
        [(Split::Train, n_train), (Split::Validation, n_validation), (Split::Test, n_test)];
    for (split, wanted) in splits {
        let mut within = Apart::default();
        for made in 0..wanted {
            let row = make_row(&maker, seed, split, made, &earlier, &within);
            let row = row.ok_or(StoriesError::TooMany { wanted, made, split })?;
            within.insert(&row.story_text());
            rows.push(row);
        }
        for row in rows.iter().filter(|r| r.split == split) {
            earlier.insert(&row.story_text());
        }
    }
    Ok(rows)
}

fn make_row(
    maker: &Maker,
    seed: u64,
    split: Split,
    index: usize,
    earlier: &Apart,
    within: &Apart,
) -> Option<Row> {
    let kind = TURNS[index % TURNS.len()];
    let mut draws = Draws::new(seed, Purpose::Rows, ((split as u64) << 48) | index as u64);
    (0..MOST_DRAWS).find_map(|_| {
        let row = maker.draw(kind, split, &mut draws)?;
        let text = row.story_text();
        let fine = check(&row.output, &row.wishes).iter().all(|fulfilled| *fulfilled)
            && earlier.nearest(&text) <= MOST_SHARED_ACROSS
            && within.nearest(&text) <= MOST_SHARED_WITHIN;
        fine.then_some(row)
    })
}

/// Writes rows as JSON lines: instruction, input, output, wishes, kind, split.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_jsonl(rows: &[Row], out: &mut impl Write) -> Result<(), StoriesError> {
    for row in rows {
        serde_json::to_writer(&mut *out, row).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads rows that [`write_jsonl`] wrote.
///
/// # Errors
/// The first line that is not a row, with its number.
pub fn read_jsonl(text: &str) -> Result<Vec<Row>, StoriesError> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line)
                .map_err(|source| StoriesError::Row { line: index + 1, source })
        })
        .collect()
}
