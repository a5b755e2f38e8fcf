//! Stories as books print them: some with a heading that says who and what they are about, some with the
//! words to look out for, some with a line at the end. What a model learns from them is that a text keeps
//! to what stands above it.

use super::cast::Cast;
use super::draws::Draws;
use super::grammar::Mood;
use super::sentences::words;

/// Shortest word that is worth looking out for.
const LEAST_LETTERS: usize = 4;

/// The story with what a book puts around it; about a fifth stay bare.
pub fn bound(cast: &Cast, story: &str, draws: &mut Draws) -> String {
    let (hero, thing, place) = (cast.hero.name, cast.object.noun, cast.place.noun);
    let mood = if cast.mood == Mood::Happy { "happy" } else { "sad" };
    match draws.below(10) {
        0 | 1 => format!("{hero} and the {thing}\n\n{story}"),
        2 => format!("The {thing}\n\nA {mood} story about {hero}.\n\n{story}"),
        3 => format!("{hero}, the {thing} and the {place}\n\n{story}"),
        4 | 5 => format!("Words: {}.\n\n{story}", picked(story, draws).join(", ")),
        6 => format!("{story}\n\nThis was the {mood} story of {hero} and the {thing}."),
        7 => format!("A {mood} book about {hero}, the {place} and the {thing}.\n\n{story}"),
        _ => story.to_string(),
    }
}

/// Two to four different longer words of the story, in any order.
fn picked(story: &str, draws: &mut Draws) -> Vec<String> {
    let long: Vec<&str> = words(story).filter(|w| w.len() >= LEAST_LETTERS).collect();
    let wanted = 2 + draws.below(3);
    let mut list: Vec<String> = Vec::new();
    for _ in 0..4 * wanted {
        if let Some(word) = draws.pick(&long)
            && list.len() < wanted
            && !list.iter().any(|other| other == word)
        {
            list.push((*word).to_string());
        }
    }
    list
}
