//! How good generated answers are, row by row: exact match, ROUGE, BLEU, whether they end, repeat, fulfil
//! wishes.

use std::collections::BTreeSet;

use paddock_datasets::metrics::bleu::Bleu;
use paddock_datasets::metrics::exact_match;
use paddock_datasets::metrics::rouge;
use paddock_datasets::stories::check;

use super::rows::Item;
use crate::generate::{Answer, Stop};

/// Words of a run that counts as repeated.
const RUN: usize = 4;

/// What is known of one answer.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Equal to a reference, blanks at the ends apart.
    pub exact: bool,
    /// F1 of ROUGE-1, ROUGE-2 and ROUGE-L; of several references the best.
    pub rouge: [f64; 3],
    /// Counts for BLEU over the rows.
    pub bleu: Bleu,
    /// The model ended the answer itself.
    pub ended: bool,
    /// Share of its runs of four words that stood in it before.
    pub repetition: f64,
    /// Nothing but blanks.
    pub empty: bool,
    /// Wishes fulfilled and wishes in all.
    pub wishes: (u32, u32),
}

/// Judges an answer.
pub fn marks(item: &Item, answer: &Answer) -> Marks {
    let references: Vec<&str> = item.references.iter().map(String::as_str).collect();
    let best =
        |score: &dyn Fn(&str) -> f64| references.iter().map(|r| score(r)).fold(0.0, f64::max);
    let text = &answer.text;
    let mut bleu = Bleu::default();
    bleu.push(text.trim(), &references);
    let fulfilled = check(text, &item.wishes);
    let done = fulfilled.iter().filter(|f| **f).count();
    Marks {
        exact: references.iter().any(|r| exact_match::exact(text, r)),
        rouge: [
            best(&|r| rouge::rouge_n(text, r, 1).f1),
            best(&|r| rouge::rouge_n(text, r, 2).f1),
            best(&|r| rouge::rouge_l(text, r).f1),
        ],
        bleu,
        ended: answer.stop == Stop::EndToken,
        repetition: repetition(text),
        empty: text.trim().is_empty(),
        wishes: (done as u32, fulfilled.len() as u32),
    }
}

/// Share of the runs of four words that occurred before in the text; 0 for short texts.
pub fn repetition(text: &str) -> f64 {
    let words = rouge::words(text);
    let runs = words.windows(RUN).count();
    let distinct: BTreeSet<&[String]> = words.windows(RUN).collect();
    if runs == 0 { 0.0 } else { (runs - distinct.len()) as f64 / runs as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_counts_runs_that_come_again() {
        assert_eq!(repetition("one two three four five"), 0.0);
        assert_eq!(repetition("too short"), 0.0);
        // Runs: abab baba abab baba abab: two different ones of five.
        assert_eq!(repetition("a b a b a b a b"), 0.6);
    }

    #[test]
    fn an_empty_answer_gets_nothing() {
        let item = Item {
            row: 0,
            prompt: Default::default(),
            references: vec!["the cat".into(), "a cat sat".into()],
            choices: Vec::new(),
            gold: None,
            wishes: Vec::new(),
            kind: None,
        };
        let answer = |text: &str, stop| Answer { text: text.into(), tokens: Vec::new(), stop };
        let none = marks(&item, &answer(" ", Stop::EndToken));
        assert!(none.empty && none.ended && !none.exact && none.rouge == [0.0; 3]);
        assert_eq!(none.bleu.score(), 0.0);
        let second = marks(&item, &answer("A cat sat", Stop::Length));
        assert!(!second.exact && second.rouge[0] == 1.0 && !second.ended, "{second:?}");
        assert!(marks(&item, &answer(" a cat sat\n", Stop::Length)).exact);
    }
}
