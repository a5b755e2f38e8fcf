//! Exact match, plain and after the normalisation of question answering.

/// Equal after blanks at both ends are taken off.
pub fn exact(answer: &str, reference: &str) -> bool {
    answer.trim() == reference.trim()
}

/// SQuAD's normalisation: lower case, ASCII punctuation and the articles out, blanks made single.
pub fn normalise(text: &str) -> String {
    let lower = text.to_lowercase();
    let plain: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = plain.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.collect::<Vec<_>>().join(" ")
}

/// Equal to any of the references after [`normalise`].
pub fn normalised(answer: &str, references: &[&str]) -> bool {
    let answer = normalise(answer);
    references.iter().any(|reference| normalise(reference) == answer)
}

/// SQuAD's F1 over normalised words: the best of the references; two empty texts are equal.
pub fn word_f1(answer: &str, references: &[&str]) -> f64 {
    let answer = normalise(answer);
    let answer: Vec<&str> = answer.split(' ').filter(|w| !w.is_empty()).collect();
    references.iter().map(|reference| f1(&answer, &normalise(reference))).fold(0.0, f64::max)
}

fn f1(answer: &[&str], reference: &str) -> f64 {
    let mut left: Vec<&str> = reference.split(' ').filter(|w| !w.is_empty()).collect();
    let total = left.len();
    if answer.is_empty() || total == 0 {
        return if answer.len() == total { 1.0 } else { 0.0 };
    }
    let mut common = 0;
    for word in answer {
        if let Some(at) = left.iter().position(|other| other == word) {
            left.swap_remove(at);
            common += 1;
        }
    }
    2.0 * f64::from(common) / (answer.len() + total) as f64
}
