//! The fixed rules from file to examples.

use std::path::{Path, PathBuf};

use crate::common::{file, shared, small_model};
use paddock_datasets::encode::{
    DropReason, EncodeOptions, OverLength, encode, prompt_is_prefix, prompt_tokens,
};
use paddock_datasets::error::Error;
use paddock_datasets::forest::{Limits, micro_batches};
use paddock_datasets::prepare::{PrepareOptions, Prepared, Quiet, load_examples};
use paddock_datasets::readers::ReadOptions;
use paddock_datasets::record::Record;
use paddock_datasets::template::{Pair, Template};
use paddock_datasets::tokenizer::Tokenizer;
use serde_json::json;

fn options(template: Template) -> PrepareOptions {
    PrepareOptions {
        read: ReadOptions::default(),
        template,
        encode: EncodeOptions { max_tokens: 512, over_length: OverLength::Drop },
        keep_empty_answers: false,
        limit_rows: None,
        shots: None,
        sample: None,
    }
}

fn load(path: &Path, options: &PrepareOptions) -> Result<Prepared, Error> {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    load_examples(&[PathBuf::from(path)], options, &tokenizer, &mut Quiet)
}

#[test]
fn the_alpaca_prompts_are_word_for_word() {
    let template = Template::alpaca();
    let row = Record::from_pairs([
        ("instruction", json!("Add.")),
        ("input", json!("1 2")),
        ("output", json!("3")),
    ]);
    assert_eq!(
        template.render(&row).unwrap().text,
        "Below is an instruction that describes a task, paired with an input that provides further \
         context. Write a response that appropriately completes the request.\n\n### Instruction:\n\
         Add.\n\n### Input:\n1 2\n\n### Response:3"
    );
    let row = Record::from_pairs([("instruction", json!("Hi.")), ("output", json!("Ho."))]);
    let rendered = template.render(&row).unwrap();
    assert_eq!(
        rendered.text,
        "Below is an instruction that describes a task. Write a response that appropriately \
         completes the request.\n\n### Instruction:\nHi.\n\n### Response:Ho."
    );
    assert_eq!(rendered.last_answer(), "Ho.");
    assert_eq!(template.render_question("Hi.", "").unwrap(), rendered.prompt_only());
}

#[test]
fn bos_first_answer_and_eos_trained() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let row = Record::from_pairs([("prompt", json!("the")), ("completion", json!(" an a"))]);
    let rendered = Template::prompt().render(&row).unwrap();
    let found = encode(&tokenizer, &rendered).unwrap();
    assert_eq!(found.tokens[0], 1);
    assert_eq!(found.tokens.iter().filter(|t| **t == 1).count(), 1);
    assert_eq!(found.tokens.last(), Some(&2));
    assert_eq!(found.trained.last(), Some(&true));
    assert_eq!((found.answers, found.answers_ended), (1, 1));
    let texts: Vec<(String, bool)> = found
        .tokens
        .iter()
        .zip(&found.trained)
        .map(|(t, trained)| (tokenizer.token_text(*t).unwrap(), *trained))
        .collect();
    let expected =
        [("<s>", false), ("▁the", false), ("▁a", true), ("n", true), ("▁a", true), ("</s>", true)];
    assert_eq!(texts, expected.map(|(t, trained)| (t.to_string(), trained)));
    assert!(prompt_is_prefix(&tokenizer, &rendered).unwrap());
    assert_eq!(prompt_tokens(&tokenizer, &rendered).unwrap(), found.tokens[..2]);
}

#[test]
fn a_leading_space_may_belong_to_the_answer_and_a_broken_prefix_is_seen() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let render = |prompt: &str, answer: &str| {
        let row = Record::from_pairs([("prompt", json!(prompt)), ("completion", json!(answer))]);
        Template::prompt().render(&row).unwrap()
    };
    // The token "▁the" ends in the answer, so it is trained; the prompt alone ends in "▁".
    let rendered = render("a ", "the");
    let found = encode(&tokenizer, &rendered).unwrap();
    assert_eq!(found.trained, [false, false, true, true]);
    assert!(!prompt_is_prefix(&tokenizer, &rendered).unwrap());
    assert!(prompt_is_prefix(&tokenizer, &render("a", " the")).unwrap());
}

