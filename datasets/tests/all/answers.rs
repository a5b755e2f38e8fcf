//! Where answers end, answers that say nothing, and text that is made to mislead or to take time.

// `encode` takes a list of ranges, often of one.
#![allow(clippy::single_range_in_vec_init)]

use std::path::Path;
use std::time::Instant;

use crate::common::small_model;
use paddock_datasets::encode::{encode, prompt_is_prefix};
use paddock_datasets::record::Record;
use paddock_datasets::template::{Body, VERSION};
use paddock_datasets::template::{Chat, Columns, Compiled, Rendered, Template};
use paddock_datasets::tokenizer::Tokenizer;
use paddock_datasets::tokenizer::settings::ConfigTexts;
use serde_json::{Value, json};

fn base64(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |part: &[u8]| {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(*part.get(i).unwrap_or(&0)));
        let digit = |i: usize| match i <= part.len() {
            true => char::from(digits[bits >> (18 - 6 * i) & 63]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(four).collect()
}

/// A rank file as Llama 3 has one: all bytes and a few words.
fn ranks() -> Tokenizer {
    let bytes = (0..=255u8).map(|b| vec![b]);
    let words = ["Ye", "Yes", "\n\n", ".\n", ".\n\n", "##", "###"];
    let tokens = bytes.chain(words.map(|word| word.as_bytes().to_vec()));
    let lines = tokens.enumerate().map(|(rank, token)| format!("{} {rank}\n", base64(&token)));
    let text: String = lines.collect();
    let path = Path::new("t/tokenizer.model");
    Tokenizer::from_bytes(path, text.as_bytes(), &ConfigTexts::default()).unwrap()
}

fn record(value: Value) -> Record {
    let Value::Object(columns) = value else { panic!("not an object") };
    Record { row: 0, byte: None, line: None, columns }
}

fn chat_of(jinja: &str) -> Compiled {
    let body = Chat {
        jinja: jinja.to_string(),
        eos_token: "</s>".into(),
        specials: vec!["<s>".into(), "</s>".into()],
        ..Chat::default()
    };
    let (name, columns) = ("chat".into(), Columns::default());
    Template { version: VERSION, name, columns, body: Body::Chat(body) }.compile().unwrap()
}

/// Trained tokens in order, each as its text.
fn trained(tokenizer: &Tokenizer, rendered: &Rendered) -> Vec<String> {
    let found = encode(tokenizer, rendered).unwrap();
    let pairs = found.tokens.iter().zip(&found.trained);
    pairs.filter(|(_, t)| **t).map(|(id, _)| tokenizer.decode(&[*id], false).unwrap()).collect()
}

#[test]
fn an_answer_ends_before_eos_where_a_token_would_straddle_its_end() {
    let tokenizer = ranks();
    // What makes the case: full stop and line breaks are one token.
    assert_eq!(tokenizer.encode_plain("Yes.\n\n").unwrap().ids.len(), 2);
    let (ask, yes) = (json!({"role": "user", "content": "a"}), json!("Yes."));
    let yes = json!({"role": "assistant", "content": yes});
    let row = record(json!({"messages": [ask, yes, ask, yes]}));
    let rendered = Template::conversation().render(&row).unwrap();
    let turn = ["Yes", ".", "<|end_of_text|>"];
    assert_eq!(trained(&tokenizer, &rendered), [turn, turn].concat());
    let found = encode(&tokenizer, &rendered).unwrap();
    assert_eq!((found.answers, found.answers_ended), (2, 2));
    assert_eq!(tokenizer.decode(&found.tokens, true).unwrap(), rendered.text, "nothing is lost");
    assert_eq!(found.tokens.last(), tokenizer.token_id("Ċ").as_ref(), "the rest comes after EOS");
    assert!(prompt_is_prefix(&tokenizer, &rendered).unwrap());
    // Without such a token, the text is encoded as a whole.
    let mut plain = Rendered::default();
    plain.literal("a.\n\n");
    plain.answer("Yes");
    plain.literal(".\n\n");
    let ids = tokenizer.encode(&plain.text, &[0..4, 7..10]).unwrap().ids;
    let own = encode(&tokenizer, &plain).unwrap();
    let kept: Vec<u32> = own.tokens.into_iter().filter(|t| *t < 263).collect();
    assert_eq!(kept, ids);
}

#[test]
fn a_tokenizer_that_would_put_a_blank_in_front_of_a_piece_is_not_cut() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    assert!(!tokenizer.cuts_freely() && ranks().cuts_freely());
    let mut rendered = Rendered::default();
    rendered.literal("a");
    rendered.answer("b\n");
    rendered.literal("\n");
    let found = encode(&tokenizer, &rendered).unwrap();
    let ids = tokenizer.encode_plain(&rendered.text).unwrap().ids;
    assert_eq!(found.tokens.iter().filter(|t| **t > 2).copied().collect::<Vec<_>>(), ids);
}

const PLAIN: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ m.tool_calls }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

