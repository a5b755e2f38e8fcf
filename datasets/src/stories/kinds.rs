//! One row of each kind: a story, an instruction, the right answer, the wishes.

use super::cast::{Cast, Choices};
use super::corpus::draw_mood;
use super::draws::Draws;
use super::grammar::plot::Plot;
use super::grammar::words::COLOURS;
use super::grammar::{Grammar, Mood};
use super::rows::{Kind, Row, Split, StoriesError};
use super::sentences::{has_word, sentences, words};
use super::tell::{Extra, Teller};
use super::wishes::Wish;

/// Words that stories like to use: worth avoiding.
const TEMPTING: [&str; 24] = [
    "happy", "sad", "friend", "home", "day", "little", "very", "said", "found", "helped",
    "together", "big", "wanted", "played", "ran", "looked", "smiled", "cried", "glad", "hugged",
    "gone", "went", "then", "both",
];
/// Words that give no reason.
const EMPTY_WORDS: [&str; 27] = [
    "the", "a", "an", "was", "were", "did", "not", "to", "of", "in", "his", "her", "and", "too",
    "very", "came", "got", "had", "he", "she", "it", "for", "at", "well", "out", "be", "said",
];
/// Most words of a title.
const MOST_TITLE_WORDS: usize = 5;

/// Makes rows.
#[derive(Debug)]
pub struct Maker {
    grammar: &'static Grammar,
    choices: Vec<Choices>,
}

/// A story that a row is about.
struct Told<'a> {
    plot: &'a Plot,
    cast: &'a Cast,
    text: &'a str,
    n: usize,
}

/// Instruction, input, output, wishes.
type Parts = (String, String, String, Vec<Wish>);

impl Maker {
    /// A maker with the grammar that is built in.
    ///
    /// # Errors
    /// When the grammar cannot be read.
    pub fn new() -> Result<Self, StoriesError> {
        let grammar = Grammar::built_in();
        Ok(Self { grammar, choices: grammar.plots.iter().map(Choices::of).collect() })
    }

    /// A row of `kind`; None when this draw gives none (draw again).
    pub fn draw(&self, kind: Kind, split: Split, draws: &mut Draws) -> Option<Row> {
        let at = draws.below(self.grammar.plots.len());
        let plot = &self.grammar.plots[at];
        let even = matches!(kind, Kind::Ending | Kind::HowEnds);
        let mood = draw_mood(plot, if even { 50 } else { 60 }, draws);
        let n = match kind {
            Kind::Exact => 2 + draws.below(5),
            Kind::Tell | Kind::Words | Kind::Ending => 3 + draws.below(3),
            _ => 3 + draws.below(2),
        };
        let cast = Cast::draw(plot, self.choices.get(at)?, mood, split, draws)?;
        let mut teller = Teller::new(&cast, draws);
        let text = teller.short(plot, n)?;
        let told = Told { plot, cast: &cast, text: &text, n };
        let (instruction, input, output, wishes) = match kind {
            Kind::Tell => self.tell(&told, &mut teller)?,
            Kind::Exact => self.exact(&told, &mut teller)?,
            Kind::Words => self.words(&told, &mut teller)?,
            Kind::Ending => self.ending(&told, &mut teller)?,
            Kind::Question => self.question(&told, &mut teller)?,
            Kind::Characters => self.characters(&told, &mut teller)?,
            Kind::Title => self.title(&told, &mut teller)?,
            Kind::HowEnds => self.how_ends(&told, &mut teller)?,
            Kind::Gap => self.gap(&told, &mut teller)?,
        };
        Some(Row { instruction, input, output, wishes, kind, split })
    }

    /// An instruction from the list of this name.
    fn ask(&self, list: &str, teller: &mut Teller<'_>, extra: Extra<'_>) -> Option<String> {
        let patterns = self.grammar.list(list);
        let pattern = patterns.get(teller.draws().below(patterns.len()))?;
        Some(teller.say(pattern, extra))
    }

