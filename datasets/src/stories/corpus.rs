//! Stories for pretraining: long, free-running, without instructions.

use super::books::bound;
use super::cast::{Cast, Choices};
use super::draws::{Draws, Purpose};
use super::grammar::plot::Plot;
use super::grammar::{Grammar, Mood};
use super::rows::Split;
use super::sentences::sentences;
use super::tell::Teller;
use super::wishes::MOST_SENTENCES;

/// Stories without end, the same for the same seed.
///
/// They keep to the combinations of hero and object that training rows may have. They have 7 to
/// about 20 sentences; line breaks part the introduction and the outcome from the rest.
pub fn corpus(seed: u64) -> impl Iterator<Item = String> {
    let teller = Storyteller::new();
    (0..u64::MAX).map(move |number| teller.tell(seed, number))
}

/// The stories of [`corpus`] as books print them, many with a heading that they keep to.
pub fn books(seed: u64) -> impl Iterator<Item = String> {
    let teller = Storyteller::new();
    (0..u64::MAX).map(move |number| {
        let mut draws = Draws::new(seed, Purpose::Corpus, number);
        let (cast, story) = teller.tell_with_cast(&mut draws);
        bound(&cast, &story, &mut draws)
    })
}

/// Story `number` of [`corpus`], without telling those before it. For many, [`corpus`] is faster.
pub fn story(seed: u64, number: u64) -> String {
    Storyteller::new().tell(seed, number)
}

struct Storyteller {
    grammar: &'static Grammar,
    choices: Vec<Choices>,
}

impl Storyteller {
    fn new() -> Self {
        let grammar = Grammar::built_in();
        Self { grammar, choices: grammar.plots.iter().map(Choices::of).collect() }
    }

    fn tell(&self, seed: u64, number: u64) -> String {
        self.tell_with_cast(&mut Draws::new(seed, Purpose::Corpus, number)).1
    }

    fn tell_with_cast(&self, draws: &mut Draws) -> (Cast, String) {
        let mut out = String::new();
        loop {
            let at = draws.below(self.grammar.plots.len());
            let plot = &self.grammar.plots[at];
            let mood = draw_mood(plot, 65, draws);
            let cast = Cast::draw(plot, &self.choices[at], mood, Split::Train, draws);
            if let Some(cast) = cast {
                let beats = Teller::new(&cast, draws).long(self.grammar, plot, &mut out);
                // Shorter ones would pass for an answer that somebody asked for.
                if beats > MOST_SENTENCES || sentences(&out).len() > MOST_SENTENCES {
                    return (cast, out);
                }
            }
        }
    }
}

/// An ending that `plot` can have, happy in about `percent` of 100 draws.
pub fn draw_mood(plot: &Plot, percent: usize, draws: &mut Draws) -> Mood {
    let wanted = if draws.chance(percent) { Mood::Happy } else { Mood::Sad };
    plot.moods().find(|m| *m == wanted).or(plot.moods().next()).unwrap_or(wanted)
}
