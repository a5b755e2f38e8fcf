//! A mixture of many sets with many templates, straight from RUN.toml; and the token cache behind it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use paddock_datasets::fewshot::Choice;
use paddock_datasets::shots::{Gather, Shots};
use paddock_tests::desk::Desk;
use serde_json::{Value, json};

const SETTINGS: &str = "model = \"model\"\nmax_steps = 6\nbatch_size = 4\nsamples = 0\nlora_rank = 4\nlr_schedule = \"constant\"\n";

/// Reviews, questions and pairs about three different things.
fn desk() -> Desk {
    let desk = Desk::new(env!("CARGO_BIN_EXE_core-cli"));
    let mut reviews = String::new();
    let mut topics = String::new();
    for n in 0..90 {
        let word = ["blue", "green", "black"][n % 3];
        let text =
            format!("the sky of day {n} is {word} and the night of day {n} is cold {}", n * n);
        let _ = writeln!(reviews, "{}", json!({"text": text, "label": n % 2}));
        let text =
            format!("grass {n} of the sun {n} is {word} in the snow and it is warm {}", n * 7);
        let _ = writeln!(topics, "{}", json!({"text": text, "topic": word}));
    }
    std::fs::write(desk.path("reviews.jsonl"), reviews).expect("a file");
    std::fs::write(desk.path("topics.jsonl"), topics).expect("a file");
    let pairs = "pairs:\n  - name: one\n    input: \"what is the colour of {text} ?\"\n    target: \"{topic}\"\n  \
                 - name: two\n    input: \"the colour is {topic} : say it .\"\n    target: \"{text}\"\n    inverted: true\n";
    std::fs::write(desk.path("topics.yaml"), pairs).expect("a file");
    desk
}

fn run_toml(desk: &Desk, text: &str) {
    std::fs::write(desk.path("RUN.toml"), format!("{SETTINGS}{text}")).expect("a file");
}

const SETS: &str = "[[mixture]]\ndata = \"rows.json\"\ncluster = \"questions\"\n\
                    [[mixture]]\nname = \"colours\"\ndata = [\"topics.jsonl\"]\ntemplate = \"topics.yaml\"\n\
                    cluster = \"topic\"\n\
                    [[mixture]]\ndata = \"reviews.jsonl\"\ntemplate = [\"cluster:sentiment\"]\n";

fn losses(desk: &Desk, run: &str) -> Vec<Value> {
    let lines = desk.json_lines(&format!("{run}/metrics.jsonl"));
    let steps = lines.into_iter().filter(|line| line.get("grad_norm").is_some());
    steps.map(|line| json!([line["step"], line["loss"], line["rows"]])).collect()
}

fn plan(desk: &Desk) -> Value {
    let (out, _) = desk.run("plan --no-probe --json RUN.toml", 0);
    serde_json::from_str(&out).expect("JSON")
}

#[test]
fn many_sets_and_templates_train_and_resume_by_one_integer() {
    let desk = desk();
    run_toml(
        &desk,
        &format!("shots = 1\nshots_rate = 0.5\nsave_every = 2\neval_every = 2\n{SETS}"),
    );
    let found = plan(&desk);
    // 120 rows of questions and 90 of each other set, less those held out.
    let rows = found["train_rows"].as_u64().expect("a number");
    assert!((240..=300).contains(&rows), "{found}");
    assert!(found["validation_rows"].as_u64() >= Some(24), "{found}");
    let sets = found["sets"].as_array().expect("sets").clone();
    assert_eq!(sets.len(), 3);
    assert_eq!((&sets[1]["name"], &sets[1]["templates"]), (&json!("colours"), &json!(2)));
    assert!(sets[2]["templates"].as_u64() >= Some(10), "{sets:?}");

    desk.run("train RUN.toml --out whole", 0);
    desk.run("train RUN.toml --out again --token-cache false --threads 1", 0);
    assert_eq!(
        losses(&desk, "whole"),
        losses(&desk, "again"),
        "the same bits, with or without the cache"
    );
    // Stopped after two steps and gone on with.
    desk.run("train RUN.toml --out parts --max-steps 2 --warmup-steps 0", 0);
    desk.run("train RUN.toml --out straight --warmup-steps 0", 0);
    desk.run("train --resume --out parts --max-steps 6 --allow-changes", 0);
    assert_eq!(losses(&desk, "parts"), losses(&desk, "straight"));
    let adapter = "adapter/adapter_model.safetensors";
    assert_eq!(desk.bytes(&format!("parts/{adapter}")), desk.bytes(&format!("straight/{adapter}")));

    let text = String::from_utf8(desk.bytes("whole/run.toml")).expect("text");
    assert!(text.contains("cluster:sentiment") && text.contains("template_sha256"), "{text}");
    let (_, err) = desk.run("train whole/run.toml --out repeated", 0);
    assert_eq!(losses(&desk, "whole"), losses(&desk, "repeated"), "{err}");
}