#[test]
fn a_bos_or_end_of_turn_that_the_template_wrote_is_not_doubled() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let mut rendered = paddock_datasets::template::Rendered::default();
    rendered.literal("<s>");
    rendered.data("the</s>");
    rendered.answer("an");
    rendered.literal("</s>");
    rendered.data("b");
    rendered.answer("c");
    let found = encode(&tokenizer, &rendered).unwrap();
    assert_eq!(found.tokens.iter().filter(|t| **t == 1).count(), 1);
    // The first answer keeps the template's own end, the last one gets EOS; the user's is text.
    assert_eq!(found.tokens.iter().filter(|t| **t == 2).count(), 2);
    assert_eq!((found.answers, found.answers_ended, found.special_text), (2, 2, 1));
    let ends: Vec<bool> = found
        .tokens
        .iter()
        .zip(&found.trained)
        .filter(|(t, _)| **t == 2)
        .map(|(_, trained)| *trained)
        .collect();
    assert_eq!(ends, [true, true]);
}

#[test]
fn every_row_is_accounted_for() {
    let text = r#"{"prompt":"a","completion":"b"}
{"prompt":"a","completion":""}
{"prompt":"a","completion":null}
{"prompt":"a","completion":"b"}
{"prompt":"a </s>","completion":"c"}
"#;
    let (_guard, path) = file("a.jsonl", text);
    let prepared = load(&path, &options(Template::prompt())).unwrap();
    let report = &prepared.report;
    assert_eq!((report.rows_read, report.rows_used), (5, 3));
    assert_eq!(report.dropped[&DropReason::EmptyAnswer].first, [1, 2]);
    assert_eq!(report.duplicates.first, [3]);
    assert_eq!(report.special_text, 1);
    assert_eq!((report.answers, report.answers_ended), (3, 3));
    assert_eq!(prepared.examples.iter().map(|e| e.row).collect::<Vec<_>>(), [0, 3, 4]);
    assert_eq!(prepared.files[0].rows, 5);
    let keep = PrepareOptions { keep_empty_answers: true, ..options(Template::prompt()) };
    let kept = load(&path, &keep).unwrap();
    assert_eq!((kept.report.rows_used, kept.report.empty_answers.total), (5, 2));
}

#[test]
fn long_rows_follow_the_policy_and_answers_stay_whole() {
    let long = "x".repeat(100);
    let text = format!(
        "{{\"prompt\":\"{long}\",\"completion\":\"b\"}}\n{{\"prompt\":\"a\",\"completion\":\"{long}\"}}\n{{\"prompt\":\"a\",\"completion\":\"b\"}}\n"
    );
    let (_guard, path) = file("a.jsonl", text);
    let with = |over_length| PrepareOptions {
        encode: EncodeOptions { max_tokens: 20, over_length },
        ..options(Template::prompt())
    };
    let dropped = load(&path, &with(OverLength::Drop)).unwrap();
    assert_eq!(dropped.report.dropped[&DropReason::TooLong].first, [0, 1]);
    let cut = load(&path, &with(OverLength::CutPrompt)).unwrap();
    assert_eq!(cut.report.dropped[&DropReason::AnswerTooLong].first, [1]);
    assert_eq!(cut.report.cut.first, [0]);
    let first = &cut.examples[0];
    assert_eq!((first.tokens.len(), first.tokens[0], first.trained_tokens()), (20, 1, 2));
    let error = load(&path, &with(OverLength::Refuse)).unwrap_err().to_string();
    assert!(error.contains("row 0 has") && error.contains("limit of 20"), "{error}");
}

#[test]
fn bad_rows_are_all_told_before_anything_stops() {
    let text = "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\n{\"promt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":[1],\"completion\":\"b\"}\n";
    let (_guard, path) = file("a.jsonl", text);
    let error = load(&path, &options(Template::prompt())).unwrap_err().to_string();
    assert!(
        error.starts_with("3 rows cannot be used (rows count from 0, lines from 1):"),
        "{error}"
    );
    assert!(error.contains("row 1 (line 2, byte 32): broken JSON"), "{error}");
    assert!(error.contains("there is no column \"prompt\"; did you mean \"promt\"?"), "{error}");
    assert!(error.contains("column \"prompt\" holds a list, expected text"), "{error}");
    let skip = ReadOptions { skip_bad: true, ..ReadOptions::default() };
    let skipped =
        load(&path, &PrepareOptions { read: skip, ..options(Template::prompt()) }).unwrap();
    assert_eq!((skipped.report.rows_used, skipped.report.rows_bad), (1, 3));
}

