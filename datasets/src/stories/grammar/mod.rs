//! The grammar of the stories: word lists in Rust, plots and phrases in text files beside them.

pub mod objects;
pub mod places;
pub mod plot;
pub mod template;
pub mod words;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use plot::{Plot, read_plots};
use template::{Pattern, Phrases, compile};

/// How a story ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mood {
    /// All is well.
    Happy,
    /// Something is lost for good.
    Sad,
}

impl Mood {
    /// "happy" or "sad".
    pub fn adjective(self) -> &'static str {
        match self {
            Self::Happy => "happy",
            Self::Sad => "sad",
        }
    }

    /// "happily" or "sadly".
    pub fn adverb(self) -> &'static str {
        match self {
            Self::Happy => "happily",
            Self::Sad => "sadly",
        }
    }
}

/// A line of the grammar that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("grammar file {file}, line {line}: {why}")]
pub struct GrammarError {
    /// File name.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// All plots and the phrase lists that are used outside plots.
#[derive(Debug)]
pub struct Grammar {
    /// Plot skeletons.
    pub plots: Vec<Plot>,
    /// Named lists: beginnings of long stories, instructions by kind.
    pub lists: BTreeMap<String, Vec<Pattern>>,
}

const PLOT_FILES: [(&str, &str); 9] = [
    ("things.txt", include_str!("plots/things.txt")),
    ("helping.txt", include_str!("plots/helping.txt")),
    ("friends.txt", include_str!("plots/friends.txt")),
    ("weather.txt", include_str!("plots/weather.txt")),
    ("mistakes.txt", include_str!("plots/mistakes.txt")),
    ("learning.txt", include_str!("plots/learning.txt")),
    ("wonders.txt", include_str!("plots/wonders.txt")),
    ("food.txt", include_str!("plots/food.txt")),
    ("days.txt", include_str!("plots/days.txt")),
];

impl Grammar {
    /// Reads the grammar that is built in.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn read() -> Result<Self, GrammarError> {
        let phrases = read_lists("phrases.txt", include_str!("phrases.txt"), Phrases::new())?;
        let mut plots = Vec::new();
        for (file, text) in PLOT_FILES {
            plots.extend(read_plots(file, text, &phrases)?);
        }
        let lists = read_lists("openings.txt", include_str!("openings.txt"), phrases)?;
        let lists = read_lists("instructions.txt", include_str!("instructions.txt"), lists)?;
        Ok(Self { plots, lists })
    }

    /// The grammar that is built in, read once.
    pub fn built_in() -> &'static Self {
        static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| match Grammar::read() {
            Ok(grammar) => grammar,
            // The text is compiled in and a test reads it: this cannot depend on any input.
            Err(error) => panic!("{error}"),
        });
        &GRAMMAR
    }

    /// The patterns of a named list; none if there is no such list.
    pub fn list(&self, name: &str) -> &[Pattern] {
        self.lists.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The names of all plots.
pub fn plot_names() -> Vec<&'static str> {
    Grammar::built_in().plots.iter().map(|plot| plot.name.as_str()).collect()
}

/// Reads lists of patterns: `@name`, then one pattern a line. Later lists may use earlier ones as
/// `<name>`.
fn read_lists(file: &str, text: &str, mut lists: Phrases) -> Result<Phrases, GrammarError> {
    let mut name = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let at = |why: String| GrammarError { file: file.to_string(), line: index + 1, why };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(new) = line.strip_prefix('@') {
            lists.entry(new.to_string()).or_default();
            name = Some(new.to_string());
            continue;
        }
        let pattern = compile(line, &lists).map_err(|e| at(e.to_string()))?;
        let list = name.as_ref().and_then(|n| lists.get_mut(n));
        list.ok_or_else(|| at("a list starts with @".into()))?.push(pattern);
    }
    Ok(lists)
}
