//! Telling a story: choosing beats and filling their slots.

use super::cast::{Cast, Person};
use super::draws::Draws;
use super::grammar::places::{HOME, INSIDE};
use super::grammar::plot::{Beat, Part, Plot};
use super::grammar::template::{Node, Pattern, Slot};
use super::grammar::{Grammar, Mood};
use super::polish::push_polished;

/// Who has been named so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The hero.
    pub hero: bool,
    /// The friend.
    pub friend: bool,
    /// The grown-up.
    pub elder: bool,
    /// The animal that passes by.
    pub bystander: bool,
}

/// Words of an instruction that do not come from the cast.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extra<'a> {
    /// Number of sentences, in words or digits.
    pub number: &'a str,
    /// Words to use.
    pub words: &'a str,
    /// Word to avoid.
    pub avoid: &'a str,
}

/// Fills patterns for one cast.
#[derive(Debug)]
pub struct Teller<'a> {
    cast: &'a Cast,
    draws: &'a mut Draws,
    /// Who has been named so far.
    pub seen: Seen,
    line: String,
}

impl<'a> Teller<'a> {
    /// A teller who has said nothing yet.
    pub fn new(cast: &'a Cast, draws: &'a mut Draws) -> Self {
        Self { cast, draws, seen: Seen::default(), line: String::new() }
    }

    /// The draws that the telling uses.
    pub fn draws(&mut self) -> &mut Draws {
        self.draws
    }

    /// A story of exactly `n` sentences (2 to 6), on one line; None where the plot has not enough
    /// beats.
    pub fn short(&mut self, plot: &Plot, n: usize) -> Option<String> {
        let brief = n == 2 || (n == 3 && self.draws.chance(50));
        let close = n == 2 || (n == 3 && !brief);
        let wanted_more = n.saturating_sub(4);
        let available = plot.beats(self.cast.mood).filter(|b| b.part == Part::More).count();
        if wanted_more > available || n < 2 {
            return None;
        }
        let (mut left, mut wanted) = (available, wanted_more);
        let mut out = String::new();
        for beat in plot.beats(self.cast.mood) {
            let told = match beat.part {
                Part::Brief => brief,
                Part::Open | Part::Trouble => !brief,
                Part::Close => close,
                Part::Turn | Part::End => !close,
                Part::Deep => false,
                Part::More => {
                    // Each subset of the right size is equally likely.
                    let take = self.draws.below(left) < wanted;
                    left -= 1;
                    wanted -= usize::from(take);
                    take
                }
            };
            if told {
                self.tell_beat(beat, &mut out);
            }
        }
        Some(out)
    }

    /// A story for pretraining: introduction, all that happens, most details. Returns the number of
    /// beats told, each of which has one sentence or more.
    pub fn long(&mut self, grammar: &Grammar, plot: &Plot, out: &mut String) -> usize {
        out.clear();
        let mut beats = 0;
        self.introduce(grammar, out);
        for beat in plot.beats(self.cast.mood) {
            let told = match beat.part {
                Part::Brief | Part::Close => false,
                Part::More => self.draws.chance(75),
                Part::Deep => self.draws.chance(80),
                _ => true,
            };
            if told {
                if beat.part == Part::Turn && !out.is_empty() {
                    out.push('\n');
                }
                self.tell_beat(beat, out);
                beats += 1;
            }
            if beat.part == Part::Open && self.draws.chance(50) {
                let inside = plot.weather == "dry" && self.cast.place.is & INSIDE != 0;
                let scene = if inside { "scene_inside" } else { &plot.scene };
                self.tell_one(grammar.list(scene), out);
            }
        }
        if self.draws.chance(35) {
            let list = if self.cast.mood == Mood::Happy { "after_happy" } else { "after_sad" };
            self.tell_one(grammar.list(list), out);
        }
        beats
    }

    fn introduce(&mut self, grammar: &Grammar, out: &mut String) {
        let child = self.cast.hero.animal.is_none();
        let which = if child { "once_child" } else { "once_animal" };
        if self.draws.chance(70) {
            // These introduce the hero themselves.
            self.seen.hero = true;
            self.tell_one(grammar.list(which), out);
            if self.draws.chance(60) {
                self.tell_one(grammar.list(if child { "home_child" } else { "home_animal" }), out);
            }
            if self.draws.chance(60) {
                self.tell_one(grammar.list("likes"), out);
            }
            if self.draws.chance(50) {
                out.push('\n');
            }
        }
    }

    fn tell_beat(&mut self, beat: &Beat, out: &mut String) {
        self.tell_one(&beat.variants, out);
    }

