//! Who and what a story is about, and which combinations are kept for which split.

use super::draws::Draws;
use super::grammar::Mood;
use super::grammar::objects::{Looks, OBJECTS, Object};
use super::grammar::places::{INSIDE, PLACES, Place, WATER};
use super::grammar::plot::Plot;
use super::grammar::words::*;
use super::rows::Split;

/// A hero or friend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// Name; heroes are always called by it.
    pub name: &'static str,
    /// "she" instead of "he".
    pub she: bool,
    /// An animal of this kind; None for a child.
    pub animal: Option<&'static str>,
    /// An animal without a name: "the rabbit".
    pub nameless: bool,
}

/// Everything that fills the slots of one story.
#[derive(Debug, Clone)]
pub struct Cast {
    /// Main character.
    pub hero: Person,
    /// Second character, of the other pronoun, so that "he" and "she" stay clear.
    pub friend: Person,
    /// The friend is a stranger at first.
    pub stranger: bool,
    /// Grown-up: noun and call name.
    pub elder: (&'static str, &'static str),
    /// Main object.
    pub object: Object,
    /// Its adjective.
    pub looks: &'static str,
    /// Another object.
    pub second: Object,
    /// Its adjective.
    pub second_looks: &'static str,
    /// Where it happens.
    pub place: Place,
    /// Kind of day.
    pub weather: &'static str,
    /// Part of the day.
    pub part: &'static str,
    /// Hiding place.
    pub spot: &'static str,
    /// An animal that passes by.
    pub bystander: &'static str,
    /// Something to eat.
    pub snack: &'static str,
    /// How the story ends.
    pub mood: Mood,
}

/// The split that alone may tell of this hero together with this object.
///
/// One eighth of all pairs belongs to the test rows, one eighth to the validation rows, the rest to
/// the training rows and to the corpus. So no name, place and object of a test row ever meet in
/// training.
pub fn split_of(name: &str, noun: &str) -> Split {
    // FNV-1a, written out because this table of pairs must never change.
    let bytes = name.bytes().chain([b'+']).chain(noun.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    match (hash ^ (hash >> 29)) % 8 {
        0 => Split::Test,
        1 => Split::Validation,
        _ => Split::Train,
    }
}

/// Objects and places that a plot can use.
#[derive(Debug)]
pub struct Choices {
    objects: Vec<Object>,
    places: Vec<Place>,
}

impl Choices {
    /// What suits `plot`.
    pub fn of(plot: &Plot) -> Self {
        let objects = OBJECTS.iter().filter(|o| o.can & plot.object != 0).copied().collect();
        let places = PLACES.iter().filter(|p| p.is & plot.place != 0).copied().collect();
        Self { objects, places }
    }
}

impl Cast {
    /// Draws a cast for `plot` whose combinations belong to `split`; None when the draw belongs to
    /// another split (draw again).
    pub fn draw(
        plot: &Plot,
        choices: &Choices,
        mood: Mood,
        split: Split,
        draws: &mut Draws,
    ) -> Option<Self> {
        let hero = draw_hero(plot, draws);
        let object = *draws.pick(&choices.objects)?;
        if split_of(hero.name, object.noun) != split {
            return None;
        }
        let friend = draw_friend(plot, hero, draws);
        let second = *draws.pick(&choices.objects)?;
        let place = *draws.pick(&choices.places)?;
        let clash = second.noun == object.noun || friend.name == hero.name;
        let owned =
            [(hero.name, second.noun), (friend.name, object.noun), (friend.name, second.noun)];
        let strays = split == Split::Train
            && owned.iter().any(|(name, noun)| split_of(name, noun) != Split::Train);
        if clash || strays {
            return None;
        }
        let looks = draw_looks(object, draws)?;
        Some(Self {
            hero,
            friend,
            stranger: plot.stranger,
            elder: *draws.pick(&ELDERS)?,
            object,
            looks,
            second,
            second_looks: draw_looks(second, draws).filter(|l| *l != looks)?,
            place,
            weather: draws.pick(weathers(&plot.weather))?,
            part: draws.pick(parts(&plot.weather))?,
            spot: draws.pick(spots(place))?,
            bystander: draws.pick(&BYSTANDERS)?,
            snack: draws.pick(&SNACKS)?,
            mood,
        })
    }
}

fn draw_hero(plot: &Plot, draws: &mut Draws) -> Person {
    let she = draws.chance(50);
    let name = draw_name(she, draws);
    let animal = if plot.child || draws.chance(65) { None } else { draw_animal(draws) };
    Person { name, she, animal, nameless: false }
}

fn draw_friend(plot: &Plot, hero: Person, draws: &mut Draws) -> Person {
    let she = !hero.she;
    let name = draw_name(she, draws);
    // Animals keep to themselves; a child's friend is another child more often than not.
    let is_animal = plot.animal_friend || hero.animal.is_some() || draws.chance(25);
    let animal = if is_animal { draw_animal(draws) } else { None };
    // Two foxes would both be "the fox".
    let animal = animal.filter(|a| Some(*a) != hero.animal).or(is_animal.then_some("parrot"));
    Person { name, she, animal, nameless: animal.is_some() && draws.chance(70) }
}

fn draw_name(she: bool, draws: &mut Draws) -> &'static str {
    let names = if she { &SHE_NAMES } else { &HE_NAMES };
    names[draws.below(names.len())]
}

fn draw_animal(draws: &mut Draws) -> Option<&'static str> {
    draws.pick(&ANIMALS).copied()
}

fn draw_looks(object: Object, draws: &mut Draws) -> Option<&'static str> {
    let list: &[&'static str] = match object.looks {
        Looks::Painted if draws.chance(65) => &COLOURS,
        Looks::Painted => &THING_WORDS,
        Looks::Metal => &METAL_WORDS,
        Looks::Edible => &FOOD_WORDS,
        Looks::Natural => &NATURE_WORDS,
    };
    draws.pick(list).copied()
}

fn weathers(kind: &str) -> &'static [&'static str] {
    match kind {
        "wind" => &WINDY,
        "wet" => &WET,
        "cold" => &COLD,
        "night" => &NIGHT,
        _ => &DRY,
    }
}

fn parts(kind: &str) -> &'static [&'static str] {
    if kind == "night" { &LATE } else { &PARTS }
}

fn spots(place: Place) -> &'static [&'static str] {
    if place.is & WATER != 0 {
        &SPOTS_WATER
    } else if place.is & INSIDE != 0 {
        &SPOTS_INSIDE
    } else {
        &SPOTS_OUTSIDE
    }
}
