//! Filters and FLAN pairs.

use paddock_datasets::curate::{Filters, Verdict, even_sources, too_similar};
use paddock_datasets::record::Record;
use paddock_datasets::template::{Body, FlanPair};
use serde_json::json;

#[test]
fn filters_say_why() {
    let filters = Filters {
        min_words: Some(2),
        max_words: Some(12),
        max_repetition: Some(0.3),
        min_letters: Some(0.5),
        blocklist: vec!["As an AI".to_string()],
    };
    let texts = [
        "A fine answer.",
        "Yes",
        "one two three four five six seven eight nine ten eleven twelve thirteen",
        "go on now go on now go on now",
        "1 2 3 4 5 -- 6?!",
        "Well, as an AI, no.",
        "A bias and a saga.",
    ];
    let found = filters.verdicts(&texts);
    assert_eq!(found[0], None);
    assert_eq!(found[1], Some(Verdict::TooShort(1)));
    assert_eq!(found[2], Some(Verdict::TooLong(13)));
    assert!(matches!(found[3], Some(Verdict::Repeats(share)) if share > 0.5), "{:?}", found[3]);
    assert_eq!(found[4], Some(Verdict::FewLetters(0.0)));
    assert_eq!(found[5], Some(Verdict::Blocked("As an AI".to_string())));
    assert_eq!(found[6], None);
    assert!(Filters::default().verdicts(&texts).iter().all(Option::is_none));
}

#[test]
fn new_instructions_must_differ() {
    let known = ["Write a poem about the sea in spring."];
    let texts = [
        "Write a poem about the sea in autumn.",
        "List three large rivers.",
        "List three large old rivers.",
        "",
    ];
    assert_eq!(too_similar(&known, &texts, 0.7), [Some(0), None, Some(2), None]);
    assert_eq!(too_similar(&[], &texts, 0.95), [None, None, None, None]);
}

#[test]
fn sources_are_evened() {
    let found = even_sources(&["a", "a", "b", "a", "b", "c"], 2);
    assert_eq!(found, [true, true, true, false, true, true]);
}

fn pair(input: &str, target: &str) -> FlanPair {
    FlanPair {
        name: "p".into(),
        input: input.into(),
        target: target.into(),
        choices: Some("no ||| yes".into()),
        inverted: false,
    }
}

#[test]
fn flan_pairs_and_their_inversions() {
    let row = Record::from_pairs([("text", json!("{% x %} \"q\"")), ("label", json!(1))]);
    let own = pair("Is it so?\n{text} {{#1}} \\n\n{options}", "{label}");
    let template = own.to_template().unwrap();
    let parts = template.compile().unwrap().parts(&row).unwrap();
    assert_eq!(parts.input, "Is it so?\n{% x %} \"q\" {#1} \\n\nOPTIONS:\n- no\n- yes");
    assert_eq!(parts.target.as_deref(), Some("1"));
    let turned = FlanPair { inverted: true, ..pair("Write a text labelled {label}.", "{text}") };
    let template = turned.to_template().unwrap();
    assert!(matches!(&template.body, Body::Jinja(body) if !body.original_task));
    assert_eq!(template.render(&row).unwrap().last_answer(), "{% x %} \"q\"");
}

#[test]
fn faults_of_flan_pairs_have_a_place() {
    for (input, words) in [
        ("a\nb {text", "line 2, column 3: a { without its }"),
        ("a } b", "line 1, column 3: a } without its {"),
        ("{a.b}", "{a.b} is no column name"),
        ("{}", "{} is no column name"),
    ] {
        let error = pair(input, "{label}").to_template().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
