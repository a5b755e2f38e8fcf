//! Which grade a judge's reply names.

use crate::eval::parse::label;

/// By fixed rules: what follows the last `Grade:`; otherwise the last line, if it names one grade; otherwise
/// the whole reply, if it does. Anything else names none.
pub fn grade(reply: &str, names: &[String]) -> Option<usize> {
    let lower = reply.to_lowercase();
    if let Some(at) = lower.rfind("grade:") {
        // Lower case may be of another length than the text, so the rest is cut from the lower one.
        let rest = &lower[at + "grade:".len()..];
        let line = rest.trim_start().lines().next().unwrap_or_default();
        return only(line, names);
    }
    let last = reply.trim().lines().last().unwrap_or_default();
    only(last, names).or_else(|| only(reply, names))
}

/// The one grade that stands there as a word of its own.
fn only(text: &str, names: &[String]) -> Option<usize> {
    let alone = |name: &String| {
        let word = name.to_lowercase();
        let words = text.to_lowercase();
        let parts = words.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.');
        parts.map(|p| p.trim_matches('.').to_string()).any(|p| p == word)
    };
    let found: Vec<usize> = (0..names.len()).filter(|&i| alone(&names[i])).collect();
    match found[..] {
        [one] => Some(one),
        [] => label(text, names).filter(|&i| names[i].contains(char::is_whitespace)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(reply: &str, names: &[&str]) -> Option<usize> {
        grade(reply, &names.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn replies_are_read_by_the_rules() {
        let likert = ["1", "2", "3", "4", "5", "6"];
        assert_eq!(named("It has 3 mistakes of 5.\nGrade: 4", &likert), Some(3));
        assert_eq!(named("Grade: 4/6", &likert), None, "two grades stand there");
        assert_eq!(named("**Grade:** 5.", &likert), Some(4));
        assert_eq!(named("6", &likert), Some(5));
        assert_eq!(named("I like it.", &likert), None);
        assert_eq!(named("", &likert), None);
        assert_eq!(named("Grade: 7", &likert), None);
        assert_eq!(named("4.5", &likert), None, "no grade between grades");
        let pair = ["A", "B", "tie"];
        assert_eq!(named("Answer B is a bit longer.\nGrade: A", &pair), Some(0));
        assert_eq!(named("Grade: tie", &pair), Some(2));
        assert_eq!(named("A and B are fine", &pair), None);
        assert_eq!(named("it passes\ngrade: Pass!", &["fail", "pass", "excellent"]), Some(1));
    }
}
