//! The linear machine on TF-IDF against scikit-learn 1.9.1's `TfidfVectorizer()` and `LinearSVC()`.

use std::collections::BTreeMap;
use std::path::Path;

use paddock_datasets::classic::Sparse;
use paddock_datasets::classic::svm::{Options, Svm};
use paddock_datasets::classic::tfidf::Tfidf;
use paddock_datasets::readers::{ReadOptions, open};
use paddock_datasets::record::{Record, scalar_text};

use crate::common::shared;

fn rows(path: &Path) -> Vec<Record> {
    let rows = open(path, &ReadOptions::default()).expect("a data file");
    rows.map(|row| row.expect("a row")).collect()
}

fn text(record: &Record, column: &str) -> String {
    record.get(column).and_then(scalar_text).expect("a column of text")
}

fn pairs(records: &[Record], columns: [&str; 2]) -> Vec<(String, String)> {
    records.iter().map(|r| (text(r, columns[0]), text(r, columns[1]))).collect()
}

/// Share of the test rows that the machine gets right.
fn accuracy(train: &[(String, String)], test: &[(String, String)]) -> f64 {
    let words = Tfidf::fit(train.iter().map(|(text, _)| text.as_str()));
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    train.iter().for_each(|(_, label)| _ = classes.insert(label, 0));
    classes.values_mut().zip(0..).for_each(|(place, i)| *place = i);
    let features: Vec<Sparse> = train.iter().map(|(text, _)| words.row(text)).collect();
    let labels: Vec<usize> = train.iter().map(|(_, label)| classes[label.as_str()]).collect();
    let svm = Svm::fit(&features, &labels, classes.len(), words.features(), &Options::default());
    let svm = svm.expect("a machine");
    let right = |(text, label): &&(String, String)| {
        classes.get(label.as_str()) == Some(&svm.class(&words.row(text)))
    };
    test.iter().filter(right).count() as f64 / test.len() as f64
}

#[test]
fn words_are_weighed_as_by_scikit_learn() {
    let texts = ["the cat sat, the cat ran", "a dog_9 ran", "The Café"];
    let words = Tfidf::fit(texts.iter().copied());
    // the, cat, sat, ran, dog_9, café: single letters are no words.
    assert_eq!(words.features(), 6);
    let row = words.row(texts[0]);
    // TfidfVectorizer().fit(texts).transform(texts[:1]), in the order of first sight.
    let expected = [0.541_440_17, 0.711_928_75, 0.355_964_38, 0.270_720_08];
    for ((_, found), expected) in row.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{row:?}");
    }
    assert!(words.row("nothing known").is_empty());
}

#[test]
fn reviews_are_told_apart_as_by_scikit_learn() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled/reviews/reviews.csv");
    let (train, test): (Vec<Record>, Vec<Record>) = rows(&file)
        .into_iter()
        .filter(|r| text(r, "split") != "validation")
        .partition(|r| text(r, "split") == "train");
    let columns = ["review", "label"];
    assert_eq!(accuracy(&pairs(&train, columns), &pairs(&test, columns)), 0.7);
}

#[test]
fn amazon_and_sst2_are_told_apart_as_by_scikit_learn() {
    let sets = [
        ("sentiment/amazon_binary", "jsonl.gz", ["text", "text"], 0.8295),
        ("sentiment/sst2", "tsv.gz", ["sentence", "content"], 0.8111),
        ("sentiment/amazon_5star", "json.gz", ["sentence", "sentence"], 0.4383),
    ];
    for (folder, ending, columns, expected) in sets {
        let file = |side: &str| shared(&format!("{folder}/{side}.{ending}"));
        let (Some(train), Some(test)) = (file("train"), file("test")) else { return };
        let found = accuracy(
            &pairs(&rows(&train), [columns[0], "label"]),
            &pairs(&rows(&test), [columns[1], "label"]),
        );
        println!("{folder}: {found:.4}, scikit-learn {expected}");
        assert!((found - expected).abs() < 0.003, "{folder}: {found}, expected {expected}");
    }
}

#[test]
fn one_label_or_no_rows_are_refused() {
    let row: Sparse = vec![(0, 1.0)];
    let fit = |labels: &[usize]| {
        let rows = vec![row.clone(); labels.len()];
        Svm::fit(&rows, labels, 2, 1, &Options::default())
    };
    assert!(fit(&[1, 1]).expect_err("one label").to_string().contains("same label"));
    assert!(fit(&[]).is_err() && fit(&[0, 2]).is_err());
    assert_eq!(fit(&[0, 1]).expect("two labels").numbers(), 2);
}
