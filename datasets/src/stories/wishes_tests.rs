//! Answers that fulfil wishes, and answers that only look as if they did.

use super::*;

const STORY: &str = "One day, Tom took his red kite to the park. The kite flew away. \
                     \"Where is it?\" Tom asked. Mia found it, and Tom was very happy.";

#[track_caller]
fn judge(answer: &str, wish: Wish, expected: bool) {
    let fulfilled = check(answer, std::slice::from_ref(&wish));
    assert_eq!(fulfilled, [expected], "{wish:?} on {answer:?}");
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_story_fulfils_what_is_in_it() {
    judge(STORY, Wish::Name { name: "Tom".into() }, true);
    judge(STORY, Wish::Name { name: "Tim".into() }, false);
    judge(&STORY.to_lowercase(), Wish::Name { name: "Tom".into() }, false);
    judge(STORY, Wish::Place { place: "park".into() }, true);
    judge(STORY, Wish::Place { place: "beach".into() }, false);
    judge(STORY, Wish::Object { object: "kite".into() }, true);
    judge(STORY, Wish::Object { object: "kit".into() }, false);
    judge(STORY, Wish::Sentences { n: 4 }, true);
    judge(STORY, Wish::Sentences { n: 5 }, false);
    judge(STORY, Wish::UsesWords { words: owned(&["red", "kite"]) }, true);
    judge(STORY, Wish::UsesWords { words: owned(&["red", "ball"]) }, false);
    judge(STORY, Wish::Ends { mood: Mood::Happy }, true);
    judge(STORY, Wish::Ends { mood: Mood::Sad }, false);
}

#[test]
fn a_story_that_goes_on_or_breaks_off_fulfils_nothing() {
    let wishes = [
        Wish::Name { name: "Tom".into() },
        Wish::Object { object: "kite".into() },
        Wish::Sentences { n: 4 },
        Wish::Avoids { word: "ball".into() },
        Wish::Ends { mood: Mood::Happy },
    ];
    let all = |answer: &str| check(answer, &wishes).iter().filter(|f| **f).count();
    assert_eq!(all(STORY), 5);
    assert_eq!(all(STORY.trim_end_matches('.')), 0, "no mark at the end");
    let long = format!("{STORY} They ran. They sang. They ate a kite. Tom was happy.");
    assert_eq!(all(&long), 0, "too many sentences");
    assert_eq!(all("Tom was happy with his kite."), 0, "one sentence is no story");
    let loops = "Tom had a kite. Tom was happy. Tom had a kite. Tom was happy.";
    assert_eq!(all(loops), 0, "a sentence twice");
    assert_eq!(all(""), 0);
    assert_eq!(all("...!?"), 0);
}

#[test]
fn avoiding_alone_is_no_merit() {
    let avoid = Wish::Avoids { word: "sad".into() };
    judge(STORY, avoid.clone(), false);
    let name = |name: &str| Wish::Name { name: name.into() };
    assert_eq!(check(STORY, &[name("Tom"), avoid.clone()]), [true, true]);
    assert_eq!(check(STORY, &[name("Ben"), avoid]), [false, false]);
    let said = Wish::Avoids { word: "park".into() };
    assert_eq!(check(STORY, &[name("Tom"), said]), [true, false]);
}

#[test]
fn an_ending_is_judged_by_its_last_sentence_alone() {
    let happy = |text: &str| ending(text) == Some(Mood::Happy);
    assert!(happy("Tom cried. Then he smiled."));
    assert!(!happy("Tom smiled. Then he went home."));
    assert_eq!(ending("Tom was happy and sad."), None);
    assert_eq!(ending("Tom was happy. Then he cried."), Some(Mood::Sad));
    assert_eq!(ending("They saw an unhappiness."), None);
    assert_eq!(ending(""), None);
}

#[test]
fn an_answer_is_short_and_right() {
    let wish = Wish::Answer { any_of: owned(&["his red kite", "kite"]) };
    judge("His red kite.", wish.clone(), true);
    judge("the KITE", wish.clone(), true);
    judge("A kite!", wish.clone(), true);
    judge("The kite and the ball.", wish.clone(), false);
    judge("Tom lost his red kite.", wish.clone(), false);
    judge("kite\nkite", wish.clone(), false);
    judge("", wish.clone(), false);
    judge(STORY, wish, false);
    judge("the", Wish::Answer { any_of: owned(&["the"]) }, true);
}

#[test]
fn characters_are_exactly_those() {
    let wish = Wish::Characters { names: owned(&["Tom", "rabbit", "mom"]) };
    judge("Tom, the rabbit and his mom.", wish.clone(), true);
    judge("tom, mom, and a rabbit", wish.clone(), true);
    judge("The characters are Tom, the rabbit and his mom.", wish.clone(), true);
    judge("Tom\nrabbit\nmom", wish.clone(), true);
    judge("Tom and the rabbit.", wish.clone(), false);
    judge("Tom, the rabbit, his mom and Mia.", wish.clone(), false);
    judge(STORY, wish.clone(), false);
    judge("", wish, false);
    judge("Finn the fox and Mia.", Wish::Characters { names: owned(&["Finn", "Mia"]) }, true);
    judge("", Wish::Characters { names: Vec::new() }, false);
}

#[test]
fn a_title_is_short_and_about_the_story() {
    let wish = Wish::Title { main_words: owned(&["Tom", "kite"]), most_words: 5 };
    judge("The Lost Kite", wish.clone(), true);
    judge("Where Is the Kite?", wish.clone(), true);
    judge("A Sunny Day", wish.clone(), false);
    judge("Tom lost his kite.", wish.clone(), false);
    judge("Tom and His Very Red Kite", wish.clone(), false);
    judge("Tom\nKite", wish.clone(), false);
    judge("", wish, false);
}

#[test]
fn an_ending_is_told_in_one_sentence_with_a_reason() {
    let wish = Wish::SaysEnding { mood: Mood::Happy, because: owned(&["Mia", "found", "kite"]) };
    judge("It ends happily, because Mia found the kite.", wish.clone(), true);
    judge("It is a happy ending: the kite is back!", wish.clone(), true);
    judge("It ends happily.", wish.clone(), false);
    judge("It ends sadly, because Mia found the kite.", wish.clone(), false);
    judge("It ends happily, not sadly, because Mia found the kite.", wish.clone(), false);
    judge("It ends happily. Mia found the kite.", wish.clone(), false);
    judge("It ends happily, because Mia found the kite", wish.clone(), false);
    judge(STORY, wish, false);
}

#[test]
fn a_gap_takes_one_word() {
    let wish = Wish::Gap { word: "kite".into() };
    judge("kite", wish.clone(), true);
    judge("Kite.", wish.clone(), true);
    judge("The kite.", wish.clone(), true);
    judge("kites", wish.clone(), false);
    judge("the red kite", wish.clone(), false);
    judge(STORY, wish, false);
}

#[test]
fn wishes_are_json_objects() {
    let wish = Wish::Ends { mood: Mood::Sad };
    let json = serde_json::to_string(&wish).expect("a wish is plain data");
    assert_eq!(json, r#"{"wish":"ends","mood":"sad"}"#);
    assert_eq!(serde_json::from_str::<Wish>(&json).expect("what was written"), wish);
    assert!(serde_json::from_str::<Wish>(r#"{"wish":"ends","mood":"odd"}"#).is_err());
    assert!(serde_json::from_str::<Wish>(r#"{"wish":"gap","word":"a","x":1}"#).is_err());
}

#[test]
fn any_text_can_be_checked() {
    let texts =
        ["\u{201c}", "\"", "é.", "….", "\u{0}", "a.\"\u{201d}", "ÄÖ. \"ß!\" ñ", "1.2.3.", " the "];
    let wishes = [
        Wish::Sentences { n: 0 },
        Wish::UsesWords { words: owned(&["", "é"]) },
        Wish::Answer { any_of: owned(&["", "\""]) },
        Wish::Characters { names: owned(&["", "é"]) },
        Wish::Title { main_words: owned(&[""]), most_words: 0 },
        Wish::Gap { word: String::new() },
    ];
    for text in texts {
        assert_eq!(check(text, &wishes).len(), wishes.len());
    }
}