#[test]
fn an_answer_that_says_nothing_is_seen_under_the_models_own_template() {
    let blocks = "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let ask = json!({"role": "user", "content": "a"});
    let calls = json!([{"function": {"name": "say"}}]);
    for source in [PLAIN, blocks] {
        let template = chat_of(source);
        for (answer, empty) in [
            (json!({"role": "assistant", "content": ""}), true),
            (json!({"role": "assistant", "content": " \n"}), true),
            (json!({"role": "assistant", "content": null}), true),
            (json!({"role": "assistant", "content": null, "tool_calls": []}), true),
            (json!({"role": "assistant", "content": null, "tool_calls": calls}), false),
            (json!({"role": "assistant", "content": "the"}), false),
        ] {
            let row = record(json!({"messages": [ask, answer]}));
            let rendered = template.render(&row).unwrap();
            assert_eq!(rendered.has_empty_answer(), empty, "{answer}: {}", rendered.text);
            assert!(!empty || !rendered.text.contains("None"), "{}", rendered.text);
        }
        // An earlier answer counts as well.
        let (none, the) =
            (json!({"role": "assistant"}), json!({"role": "assistant", "content": "b"}));
        let row = record(json!({"messages": [ask, none, ask, the]}));
        assert!(template.render(&row).unwrap().has_empty_answer());
    }
}

