//! What can go wrong between a file and a batch, with the values inside.

use std::io;
use std::path::{Path, PathBuf};

use crate::record::{BadRow, BadRows};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure of this crate. The message says what happened, where, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "open", "read" or "write".
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not a data file at all (an LFS pointer, a web page, UTF-16, a directory …).
    #[error("{}: {found}; {advice}", path.display())]
    NotData {
        /// The file.
        path: PathBuf,
        /// What it turned out to be.
        found: String,
        /// What to do.
        advice: String,
    },
    /// A row after which nothing can be read.
    #[error("{0}")]
    BadRow(Box<BadRow>),
    /// Rows cannot be read or rendered, and skipping was not asked for.
    #[error("{0}\nmend them, or leave them out with --skip-bad")]
    BadRows(BadRows),
    /// No row can be used.
    #[error("{}: 0 usable rows of {read}: {why}", path.display())]
    NoRows {
        /// The first data file.
        path: PathBuf,
        /// Rows read.
        read: u64,
        /// Counted reasons in words.
        why: String,
    },
    /// A template cannot be used at all.
    #[error("template {name}: {message}")]
    Template {
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A template file has a fault at a place.
    #[error("template {name}, line {line}, column {column}: {message}\n{excerpt}")]
    TemplateAt {
        /// Its name.
        name: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The source line with a caret under the place.
        excerpt: String,
    },
    /// A row could not be rendered by the template.
    #[error("template {template}, row {row}: {message}")]
    Render {
        /// Template name.
        template: String,
        /// Row number, from 0.
        row: u64,
        /// What is wrong: names the column or variable.
        message: String,
    },
    /// A tokenizer file is damaged or of a kind that is not supported.
    #[error("{}: {at}: {message}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// JSON path, byte offset or line.
        at: String,
        /// What was found and what was expected.
        message: String,
    },
    /// Text could not be turned into tokens.
    #[error("the tokenizer could not encode a text of {bytes} bytes: {message}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// The library's reason.
        message: String,
    },
    /// A setting contradicts another or the data.
    #[error("{0}")]
    Setting(String),
    /// Rows are longer than the limit and the policy is to refuse them.
    #[error(
        "row {row} has {tokens} tokens, more than the limit of {limit}; raise --max-seq-len, \
         or choose --over-length drop or cut_prompt"
    )]
    TooLong {
        /// Row number.
        row: u64,
        /// Its tokens.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// A forest could not be built from the examples.
    #[error("{0}")]
    Forest(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An I/O error with the file and what was being done.
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), action, source }
    }

    /// A file that is something else than data.
    pub(crate) fn not_data(path: &Path, found: &str, advice: &str) -> Self {
        Self::NotData {
            path: path.to_path_buf(),
            found: found.to_string(),
            advice: advice.to_string(),
        }
    }
}
