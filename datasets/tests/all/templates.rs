//! Jinja templates: promptsource and chat, against Python's own rendering, and attacks on them.

use std::path::PathBuf;

use paddock_datasets::encode::encode;
use paddock_datasets::error::Error;
use paddock_datasets::record::Record;
use paddock_datasets::template::{Body, Chat, Columns, Compiled, Template, VERSION, promptsource};
use paddock_datasets::tokenizer::Tokenizer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::{shared, small_model};

fn golden(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn digest(text: &str) -> String {
    let hex: String = Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    hex[..16].to_string()
}

fn record(value: Value) -> Record {
    let Value::Object(columns) = value else { panic!("not an object") };
    Record { row: 0, byte: None, line: None, columns }
}

fn chat_of(jinja: &str) -> Template {
    let body = Chat {
        jinja: jinja.to_string(),
        bos_token: "<s>".into(),
        eos_token: "</s>".into(),
        specials: vec!["<s>".into(), "</s>".into()],
        today: "2026-01-31".into(),
    };
    let columns = Columns::default();
    Template { version: VERSION, name: "chat".into(), columns, body: Body::Chat(body) }
}

#[test]
fn all_promptsource_templates_parse_and_render_as_python_does() {
    let golden = golden("promptsource.json");
    let Some(root) = shared("promptsource") else { return };
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let (mut parsed, mut equal, mut wrong) = (0, 0, Vec::<String>::new());
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "yaml")) {
        let templates = promptsource::load(file).unwrap();
        for (number, template) in templates.iter().enumerate() {
            let compiled = template.compile().unwrap();
            parsed += 1;
            let relative = file.strip_prefix(&root).unwrap().display();
            let key = format!("{relative}#{number}");
            let Some(entry) = golden["rendered"].get(&key) else { continue };
            let row: serde_json::Map<String, Value> = entry[0]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, i)| {
                    (name.clone(), golden["values"][i.as_u64().unwrap() as usize].clone())
                })
                .collect();
            let found = compiled.parts(&record(Value::Object(row))).map(|parts| {
                let both: Vec<String> =
                    [Some(parts.input), parts.target].into_iter().flatten().collect();
                digest(&both.join("\u{1f}"))
            });
            match found {
                Ok(hash) if entry[1] == hash.as_str() => equal += 1,
                Ok(_) => wrong.push(format!("{key}: another text")),
                Err(error) => {
                    wrong.push(error.to_string().replace("template ", &format!("{key}: ")))
                }
            }
        }
    }
    println!("{parsed} parsed, {equal} equal, {} not:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(golden["templates"], parsed);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn chat_templates_render_as_hugging_face_does() {
    let golden = golden("chat.json");
    let Some(root) = shared("chat_templates") else { return };
    let (mut equal, mut wrong) = (0, Vec::new());
    for (name, expected) in golden["rendered"].as_object().unwrap() {
        let mut text = std::fs::read_to_string(root.join(name)).unwrap();
        if name.ends_with(".json") {
            let config: Value = serde_json::from_str(&text).unwrap();
            text = config["chat_template"].as_str().unwrap().to_string();
        }
        let compiled = match chat_of(&text).compile() {
            Ok(compiled) => compiled,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let mut expected = expected.as_array().unwrap().iter();
        for messages in golden["conversations"].as_array().unwrap() {
            for tools in [Value::Null, golden["tools"].clone()] {
                for opened in [false, true] {
                    let expected = expected.next().unwrap().as_str().unwrap();
                    // Where Hugging Face stops because there is no list of tools to go through,
                    // a missing list counts as an empty one here.
                    if tools.is_null() && name.ends_with("hermes3_tool_use.jinja") {
                        assert_eq!(expected, "error");
                        continue;
                    }
                    let found = raw(&compiled, messages, &tools, opened);
                    match found {
                        Ok(text) if digest(&text) == expected => equal += 1,
                        Err(_) if expected == "error" => equal += 1,
                        Ok(text) => wrong.push(format!("{name} {opened}: {text:?}")),
                        Err(error) => wrong.push(format!("{name} {opened}: {error}")),
                    }
                }
            }
        }
    }
    println!("{equal} equal, {} not:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(wrong, Vec::<String>::new());
}

fn raw(
    compiled: &Compiled,
    messages: &Value,
    tools: &Value,
    opened: bool,
) -> Result<String, Error> {
    compiled.chat_text(messages.as_array().unwrap(), tools, opened)
}

#[test]
fn promptsource_helpers() {
    let template = Template::jinja(
        "t",
        "{{ answers | most_frequent | join(', ') }} {{ ['x', 'y', 'z'] | choice }} ||| {{ answer_choices[label] }}",
        Some("no ||| {{ yes }}"),
    );
    let compiled = template.compile().unwrap();
    let mut row =
        record(json!({"answers": ["a", "b", "a", "b", "c"], "label": 1, "yes": "aye ||| still"}));
    let parts = compiled.parts(&row).unwrap();
    assert!(parts.input.starts_with("a, b "), "{}", parts.input);
    assert_eq!(parts.target.as_deref(), Some("aye ||| still"));
    assert_eq!(parts.choices.as_deref().map(<[String]>::len), Some(2));
    assert_eq!(compiled.parts(&row).unwrap(), parts);
    let drawn: std::collections::BTreeSet<String> = (0..50)
        .map(|i| {
            row.row = i;
            compiled.parts(&row).unwrap().input
        })
        .collect();
    assert_eq!(drawn.len(), 3);
    let rendered = template.render(&row).unwrap();
    assert_eq!(rendered.last_answer(), "aye ||| still");
}

#[test]
fn faults_are_named_with_place_variable_and_row() {
    let fault =
        Template::jinja("t", "line one\n{{ text ", None).compile().err().unwrap().to_string();
    assert!(fault.contains("template t, line 2"), "{fault}");
    assert!(fault.contains('^'), "{fault}");
    let mut row = record(json!({"text": "a"}));
    row.row = 7;
    let error =
        Template::jinja("t", "{{ txet }} ||| b", None).render(&row).unwrap_err().to_string();
    assert!(error.contains("row 7") && error.contains("`txet`"), "{error}");
    assert!(error.contains("did you mean \"text\""), "{error}");
}

#[test]
fn attacks_end_in_errors() {
    let row = record(json!({"text": "a", "list": [1, 2, 3]}));
    for attack in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
        "{{ range(999999999) }}",
        "{{ 'a' * 999999999 }}",
        "{{ ('a' * 90000000) ~ ('b' * 90000000) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include 'main' %}",
        "{% include '/etc/passwd' %}",
        "{% import 'main' as m %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ text.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__dict__ }}",
        "{{ debug() }}{{ undefined_function() }}",
        "{% set l = [] %}{{ l.append(l) }}{{ l }}",
        "{% set l = [] %}{% for i in range(20000) %}{{ l.append(i) }}{% endfor %}",
        "{{ list.append(4) }}",
        &format!("{{{{ '\"'{} }}}}", " | tojson".repeat(40)),
        &format!("{{{{ '\"'{} }}}}", " | pprint".repeat(40)),
        &format!("{{{{ 'a'{} }}}}", " | replace('a', 'aa')".repeat(40)),
        &format!("{{{{ 'a'{} }}}}", ".replace('a', 'aa')".repeat(40)),
        &format!("{{{{ 'a'{} }}}}", " | list | string".repeat(20)),
        &format!("{{{{ 'ab'{} }}}}", " | join('abc')".repeat(40)),
    ] {
        let result = Template::jinja("t", &format!("{attack} ||| b"), None).render(&row);
        assert!(result.is_err(), "{attack} gave {:?}", result.map(|r| r.text.len()));
    }
    let long = "{{ text }}".repeat(200_000);
    assert!(Template::jinja("t", &long, None).compile().is_err());
    let deep = format!(
        "{}1{} ||| b",
        "{{ ".to_string() + &"(".repeat(100_000),
        ")".repeat(100_000) + " }}"
    );
    assert!(Template::jinja("t", &deep, None).compile().is_err());
}

const SIMPLE: &str = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

#[test]
fn answers_are_found_without_generation_blocks_and_end_in_the_end_token() {
    let model = small_model();
    let tokenizer = Tokenizer::load(model.path()).unwrap();
    let row = record(json!({"messages": [
        {"role": "user", "content": "a </s> b"}, {"role": "assistant", "content": "the"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "an"}]}));
    let template = chat_of(SIMPLE);
    let rendered = template.render(&row).unwrap();
    let answers: Vec<&str> = rendered.answers().iter().map(|r| &rendered.text[r.clone()]).collect();
    assert_eq!(answers, ["the</s>", "an</s>"]);
    assert!(rendered.text.starts_with("<s>[user]a </s> b</s>\n[assistant]the"));
    let encoded = encode(&tokenizer, &rendered).unwrap();
    assert_eq!(encoded.tokens.iter().filter(|t| **t == 1).count(), 1);
    // Four that the template wrote; the user's own stays text.
    assert_eq!(encoded.tokens.iter().filter(|t| **t == 2).count(), 4);
    assert_eq!((encoded.answers, encoded.answers_ended, encoded.special_text), (2, 2, 1));
    let trained_ends =
        encoded.tokens.iter().zip(&encoded.trained).filter(|(t, trained)| **t == 2 && **trained);
    assert_eq!(trained_ends.count(), 2);
    let prompt = template.render_prompt(&row).unwrap();
    assert!(rendered.text.starts_with(&prompt.text) && prompt.text.ends_with("[assistant]"));
    let asked = template.render_question("Who?", "").unwrap();
    assert_eq!(asked.text, "<s>[user]Who?</s>\n[assistant]");
}

#[test]
fn generation_blocks_are_the_trained_spans() {
    let source = "{%- for m in messages %}\n  {%- if m.role == 'assistant' %}\nA:\n    {%- generation %}\n{{- m.content }}!{{ eos_token }}\n    {%- endgeneration %}\n  {%- else %}\nQ:{{ m.content }}\n  {%- endif %}\n{%- endfor %}";
    let row = record(json!({"conversations": [
        {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}));
    let rendered = chat_of(source).render(&row).unwrap();
    assert_eq!(rendered.text, "Q:aA:b!</s>");
    assert_eq!(rendered.last_answer(), "b!</s>");
}

#[test]
fn seed_tasks_have_a_template_of_their_own() {
    let Some(path) = shared("instruct/seed_tasks.jsonl") else { return };
    let rows = paddock_datasets::readers::open(&path, &Default::default()).unwrap();
    let template = Template::for_layout(rows.detected()).unwrap().compile().unwrap();
    let mut count = 0;
    for row in rows {
        let rendered = template.render(&row.unwrap()).unwrap();
        assert!(!rendered.has_empty_answer());
        count += 1;
    }
    assert_eq!(count, 175);
}

#[test]
fn conversations_of_every_layout() {
    let template = chat_of(SIMPLE);
    for (row, expected) in [
        (json!({"prompt": "q", "completion": "a"}), "<s>[user]q</s>\n[assistant]a</s>\n"),
        (
            json!({"instruction": "q", "input": "i", "output": "a"}),
            "<s>[user]q\n\ni</s>\n[assistant]a</s>\n",
        ),
        (
            json!({"prompt": "q", "chosen": "a", "rejected": "b"}),
            "<s>[user]q</s>\n[assistant]a</s>\n",
        ),
        (
            json!({"conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}),
            "<s>[user]q</s>\n[assistant]a</s>\n",
        ),
        (
            json!({"system": "s", "messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]},
                {"role": "assistant", "content": "a"}]}),
            "<s>[system]s</s>\n[user]q</s>\n[assistant]a</s>\n",
        ),
    ] {
        assert_eq!(template.render(&record(row.clone())).unwrap().text, expected, "{row}");
    }
    for (row, words) in [
        (json!({"messages": "x"}), "holds a string, expected a list"),
        (json!({"messages": [{"content": "x"}]}), "message 0: has neither \"role\" nor \"from\""),
        (json!({"conversations": [{"from": "alien", "value": "x"}]}), "\"from\" is \"alien\""),
        (json!({"review": "x"}), "there is no column \"messages\""),
    ] {
        let error = template.render(&record(row)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn days_are_written_as_templates_ask() {
    use paddock_datasets::template::date::Date;
    let day = Date::parse("2026-01-31").unwrap();
    assert_eq!(
        day.format("%d %b %Y, %A, %j %% %B %y-%m"),
        "31 Jan 2026, Saturday, 031 % January 26-01"
    );
    assert_eq!(Date::parse("2000-02-29").unwrap().format("%a"), "Tue");
    for wrong in
        ["2026-02-30", "1900-02-29", "2026-13-01", "26-01-01", "2026-01", "x", "2026-01-01-1"]
    {
        assert!(Date::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_loop_may_assign_to_its_own_variable() {
    let source =
        "{% for t in list %}x{% if t %}{% set t = 5 %}{% endif %}{{ t }}{% endfor %} ||| b";
    let row = record(json!({"list": [1, 2]}));
    let found = Template::jinja("t", source, None).compile().unwrap().parts(&row).unwrap();
    assert_eq!(found.input, "x5x5");
}
