//! Which language a text seems to be in: by its script, and by its commonest words where the
//! script is Latin. Short or mixed texts have no answer.

/// Codes of the languages that are told by words, with some of the commonest ones of each.
const WORDS: [(&str, &[&str]); 9] = [
    (
        "en",
        &[
            "the", "of", "and", "to", "is", "in", "that", "it", "for", "was", "with", "are",
            "this", "what", "you", "a", "be", "on", "have", "not",
        ],
    ),
    (
        "de",
        &[
            "der", "die", "und", "das", "ist", "nicht", "ein", "eine", "zu", "den", "mit", "ich",
            "auf", "sich", "von", "dem", "es", "wie", "im", "sind",
        ],
    ),
    (
        "fr",
        &[
            "le", "la", "les", "et", "des", "est", "un", "une", "que", "dans", "pour", "pas",
            "qui", "sur", "du", "il", "je", "vous", "ce", "au",
        ],
    ),
    (
        "es",
        &[
            "el", "la", "los", "de", "que", "y", "en", "un", "una", "es", "por", "para", "con",
            "las", "del", "se", "lo", "como", "no", "su",
        ],
    ),
    (
        "it",
        &[
            "il", "di", "che", "la", "e", "un", "una", "per", "non", "con", "sono", "del", "della",
            "si", "gli", "le", "nel", "anche", "come", "ho",
        ],
    ),
    (
        "pt",
        &[
            "o", "de", "que", "e", "do", "da", "em", "um", "uma", "para", "com", "os", "as", "por",
            "se", "mais", "foi", "ao", "dos", "eu",
        ],
    ),
    (
        "nl",
        &[
            "de", "het", "een", "en", "van", "ik", "is", "dat", "niet", "te", "zijn", "op", "met",
            "voor", "er", "aan", "om", "ook", "als", "maar",
        ],
    ),
    (
        "pl",
        &[
            "i", "w", "na", "nie", "z", "do", "jest", "to", "się", "że", "o", "jak", "po", "od",
            "za", "ale", "co", "przez", "tak", "dla",
        ],
    ),
    (
        "sv",
        &[
            "och", "att", "det", "som", "en", "på", "är", "av", "för", "med", "den", "till",
            "inte", "om", "ett", "har", "jag", "de", "var", "men",
        ],
    ),
];

/// Scripts that tell a language, or a family of languages under one code.
const SCRIPTS: [(&str, &[(u32, u32)]); 9] = [
    ("ru", &[(0x400, 0x52f)]),
    ("el", &[(0x370, 0x3ff)]),
    ("he", &[(0x590, 0x5ff)]),
    ("ar", &[(0x600, 0x6ff), (0x750, 0x77f)]),
    ("hi", &[(0x900, 0x97f)]),
    ("th", &[(0xe00, 0xe7f)]),
    ("ko", &[(0xac00, 0xd7af), (0x1100, 0x11ff)]),
    ("ja", &[(0x3040, 0x30ff)]),
    ("zh", &[(0x4e00, 0x9fff), (0x3400, 0x4dbf)]),
];

/// Codes that [`language`] can give.
pub fn codes() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(code, _)| *code).chain(SCRIPTS.iter().map(|(code, _)| *code))
}

/// The code of the likeliest language; `None` if there is too little to go by.
pub fn language(text: &str) -> Option<&'static str> {
    let mut letters = 0usize;
    let mut scripts = [0usize; SCRIPTS.len()];
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        let code = c as u32;
        let holds = |ranges: &[(u32, u32)]| ranges.iter().any(|(a, b)| (*a..=*b).contains(&code));
        if let Some(script) = SCRIPTS.iter().position(|(_, ranges)| holds(ranges)) {
            scripts[script] += 1;
        }
    }
    if letters == 0 {
        return None;
    }
    // Japanese is written with Chinese characters too: some kana are enough.
    let kana = scripts[7];
    if kana * 20 > letters {
        return Some("ja");
    }
    if let Some(script) = scripts.iter().position(|count| count * 2 > letters) {
        return Some(SCRIPTS[script].0);
    }
    by_words(&text.to_lowercase())
}

fn by_words(lower: &str) -> Option<&'static str> {
    let mut hits = [0usize; WORDS.len()];
    let mut words = 0usize;
    for word in lower.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
        words += 1;
        for (hit, (_, list)) in hits.iter_mut().zip(&WORDS) {
            *hit += usize::from(list.contains(&word));
        }
    }
    let (best, most) = hits.iter().enumerate().max_by_key(|(i, hit)| (**hit, WORDS.len() - i))?;
    let second = hits.iter().enumerate().filter(|(i, _)| *i != best).map(|(_, hit)| *hit).max();
    // Two common words more than any other language has, and one word in ten.
    let sure = *most >= second.unwrap_or(0) + 2 && most * 10 >= words;
    sure.then_some(WORDS[best].0)
}
