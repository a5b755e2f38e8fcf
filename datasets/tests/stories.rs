//! The story generator as a whole: does it keep what its documentation promises?

use std::collections::{BTreeMap, HashSet};

use paddock_datasets::stories::{
    Apart, Kind, MOST_SENTENCES, Row, Split, Wish, bundled, check, corpus, generate, plot_names,
    read_jsonl, sentences, split_of, story, words, write_jsonl,
};

fn bundled_rows() -> Vec<Row> {
    [bundled::TRAIN, bundled::VALIDATION, bundled::TEST]
        .iter()
        .flat_map(|text| read_jsonl(text).expect("the bundled rows can be read"))
        .collect()
}

fn of_split(rows: &[Row], split: Split) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| row.split == split)
}

#[test]
fn making_the_bundled_rows_again_gives_the_same_bytes() {
    let [train, validation, test] = bundled::COUNTS;
    let rows = generate(bundled::SEED, train, validation, test).expect("rows");
    let files = [
        (Split::Train, bundled::TRAIN, train),
        (Split::Validation, bundled::VALIDATION, validation),
        (Split::Test, bundled::TEST, test),
    ];
    for (split, file, count) in files {
        let part: Vec<Row> = of_split(&rows, split).cloned().collect();
        assert_eq!(part.len(), count);
        let mut written = Vec::new();
        write_jsonl(&part, &mut written).expect("writing to memory");
        // Not assert_eq: a megabyte of difference helps nobody.
        assert!(written == file.as_bytes(), "{split:?}: see bundled/stories/README.md");
    }
}

/// Writes the bundled files: `cargo test --release -p paddock-datasets --test stories -- --ignored`.
#[test]
#[ignore = "writes files; run it after a change of the grammar"]
fn write_the_bundled_rows() {
    let [train, validation, test] = bundled::COUNTS;
    let rows = generate(bundled::SEED, train, validation, test).expect("rows");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/bundled/stories");
    for (split, name) in
        [(Split::Train, "train"), (Split::Validation, "validation"), (Split::Test, "test")]
    {
        let part: Vec<Row> = of_split(&rows, split).cloned().collect();
        let mut file = std::fs::File::create(format!("{folder}/{name}.jsonl")).expect("a file");
        write_jsonl(&part, &mut file).expect("written");
    }
}

#[test]
fn every_answer_fulfils_its_wishes() {
    for row in bundled_rows() {
        assert!(!row.wishes.is_empty());
        let fulfilled = check(&row.output, &row.wishes);
        assert!(fulfilled.iter().all(|f| *f), "{fulfilled:?}: {row:?}");
    }
}

#[test]
fn answers_of_other_rows_fulfil_hardly_any_wish_set() {
    let rows = bundled_rows();
    let mut by_kind: BTreeMap<Kind, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        by_kind.entry(row.kind).or_default().push(row);
    }
    assert_eq!(by_kind.len(), Kind::ALL.len());
    for (kind, rows) in by_kind {
        // The hardest case: the answer to another row of the same kind.
        let others = rows.iter().cycle().skip(7);
        let pairs = rows.iter().zip(others);
        let by_chance =
            pairs.filter(|(row, other)| check(&other.output, &row.wishes).iter().all(|f| *f));
        let share = by_chance.count() as f64 / rows.len() as f64;
        assert!(share < 0.1, "{kind:?}: {share}");
    }
}

#[test]
fn a_story_that_was_not_asked_for_fulfils_nothing() {
    // What an untuned model does at its best: it tells some story of the corpus.
    let rows = bundled_rows();
    let mut total = 0;
    let mut fulfilled = 0;
    for (row, story) in of_split(&rows, Split::Test).zip(corpus(3)) {
        let by_wish = check(&story, &row.wishes);
        total += by_wish.len();
        fulfilled += by_wish.iter().filter(|f| **f).count();
    }
    assert!(fulfilled * 100 <= total, "{fulfilled} of {total}");
}

#[test]
fn test_rows_combine_what_training_never_combined() {
    let rows = bundled_rows();
    let train: Vec<HashSet<&str>> = of_split(&rows, Split::Train)
        .map(|row| words(&row.input).chain(words(&row.output)).collect())
        .collect();
    let mut triples = 0;
    for row in of_split(&rows, Split::Test).filter(|row| row.kind == Kind::Tell) {
        let [Wish::Name { name }, Wish::Place { place }, Wish::Object { object }] = &row.wishes[..]
        else {
            panic!("a row of this kind wishes for name, place and object: {row:?}");
        };
        triples += 1;
        assert_eq!(split_of(name, object), Split::Test);
        let all = [name.as_str(), place.as_str(), object.as_str()];
        let seen = train.iter().any(|text| all.iter().all(|part| text.contains(part)));
        assert!(!seen, "{name}, {place} and {object} meet in a training row");
    }
    assert_eq!(triples, 80);
}

