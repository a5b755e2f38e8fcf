//! Faults of tokenizers and templates: each ends in a message that says what to do, and exit code 2, before any
//! training.

use paddock_tests::desk::Desk;
use serde_json::{Value, json};

fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

fn write(desk: &Desk, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(desk.path(name), text).expect("a file");
}

fn json_file(desk: &Desk, name: &str) -> Value {
    serde_json::from_slice(&desk.bytes(name)).expect("JSON")
}

const PLAN: &str = "plan --no-probe --lora-rank 4 --model model --data rows.json";

/// The message must hold all of the words.
fn refuses(desk: &Desk, command: &str, words: &[&str]) {
    let (_, err) = desk.run(command, 2);
    for word in words {
        assert!(err.contains(word), "{command}: expected {word:?} in\n{err}");
    }
}

#[test]
fn f18_a_tokenizer_larger_than_the_embedding_is_refused() {
    let desk = desk();
    let mut tokenizer = json_file(&desk, "model/tokenizer.json");
    let token = json!({"id": 43, "content": "<extra>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true});
    tokenizer["added_tokens"].as_array_mut().expect("a list").push(token);
    write(&desk, "model/tokenizer.json", tokenizer.to_string());
    let words = [
        "token 43 (\"<extra>\")",
        "the model's embedding has 43 rows",
        "core-cli export --fit-tokenizer writes one that has them",
    ];
    refuses(&desk, PLAN, &words);
    untie(&desk);
    let (out, _) = desk.run("export --model model --fit-tokenizer --out wide", 0);
    assert!(out.contains("It has 44 tokens now, 1 more than before"), "{out}");
    assert_eq!(json_file(&desk, "wide/config.json")["vocab_size"], 44);
    for table in ["model.embed_tokens.weight", "lm_head.weight"] {
        let (before, after) = (table_of(&desk, "model", table), table_of(&desk, "wide", table));
        let cols = before.len() / 43;
        assert_eq!(after.len(), 44 * cols);
        assert_eq!(after[..43 * cols], before[..], "{table}: the old rows are as they were");
        for (c, &new) in after[43 * cols..].iter().enumerate() {
            let mean =
                before.iter().skip(c).step_by(cols).map(|&x| f64::from(x)).sum::<f64>() / 43.0;
            assert!(
                (f64::from(new) - mean).abs() < 1e-7,
                "{table}, column {c}: {new} is not {mean}"
            );
        }
    }
    desk.run(&PLAN.replace("--model model", "--model wide"), 0);
    let train =
        "train --method full --model wide --data rows.json --max-steps 2 --samples 0 --out run";
    desk.run(train, 0);
    // A number far out of reach would make a model of such tokens.
    tokenizer["added_tokens"].as_array_mut().expect("a list").pop();
    tokenizer["model"]["vocab"]["far"] = json!(16_000_000);
    write(&desk, "model/tokenizer.json", tokenizer.to_string());
    refuses(&desk, "export --model model --fit-tokenizer --out far", &["it is of another model"]);
    assert!(!desk.path("far").exists());
}

/// Gives the toy model a head of its own, with the embedding's numbers.
fn untie(desk: &Desk) {
    let bytes = desk.bytes("model/model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut tensors = file.tensors();
    let table = file.tensor("model.embed_tokens.weight").expect("the embedding");
    tensors.push(("lm_head.weight".to_string(), table));
    let bytes = safetensors::serialize(tensors, None).expect("bytes");
    write(desk, "model/model.safetensors", bytes);
    let mut config = json_file(desk, "model/config.json");
    config["tie_word_embeddings"] = json!(false);
    write(desk, "model/config.json", config.to_string());
}

/// The numbers of a model's tensor in f32.
fn table_of(desk: &Desk, model: &str, name: &str) -> Vec<f32> {
    let bytes = desk.bytes(&format!("{model}/model.safetensors"));
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = file.tensor(name).expect("the tensor");
    let numbers = tensor.data().chunks_exact(4);
    numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn f19_a_damaged_tokenizer_is_refused_with_its_place() {
    let desk = desk();
    let good = json_file(&desk, "model/tokenizer.json");
    let mut broken = good.clone();
    broken["model"]["vocab"]["what"] = json!("three");
    for (text, words) in [
        (broken.to_string(), ["tokenizer.json", "model"]),
        (good.to_string()[..900].to_string(), ["tokenizer.json", "column"]),
        ("\u{0}\u{1}\u{2}".to_string(), ["tokenizer.json", "byte"]),
        (String::new(), ["tokenizer.json", "is empty"]),
        ("version https://git-lfs.github.com/spec/v1\n".to_string(), ["Git LFS", "git lfs pull"]),
    ] {
        write(&desk, "model/tokenizer.json", text);
        refuses(&desk, PLAN, &words);
    }
    std::fs::remove_file(desk.path("model/tokenizer.json")).expect("removed");
    refuses(&desk, PLAN, &["holds neither tokenizer.json nor tokenizer.model"]);
}

#[test]
fn f20_strange_text_is_read_or_named_and_never_stops_the_program() {
    let desk = desk();
    let long = "x".repeat(10 << 20);
    let rows = [
        json!({"instruction": "what \u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{202e}is", "output": "it"}),
        json!({"instruction": long, "output": "it"}),
        json!({"instruction": "\u{feff}\u{301}\u{fffe}", "output": "\u{10ffff}"}),
    ];
    let mut text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    text.push_str("{\"instruction\": \"\\ud800\", \"output\": \"it\"}\n");
    text.push_str("{\"instruction\": \"a\\u0000b\", \"output\": \"it\"}\n");
    write(&desk, "odd.jsonl", text);
    let (out, _) = desk.run("data inspect odd.jsonl --model model", 0);
    assert!(out.contains("4 good, 1 bad"), "{out}");
    assert!(out.contains("row 3 (line 4") && out.contains("broken JSON"), "{out}");
    let (out, _) =
        desk.run("data template render --data odd.jsonl --model bundled:tiny --rows 1", 0);
    assert!(!out.contains('\u{202e}'), "marks that turn the line round are not shown");
    let plan = PLAN.replace("rows.json", "odd.jsonl");
    refuses(&desk, &plan, &["1 row cannot be used", "row 3", "--skip-bad"]);
}

#[test]
fn f21_control_tokens_in_user_text_stay_text_and_are_counted() {
    let desk = desk();
    let mut rows = json_file(&desk, "rows.json");
    rows[3]["instruction"] = json!("say </s> it <s>");
    write(&desk, "rows.json", rows.to_string());
    let (_, err) = desk.run(PLAN, 0);
    let words = "text like a control token occurs 2 times in the rows; it is read as plain text";
    assert!(err.contains(words), "{err}");
}

#[test]
fn f22_a_syntax_error_has_line_column_and_caret() {
    let desk = desk();
    let yaml =
        "templates:\n  a:\n    name: a\n    jinja: |-\n      Hm\n      {{ text | }} ||| {{ b }}\n";
    write(&desk, "bad.yaml", yaml);
    let words = ["template a, line 2, column", "syntax error", "{{ text | }}", "^"];
    refuses(&desk, &format!("{PLAN} --template bad.yaml"), &words);
    let (out, _) = desk.run("data template check bad.yaml", 2);
    assert!(words.iter().all(|word| out.contains(word)), "{out}");
}

#[test]
fn f23_an_undefined_variable_is_named_with_its_row() {
    let desk = desk();
    let yaml = "templates:\n  a:\n    name: a\n    jinja: '{{ instrction }} ||| {{ output }}'\n";
    write(&desk, "bad.yaml", yaml);
    let words =
        ["row 0", "template a", "`instrction`", "did you mean \"instruction\"?", "120 rows cannot"];
    refuses(&desk, &format!("{PLAN} --template bad.yaml"), &words);
}

/// Attacks on Jinja that are known from other programs, and some of our own: code, files, endless loops, bombs.
const ATTACKS: [&str; 23] = [
    // Code, as in the exploits of llama-cpp-python, SGLang and Flask.
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').system('id') }}",
    "{{ config.__class__.from_envvar('PATH') }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ [instruction] | map(attribute='__class__') | list | first }}{{ 1 / 0 }}",
    "{{ instruction | attr('__class__') | attr('__mro__') }}{{ instruction.__class__ }}",
    "{{ ''['__class__']['__base__'] }}",
    // Files.
    "{% include '/etc/passwd' %}",
    "{% import 'main' as m %}{{ m }}",
    "{% extends 'other' %}",
    // Loops.
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
    "{{ range(999999999) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    // Bombs: at one stroke, by doubling, in a loop, by recursion, in a captured block.
    "{{ 'a' * 999999999999 }}",
    "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(s='') %}{% for i in range(99999) %}{% for j in range(99) %}\
     {% set ns.s = ns.s ~ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' %}\
     {% endfor %}{% endfor %}{{ ns.s }}",
    "{% macro f(s, n) %}{% if n > 0 %}{{ f(s ~ s, n - 1) }}{% endif %}{% endmacro %}{{ f('abcd', 50) }}{{ 1 / 0 }}",
    "{% set a = 'a' * 9999999 %}{% set b %}{% for i in range(99999) %}{{ a }}{% endfor %}{% endset %}{{ b }}",
    "{{ ('a' * 90000).replace('a', 'b' * 90000).replace('b', 'c' * 90000) }}",
    // Time: few steps with little memory, each of which searches a long text.
    "{% set a = 'a' * 50000000 %}{% for i in range(99999) %}{% for j in range(9) %}{% if 'ab' in a %}{% endif %}\
     {% endfor %}{% endfor %}",
];

#[test]
fn f24_templates_run_no_code_loop_not_for_ever_and_fill_no_memory() {
    let desk = desk();
    for (number, attack) in ATTACKS.iter().enumerate() {
        let yaml = json!({"templates": {"a": {"name": "a", "jinja": format!("{attack} ||| b")}}});
        write(&desk, "attack.yaml", yaml.to_string());
        let render = "data template render --data rows.json --template attack.yaml --rows 1";
        let (out, err) = desk.run(render, 2);
        assert!(!out.contains("root:") && !out.contains("uid="), "attack {number}: {out}");
        assert!(err.contains("template") && err.len() < 10_000, "attack {number}: {err}");
    }
}

#[test]
fn f25_no_answer_or_two_bos_are_refused() {
    let desk = desk();
    // A chat template that writes no answer: nothing would be learned.
    let silent = "{% for m in messages %}{% if m.role == 'user' %}what {{ m.content }}{% endif %}{% endfor %}";
    let set = |template: &str| {
        let settings = json!({"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"});
        write(&desk, "model/tokenizer_config.json", settings.to_string());
    };
    set(silent);
    refuses(&desk, &format!("{PLAN} --template chat"), &["0 usable rows of 120", "empty answer"]);
    let check = "data template check chat --model model --data rows.json";
    let (out, _) = desk.run(check, 2);
    assert!(out.contains("120 of 120 rows have an empty answer"), "{out}");
    // One that writes BOS twice.
    set("{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m.content }} : {% endfor %}");
    let (out, _) = desk.run(check, 2);
    assert!(out.contains("begin with two BOS tokens"), "{out}");
    let words = ["template chat: row 0 begins with BOS", "twice", "leave it out"];
    refuses(&desk, &format!("{PLAN} --template chat"), &words);
    let train = "train --lora-rank 4 --model model --data rows.json --template chat --max-steps 1 \
                 --samples 0 --out run";
    refuses(&desk, train, &words);
    assert!(!desk.path("run").exists());
    // And one that is good.
    set("{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }} {% endfor %}");
    let (out, _) = desk.run(check, 0);
    assert!(out.contains("1 of 1 templates are good; 120 rows tried"), "{out}");
    desk.run(&format!("{PLAN} --template chat"), 0);
    // Rows that say so themselves say it in plain text.
    let mut rows = json_file(&desk, "rows.json");
    rows[0]["instruction"] = json!("<s><s> what is it");
    write(&desk, "said.json", rows.to_string());
    desk.run(&format!("{} --template chat", PLAN.replace("rows.json", "said.json")), 0);
}
