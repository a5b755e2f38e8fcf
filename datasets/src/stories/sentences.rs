//! Cutting an answer into sentences and words.

/// Words after which a full stop ends no sentence.
const TITLES: [&str; 8] = ["mr", "mrs", "ms", "dr", "st", "prof", "jr", "sr"];
/// Abbreviations after which a sentence ends only where a capital letter follows.
const SHORT_FORMS: [&str; 8] = ["etc", "e.g", "i.e", "a.m", "p.m", "vs", "no", "approx"];
/// Verbs that tie words after a quotation to it: `"Help!" Mia shouted.`
const SPEECH: [&str; 22] = [
    "said",
    "says",
    "asked",
    "asks",
    "cried",
    "shouted",
    "called",
    "whispered",
    "replied",
    "answered",
    "thought",
    "yelled",
    "told",
    "sang",
    "laughed",
    "added",
    "begged",
    "screamed",
    "exclaimed",
    "explained",
    "smiled",
    "sighed",
];

/// The sentences of `text`, without the white space around them.
///
/// A sentence ends at `.`, `!`, `?` or a line break. Not at a title (`Mr.`), an initial (`J. Fox`), a
/// decimal point, or an ellipsis that goes on in small letters. A quotation belongs to the sentence
/// around it, however many full stops it holds; after a quotation that ends with a mark, the sentence
/// goes on where small letters or a verb of speech follow (`"Help!" Mia shouted.`). Words at the end
/// without a mark are a sentence of their own ([`is_finished`] tells).
pub fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in text.lines() {
        split_line(line, &mut found);
    }
    found
}

fn split_line<'a>(line: &'a str, found: &mut Vec<&'a str>) {
    // A quotation that is never closed would swallow the rest; such marks are taken for ornaments.
    let straight = line.matches('"').count().is_multiple_of(2);
    let curly = line.matches('\u{201c}').count() == line.matches('\u{201d}').count();
    let mut quoted = false;
    let mut start = 0;
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if straight => quoted = !quoted,
            '\u{201c}' if curly => quoted = true,
            '\u{201d}' if curly => quoted = false,
            _ => {}
        }
        if !matches!(c, '.' | '!' | '?' | '\u{2026}') {
            continue;
        }
        if chars.peek().is_some_and(|(_, next)| matches!(next, '.' | '!' | '?' | '\u{2026}')) {
            continue;
        }
        let rest = &line[at + c.len_utf8()..];
        let after = rest.trim_start_matches(['"', '\u{201d}', '\'', '\u{2019}', ')']);
        let closed = after.len() < rest.len();
        let at_gap = after.is_empty() || after.starts_with(char::is_whitespace);
        let ends = at_gap
            && (!quoted || closed)
            && match closed {
                true => !speech_follows(after),
                false => !is_abbreviation(&line[start..at], c, after),
            };
        if ends {
            let end = line.len() - after.len();
            push_trimmed(&line[start..end], found);
            start = end;
        }
    }
    push_trimmed(&line[start..], found);
}

fn push_trimmed<'a>(piece: &'a str, found: &mut Vec<&'a str>) {
    let piece = piece.trim();
    if piece.chars().any(char::is_alphanumeric) {
        found.push(piece);
    }
}

fn speech_follows(after: &str) -> bool {
    let after = after.trim_start();
    after.starts_with(char::is_lowercase)
        || words(after).take(4).any(|w| SPEECH.contains(&w.to_lowercase().as_str()))
            && !after.starts_with(['"', '\u{201c}'])
}

fn is_abbreviation(before: &str, mark: char, after: &str) -> bool {
    if !matches!(mark, '.' | '\u{2026}') {
        return false;
    }
    let next = after.trim_start().chars().next();
    if before.ends_with('.') || mark == '\u{2026}' {
        return next.is_some_and(char::is_lowercase);
    }
    let word = before.rsplit([' ', '"', '(', '\u{201c}']).next().unwrap_or_default();
    let small = word.to_lowercase();
    let initial = word.len() == 1
        && word != "I"
        && word.starts_with(char::is_uppercase)
        && next.is_some_and(char::is_uppercase);
    let short = SHORT_FORMS.contains(&small.as_str()) && !next.is_none_or(char::is_uppercase);
    initial || short || (TITLES.contains(&small.as_str()) && next.is_some())
}