    fn tell(&self, told: &Told<'_>, teller: &mut Teller<'_>) -> Option<Parts> {
        let instruction = self.ask("tell", teller, Extra::default())?;
        let wishes = mentioned(told.cast, &instruction);
        (wishes.len() == 3).then(|| (instruction, String::new(), told.text.to_string(), wishes))
    }

    fn exact(&self, told: &Told<'_>, teller: &mut Teller<'_>) -> Option<Parts> {
        const NUMBERS: [&str; 7] = ["zero", "one", "two", "three", "four", "five", "six"];
        let digits = told.n.to_string();
        let in_words = teller.draws().chance(60);
        let number = if in_words { NUMBERS.get(told.n)? } else { digits.as_str() };
        let instruction = self.ask("exact", teller, Extra { number, ..Extra::default() })?;
        let mut wishes = vec![Wish::Sentences { n: told.n }];
        wishes.extend(mentioned(told.cast, &instruction));
        Some((instruction, String::new(), told.text.to_string(), wishes))
    }

    fn words(&self, told: &Told<'_>, teller: &mut Teller<'_>) -> Option<Parts> {
        let cast = told.cast;
        let bait = [cast.object.noun, cast.place.noun, cast.looks, cast.weather, cast.snack];
        let people = [cast.friend.animal, cast.hero.animal, Some(cast.bystander)];
        let spot = cast.spot.rsplit(' ').next();
        let candidates = bait.into_iter().chain(people.into_iter().flatten()).chain(spot);
        let mut pool: Vec<&str> = candidates.filter(|w| has_word(told.text, w)).collect();
        pool.dedup();
        let count = 2 + usize::from(teller.draws().chance(30));
        let mut chosen: Vec<String> = Vec::new();
        while chosen.len() < count && !pool.is_empty() {
            let word = pool.swap_remove(teller.draws().below(pool.len()));
            chosen.push(word.to_string());
        }
        let tempting: Vec<&str> = TEMPTING
            .into_iter()
            .filter(|w| !has_word(told.text, w) && !chosen.iter().any(|c| c == w))
            .collect();
        let avoid = *teller.draws().pick(&tempting)?;
        let listed = listed(&chosen);
        let extra = Extra { words: &listed, avoid, ..Extra::default() };
        let instruction = self.ask("words", teller, extra)?;
        let complete = chosen.len() == count;
        let wishes =
            vec![Wish::UsesWords { words: chosen }, Wish::Avoids { word: avoid.to_string() }];
        complete.then(|| (instruction, String::new(), told.text.to_string(), wishes))
    }

    fn ending(&self, told: &Told<'_>, teller: &mut Teller<'_>) -> Option<Parts> {
        let instruction = self.ask("ending", teller, Extra::default())?;
        let mut wishes = vec![Wish::Ends { mood: told.cast.mood }];
        wishes.extend(mentioned(told.cast, &instruction));
        Some((instruction, String::new(), told.text.to_string(), wishes))
    }

    fn question(&self, told: &Told<'_>, teller: &mut Teller<'_>) -> Option<Parts> {
        let (question, answers) = if teller.draws().chance(60) {
            plot_question(told, teller)?
        } else {
            self.plain_question(told, teller)?
        };
        let first = answers.first()?;
        let instruction =
            self.ask("question", teller, Extra { words: &question, ..Extra::default() })?;
        let output = sentence(first);
        Some((instruction, told.text.to_string(), output, vec![Wish::Answer { any_of: answers }]))
    }

    fn plain_question(
        &self,
        told: &Told<'_>,
        teller: &mut Teller<'_>,
    ) -> Option<(String, Vec<String>)> {
        let cast = told.cast;
        let (list, answers) = match teller.draws().below(4) {
            0 | 1 => {
                let place = format!("the {}", cast.place.noun);
                let at = format!("{} {place}", cast.place.at);
                let to = format!("to {place}");
                ("where", vec![at, place, to])
            }
            2 if COLOURS.contains(&cast.looks) && has_word(told.text, cast.looks) => {
                ("colour", vec![cast.looks.to_string()])
            }
            _ => ("who", vec![cast.hero.name.to_string()]),
        };
        Some((self.ask(list, teller, Extra::default())?, answers))
    }