#[test]
fn rates_follow_caps_temperature_and_weights() {
    let desk = desk();
    let shares = |text: &str| -> Vec<f64> {
        run_toml(&desk, &format!("validation = \"none\"\n{text}"));
        let sets = plan(&desk)["sets"].as_array().expect("sets").clone();
        sets.iter().map(|set| set["share"].as_f64().expect("a number")).collect()
    };
    let near = |found: &[f64], wanted: &[f64]| {
        assert!(
            found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.02),
            "{found:?} {wanted:?}"
        );
    };
    near(&shares(SETS), &[0.4, 0.3, 0.3]);
    near(&shares(&format!("mixture_cap = 45\n{SETS}")), &[0.333, 0.333, 0.333]);
    near(&shares(&format!("mixture_temperature = 100.0\n{SETS}")), &[0.333, 0.333, 0.333]);
    let weights = SETS.replacen("cluster = \"questions\"", "weight = 3\nmax_rows = 20", 1);
    let weights = weights.replacen("cluster = \"topic\"", "weight = 1", 1);
    near(&shares(&format!("{weights}weight = 1\n")), &[0.6, 0.2, 0.2]);
    let (_, err) = {
        run_toml(&desk, &weights);
        desk.run("plan --no-probe RUN.toml", 2)
    };
    assert!(err.contains("give a weight to every set of the mixture or to none"), "{err}");
}

#[test]
fn clusters_are_held_out_and_leaks_refused() {
    let desk = desk();
    run_toml(&desk, &format!("hold_out = [\"sentiment\"]\n{SETS}"));
    let found = plan(&desk);
    let names: Vec<&Value> =
        found["sets"].as_array().expect("sets").iter().map(|s| &s["name"]).collect();
    assert_eq!(names, [&json!("rows.json"), &json!("colours")]);
    assert_eq!(found["validation_rows"], 90, "the held-out set judges");
    desk.run("train RUN.toml --out held --samples 1", 0);

    let refused = |text: &str, words: &str| {
        run_toml(&desk, text);
        let (_, err) = desk.run("plan --no-probe RUN.toml", 2);
        assert!(err.contains(words), "{words}: {err}");
    };
    refused(&format!("hold_out = [\"sentimnet\"]\n{SETS}"), "hold_out sentimnet: the clusters are");
    refused(&format!("hold_out = [\"nli\", \"sentiment\"]\n{SETS}"), "hold_out nli");
    refused(&format!("hold_out = [\"code\"]\n{SETS}"), "no set of the mixture is of it");
    let unknown = SETS.replacen("cluster = \"questions\"\n", "", 1);
    refused(
        &format!("hold_out = [\"sentiment\"]\n{unknown}"),
        "it is not known to which cluster it belongs",
    );
    let lying = format!(
        "{SETS}cluster = \"topic\"\n[[mixture]]\ndata = \"reviews.jsonl\"\ntemplate = \
                         \"cluster:sentiment/terse\"\n"
    );
    refused(
        &format!("hold_out = [\"sentiment\"]\n{lying}"),
        "its template cluster:sentiment is of a cluster",
    );
    // The same texts under another name, in another set.
    desk.run(
        "data convert reviews.jsonl --rename text=output --add instruction=say --out copy.jsonl",
        0,
    );
    let leak = format!("{SETS}[[mixture]]\ndata = \"copy.jsonl\"\ncluster = \"code\"\n");
    refused(
        &format!("hold_out = [\"sentiment\"]\n{leak}"),
        "90 rows to train on have a text that is held out",
    );
    desk.run("data convert reviews.jsonl --template cluster:sentiment/terse --out pairs.jsonl", 0);
    let leak = format!("{SETS}[[mixture]]\ndata = \"pairs.jsonl\"\ncluster = \"code\"\n");
    refused(&format!("hold_out = [\"sentiment\"]\n{leak}"), "row 0 is of the cluster sentiment");
}

