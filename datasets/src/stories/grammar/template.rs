//! Sentence patterns: `{slots}`, `[alternatives|of text]` and `<phrases>` that are written once and used often.

use std::collections::BTreeMap;

/// What a `{slot}` is filled with; the cast of a story decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// `{H}`: the hero; introduced ("a fox named Finn") where first named.
    Hero,
    /// `{he}`, `{him}`, `{his}`, `{himself}`: the hero's pronouns.
    He,
    /// See [`Slot::He`].
    Him,
    /// See [`Slot::He`].
    His,
    /// See [`Slot::He`].
    Himself,
    /// `{He}`: the pronoun with a capital, for a sentence that follows a closing quotation mark.
    HeCapital,
    /// `{kid}`: "boy", "girl" or the hero's animal.
    Kid,
    /// `{F}`: the friend; introduced where first named.
    Friend,
    /// `{fhe}`, `{fhim}`, `{fhis}`: the friend's pronouns.
    FriendHe,
    /// See [`Slot::FriendHe`].
    FriendHim,
    /// See [`Slot::FriendHe`].
    FriendHis,
    /// `{E}`: the grown-up, always with the hero's possessive ("his mom").
    Elder,
    /// `{mom}`: the grown-up as addressed ("Mom").
    ElderCall,
    /// `{o}`: the main object's noun.
    Object,
    /// `{O}`: the main object's adjective and noun.
    ObjectFull,
    /// `{p}`: the second object's noun.
    Second,
    /// `{P}`: the second object's adjective and noun.
    SecondFull,
    /// `{at}`: "at the park".
    At,
    /// `{to}`: "to the park".
    To,
    /// `{place}`: "the park".
    Place,
    /// `{day}`: "one sunny morning".
    Day,
    /// `{weather}`: "sunny".
    Weather,
    /// `{part}`: "morning".
    Part,
    /// `{spot}`: a hiding place that fits the place ("under a bench").
    Spot,
    /// `{A}`: a bystanding animal; "a bird" where first named, "the bird" later.
    Animal,
    /// `{off}`: "went home", or "sat down" in a place that is a home.
    Off,
    /// `{allway}`: "all the way home", or "all day long" in a place that is a home.
    AllWay,
    /// `{food}`: something to eat, without article.
    Food,
    /// `{n}`, `{mood}`, `{words}`, `{avoid}`: only in instructions.
    Number,
    /// See [`Slot::Number`]; "happy" or "sad".
    Mood,
    /// `{moodly}`: "happily" or "sadly".
    MoodAdverb,
    /// See [`Slot::Number`].
    Words,
    /// See [`Slot::Number`].
    Avoid,
}

impl Slot {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "H" => Self::Hero,
            "he" => Self::He,
            "him" => Self::Him,
            "his" => Self::His,
            "himself" => Self::Himself,
            "He" => Self::HeCapital,
            "kid" => Self::Kid,
            "F" => Self::Friend,
            "fhe" => Self::FriendHe,
            "fhim" => Self::FriendHim,
            "fhis" => Self::FriendHis,
            "E" => Self::Elder,
            "mom" => Self::ElderCall,
            "o" => Self::Object,
            "O" => Self::ObjectFull,
            "p" => Self::Second,
            "P" => Self::SecondFull,
            "at" => Self::At,
            "to" => Self::To,
            "place" => Self::Place,
            "day" => Self::Day,
            "weather" => Self::Weather,
            "part" => Self::Part,
            "spot" => Self::Spot,
            "A" => Self::Animal,
            "off" => Self::Off,
            "allway" => Self::AllWay,
            "food" => Self::Food,
            "n" => Self::Number,
            "mood" => Self::Mood,
            "moodly" => Self::MoodAdverb,
            "words" => Self::Words,
            "avoid" => Self::Avoid,
            _ => return None,
        })
    }
}

/// A piece of a compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Words as they are.
    Text(Box<str>),
    /// Something from the cast.
    Slot(Slot),
    /// One of several continuations.
    Choice(Vec<Pattern>),
}

/// A compiled pattern.
pub type Pattern = Vec<Node>;

