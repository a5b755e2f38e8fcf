//! Which label a generated answer names.

/// The label that an answer names, by fixed rules. Both sides are compared in lower case and
/// without ASCII punctuation:
///
/// 1. the label that the answer begins with, the longest one where one label begins with another;
/// 2. otherwise the label that occurs in it as whole words, if exactly one does (of two that begin alike
///    and overlap, the longer one counts).
///
/// Anything else, and an empty answer, names none.
pub fn label(answer: &str, labels: &[String]) -> Option<usize> {
    let answer = padded(answer);
    let plain: Vec<String> = labels.iter().map(|label| padded(label)).collect();
    let candidates = |test: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..plain.len()).filter(|&i| plain[i].len() > 2 && test(&plain[i])).collect()
    };
    let begins = candidates(&|label| answer.starts_with(label));
    if let Some(&longest) = begins.iter().max_by_key(|&&i| plain[i].len()) {
        return Some(longest);
    }
    let inside = candidates(&|label| answer.contains(label));
    let hidden = |&i: &usize| {
        inside
            .iter()
            .any(|&j| j != i && plain[j].len() > plain[i].len() && plain[j].contains(&plain[i]))
    };
    let mut shown = inside.iter().filter(|i| !hidden(i));
    match (shown.next(), shown.next()) {
        (Some(&only), None) => Some(only),
        _ => None,
    }
}

/// Words in lower case with one blank around each, so that only whole words match.
fn padded(text: &str) -> String {
    let words = text.to_lowercase();
    let words = words.split(|c: char| c.is_whitespace() || c.is_ascii_punctuation());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'a>(answer: &str, labels: &[&'a str]) -> Option<&'a str> {
        let list: Vec<String> = labels.iter().map(ToString::to_string).collect();
        label(answer, &list).map(|i| labels[i])
    }

    #[test]
    fn answers_are_read_by_the_rules() {
        let two = ["negative", "positive"];
        assert_eq!(named(" Positive.", &two), Some("positive"));
        assert_eq!(named("positive, not negative", &two), Some("positive"));
        assert_eq!(named("The review is negative!", &two), Some("negative"));
        assert_eq!(named("It is positive or negative", &two), None);
        assert_eq!(named("nonnegative", &two), None);
        assert_eq!(named("", &two), None);
        assert_eq!(named("(A)", &["A", "B"]), Some("A"));
        assert_eq!(named("**negative**\nbecause", &two), Some("negative"));
    }

    #[test]
    fn answers_that_are_prefixes_of_each_other() {
        let prefixes = ["good", "good enough", "bad"];
        assert_eq!(named("good", &prefixes), Some("good"));
        assert_eq!(named("Good enough for me", &prefixes), Some("good enough"));
        assert_eq!(named("I would say good enough", &prefixes), Some("good enough"));
        assert_eq!(named("goodness", &prefixes), None);
    }
}