#[test]
fn a_mixture_is_checked_like_any_setting() {
    let desk = desk();
    let refused = |text: &str, words: &str| {
        run_toml(&desk, text);
        let (_, err) = desk.run("plan --no-probe RUN.toml", 2);
        assert!(err.contains(words), "{words}: {err}");
    };
    refused("[[mixture]]\ndata = \"rows.json\"\ntemplat = \"alpaca\"\n", "unknown field `templat`");
    refused("[[mixture]]\ntemplate = \"alpaca\"\n", "missing field `data`");
    refused("data = \"rows.json\"\n[[mixture]]\ndata = \"rows.json\"\n", "not both");
    refused("hold_out = [\"code\"]\ndata = \"rows.json\"\n", "write the data as [[mixture]] sets");
    refused("mixture_temperature = 0.0\n[[mixture]]\ndata = \"rows.json\"\n", "must be above 0");
    refused("[[mixture]]\ndata = \"gone.json\"\n", "gone.json: there is no such file");
    refused("shots = 2\nshots_rate = 1.5\ndata = \"rows.json\"\n", "must be from 0 to 1");
    // One set as a flag.
    let set = "{data=\"rows.json\",template=\"alpaca\"}";
    let (out, _) =
        desk.run(&format!("plan --no-probe --lora-rank 4 --json --model model --mixture {set}"), 0);
    assert!(out.contains("\"sets\":[{"), "{out}");
}

#[test]
fn worked_examples_stand_before_rows_and_labels_are_defined() {
    let desk = desk();
    let render = "data template render --data reviews.jsonl --template cluster:sentiment/terse --rows 60 \
                  --shots 2 --shots-by balanced --shots-rate 1 --define negative=bad --define positive=good";
    let (out, _) = desk.run(&format!("{render} --json"), 0);
    let rows: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    for row in &rows {
        let input = row["input"].as_str().expect("text");
        assert!(
            input.starts_with("The labels are:\n- negative: bad\n- positive: good\n\n"),
            "{input}"
        );
        assert_eq!(input.matches("Sentiment:").count(), 3, "{input}");
        assert!(
            input.contains("Sentiment:\nnegative") && input.contains("Sentiment:\npositive"),
            "{input}"
        );
    }
    let (nearest, _) = desk.run(&format!("{render} --json").replace("balanced", "nearest"), 0);
    assert_ne!(out, nearest);
    let (half, _) =
        desk.run(&format!("{render} --json").replace("--shots-rate 1", "--shots-rate 0.5"), 0);
    let with = half.lines().filter(|line| line.contains("The labels are")).count();
    assert!((15..45).contains(&with), "{with} of 60");
}

#[test]
fn f31_twins_of_worked_examples_are_not_held_out() {
    let desk = desk();
    // Each text stands in two rows.
    let row = |n: usize| {
        let text = format!("the sky of day {} is blue and the night is cold", n / 2);
        format!("{}\n", json!({"instruction": text, "output": "blue"}))
    };
    std::fs::write(desk.path("twice.jsonl"), (0..120).map(row).collect::<String>())
        .expect("a file");
    desk.run(
        "train --lora-rank 4 --model model --max-steps 2 --samples 0 --shots 1 --seed 5 --data twice.jsonl \
         --template prompt --columns prompt=instruction --columns answer=output --validation 0.4 --out run",
        0,
    );
    let found: Value = serde_json::from_slice(&desk.bytes("run/held_out.json")).expect("JSON");
    let held: Vec<u64> =
        found["rows"].as_array().expect("rows").iter().filter_map(Value::as_u64).collect();
    let (choice, labels) = (Choice::Balanced, BTreeMap::new());
    let gather = Gather::new(&Shots { k: 1, choice, rate: 1.0, seed: 5, labels });
    let examples = (0..120).filter(|row| gather.wants(*row)).count();
    assert!((10..60).contains(&examples) && held.len() > 20, "{examples}, {held:?}");
    for row in held {
        assert!(!gather.wants(row), "row {row} is an example");
        assert!(!gather.wants(row ^ 1), "row {row} has the text of an example");
    }
}

#[test]
fn tokens_are_made_once_and_anew_when_anything_changes() {
    let desk = desk();
    let cache = desk.path("cache");
    let plan = |flags: &str| {
        let mut command = desk.command(&format!(
            "plan --no-probe --lora-rank 4 --model model --data rows.json {flags}"
        ));
        assert!(command.env("PADDOCK_CACHE", &cache).output().expect("it starts").status.success());
        let entries = std::fs::read_dir(cache.join("tokens")).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|e| e.file_name().to_string_lossy().to_string()).collect();
        names.sort();
        names
    };
    let first = plan("");
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(plan(""), first, "made once");
    assert_eq!(plan("--seed 7 --lr 1e-3"), first, "what does not matter makes nothing anew");
    assert_eq!(plan("--max-seq-len 64").len(), 2);
    assert_eq!(
        plan("--template prompt --columns prompt=instruction --columns answer=output").len(),
        3
    );
    let text = String::from_utf8(desk.bytes("rows.json")).expect("text");
    std::fs::write(desk.path("rows.json"), text.replace("blue", "cold")).expect("a file");
    assert_eq!(plan("").len(), 4);
    // A damaged file is made anew.
    for name in plan("") {
        std::fs::write(cache.join("tokens").join(name), b"PDKTOK01").expect("a file");
    }
    assert_eq!(plan("").len(), 4);
}
