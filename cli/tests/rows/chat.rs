//! Conversations: the model's own chat template, or a plain one, in training and in answering.

use paddock_tests::desk::Desk;
use serde_json::{Value, json};

fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

/// Conversations of two turns in every layout that data sets use.
fn layouts() -> [(&'static str, Value); 4] {
    let call =
        json!([{"type": "function", "function": {"name": "say", "arguments": {"it": "sky"}}}]);
    [
        (
            "sharegpt.jsonl",
            json!({"conversations": [
                {"from": "human", "value": "what is the sky"}, {"from": "gpt", "value": "blue ."},
                {"from": "human", "value": "what is snow"}, {"from": "gpt", "value": "cold ."}]}),
        ),
        (
            "messages.jsonl",
            json!({"messages": [
                {"role": "system", "content": "say it in one word"},
                {"role": "user", "content": "what is the sky"}, {"role": "assistant", "content": "blue ."},
                {"role": "user", "content": "what is snow"}, {"role": "assistant", "content": "cold ."}]}),
        ),
        (
            "tools.jsonl",
            json!({"tools": [{"type": "function", "function": {"name": "say"}}], "messages": [
                {"role": "user", "content": "what is the sky"},
                {"role": "assistant", "content": null, "tool_calls": call},
                {"role": "tool", "content": "blue"}, {"role": "assistant", "content": "blue ."}]}),
        ),
        (
            "preference.jsonl",
            json!({"prompt": "what is the sky", "chosen": "blue .", "rejected": "green ."}),
        ),
    ]
}

#[test]
fn conversations_of_every_layout_are_trained_on() {
    let desk = desk();
    for (name, row) in layouts() {
        std::fs::write(desk.path(name), format!("{row}\n").repeat(40)).expect("a file");
        let (out, _) = desk.run(&format!("data template render --data {name} --rows 1"), 0);
        assert!(out.contains("template conversation"), "{out}");
        assert!(out.contains("⟦blue .⟧") || out.contains("⟦cold .⟧"), "{name}: {out}");
        assert!(!out.contains("green"), "a rejected answer is never shown: {out}");
        // Tokens of both answers are learned, and nothing else.
        let (plan, _) = desk
            .run(&format!("plan --no-probe --lora-rank 4 --json --model model --data {name}"), 0);
        let plan: Value = serde_json::from_str(&plan).expect("JSON");
        let trained = plan["trained_tokens"].as_u64().expect("a number");
        let rows = plan["train_rows"].as_u64().expect("a number");
        let answers = if name == "preference.jsonl" { 1 } else { 2 };
        assert!(
            trained >= rows * answers * 3 && trained < plan["tokens"].as_u64().unwrap_or(0) / 2
        );
    }
    desk.run("train --lora-rank 4 --model model --data sharegpt.jsonl --max-steps 1 --samples 1 --out run", 0);
    let (out, _) = desk.run("generate --model model --adapter run/adapter --prompt sky --json", 0);
    assert!(out.contains("\"stop\""), "{out}");
}

#[test]
fn the_models_own_chat_template_trains_and_answers() {
    let desk = desk();
    let template = "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}Response : \
                    {% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %} {% else %}\
                    Instruction : {{ m.content }} {% endif %}{% endfor %}\
                    {% if add_generation_prompt %}Response : {% endif %}";
    let settings = json!({"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"});
    std::fs::write(desk.path("model/tokenizer_config.json"), settings.to_string()).expect("a file");
    let (name, row) = &layouts()[0];
    std::fs::write(desk.path(name), format!("{row}\n").repeat(40)).expect("a file");
    let (out, _) = desk.run(
        &format!("data template render --template chat --model model --data {name} --rows 1"),
        0,
    );
    assert!(out.contains("‹<s>›") && out.matches('⟦').count() > 2, "{out}");

    // Chosen by name, and by itself for conversations.
    for (flags, out) in [("--template chat", "a"), ("", "b")] {
        let train = format!(
            "train --lora-rank 4 --model model --data {name} {flags} --max-steps 1 --samples 1 --out {out}"
        );
        desk.run(&train, 0);
        let carried: Value =
            serde_json::from_slice(&desk.bytes(&format!("{out}/adapter/template.json")))
                .expect("JSON");
        assert_eq!((&carried["name"], &carried["body"]["kind"]), (&json!("chat"), &json!("chat")));
        assert_eq!(carried["body"]["jinja"], template);
    }
    assert!(String::from_utf8(desk.bytes("a/run.toml")).expect("text").contains("\ntoday = \"20"));
    desk.run("generate --model model --adapter a/adapter --prompt sky --max-new-tokens 3", 0);
    // A model that was never tuned here speaks as its maker taught it.
    desk.run("generate --model model --prompt sky --max-new-tokens 3", 0);
    desk.run("generate --model model --template chat --prompt sky --max-new-tokens 3", 0);
    std::fs::remove_file(desk.path("model/tokenizer_config.json")).expect("removed");
    let (_, err) = desk.run("generate --model model --template chat --prompt sky", 2);
    assert!(err.contains("this model has no chat template of its own"), "{err}");
}

#[test]
fn every_row_of_a_file_is_answered_once_and_judged() {
    let desk = desk();
    let questions = [
        json!({"instruction": "what is the sky", "output": "blue .", "kind": "colour"}),
        json!({"messages": [
            {"role": "user", "content": "what is the sky"}, {"role": "assistant", "content": "blue ."},
            {"role": "user", "content": "what is snow"}]}),
    ];
    let lines = questions.each_ref().map(|row| format!("{row}\n"));
    std::fs::write(desk.path("asked.jsonl"), lines.concat()).expect("a file");
    let ask =
        "generate --model model --template conversation --max-new-tokens 5 --data asked.jsonl";
    let (_, err) = desk.run(&format!("{ask} --out said.jsonl"), 0);
    assert!(err.contains("2 answers: said.jsonl"), "{err}");
    let said = desk.json_lines("said.jsonl");
    assert_eq!((&said[0]["reference"], &said[0]["kind"]), (&json!("blue ."), &json!("colour")));
    assert!(said[0].get("output").is_none() && said[0]["answer"].is_string());
    assert_eq!(said[1]["messages"].as_array().map(Vec::len), Some(4));
    assert_eq!(said[1]["messages"][3]["role"], "assistant");

    // The same command does nothing twice, and goes on behind a line that broke off.
    let whole = desk.bytes("said.jsonl");
    let first = whole.iter().position(|b| *b == b'\n').expect("a line") + 1;
    std::fs::write(desk.path("said.jsonl"), &whole[..first + 20]).expect("a file");
    let (_, err) = desk.run(&format!("{ask} --out said.jsonl"), 0);
    assert!(err.contains("2 answers, 1 of them earlier"), "{err}");
    assert_eq!(desk.bytes("said.jsonl"), whole);

    // A file with answers of other settings or to other questions is left as it is.
    let (_, err) = desk.run(&format!("{ask} --out said.jsonl --temperature 1"), 2);
    assert!(err.contains("with other settings; name another file"), "{err}");
    let (_, err) = desk.run(&format!("{ask} --out said.jsonl --limit 1"), 2);
    assert!(err.contains("line 1 answers another question"), "{err}");
    assert_eq!(desk.bytes("said.jsonl"), whole);

    let (_, err) =
        desk.run(&ask.replace("conversation", "alpaca").replace("--data", "--out x --data"), 2);
    assert!(
        err.contains("row 1 is a conversation, and the template alpaca knows single questions"),
        "{err}"
    );
    std::fs::write(desk.path("none.jsonl"), "{\"colour\": \"blue\"}\n").expect("a file");
    let (_, err) =
        desk.run("generate --model model --template alpaca --data none.jsonl --out x", 2);
    assert!(err.contains("row 0 has no question"), "{err}");

    // The toy reads little text, so its rubric is short.
    let rubric = "name = \"short\"\ntext = \"{{ question }} {{ answer }}\"\n\
                  [[grade]]\nname = \"bad\"\nvalue = 0\nmeans = \"no\"\n\
                  [[grade]]\nname = \"good\"\nvalue = 1\nmeans = \"yes\"\n";
    std::fs::write(desk.path("short.toml"), rubric).expect("a rubric");
    let judge = "judge rate --answers said.jsonl --rubric short.toml --judge model --out j.jsonl";
    let (out, _) = desk.run(judge, 0);
    assert!(out.contains("judged    2 rows"), "{out}");
}

#[test]
fn a_conversation_is_kept_where_the_template_knows_turns() {
    let desk = desk();
    let mut chat = desk
        .command("chat --model model --template conversation --max-new-tokens 4")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let asked = "what is the sky\nwhat is snow\n/new\nwhat is snow\n";
    let mut stdin = chat.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, asked.as_bytes()).expect("it reads");
    drop(stdin);
    let said = chat.wait_with_output().expect("it ends");
    let said = String::from_utf8(said.stdout).expect("text");
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");

    let turns = |turns: &[(&str, &str)]| -> Value {
        turns.iter().map(|(role, text)| json!({"role": role, "content": text})).collect()
    };
    let rows = [
        json!({"messages": turns(&[("user", "what is the sky"), ("assistant", said[0].trim()), ("user", "what is snow")])}),
        json!({"messages": turns(&[("user", "what is snow")])}),
    ];
    let rows = rows.map(|row| format!("{row}\n")).concat();
    std::fs::write(desk.path("turns.jsonl"), rows).expect("a file");
    desk.run(
        "generate --model model --template conversation --max-new-tokens 4 --data turns.jsonl --out said.jsonl",
        0,
    );
    let answers = desk.json_lines("said.jsonl");
    let last = |row: &Value| row["messages"].as_array().and_then(|t| t.last()).cloned();
    for (row, heard) in answers.iter().zip(&said[1..]) {
        assert_eq!(last(row).expect("a turn")["content"], heard.trim());
    }
}

#[test]
fn f15_answers_are_not_written_over_what_is_read_or_into_another_file() {
    let desk = desk();
    let before = desk.bytes("rows.json");
    assert!(!before.contains(&b'\n'), "all in one line");
    std::fs::write(desk.path("other.json"), &before).expect("a file");
    let ask = "generate --model model --template conversation --limit 1 --data rows.json --out";
    let (_, err) = desk.run(&format!("{ask} ./rows.json"), 2);
    assert!(
        err.contains("rows.json is one of the files that are read; name another file"),
        "{err}"
    );
    assert_eq!(desk.bytes("rows.json"), before);
    let (_, err) = desk.run(&format!("{ask} other.json"), 2);
    assert!(
        err.contains("other.json exists, and its line 1 is no answer of this command"),
        "{err}"
    );
    assert_eq!(desk.bytes("other.json"), before);
}
