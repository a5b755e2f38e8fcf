//! Plots: what happens in a story, read from the plot files.
//!
//! A plot file holds plots, each with a heading and beats, each beat with one variant a line:
//!
//! ```text
//! == lost | object: lose | place: any | friend: known
//! @open
//! {day}, {H} took {his} {O} {to}.
//! ```
//!
//! | beat | what it holds | told in |
//! |---|---|---|
//! | `@brief` | one sentence with hero, place, object and what is wrong | stories of 2 or 3 sentences |
//! | `@open` | one sentence with hero, place, object | the others |
//! | `@trouble` | one sentence | all but those with `@brief` |
//! | `@more` | one sentence that may be left out | 5 sentences and more |
//! | `@deep` | any number of sentences that may be left out | long stories |
//! | `@turn` | one sentence: how it is solved, or not | 4 sentences and more, and with `@brief` |
//! | `@close` | one sentence: turn and ending in one | stories of 2 or 3 sentences |
//! | `@end` | one sentence with a cue of its mood | the others |
//! | `@title`, `@ask`, `@because` | a title; `question = answer / other right answer`; why it ends as it does | rows |
//!
//! `happy` or `sad` after a beat's name keeps it for stories that end so. Beats are told in the
//! order of the file.

use super::objects::object_bits;
use super::places::place_bits;
use super::template::{Pattern, Phrases, compile};
use super::{GrammarError, Mood};

/// What a beat is for; see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Opening and trouble in one sentence.
    Brief,
    /// Opening.
    Open,
    /// What goes wrong or is wanted.
    Trouble,
    /// One sentence that may be left out.
    More,
    /// Sentences for long stories.
    Deep,
    /// How it is solved, or not.
    Turn,
    /// Turn and ending in one sentence.
    Close,
    /// The ending.
    End,
}

/// One beat: its part, the ending it belongs to (None: any), its variants.
#[derive(Debug, Clone)]
pub struct Beat {
    /// What it is for.
    pub part: Part,
    /// Only in stories with this ending.
    pub mood: Option<Mood>,
    /// Ways of telling it.
    pub variants: Vec<Pattern>,
}

/// A question about a story with its right answers, the first one for the reference answer.
#[derive(Debug, Clone)]
pub struct Question {
    /// Only for stories with this ending.
    pub mood: Option<Mood>,
    /// The question.
    pub question: Pattern,
    /// Right answers.
    pub answers: Vec<Pattern>,
}

/// A plot skeleton with all its realisations.
#[derive(Debug, Clone, Default)]
pub struct Plot {
    /// Name, for tests and reports.
    pub name: String,
    /// Object must have one of these bits.
    pub object: u32,
    /// Place must have one of these bits.
    pub place: u32,
    /// Weather: "dry", "wind", "wet", "cold" or "night".
    pub weather: String,
    /// Name of the list of sentences that describe such weather.
    pub scene: String,
    /// Friend is a stranger at first.
    pub stranger: bool,
    /// The hero is always a child.
    pub child: bool,
    /// The friend is always an animal.
    pub animal_friend: bool,
    /// Others than the cast play a part (a baby bird, a talking kite).
    pub others: bool,
    /// Beats in telling order.
    pub beats: Vec<Beat>,
    /// Titles.
    pub titles: Vec<Pattern>,
    /// Questions.
    pub questions: Vec<Question>,
    /// `because` clauses, with the ending they belong to.
    pub reasons: Vec<(Option<Mood>, Pattern)>,
}

impl Plot {
    /// The endings this plot can have.
    pub fn moods(&self) -> impl Iterator<Item = Mood> + '_ {
        [Mood::Happy, Mood::Sad].into_iter().filter(|m| self.has(Part::End, *m))
    }

    /// Whether there is a beat of this part for this ending.
    pub fn has(&self, part: Part, mood: Mood) -> bool {
        self.beats(mood).any(|b| b.part == part)
    }

    /// The beats of stories that end in `mood`, in telling order.
    pub fn beats(&self, mood: Mood) -> impl Iterator<Item = &Beat> {
        self.beats.iter().filter(move |b| b.mood.is_none_or(|m| m == mood))
    }
}