#[test]
fn no_usable_row_is_an_error_that_counts() {
    let (_guard, path) = file("a.jsonl", "{\"prompt\":\"a\",\"completion\":\"\"}\n");
    let error = load(&path, &options(Template::prompt())).unwrap_err().to_string();
    assert!(error.contains("0 usable rows of 1: 1 with an empty answer (rows 0)"), "{error}");
    let (_guard, path) = file("a.csv", "prompt,completion\n");
    let error = load(&path, &options(Template::prompt())).unwrap_err().to_string();
    assert!(error.contains("0 usable rows of 0: there are none"), "{error}");
}

#[test]
fn templates_keep_their_hash_on_the_way_through_a_file() {
    let mut columns = Template::prompt().with_columns(Some("text"), None, Some("label"));
    columns.columns.answer_words.insert("0".into(), "negative".into());
    columns.body = paddock_datasets::template::Body::Prompt(Pair {
        between: "\nSentiment: ".into(),
        ..Pair::default()
    });
    for template in [Template::alpaca(), Template::prompt(), columns] {
        let again = Template::from_json(&template.to_json()).unwrap();
        assert_eq!((again.hash(), &again), (template.hash(), &template));
        let renamed = Template { name: "other".into(), ..template.clone() };
        assert_eq!(renamed.hash(), template.hash());
    }
    assert_ne!(Template::alpaca().hash(), Template::prompt().hash());
    let future = Template::alpaca().to_json().replace("\"version\": 1", "\"version\": 99");
    assert!(Template::from_json(&future).unwrap_err().to_string().contains("version 99"));
    let typo = Template::alpaca().to_json().replace("\"columns\"", "\"colums\"");
    assert!(Template::from_json(&typo).unwrap_err().to_string().contains("colums"));
}

#[test]
fn labels_become_words() {
    let mut template = Template::prompt().with_columns(Some("reviews"), None, Some("sentiment"));
    template.columns.answer_words.insert("0".into(), "negative".into());
    template.columns.answer_words.insert("1".into(), "positive".into());
    let (_guard, path) = file("a.tsv", "reviews\tsentiment\na\t1\nb\t0\nc\t2\n");
    let error = load(&path, &options(template.clone())).unwrap_err().to_string();
    assert!(error.contains("is \"2\", for which no word is given (given: 0, 1)"), "{error}");
    let Some(path) = shared("sentiment/uci_sentences/imdb_labelled.txt") else { return };
    let prepared = load(&path, &options(template)).unwrap();
    assert_eq!((prepared.report.rows_read, prepared.report.rows_used), (1000, 1000));
}

#[test]
fn alpaca_becomes_forests_that_compute_the_preamble_once() {
    let (Some(data), Some(model)) =
        (shared("instruct/alpaca_data.json.gz"), shared("tokenizers/llama2/tokenizer.model"))
    else {
        return;
    };
    let tokenizer = Tokenizer::load(model.parent().unwrap()).unwrap();
    let start = std::time::Instant::now();
    let prepared =
        load_examples(&[data], &options(Template::alpaca()), &tokenizer, &mut Quiet).unwrap();
    println!("{} tokens in {:.2?}", prepared.report.tokens, start.elapsed());
    let report = &prepared.report;
    assert_eq!(report.rows_read, 52_002);
    assert_eq!(report.empty_answers.total, 28);
    let dropped: u64 = report.dropped.values().map(|d| d.total).sum();
    assert_eq!(report.rows_used + dropped, 52_002);
    assert_eq!(report.answers, report.answers_ended);
    assert_eq!(report.special_text, 0);
    println!("{}; prefix mismatches {:?}", report.dropped_words(), report.prefix_mismatches);
    let rows: Vec<_> = prepared.examples[..256].iter().collect();
    let batches = micro_batches(&rows, &Limits::tokens(4096)).unwrap();
    let computed: usize = batches.iter().map(|b| b.computed_tokens()).sum();
    let all: usize = batches.iter().map(|b| b.row_tokens).sum();
    println!("{computed} computed of {all} in {} forests", batches.len());
    assert!(computed * 10 < all * 8);
    for batch in &batches {
        batch.forest.validate(32_000).unwrap();
    }
}
