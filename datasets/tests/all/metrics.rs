//! Metrics against values of sacreBLEU and rouge_score.

use paddock_datasets::metrics::accuracy::Labels;
use paddock_datasets::metrics::bleu::{Bleu, tokens};
use paddock_datasets::metrics::exact_match::{exact, normalised, word_f1};
use paddock_datasets::metrics::rouge::{rouge_l, rouge_n};

const ANSWERS: [&str; 3] = [
    "The cat sat on the mat, didn't it?",
    "It cost $3.50 -- about 1,000 yen (or 2-3 euros).",
    "Completely different words here now",
];
const REFERENCES: [&str; 3] = [
    "The cat is on the mat, isn't it?",
    "It costs $3.50, about 1,000 yen (2-3 euros).",
    "nothing in common at all whatsoever",
];
const OTHERS: [&str; 3] =
    ["A cat sat on a mat, right?", "The price: $3.50.", "entirely other words here now"];

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
}

#[test]
fn bleu_equals_sacrebleu() {
    assert_eq!(
        tokens(ANSWERS[1]).join(" "),
        "It cost $ 3.50 -- about 1,000 yen ( or 2 - 3 euros ) ."
    );
    assert_eq!(
        tokens("x.y,z 1.2 .5, a-b 3-4 &quot;q&quot; end.").join(" "),
        "x . y , z 1.2 . 5 , a-b 3 - 4 \" q \" end ."
    );
    let (mut one, mut two) = (Bleu::default(), Bleu::default());
    for i in 0..3 {
        one.push(ANSWERS[i], &[REFERENCES[i]]);
        two.push(ANSWERS[i], &[REFERENCES[i], OTHERS[i]]);
    }
    near(one.score(), 39.616_967_278_734_56);
    near(two.score(), 46.593_466_843_628_825);
    let mut first = Bleu::default();
    first.push(ANSWERS[0], &[REFERENCES[0]]);
    near(first.score(), 35.494_810_560_100_525);
    let mut nothing = Bleu::default();
    nothing.push(ANSWERS[2], &[REFERENCES[2]]);
    near(nothing.score(), 0.0);
    let mut short = Bleu::default();
    short.push("a b", &["a b"]);
    near(short.score(), 0.0);
    near(Bleu::default().score(), 0.0);
}

#[test]
fn rouge_equals_rouge_score() {
    let expected = [
        [(0.777_777_8, 0.777_777_8), (0.5, 0.5), (0.777_777_8, 0.777_777_8)],
        [(0.833_333_3, 0.909_090_9), (0.636_363_6, 0.7), (0.833_333_3, 0.909_090_9)],
        [(0.0, 0.0), (0.0, 0.0), (0.0, 0.0)],
    ];
    for i in 0..3 {
        let (a, r) = (ANSWERS[i], REFERENCES[i]);
        let found = [rouge_n(a, r, 1), rouge_n(a, r, 2), rouge_l(a, r)];
        for (found, (precision, recall)) in found.iter().zip(expected[i]) {
            near(found.precision, precision);
            near(found.recall, recall);
        }
    }
    near(rouge_l(ANSWERS[1], REFERENCES[1]).f1, 0.869_565_2);
    near(rouge_l("", "x").f1, 0.0);
}

#[test]
fn exact_match_and_word_f1() {
    assert!(exact(" yes\n", "yes") && !exact("Yes", "yes"));
    assert!(normalised("The  Answer!", &["no", "answer"]));
    near(word_f1("the big cat", &["a cat"]), 2.0 / 3.0);
    near(word_f1("", &[""]), 1.0);
    near(word_f1("x", &["", "y"]), 0.0);
}

#[test]
fn accuracy_and_macro_f1() {
    let mut labels = Labels::default();
    assert_eq!((labels.accuracy(), labels.macro_f1()), (None, None));
    for (predicted, expected) in [("a", "a"), ("a ", "b"), ("b", "b"), ("c", "a")] {
        labels.push(predicted, expected);
    }
    near(labels.accuracy().unwrap(), 0.5);
    // a: 1 of 2 and 2; b: 1 of 1 and 2; c: never right.
    near(labels.macro_f1().unwrap(), (0.5 + 2.0 / 3.0 + 0.0) / 3.0);
}
