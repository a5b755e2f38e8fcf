//! The final answer of a text that reasons first, and a vote over several such texts.

/// What stands before a final answer, where nobody says otherwise: GSM8K's mark, and what most templates ask for.
const MARKS: [&str; 3] = ["####", "the answer is", "answer:"];

/// The final answer, by fixed rules, in a form that can be compared:
///
/// 1. what follows the last mark, to the end of its line; `mark` is the one that was asked for, without it
///    the usual ones are looked for;
/// 2. otherwise, only where no mark was asked for, the last number of the text.
///
/// Numbers lose signs of currency, commas and needless zeros; words are put in lower case without punctuation
/// at their ends. `None`: the text names no answer.
pub fn final_answer(text: &str, mark: Option<&str>) -> Option<String> {
    let lower = text.to_lowercase();
    let asked = mark.map(str::to_lowercase);
    let marks: Vec<&str> = asked.as_deref().map_or(MARKS.to_vec(), |mark| vec![mark]);
    let places = marks.iter().filter_map(|m| Some(lower.rfind(m)? + m.len()));
    if let Some(from) = places.max() {
        let rest = lower[from..].trim_start_matches([':', ' ']).trim_start();
        return plain(rest.lines().next().unwrap_or_default());
    }
    if mark.is_some() {
        return None;
    }
    lower.split(|c: char| !(c.is_ascii_digit() || ".,-".contains(c))).rev().find_map(number)
}

/// A text that is nothing but an answer, in the same form.
pub fn whole(text: &str) -> Option<String> {
    plain(&text.trim().to_lowercase())
}

/// A number, if the words begin with one; otherwise the words themselves.
fn plain(line: &str) -> Option<String> {
    let first = line.split_whitespace().next().unwrap_or_default();
    if let Some(number) = number(first) {
        return Some(number);
    }
    let words = line.trim_matches(|c: char| c.is_whitespace() || c.is_ascii_punctuation());
    (!words.is_empty()).then(|| words.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn number(word: &str) -> Option<String> {
    let ends = |c: char| !(c.is_ascii_digit() || c == '-');
    let bare = word.trim_start_matches(ends).trim_end_matches(|c: char| !c.is_ascii_digit());
    let digits: String = bare.chars().filter(|c| *c != ',').collect();
    let value: f64 = digits.parse().ok()?;
    // A word such as 3rd or a1 is no number.
    let rest = word.len() - bare.len();
    let signs = word.chars().filter(|c| !c.is_alphanumeric()).map(char::len_utf8).sum::<usize>();
    let inside = bare.chars().filter(|c| !c.is_alphanumeric()).count();
    (rest + inside <= signs && value.is_finite()).then(|| format!("{}", value + 0.0))
}

/// The answer that most texts give, the first of equals; those without one do not vote.
pub fn vote(answers: &[Option<String>]) -> Option<String> {
    let count = |answer: &str| answers.iter().flatten().filter(|a| *a == answer).count();
    let mut best: Option<(&String, usize)> = None;
    for answer in answers.iter().flatten() {
        let votes = count(answer);
        if best.is_none_or(|(_, most)| votes > most) {
            best = Some((answer, votes));
        }
    }
    best.map(|(answer, _)| answer.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        final_answer(text, None)
    }

    #[test]
    fn final_answers_are_read_by_the_rules() {
        let some = |text: &str| Some(text.to_string());
        assert_eq!(found("16 - 3 - 4 = 9\n9 * 2 = $18\n#### 18"), some("18"));
        assert_eq!(found("So the answer is $1,234.50."), some("1234.5"));
        assert_eq!(found("The answer is 7. No, the answer is -8"), some("-8"));
        assert_eq!(found("Answer: Yes!"), some("yes"));
        assert_eq!(found("the answer is the  old man."), some("the old man"));
        assert_eq!(found("She has 3 apples and 12 pears."), some("12"));
        assert_eq!(found("18.0"), some("18"));
        assert_eq!(found("50% of them"), some("50"));
        assert_eq!(found("no number here"), None);
        assert_eq!(found(""), None);
        assert_eq!(found("####"), None);
        assert_eq!(final_answer("It IS blue .", Some("is")), some("blue"));
        assert_eq!(final_answer("I say 5", Some("result:")), None);
        assert_eq!(whole(" Yes. "), some("yes"));
    }

    #[test]
    fn the_most_frequent_answer_wins() {
        let list = |texts: &[&str]| -> Vec<Option<String>> {
            texts.iter().map(|t| (!t.is_empty()).then(|| t.to_string())).collect()
        };
        assert_eq!(vote(&list(&["5", "7", "", "7"])), Some("7".to_string()));
        assert_eq!(vote(&list(&["5", "7"])), Some("5".to_string()));
        assert_eq!(vote(&list(&["", ""])), None);
    }
}