    fn characters(&self, told: &Told<'_>, teller: &mut Teller<'_>) -> Option<Parts> {
        if told.plot.others {
            return None;
        }
        let (cast, seen) = (told.cast, teller.seen);
        let mut names = vec![cast.hero.name.to_string()];
        let mut spoken = names.clone();
        if seen.friend {
            names.push(
                if cast.friend.nameless { cast.friend.animal? } else { cast.friend.name }.into(),
            );
            spoken.push(if cast.friend.nameless {
                the(cast.friend.animal?)
            } else {
                names[1].clone()
            });
        }
        if seen.elder {
            names.push(cast.elder.0.to_string());
            spoken.push(format!("{} {}", if cast.hero.she { "her" } else { "his" }, cast.elder.0));
        }
        if seen.bystander {
            names.push(cast.bystander.to_string());
            spoken.push(the(cast.bystander));
        }
        let instruction = self.ask("characters", teller, Extra::default())?;
        let output = format!("{}.", listed(&spoken));
        let wishes = vec![Wish::Characters { names }];
        (spoken.len() > 1).then(|| (instruction, told.text.to_string(), output, wishes))
    }

    fn title(&self, told: &Told<'_>, teller: &mut Teller<'_>) -> Option<Parts> {
        let pattern = told.plot.titles.get(teller.draws().below(told.plot.titles.len()))?;
        let output = title_case(&teller.phrase(pattern));
        let cast = told.cast;
        let friend = if cast.friend.nameless { cast.friend.animal? } else { cast.friend.name };
        let main = [cast.hero.name, cast.object.noun, friend];
        let main_words = main.iter().filter(|w| has_word(told.text, w)).map(ToString::to_string);
        let wishes =
            vec![Wish::Title { main_words: main_words.collect(), most_words: MOST_TITLE_WORDS }];
        let instruction = self.ask("title", teller, Extra::default())?;
        Some((instruction, told.text.to_string(), output, wishes))
    }

    fn how_ends(&self, told: &Told<'_>, teller: &mut Teller<'_>) -> Option<Parts> {
        let mood = told.cast.mood;
        let fitting: Vec<_> =
            told.plot.reasons.iter().filter(|(m, _)| m.is_none_or(|m| m == mood)).collect();
        let (_, reason) = teller.draws().pick(&fitting)?;
        let friend_known = teller.seen.friend;
        let reason = teller.phrase(reason);
        if teller.seen.friend != friend_known {
            return None;
        }
        let because: Vec<String> =
            words(&reason).filter(|w| !EMPTY_WORDS.contains(w)).map(ToString::to_string).collect();
        let output =
            self.ask("answer_ends", teller, Extra { words: &reason, ..Extra::default() })?;
        let instruction = self.ask("ends", teller, Extra::default())?;
        let wishes = vec![Wish::SaysEnding { mood, because }];
        Some((instruction, told.text.to_string(), output, wishes))
    }

    fn gap(&self, told: &Told<'_>, teller: &mut Teller<'_>) -> Option<Parts> {
        let cast = told.cast;
        let friend = if cast.friend.nameless { cast.friend.animal? } else { cast.friend.name };
        // A word that the story has twice can be found by reading.
        let twice = |w: &&str| words(told.text).filter(|given| given == w).count() > 1;
        let candidates = [cast.object.noun, cast.hero.name, friend, cast.object.noun];
        let fitting: Vec<&str> = candidates.into_iter().filter(|w| twice(w)).collect();
        let word = *teller.draws().pick(&fitting)?;
        let at = last_word_at(told.text, word)?;
        let input = format!("{}___{}", &told.text[..at], &told.text[at + word.len()..]);
        // Where only one of two persons is named, the other would do as well.
        let other = [(cast.hero.name, friend), (friend, cast.hero.name)].into_iter();
        let other = other.filter(|(one, _)| *one == word).map(|(_, other)| other).next();
        let sentence = sentences(&input).into_iter().find(|s| s.contains("___"))?;
        if other.is_some_and(|name| !words(sentence).any(|w| w == name)) {
            return None;
        }
        let instruction = self.ask("gap", teller, Extra::default())?;
        Some((instruction, input, word.to_string(), vec![Wish::Gap { word: word.to_string() }]))
    }
}