    fn tell_one(&mut self, variants: &[Pattern], out: &mut String) {
        if let Some(pattern) = self.draws.pick(variants) {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push(' ');
            }
            self.line.clear();
            self.fill(pattern, Extra::default());
            push_polished(out, &self.line);
        }
    }

    /// One pattern as a sentence (or title, or question) of its own.
    pub fn say(&mut self, pattern: &Pattern, extra: Extra<'_>) -> String {
        self.line.clear();
        self.fill(pattern, extra);
        let mut out = String::with_capacity(self.line.len());
        push_polished(&mut out, &self.line);
        out
    }

    /// One pattern without a capital at its start.
    pub fn phrase(&mut self, pattern: &Pattern) -> String {
        self.line.clear();
        self.fill(pattern, Extra::default());
        self.line.clone()
    }

    fn fill(&mut self, pattern: &Pattern, extra: Extra<'_>) {
        for node in pattern {
            match node {
                Node::Text(text) => self.line.push_str(text),
                Node::Slot(slot) => self.fill_slot(*slot, extra),
                Node::Choice(options) => {
                    if let Some(option) = self.draws.pick(options) {
                        self.fill(option, extra);
                    }
                }
            }
        }
    }

    fn fill_slot(&mut self, slot: Slot, extra: Extra<'_>) {
        let cast = self.cast;
        let (hero, friend) = (cast.hero, cast.friend);
        match slot {
            Slot::Hero => self.name_hero(),
            Slot::He => self.push(&[pronoun(hero, ["he", "she"])]),
            Slot::HeCapital => self.push(&[pronoun(hero, ["He", "She"])]),
            Slot::Him => self.push(&[pronoun(hero, ["him", "her"])]),
            Slot::His => self.push(&[pronoun(hero, ["his", "her"])]),
            Slot::Himself => self.push(&[pronoun(hero, ["himself", "herself"])]),
            Slot::Kid => self.push(&[hero.animal.unwrap_or(pronoun(hero, ["boy", "girl"]))]),
            Slot::Friend => self.name_friend(),
            Slot::FriendHe => self.push(&[pronoun(friend, ["he", "she"])]),
            Slot::FriendHim => self.push(&[pronoun(friend, ["him", "her"])]),
            Slot::FriendHis => self.push(&[pronoun(friend, ["his", "her"])]),
            Slot::Elder => {
                self.seen.elder = true;
                self.push(&[pronoun(hero, ["his", "her"]), " ", cast.elder.0]);
            }
            Slot::ElderCall => self.push(&[cast.elder.1]),
            Slot::Object => self.push(&[cast.object.noun]),
            Slot::ObjectFull => self.push(&[cast.looks, " ", cast.object.noun]),
            Slot::Second => self.push(&[cast.second.noun]),
            Slot::SecondFull => self.push(&[cast.second_looks, " ", cast.second.noun]),
            Slot::At => self.push(&[cast.place.at, " the ", cast.place.noun]),
            Slot::To => self.push(&["to the ", cast.place.noun]),
            Slot::Place => self.push(&["the ", cast.place.noun]),
            Slot::Day => self.push_day(),
            Slot::Weather => self.push(&[cast.weather]),
            Slot::Part => self.push(&[cast.part]),
            Slot::Spot => self.push(&[cast.spot]),
            Slot::Animal => {
                let article = if self.seen.bystander { "the " } else { "a " };
                self.seen.bystander = true;
                self.push(&[article, cast.bystander]);
            }
            Slot::Off => self.push(&[if at_home(cast) { "sat down" } else { "went home" }]),
            Slot::AllWay => {
                self.push(&[if at_home(cast) { "all day long" } else { "all the way home" }]);
            }
            Slot::Food => self.push(&[cast.snack]),
            Slot::Number => self.push(&[extra.number]),
            Slot::Mood => self.push(&[cast.mood.adjective()]),
            Slot::MoodAdverb => self.push(&[cast.mood.adverb()]),
            Slot::Words => self.push(&[extra.words]),
            Slot::Avoid => self.push(&[extra.avoid]),
        }
    }

    fn push(&mut self, pieces: &[&str]) {
        for piece in pieces {
            self.line.push_str(piece);
        }
    }

    fn push_day(&mut self) {
        let (weather, part) = (self.cast.weather, self.cast.part);
        match self.draws.below(5) {
            0 => self.push(&["one day"]),
            1 => self.push(&["on a ", weather, " ", part]),
            2 if part != "day" => self.push(&["one ", part]),
            _ => self.push(&["one ", weather, " ", part]),
        }
    }

    fn name_hero(&mut self) {
        let hero = self.cast.hero;
        if self.seen.hero {
            return self.push(&[hero.name]);
        }
        self.seen.hero = true;
        match (hero.animal, self.draws.below(4)) {
            (None, 0) => self.push(&["a ", pronoun(hero, ["boy", "girl"]), " named ", hero.name]),
            (None, _) => self.push(&[hero.name]),
            (Some(animal), 0) => self.push(&[hero.name, " the ", animal]),
            (Some(animal), 1) => self.push(&["a little ", animal, " named ", hero.name]),
            (Some(animal), _) => self.push(&["a ", animal, " named ", hero.name]),
        }
    }

    fn name_friend(&mut self) {
        let friend = self.cast.friend;
        let kind = friend.animal.unwrap_or(pronoun(friend, ["boy", "girl"]));
        let first = !self.seen.friend;
        self.seen.friend = true;
        let his = pronoun(self.cast.hero, ["his", "her"]);
        match (first, friend.nameless, self.cast.stranger) {
            (false, true, _) => self.push(&["the ", kind]),
            (false, false, _) => self.push(&[friend.name]),
            (true, true, true) => self.push(&["a ", kind]),
            (true, true, false) => self.push(&[his, " friend the ", kind]),
            (true, false, true) => self.push(&["a ", kind, " named ", friend.name]),
            (true, false, false) if friend.animal.is_some() => {
                self.push(&[his, " friend ", friend.name, " the ", kind]);
            }
            (true, false, false) => self.push(&[his, " friend ", friend.name]),
        }
    }
}

fn at_home(cast: &Cast) -> bool {
    cast.place.is & HOME != 0
}

fn pronoun(person: Person, forms: [&'static str; 2]) -> &'static str {
    forms[usize::from(person.she)]
}