#[test]
fn f25_a_template_that_reads_another_field_teaches_nothing() {
    let rest = "{% if add_generation_prompt %}[assistant]{% endif %}";
    let source = |field: &str| {
        let turn = "{{ '[' + m.role + ']' }}{{ m.FIELD }}{{ eos_token }}\n".replace("FIELD", field);
        format!("{{% for m in messages %}}{turn}{{% endfor %}}{rest}")
    };
    let row = record(json!({"messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}));
    for (field, empty) in [("content", false), ("contnt", true)] {
        let rendered = chat_of(&source(field)).render(&row).unwrap();
        assert_eq!(rendered.has_empty_answer(), empty, "{field}: {}", rendered.text);
    }
}

#[test]
fn f30_what_is_missing_is_never_taught_as_a_word() {
    let answer = json!({"role": "assistant", "content": "b"});
    for ask in [json!({"role": "user", "text": "a"}), json!({"role": "system", "content": null})] {
        let row = record(json!({"messages": [ask, answer]}));
        let words = chat_of(PLAIN).render(&row).unwrap_err().to_string();
        assert!(words.contains("message 0") && words.contains("has no content"), "{words}");
    }
    let template = Template::jinja("t", "{{ q }}{% if x is none %}!{% endif %} ||| {{ a }}", None);
    let rendered = template.render(&record(json!({"q": "is it", "x": null, "a": null}))).unwrap();
    assert_eq!((rendered.text.trim(), rendered.has_empty_answer()), ("is it!", true));
}

#[test]
fn a_long_text_may_be_changed_as_long_as_it_does_not_grow() {
    let text = "ab\\".repeat(4 << 20);
    let template = Template::jinja("t", "{{ text | replace('a', 'x') | length }} ||| b", None);
    let rendered = template.render(&record(json!({"text": text}))).unwrap();
    assert!(rendered.text.starts_with(&format!("{}", 12 << 20)), "{:.40}", rendered.text);
    let template = Template::jinja("t", "{{ text.replace('a', 'xy') | length }} ||| b", None);
    let words = template.render(&record(json!({"text": text}))).unwrap_err().to_string();
    assert!(words.contains("its filters make more than 1048576 bytes"), "{words}");
}

#[test]
fn f19_tokens_of_megabytes_are_refused() {
    let long = base64(&[b'a'; 5000]);
    let lines = (0..=255u8).map(|b| format!("{} {b}\n", base64(&[b]))).collect::<String>();
    let text = format!("{lines}{long} 256\n");
    let path = Path::new("t/tokenizer.model");
    let error = Tokenizer::from_bytes(path, text.as_bytes(), &ConfigTexts::default());
    let words = error.err().expect("refused").to_string();
    assert!(words.contains("a token of 5000 bytes") && words.contains("257"), "{words}");
}

#[test]
fn a_tag_may_end_in_its_own_percent_sign() {
    let row = record(json!({"messages": [{"role": "assistant", "content": "b"}]}));
    for source in ["{%}{% generation %}x{% endgeneration %}", "{%%}", "{%"] {
        let template = Chat { jinja: source.into(), ..Chat::default() };
        let (name, columns) = ("chat".into(), Columns::default());
        let template = Template { version: VERSION, name, columns, body: Body::Chat(template) };
        assert!(template.compile().is_err() || template.render(&row).is_err(), "{source}");
    }
}

#[test]
fn a_megabyte_of_special_tokens_takes_linear_time() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let count = 200_000;
    let text = "</s>a".repeat(count);
    let start = Instant::now();
    let literal: Vec<_> = (0..count).map(|i| 5 * i..5 * i + 4).collect();
    let found = tokenizer.encode(&text, &literal).unwrap();
    assert_eq!((found.special_text, found.ids.iter().filter(|id| **id == 2).count()), (0, count));
    // One byte short: text.
    let literal: Vec<_> = (0..count).map(|i| 5 * i..5 * i + 3).collect();
    assert_eq!(tokenizer.encode(&text, &literal).unwrap().special_text, count);
    let row = record(json!({"messages": [
        {"role": "user", "content": text}, {"role": "assistant", "content": text}]}));
    let rendered = chat_of("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}");
    let rendered = rendered.render(&row).unwrap();
    assert_eq!(encode(&tokenizer, &rendered).unwrap().special_text, 2 * count);
    // Far below what a quadratic method would need, far above what a loaded machine adds.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn marks_in_the_data_move_no_mask() {
    let blocks = "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}|{% endif %}{% endfor %}";
    let row = record(json!({"messages": [
        {"role": "user", "content": "a\u{fdd1}b\u{fdd0}</s>"},
        {"role": "assistant", "content": "c\u{fdd2}d\u{fdd3}"}]}));
    let rendered = chat_of(blocks).render(&row).unwrap();
    assert_eq!(rendered.text, "a\u{fffd}b\u{fffd}</s>|c\u{fffd}d\u{fffd}");
    assert_eq!(rendered.answers().len(), 1);
    assert_eq!(rendered.last_answer(), "c\u{fffd}d\u{fffd}");
    let template = Template::jinja("t", "{{ q }} ||| {{ a }}", None);
    let row = record(json!({"q": "x\u{fdd3}y|||", "a": "z\u{fdd3}"}));
    let rendered = template.render(&row).unwrap();
    assert_eq!(
        (&rendered.text[..], rendered.last_answer()),
        ("x\u{fffd}y|||\nz\u{fffd}", "z\u{fffd}")
    );
}