/// A question of the plot with its answers.
fn plot_question(told: &Told<'_>, teller: &mut Teller<'_>) -> Option<(String, Vec<String>)> {
    let mood: Mood = told.cast.mood;
    let all = told.plot.questions.iter().filter(|q| q.mood.is_none_or(|m| m == mood));
    let all: Vec<_> = all.collect();
    let asked = *teller.draws().pick(&all)?;
    let before = teller.seen;
    let question = teller.say(&asked.question, Extra::default());
    let answers: Vec<String> =
        asked.answers.iter().map(|a| with_article(&teller.phrase(a))).collect();
    // Whoever is named first in the question or answer was not in the story.
    // What is asked for must be in the story, word by word.
    let stated = |a: &String| {
        let articles = ["the ", "an ", "a "];
        has_word(told.text, articles.iter().fold(a.as_str(), |a, it| a.trim_start_matches(it)))
    };
    (teller.seen == before && answers.first().is_some_and(stated)).then_some((question, answers))
}

/// The name, place and object that `instruction` asks for.
fn mentioned(cast: &Cast, instruction: &str) -> Vec<Wish> {
    let mut wishes = Vec::new();
    if has_word(instruction, cast.hero.name) {
        wishes.push(Wish::Name { name: cast.hero.name.to_string() });
    }
    if has_word(instruction, cast.place.noun) {
        wishes.push(Wish::Place { place: cast.place.noun.to_string() });
    }
    if has_word(instruction, cast.object.noun) {
        wishes.push(Wish::Object { object: cast.object.noun.to_string() });
    }
    wishes
}

fn the(noun: &str) -> String {
    format!("the {noun}")
}

/// "a", "a and b", "a, b and c".
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// "a" at the beginning is "an" before a vowel.
fn with_article(phrase: &str) -> String {
    match phrase.strip_prefix("a ") {
        Some(rest) if starts_with_vowel(Some(rest)) => format!("an {rest}"),
        _ => phrase.to_string(),
    }
}

/// With a capital and a full stop.
fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    format!("{}{}.", first.map(String::from).unwrap_or_default(), chars.as_str())
}

fn title_case(title: &str) -> String {
    let small = ["a", "an", "the", "of", "and", "in", "to", "for", "with", "on", "by"];
    let mut out = String::new();
    for (index, word) in title.split(' ').enumerate() {
        let word = if word == "a" && starts_with_vowel(title.split(' ').nth(index + 1)) {
            "an"
        } else {
            word
        };
        if index > 0 {
            out.push(' ');
        }
        let mut chars = word.chars();
        match chars.next() {
            Some(first) if index == 0 || !small.contains(&word) => {
                out.push(first.to_ascii_uppercase());
                out.push_str(chars.as_str());
            }
            _ => out.push_str(word),
        }
    }
    out
}

fn starts_with_vowel(word: Option<&str>) -> bool {
    word.is_some_and(|w| w.starts_with(['a', 'e', 'i', 'o', 'u']))
}

/// Where `word` stands for the last time as a word of its own.
fn last_word_at(text: &str, word: &str) -> Option<usize> {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let places = text.match_indices(word).map(|(at, _)| at);
    let alone = places.filter(|at| {
        !is_letter(text[..*at].chars().next_back())
            && !is_letter(text[at + word.len()..].chars().next())
    });
    alone.last()
}