/// What the lines under a `@` go to.
enum Target {
    Beat,
    Title,
    Ask(Option<Mood>),
    Because(Option<Mood>),
}

/// Reads a plot file.
///
/// # Errors
/// The first line that cannot be read, with its number.
pub fn read_plots(file: &str, text: &str, phrases: &Phrases) -> Result<Vec<Plot>, GrammarError> {
    let mut plots: Vec<Plot> = Vec::new();
    let mut target = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let at = |why: String| GrammarError { file: file.to_string(), line: index + 1, why };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(heading) = line.strip_prefix("==") {
            plots.push(read_heading(heading).map_err(at)?);
            target = None;
            continue;
        }
        let plot = plots.last_mut().ok_or_else(|| at("a plot starts with ==".into()))?;
        if let Some(name) = line.strip_prefix('@') {
            target = Some(read_beat_name(name, plot).map_err(at)?);
            continue;
        }
        let target = target.as_ref().ok_or_else(|| at("a beat starts with @".into()))?;
        read_variant(line, target, plot, phrases).map_err(at)?;
    }
    Ok(plots)
}

fn read_heading(heading: &str) -> Result<Plot, String> {
    let mut fields = heading.split('|').map(str::trim);
    let name = fields.next().unwrap_or_default().to_string();
    let weather = "dry".to_string();
    let mut plot = Plot { name, weather, object: u32::MAX, place: u32::MAX, ..Plot::default() };
    for field in fields {
        let (key, value) = field.split_once(':').ok_or_else(|| format!("no colon in {field:?}"))?;
        let value = value.trim();
        match key.trim() {
            "object" => plot.object = bits(value, object_bits)?,
            "place" => plot.place = bits(value, place_bits)?,
            "weather" => plot.weather = value.to_string(),
            "friend" => {
                plot.stranger = value.contains("new");
                plot.animal_friend = value.contains("animal");
            }
            "hero" => plot.child = value == "child",
            "others" => plot.others = value == "yes",
            other => return Err(format!("unknown heading {other:?}")),
        }
    }
    plot.scene = format!("scene_{}", plot.weather);
    Ok(plot)
}

fn bits(words: &str, of: fn(&str) -> Option<u32>) -> Result<u32, String> {
    let mut all = 0;
    for word in words.split_whitespace() {
        all |= of(word).ok_or_else(|| format!("unknown kind {word:?}"))?;
    }
    Ok(all)
}

fn read_beat_name(name: &str, plot: &mut Plot) -> Result<Target, String> {
    let (name, mood) = name.split_once(' ').unwrap_or((name, ""));
    let mood = match mood.trim() {
        "" => None,
        "happy" => Some(Mood::Happy),
        "sad" => Some(Mood::Sad),
        other => return Err(format!("unknown mood {other:?}")),
    };
    let part = match name {
        "brief" => Part::Brief,
        "open" => Part::Open,
        "trouble" => Part::Trouble,
        "more" => Part::More,
        "deep" => Part::Deep,
        "turn" => Part::Turn,
        "close" => Part::Close,
        "end" => Part::End,
        "title" => return Ok(Target::Title),
        "ask" => return Ok(Target::Ask(mood)),
        "because" => return Ok(Target::Because(mood)),
        other => return Err(format!("unknown beat {other:?}")),
    };
    plot.beats.push(Beat { part, mood, variants: Vec::new() });
    Ok(Target::Beat)
}

fn read_variant(
    line: &str,
    target: &Target,
    plot: &mut Plot,
    phrases: &Phrases,
) -> Result<(), String> {
    let pattern = |text: &str| compile(text.trim(), phrases).map_err(|e| e.to_string());
    match target {
        Target::Beat => {
            let beat = plot.beats.last_mut().ok_or("a beat starts with @")?;
            beat.variants.push(pattern(line)?);
        }
        Target::Title => plot.titles.push(pattern(line)?),
        Target::Because(mood) => plot.reasons.push((*mood, pattern(line)?)),
        Target::Ask(mood) => {
            let (question, answers) = line.split_once('=').ok_or("no = after the question")?;
            let answers = answers.split('/').map(pattern).collect::<Result<_, _>>()?;
            plot.questions.push(Question { mood: *mood, question: pattern(question)?, answers });
        }
    }
    Ok(())
}
