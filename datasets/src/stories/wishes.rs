//! Wishes that a program can check: what an instruction asks of its answer.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::grammar::Mood;
use super::sentences::{has_name, has_word, is_finished, sentences, words};

/// Words of which one in the last sentence marks a happy ending. No other words count.
pub const HAPPY_CUES: [&str; 9] =
    ["happy", "happily", "glad", "proud", "smile", "smiled", "smiling", "laughed", "joy"];
/// Words of which one in the last sentence marks a sad ending.
pub const SAD_CUES: [&str; 8] =
    ["sad", "sadly", "cry", "cried", "crying", "tears", "lonely", "unhappy"];
/// A story with more sentences than this was not told to the end as asked.
pub const MOST_SENTENCES: usize = 6;
/// An answer to a question has at most this many words.
pub const MOST_ANSWER_WORDS: usize = 8;
/// A sentence about an ending has at most this many words.
pub const MOST_ENDING_WORDS: usize = 16;

/// One wish. In JSON: an object with the field `wish` and the fields named here.
///
/// The wishes about stories (from `Name` to `Ends`) count only in an answer that *is a whole short
/// story*: two to six sentences, the last one finished, none told twice. Somebody who goes on telling
/// until the tokens run out fulfils none of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    /// The story has this name in it, with its capital.
    Name {
        /// The name.
        name: String,
    },
    /// The story has this place in it.
    Place {
        /// A noun.
        place: String,
    },
    /// The story has this object in it.
    Object {
        /// A noun.
        object: String,
    },
    /// The story has exactly this many sentences.
    Sentences {
        /// How many.
        n: usize,
    },
    /// The story has all these words in it.
    UsesWords {
        /// Words; plural and possessive forms count.
        words: Vec<String>,
    },
    /// The story does not have this word in it, in no form; counts only together with another
    /// wish of the row, so that saying nothing is no way to fulfil it.
    Avoids {
        /// The word.
        word: String,
    },
    /// The last sentence has a cue of this mood and none of the other.
    Ends {
        /// The mood.
        mood: Mood,
    },
    /// The answer is one of these, apart from capitals, articles and marks.
    Answer {
        /// Right answers.
        any_of: Vec<String>,
    },
    /// The answer names these characters and nobody else.
    Characters {
        /// Names, or kinds of animals and grown-ups ("rabbit", "mom").
        names: Vec<String>,
    },
    /// The answer is a title: one to five words without a full stop, one of them a main word.
    Title {
        /// Main words of the story.
        main_words: Vec<String>,
        /// Most words of the title.
        most_words: usize,
    },
    /// The answer is one sentence that says how the story ends and why.
    SaysEnding {
        /// How.
        mood: Mood,
        /// The reason has one of these words.
        because: Vec<String>,
    },
    /// The answer is the missing word and nothing else.
    Gap {
        /// The word.
        word: String,
    },
}

/// For each wish, whether `answer` fulfils it. Total: any text is allowed.
pub fn check(answer: &str, wishes: &[Wish]) -> Vec<bool> {
    let answer = answer.trim();
    let whole = is_whole_story(answer);
    let mut fulfilled: Vec<bool> =
        wishes.iter().map(|wish| is_fulfilled(answer, wish, whole)).collect();
    let other = wishes.iter().zip(&fulfilled).any(|(w, f)| *f && !matches!(w, Wish::Avoids { .. }));
    for (wish, done) in wishes.iter().zip(&mut fulfilled) {
        *done &= other || !matches!(wish, Wish::Avoids { .. });
    }
    fulfilled
}

fn is_fulfilled(answer: &str, wish: &Wish, whole: bool) -> bool {
    match wish {
        Wish::Name { name } => whole && has_name(answer, name),
        Wish::Place { place: word } | Wish::Object { object: word } => {
            whole && has_word(answer, word)
        }
        Wish::Sentences { n } => whole && sentences(answer).len() == *n,
        Wish::UsesWords { words } => whole && words.iter().all(|w| has_word(answer, w)),
        Wish::Avoids { word } => whole && !has_word(answer, word),
        Wish::Ends { mood } => whole && ending(answer) == Some(*mood),
        Wish::Answer { any_of } => {
            let given = plain(answer);
            is_one_line(answer, MOST_ANSWER_WORDS) && any_of.iter().any(|a| plain(a) == given)
        }
        Wish::Characters { names } => names_exactly(answer, names),
        Wish::Title { main_words, most_words } => {
            is_one_line(answer, *most_words)
                && !answer.ends_with(['.', ',', ':', ';'])
                && main_words.iter().any(|w| has_word(answer, w))
        }
        Wish::SaysEnding { mood, because } => {
            is_one_line(answer, MOST_ENDING_WORDS)
                && is_finished(answer)
                && sentences(answer).len() == 1
                && mood_of(answer) == Some(*mood)
                && because.iter().any(|w| has_word(answer, w))
        }
        Wish::Gap { word } => is_one_line(answer, 2) && plain(answer) == plain(word),
    }
}

/// Whether `answer` is a story told to its end: two to six sentences, finished, none twice.
pub fn is_whole_story(answer: &str) -> bool {
    let found = sentences(answer);
    let distinct: BTreeSet<&str> = found.iter().copied().collect();
    (2..=MOST_SENTENCES).contains(&found.len())
        && distinct.len() == found.len()
        && is_finished(answer)
}

/// The mood of the last sentence: Some if it has cues of one mood only.
pub fn ending(story: &str) -> Option<Mood> {
    mood_of(sentences(story).last()?)
}

fn mood_of(sentence: &str) -> Option<Mood> {
    let has = |cues: &[&str]| words(sentence).any(|w| cues.contains(&w.to_lowercase().as_str()));
    match (has(&HAPPY_CUES), has(&SAD_CUES)) {
        (true, false) => Some(Mood::Happy),
        (false, true) => Some(Mood::Sad),
        _ => None,
    }
}

fn is_one_line(answer: &str, most_words: usize) -> bool {
    !answer.contains('\n') && (1..=most_words).contains(&words(answer).count())
}

/// Small letters, no marks, no article or possessive in front.
fn plain(text: &str) -> String {
    let mut all: Vec<String> = words(text).map(str::to_lowercase).collect();
    let determiner = |w: &String| {
        matches!(w.as_str(), "a" | "an" | "the" | "his" | "her" | "its" | "their" | "my" | "your")
    };
    while all.len() > 1 && determiner(&all[0]) {
        all.remove(0);
    }
    all.join(" ")
}

fn names_exactly(answer: &str, names: &[String]) -> bool {
    let answer = answer.trim_end_matches('.');
    let lead = "the characters are ";
    let listed = match answer.get(..lead.len()) {
        Some(start) if start.eq_ignore_ascii_case(lead) => &answer[lead.len()..],
        _ => answer,
    };
    let mut given = BTreeSet::new();
    for part in listed.split([',', '\n', '&']) {
        for piece in part.split(" and ") {
            let piece = plain(piece.trim_start().trim_start_matches("and "));
            // "Finn the fox" is Finn.
            let name = piece.split_once(" the ").map_or(piece.as_str(), |(name, _)| name);
            if !name.is_empty() {
                given.insert(name.to_string());
            }
        }
    }
    let wanted: BTreeSet<String> = names.iter().map(|n| plain(n)).collect();
    !wanted.is_empty() && given == wanted
}

#[cfg(test)]
#[path = "wishes_tests.rs"]
mod tests;
