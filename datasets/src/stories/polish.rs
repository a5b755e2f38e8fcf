//! Last touches to a rendered story: capitals at the start of sentences, "an" before vowels.

/// Appends `text`, which begins a sentence, to `out`.
///
/// The first letter gets a capital, and so does a letter after a full stop, exclamation or question
/// mark and a space; after a closing quotation mark letters stay as written (`"Why?" he asked`).
/// "a" becomes "an" before a vowel.
pub fn push_polished(out: &mut String, text: &str) {
    let bytes = text.as_bytes();
    let mut starts = true;
    let mut word_start = 0;
    for (i, c) in text.char_indices() {
        if starts && c.is_ascii_alphabetic() {
            out.push(c.to_ascii_uppercase());
            starts = false;
        } else {
            out.push(c);
            starts &= !c.is_ascii_alphanumeric();
        }
        if c == ' ' {
            if is_article(&bytes[word_start..i]) && begins_with_vowel(&bytes[i + 1..]) {
                out.insert(out.len() - 1, 'n');
            }
            word_start = i + 1;
            starts |= i > 0 && matches!(bytes[i - 1], b'.' | b'!' | b'?');
        } else if c == '"' {
            word_start = i + 1;
        }
    }
}

fn is_article(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"a")
}

fn begins_with_vowel(rest: &[u8]) -> bool {
    let first = rest.first().map(u8::to_ascii_lowercase);
    matches!(first, Some(b'a' | b'e' | b'i' | b'o' | b'u'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polished(text: &str) -> String {
        let mut out = String::new();
        push_polished(&mut out, text);
        out
    }

    #[test]
    fn capitals_and_articles() {
        assert_eq!(
            polished("a owl saw a old hat. it was a hat."),
            "An owl saw an old hat. It was a hat."
        );
        assert_eq!(polished("\"where is it?\" he asked."), "\"Where is it?\" he asked.");
        assert_eq!(polished("he said, \"A apple!\" he ran."), "He said, \"An apple!\" he ran.");
        assert_eq!(polished(""), "");
    }
}