/// Phrases by name: what `<name>` stands for.
pub type Phrases = BTreeMap<String, Vec<Pattern>>;

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `{` or `[` or `<` without its partner, or the other way round.
    #[error("unbalanced {0:?}")]
    Unbalanced(char),
    /// No such slot.
    #[error("unknown slot {{{0}}}")]
    UnknownSlot(String),
    /// No such phrase.
    #[error("unknown phrase <{0}>; phrases must be defined before they are used")]
    UnknownPhrase(String),
    /// Alternatives nested too deeply.
    #[error("alternatives nested more than 8 deep")]
    TooDeep,
}

/// Compiles one line.
///
/// # Errors
/// Unbalanced brackets, unknown slots or phrases.
pub fn compile(line: &str, phrases: &Phrases) -> Result<Pattern, PatternError> {
    let mut parser = Parser { rest: line, phrases };
    let pattern = parser.pattern(0)?;
    match parser.rest.chars().next() {
        None => Ok(pattern),
        Some(c) => Err(PatternError::Unbalanced(c)),
    }
}

struct Parser<'a> {
    rest: &'a str,
    phrases: &'a Phrases,
}

impl<'a> Parser<'a> {
    /// Reads up to the end, or up to a `|` or `]` when inside alternatives.
    fn pattern(&mut self, depth: usize) -> Result<Pattern, PatternError> {
        let mut nodes = Vec::new();
        while let Some(c) = self.rest.chars().next() {
            match c {
                '{' => {
                    let name = self.until('}')?;
                    let slot = Slot::named(name);
                    nodes.push(Node::Slot(
                        slot.ok_or_else(|| PatternError::UnknownSlot(name.to_string()))?,
                    ));
                }
                '<' => {
                    let name = self.until('>')?;
                    let phrase = self.phrases.get(name);
                    let phrase =
                        phrase.ok_or_else(|| PatternError::UnknownPhrase(name.to_string()))?;
                    nodes.push(Node::Choice(phrase.clone()));
                }
                '[' => nodes.push(self.choice(depth)?),
                '|' | ']' if depth > 0 => break,
                '}' | '>' | ']' | '|' => return Err(PatternError::Unbalanced(c)),
                _ => nodes.push(Node::Text(self.text().into())),
            }
        }
        Ok(nodes)
    }

    fn choice(&mut self, depth: usize) -> Result<Node, PatternError> {
        if depth >= 8 {
            return Err(PatternError::TooDeep);
        }
        let mut options = Vec::new();
        loop {
            // The bracket or bar that opens this option.
            self.rest = &self.rest[1..];
            options.push(self.pattern(depth + 1)?);
            match self.rest.chars().next() {
                Some('|') => {}
                Some(']') => break,
                _ => return Err(PatternError::Unbalanced('[')),
            }
        }
        self.rest = &self.rest[1..];
        Ok(Node::Choice(options))
    }

    fn until(&mut self, close: char) -> Result<&'a str, PatternError> {
        let open = self.rest.chars().next().unwrap_or(close);
        let body = &self.rest[1..];
        let end = body.find(close).ok_or(PatternError::Unbalanced(open))?;
        self.rest = &body[end + 1..];
        Ok(&body[..end])
    }

    fn text(&mut self) -> &'a str {
        let end = self.rest.find(['{', '}', '<', '>', '[', ']', '|']).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_must_match_and_names_must_exist() {
        let none = Phrases::new();
        assert_eq!(compile("{H", &none), Err(PatternError::Unbalanced('{')));
        assert_eq!(compile("[a|b", &none), Err(PatternError::Unbalanced('[')));
        assert_eq!(compile("a]", &none), Err(PatternError::Unbalanced(']')));
        assert_eq!(compile("{Q}", &none), Err(PatternError::UnknownSlot("Q".into())));
        assert_eq!(compile("<q>", &none), Err(PatternError::UnknownPhrase("q".into())));
        assert_eq!(compile(&"[".repeat(99), &none), Err(PatternError::TooDeep));
    }

    #[test]
    fn alternatives_nest() {
        let made = compile("a [b|c [d|{H}]]!", &Phrases::new()).expect("a valid pattern");
        assert_eq!(made.len(), 3);
        let Node::Choice(options) = &made[1] else { panic!("the second piece is a choice") };
        assert_eq!(options.len(), 2);
        assert_eq!(options[1].len(), 2);
    }
}
