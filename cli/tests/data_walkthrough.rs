//! Every command of docs/data.md, in order, in one folder: on made-up files, and on the real ones where they are at
//! hand.

use std::path::{Path, PathBuf};

use paddock_tests::desk::Desk;
use serde_json::{Value, json};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/data.md");
    std::fs::read_to_string(path).expect("docs/data.md")
}

/// The page's RUN.toml.
fn run_toml() -> String {
    let page = page();
    let text = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    text.expect("a block of TOML").to_string()
}

/// The lines of docs/data.md that begin with `core-cli`.
fn commands() -> Vec<String> {
    let text = page();
    let lines = text.lines().filter_map(|line| line.strip_prefix("core-cli "));
    lines.map(str::to_string).collect()
}

/// Runs all of them and looks at what came out.
fn walk(desk: &Desk) {
    let commands = commands();
    assert!(commands.len() > 22, "{commands:?}");
    std::fs::write(desk.path("RUN.toml"), run_toml()).expect("a file");
    for command in &commands {
        desk.run(command, 0);
    }
    let mixture = desk.json_lines("mixture.jsonl");
    assert_eq!(mixture.len(), 600);
    let of = |name: &str| {
        mixture
            .iter()
            .filter(|r| r["template"].as_str().is_some_and(|t| t.starts_with(name)))
            .count()
    };
    assert!(of("summarisation/") > 0 && of("alpaca") > 0, "two kinds of templates");
    assert_eq!(of("sentiment/"), 0);
    assert!(desk.json_lines("judged.jsonl").iter().all(|r| r["template"] == "sentiment/terse"));
    for run in ["run", "mixed"] {
        assert!(desk.path(&format!("{run}/adapter/adapter_model.safetensors")).is_file(), "{run}");
    }
    let shots = desk.json_lines("shots.jsonl");
    assert!(shots.iter().all(|row| row["prompt"].as_str().is_some_and(|p| p.len() > 100)));

    // What is held out is refused, and nothing is written.
    let leak = "data mix summaries.jsonl sentiment.jsonl --hold-out sentiment --out leak.jsonl";
    let (_, err) = desk.run(leak, 2);
    assert!(err.contains("sentiment.jsonl: row 0 is of the cluster sentiment"), "{err}");
    assert!(!desk.path("leak.jsonl").exists());
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| format!("{row}\n")).collect()
}

fn task(about: &str) -> String {
    let instance = |n: usize| {
        json!({"id": format!("{about}-{n}"), "input": format!("{about} question {n}?"),
            "output": [format!("answer {n}")]})
    };
    let instances: Vec<Value> = (0..60).map(instance).collect();
    let example = json!({"input": "a", "output": "b", "explanation": "c"});
    json!({
        "Definition": [format!("Answer a question about {about}.")],
        "Positive Examples": [example], "Negative Examples": [], "Instances": instances,
    })
    .to_string()
}

#[test]
fn the_walk_through_on_made_up_files() {
    let desk = Desk::new(env!("CARGO_BIN_EXE_core-cli"));
    let write = |name: &str, text: String| {
        std::fs::write(desk.path(name), text).expect("a file");
    };
    let review = |n: usize| {
        let text = format!("lamp {n} of shop {} gives light {} and wears {}", n * 3, n * n, n + 7);
        json!({"label": n % 2, "title": format!("lamp {n}"), "text": text, "source": "made up"})
    };
    write("reviews.jsonl.gz", lines((0..60).map(review)));
    let chat = |n: usize| {
        let dialogue =
            format!("Ann: are you at number {n}?\r\nBob: no, at {}, come over by {}", n * 2, n + 3);
        json!({"id": n.to_string(), "dialogue": dialogue, "summary": format!("Bob is at {}.", n * 2)})
    };
    write("dialogues.jsonl.gz", lines((0..60).map(chat)));
    write("commonsense.json.gz", task("kitchens"));
    write("science.json.gz", task("planets"));
    walk(&desk);
}

#[test]
fn the_walk_through_on_real_files() {
    let real = [
        ("reviews.jsonl.gz", "sentiment/amazon_binary/test.jsonl.gz"),
        ("dialogues.jsonl.gz", "summarization/samsum/validation.jsonl.gz"),
        (
            "commonsense.json.gz",
            "flan/superni/task073_commonsenseqa_answer_generation/train.json.gz",
        ),
        ("science.json.gz", "flan/superni/task591_sciq_answer_generation/train.json.gz"),
    ];
    let found: Option<Vec<PathBuf>> =
        real.iter().map(|(_, path)| paddock_tests::shared(&format!("data/{path}"))).collect();
    let Some(found) = found else { return };
    let desk = Desk::new(env!("CARGO_BIN_EXE_core-cli"));
    for ((name, _), path) in real.iter().zip(found) {
        std::fs::copy(path, desk.path(name)).expect("a copy");
    }
    walk(&desk);
}