/// Whether `text` ends with a mark that ends a sentence (a quotation mark may follow it).
pub fn is_finished(text: &str) -> bool {
    let text = text.trim_end();
    let text = text.trim_end_matches(['"', '\u{201d}', '\'', '\u{2019}', ')']);
    text.ends_with(['.', '!', '?', '\u{2026}'])
}

/// The words of `text`: runs of letters, digits, inner apostrophes and hyphens.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '\u{2019}' | '-'))
        .map(|w| w.trim_matches(['\'', '\u{2019}', '-']))
        .filter(|w| !w.is_empty())
}

/// Whether `text` holds `word` (or words, one after the other): any capitals, also as a plural or
/// with a possessive `'s`.
pub fn has_word(text: &str, word: &str) -> bool {
    let wanted: Vec<String> = words(word).map(str::to_lowercase).collect();
    let given: Vec<String> = words(text).map(str::to_lowercase).collect();
    !wanted.is_empty()
        && given.windows(wanted.len()).any(|w| w.iter().zip(&wanted).all(|(g, w)| is_form(g, w)))
}

/// Whether `text` holds the name `name`: written with its capital, perhaps with `'s`.
pub fn has_name(text: &str, name: &str) -> bool {
    words(text).any(|w| without_possessive(w) == name)
}

fn is_form(given: &str, word: &str) -> bool {
    let given = without_possessive(given);
    given.strip_prefix(word).is_some_and(|tail| matches!(tail, "" | "s" | "es"))
}

fn without_possessive(word: &str) -> &str {
    word.strip_suffix("'s").or_else(|| word.strip_suffix("\u{2019}s")).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: usize) {
        let found = sentences(text);
        assert_eq!(found.len(), expected, "{found:?}");
    }

    #[test]
    fn marks_end_sentences() {
        check("", 0);
        check(" \n .. ! ", 0);
        check("Tom ran.", 1);
        check("Tom ran. He fell! Why? Nobody knew.", 4);
        check("Tom ran.He fell.", 1);
        check("Tom ran and ran", 1);
        check("Tom ran. He f", 2);
        check("What?! No!!! Yes...", 3);
        check("One line\nand another", 2);
    }

    #[test]
    fn abbreviations_end_none() {
        check("Mr. Fox met Mrs. Hen and Dr. Owl.", 1);
        check("He met J. Bear at 9.30 and paid 2.50 for it.", 1);
        check("They came at 8 a.m. and left. It was fun.", 2);
        check("They came at 8 a.m. It was fun.", 2);
        check("He thought... and then he ran.", 1);
        check("He thought\u{2026} Then he ran.", 2);
        check("It was I. Then it was not.", 2);
    }

    #[test]
    fn dialogue_belongs_to_its_sentence() {
        check("\"Where is it?\" he asked.", 1);
        check("\"Help!\" Mia shouted. Tom ran.", 2);
        check("\"Help!\" the fox shouted.", 1);
        check("Mia said, \"It is here! Look. There.\"", 1);
        check("Mia said, \"It is here.\" Tom ran to it.", 2);
        check("\"Come,\" said Mia. \"We must go.\" They went.", 3);
        check("\"Yes!\" \"No!\" They could not agree.", 3);
        check("\u{201c}Run!\u{201d} cried Mia. \u{201c}Now.\u{201d}", 2);
        check("He had a 5\" nail. It was long.", 2);
    }

    #[test]
    fn an_unfinished_answer_is_seen() {
        assert!(is_finished("Tom ran."));
        assert!(is_finished("Mia said, \"Run!\" \n"));
        assert!(!is_finished("Tom ran and"));
        assert!(!is_finished("Tom ran,"));
        assert!(!is_finished(""));
    }

    #[test]
    fn words_match_in_their_forms_only() {
        assert!(has_word("Two red Kites flew.", "kite"));
        assert!(has_word("The kite's tail", "kite"));
        assert!(has_word("some warm milk", "warm milk"));
        assert!(!has_word("some warm, sweet milk", "warm milk"));
        assert!(!has_word("a kitten", "kit"));
        assert!(!has_word("the skites", "kite"));
        assert!(!has_word("anything", ""));
        assert!(has_name("It was Tom's hat.", "Tom"));
        assert!(!has_name("a tom cat and Tommy", "Tom"));
    }
}
