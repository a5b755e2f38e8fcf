//! The promises `datasets/bundled/reviews/README.md` makes about `reviews.csv`, checked on the file
//! itself: columns, balance, fixed split, no repeated texts, no class given away by one word, and
//! CSV quoting that a naive reader would get wrong.
//!
//! `cargo test --release -p paddock-datasets --test bundled_reviews -- --nocapture` prints the figures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

const COLUMNS: [&str; 8] =
    ["id", "product", "category", "stars", "title", "review", "label", "split"];
const SPLITS: [(&str, usize); 3] = [("train", 596), ("validation", 80), ("test", 280)];
/// A word in this many reviews or more may not sit in one class in more than `WORD_SHARE_MAX`.
const WORD_REVIEWS_MIN: usize = 12;
const WORD_SHARE_MAX: f64 = 0.85;
/// Words a careless writer would use in one class only.
const TELLTALES: [&str; 16] = [
    "good",
    "great",
    "bad",
    "love",
    "broke",
    "never",
    "cheap",
    "nice",
    "happy",
    "excellent",
    "returned",
    "refund",
    "disappointed",
    "recommend",
    "easy",
    "terrible",
];

struct Row {
    id: String,
    product: String,
    stars: u8,
    title: String,
    review: String,
    positive: bool,
    split: String,
}

/// Which text of a row is looked at.
type Text = fn(&Row) -> String;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bundled/reviews/reviews.csv")
}

fn records() -> Vec<csv::StringRecord> {
    let mut reader = csv::Reader::from_path(path()).expect("reviews.csv is part of the repository");
    let header = reader.headers().expect("header line").clone();
    assert_eq!(header.iter().collect::<Vec<_>>(), COLUMNS, "columns of reviews.csv");
    reader.records().map(|record| record.expect("every record has eight fields")).collect()
}

fn rows() -> Vec<Row> {
    records()
        .iter()
        .map(|r| Row {
            id: r[0].to_owned(),
            product: r[1].to_owned(),
            stars: r[3].parse().unwrap_or_else(|_| panic!("{}: stars {:?}", &r[0], &r[3])),
            title: r[4].to_owned(),
            review: r[5].to_owned(),
            positive: match &r[6] {
                "positive" => true,
                "negative" => false,
                other => panic!("{}: label {other:?}", &r[0]),
            },
            split: r[7].to_owned(),
        })
        .collect()
}

/// Lower-cased words; an apostrophe inside a word belongs to it ("don't" is one word).
fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .map(|w| w.trim_matches('\'').to_owned())
        .filter(|w| !w.is_empty())
        .collect()
}

/// Word -> number of reviews that contain it, as (negative, positive).
fn word_table(rows: &[Row], text: impl Fn(&Row) -> String) -> BTreeMap<String, (usize, usize)> {
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for row in rows {
        for word in words(&text(row)).into_iter().collect::<BTreeSet<_>>() {
            let count = table.entry(word).or_default();
            if row.positive { count.1 += 1 } else { count.0 += 1 }
        }
    }
    table
}

/// Words in at least `WORD_REVIEWS_MIN` texts, most one-sided first: (share, word, (neg, pos)).
fn one_sided(table: &BTreeMap<String, (usize, usize)>) -> Vec<(f64, String, (usize, usize))> {
    let mut list: Vec<_> = table
        .iter()
        .filter(|(_, (n, p))| n + p >= WORD_REVIEWS_MIN)
        .map(|(w, &(n, p))| (n.max(p) as f64 / (n + p) as f64, w.clone(), (n, p)))
        .collect();
    list.sort_by(|a, b| b.0.total_cmp(&a.0));
    list
}

#[test]
fn ids_stars_and_fields_are_sound() {
    for (i, row) in rows().iter().enumerate() {
        assert_eq!(row.id, format!("R{:04}", i + 1), "ids run without a gap");
        let allowed = if row.positive { 3..=5 } else { 1..=3 };
        assert!(allowed.contains(&row.stars), "{}: {} stars against its label", row.id, row.stars);
        for text in [&row.product, &row.title, &row.review] {
            assert!(!text.is_empty() && text.trim() == text.as_str(), "{}: {text:?}", row.id);
        }
        let n = words(&row.review).len();
        assert!((6..=90).contains(&n), "{}: {n} words, 6 to 90 are allowed", row.id);
    }
    let lukewarm = rows().iter().filter(|r| r.stars == 3).count();
    assert!(lukewarm <= 30, "{lukewarm} reviews of three stars, few are wanted");
}

#[test]
fn every_split_is_balanced() {
    let rows = rows();
    assert_eq!(rows.len(), SPLITS.iter().map(|s| s.1).sum::<usize>(), "rows outside the splits");
    for (split, size) in SPLITS {
        let positive = rows.iter().filter(|r| r.split == split && r.positive).count();
        let negative = rows.iter().filter(|r| r.split == split && !r.positive).count();
        println!("{split}: {negative} negative, {positive} positive");
        assert_eq!((negative, positive), (size / 2, size / 2), "balance of {split}");
    }
}

/// Published results name this split: moving one row between the parts is a new data set.
#[test]
fn the_split_is_fixed() {
    let mut hash = Sha256::new();
    for row in rows() {
        hash.update(format!("{} {}\n", row.id, row.split));
    }
    let digest: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, SPLIT_SHA256, "a row changed its split, or rows were added or removed");
}

