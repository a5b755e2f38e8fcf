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
        let (plan, _) = desk.run(&format!("plan --no-probe --json --model model --data {name}"), 0);
        let plan: Value = serde_json::from_str(&plan).expect("JSON");
        let trained = plan["trained_tokens"].as_u64().expect("a number");
        let rows = plan["train_rows"].as_u64().expect("a number");
        let answers = if name == "preference.jsonl" { 1 } else { 2 };
        assert!(
            trained >= rows * answers * 3 && trained < plan["tokens"].as_u64().unwrap_or(0) / 2
        );
    }
    desk.run("train --model model --data sharegpt.jsonl --max-steps 1 --samples 1 --out run", 0);
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
            "train --model model --data {name} {flags} --max-steps 1 --samples 1 --out {out}"
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