#[test]
fn no_row_comes_near_a_row_of_another_split() {
    let rows = bundled_rows();
    let text = |row: &Row| format!("{} {}", row.input, row.output);
    let mut train = Apart::default();
    for row in of_split(&rows, Split::Train) {
        train.insert(&text(row));
    }
    for row in rows.iter().filter(|row| row.split != Split::Train) {
        let nearest = train.nearest(&text(row));
        assert!(nearest <= 0.34, "{nearest}: {row:?}");
    }
    let distinct: HashSet<String> = rows.iter().map(text).collect();
    assert_eq!(distinct.len(), rows.len());
}

#[test]
fn rows_are_short_and_of_many_wordings() {
    let rows = bundled_rows();
    let count = |row: &Row| {
        [&row.instruction, &row.input, &row.output].iter().map(|t| words(t).count()).sum::<usize>()
    };
    let mean = rows.iter().map(count).sum::<usize>() as f64 / rows.len() as f64;
    assert!((45.0..70.0).contains(&mean), "{mean} words a row");
    assert!(rows.iter().all(|row| !row.output.contains('\n')));
    // Instructions without what is filled in: the first three words tell most wordings apart.
    for kind in Kind::ALL {
        let starts: HashSet<Vec<&str>> = rows
            .iter()
            .filter(|row| row.kind == kind)
            .map(|row| words(&row.instruction).take(3).collect())
            .collect();
        assert!(starts.len() >= 12, "{kind:?}: {starts:?}");
    }
}

#[test]
fn corpus_stories_differ_and_keep_to_small_words() {
    let stories: Vec<String> = corpus(1).take(10_000).collect();
    let distinct: HashSet<&String> = stories.iter().collect();
    assert!(distinct.len() >= 9_990, "{}", distinct.len());
    let first = |s: &String| sentences(s).first().map(ToString::to_string);
    let openings: HashSet<_> = stories.iter().filter_map(first).collect();
    assert!(openings.len() >= 6_000, "{} openings", openings.len());
    let rows = bundled_rows();
    let row_texts = rows.iter().flat_map(|row| [&row.instruction, &row.input, &row.output]);
    let vocabulary: HashSet<String> = stories
        .iter()
        .chain(row_texts)
        .flat_map(|text| words(text).map(str::to_lowercase).collect::<Vec<_>>())
        .collect();
    assert!(vocabulary.len() <= 1_800, "{} words", vocabulary.len());
    assert!(plot_names().len() >= 24);
}

#[test]
fn corpus_stories_are_whole_and_longer_than_answers() {
    for text in corpus(2).take(5_000) {
        let found = sentences(&text);
        assert!(found.len() > MOST_SENTENCES, "{text}");
        assert!(text.is_ascii() && !text.contains("  "), "{text}");
        for part in found {
            let good = part.starts_with(|c: char| c.is_ascii_uppercase() || c == '"');
            assert!(good && part.ends_with(['.', '!', '?', '"']), "{part:?} in {text}");
        }
        assert!(!text.contains(['{', '}', '[', ']', '<', '>', '|']), "{text}");
    }
}

#[test]
fn corpus_stories_never_tell_of_a_test_combination() {
    // Whoever a test row is about never meets its object in a story for pretraining.
    let rows = bundled_rows();
    let pairs: HashSet<(&str, &str)> = of_split(&rows, Split::Test)
        .filter_map(|row| match &row.wishes[..] {
            [Wish::Name { name }, .., Wish::Object { object }] => {
                Some((name.as_str(), object.as_str()))
            }
            _ => None,
        })
        .collect();
    assert!(pairs.len() > 50);
    for text in corpus(4).take(20_000) {
        let given: HashSet<&str> = words(&text).collect();
        for (name, object) in &pairs {
            assert!(!(given.contains(name) && given.contains(object)), "{name}, {object}: {text}");
        }
    }
}

#[test]
fn the_seed_decides_everything() {
    let first: Vec<String> = corpus(5).take(3).collect();
    assert_eq!(first, corpus(5).take(3).collect::<Vec<_>>());
    assert_ne!(first, corpus(6).take(3).collect::<Vec<_>>());
    assert_eq!(first[2], story(5, 2));
    let rows = generate(5, 20, 20, 20).expect("rows");
    assert_eq!(rows, generate(5, 20, 20, 20).expect("rows"));
    assert_ne!(rows, generate(6, 20, 20, 20).expect("rows"));
}

#[test]
fn what_is_no_row_is_named_by_its_line() {
    let error = read_jsonl("\n{}\n").expect_err("an empty object is no row").to_string();
    assert!(error.starts_with("line 2 is not a row"), "{error}");
    assert!(read_jsonl("\n\n").expect("nothing is fine").is_empty());
    assert!(generate(1, 0, 0, 0).expect("nothing is fine").is_empty());
}