const SPLIT_SHA256: &str = "96b92fc961cea61ec155b7661a4d17c304b4a8466783bd9990762cc50fea3dec";

#[test]
fn products_are_of_many_kinds_in_both_classes() {
    let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for row in rows() {
        let kind = row.product.split(',').next().unwrap_or_default().to_owned();
        let count = kinds.entry(kind).or_default();
        if row.positive { count.1 += 1 } else { count.0 += 1 }
    }
    println!("{} product kinds", kinds.len());
    assert!(kinds.len() >= 25, "{} product kinds, at least 25 are wanted", kinds.len());
    for (kind, (negative, positive)) in kinds {
        let share = negative.max(positive) as f64 / (negative + positive) as f64;
        assert!(share <= 0.75, "{kind}: {negative} negative, {positive} positive");
    }
}

#[test]
fn no_two_reviews_share_their_words() {
    let rows = rows();
    let mut seen: BTreeMap<Vec<String>, Vec<usize>> = BTreeMap::new();
    let mut grams = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let own: BTreeSet<Vec<String>> = words(&row.review).windows(5).map(<[_]>::to_vec).collect();
        grams.push(own.len());
        for gram in own {
            seen.entry(gram).or_default().push(i);
        }
    }
    let mut shared: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for list in seen.values() {
        for (k, &a) in list.iter().enumerate() {
            for &b in &list[k + 1..] {
                *shared.entry((a, b)).or_default() += 1;
            }
        }
    }
    let mut worst = 0.0f64;
    for (&(a, b), &n) in &shared {
        let overlap = n as f64 / grams[a].min(grams[b]) as f64;
        worst = worst.max(overlap);
        assert!(overlap <= 0.12, "{} and {} share {n} five-word runs", rows[a].id, rows[b].id);
    }
    println!("{} pairs share a five-word run, largest overlap {worst:.3}", shared.len());
    let texts: BTreeSet<_> = rows.iter().map(|r| words(&r.review)).collect();
    assert_eq!(texts.len(), rows.len(), "a review occurs twice");
}

#[test]
fn openings_vary() {
    let rows = rows();
    let mut openings: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for row in &rows {
        *openings.entry(words(&row.review)[..3].to_vec()).or_default() += 1;
    }
    let (opening, most) = openings.iter().max_by_key(|(_, n)| **n).expect("rows");
    println!("most frequent opening: {opening:?}, {most} times");
    assert!(*most <= 4, "{opening:?} opens {most} reviews");
    for pair in rows.windows(2) {
        let (a, b) = (words(&pair[0].review), words(&pair[1].review));
        assert_ne!(a[0], b[0], "{} and {} start alike", pair[0].id, pair[1].id);
    }
}

#[test]
fn no_word_decides() {
    let rows = rows();
    let texts: [(&str, Text); 2] = [
        ("review", |r| r.review.clone()),
        ("title and review", |r| format!("{} {}", r.title, r.review)),
    ];
    for (name, text) in texts {
        let list = one_sided(&word_table(&rows, text));
        println!("{name}: most one-sided words in >= {WORD_REVIEWS_MIN} (share, neg/pos)");
        for (share, word, (n, p)) in list.iter().take(12) {
            println!("  {word:<14} {share:.2}  {n}/{p}");
        }
        for (share, word, (n, p)) in &list {
            assert!(*share <= WORD_SHARE_MAX, "{name}: {word:?} is in {n} neg., {p} pos. texts");
        }
    }
    let table = word_table(&rows, |r| r.review.clone());
    for word in TELLTALES {
        let (n, p) = table.get(word).copied().unwrap_or_default();
        assert!(n >= 3 && p >= 3, "{word:?} is in {n} negative and {p} positive reviews");
    }
}

/// The best rule of the form "contains this word, then this class, otherwise the other".
#[test]
fn the_best_one_word_rule_is_hardly_better_than_a_coin() {
    let rows = rows();
    let half = rows.len() / 2;
    let (word, hits) = word_table(&rows, |r| r.review.clone())
        .into_iter()
        .map(|(w, (n, p))| (w, half + n.abs_diff(p)))
        .max_by_key(|(_, hits)| *hits)
        .expect("words");
    let accuracy = hits as f64 / rows.len() as f64;
    println!("best one-word rule: {word:?}, accuracy {accuracy:.3} on all rows");
    assert!(accuracy <= 0.60, "{word:?} alone decides {accuracy:.3}");
}

#[test]
fn quoting_is_exercised_and_survives_a_round_trip() {
    let records = records();
    let fields = || records.iter().flat_map(|r| r.iter());
    let with = |c: char| fields().filter(|f| f.contains(c)).count();
    let (commas, quotes, breaks) = (with(','), with('"'), with('\n'));
    println!("fields with a comma {commas}, a quote {quotes}, a line break {breaks}");
    assert!(commas >= 500 && quotes >= 40 && breaks >= 20);

    let original = std::fs::read(path()).expect("reviews.csv");
    assert!(!original.contains(&b'\r') && std::str::from_utf8(&original).is_ok());
    let lines = original.iter().filter(|b| **b == b'\n').count();
    assert!(lines > records.len() + 1, "one record per line would be too easy");
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).expect("in memory");
    for record in &records {
        writer.write_record(record).expect("in memory");
    }
    assert!(writer.into_inner().expect("in memory") == original, "bytes differ when written again");
}
