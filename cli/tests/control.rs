//! What others may ask of a run that goes on, and what it tells and writes on its way.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use paddock_tests::desk::Desk;
use paddock_tests::toy;
use serde_json::Value;

fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

/// Far more steps than any test waits for.
const LONG: &str = "train --model model --data rows.json --batch-size 8 --lr 0.01 --max-steps 200000 \
                    --eval-every 100000 --samples 0 --lora-rank 8 --events jsonl";

/// A run whose events are read as they come.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(desk: &Desk, args: &str) -> Running {
        let mut command = desk.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("core-cli starts");
        let out = child.stdout.take().expect("a pipe");
        Running { child, lines: BufReader::new(out).lines() }
    }

    /// Reads on until an event is so.
    fn until(&mut self, so: impl Fn(&Value) -> bool) -> Value {
        let lines = self.lines.by_ref().map(|line| line.expect("text"));
        let events = lines.map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
        events.into_iter().find(|event| so(event)).expect("the event comes before the end")
    }

    fn ends(mut self) -> Option<i32> {
        while self.lines.next().is_some() {}
        self.child.wait().expect("an end").code()
    }
}

fn ask(desk: &Desk, run: &str, word: &str) {
    std::fs::write(desk.path(run).join("control"), word).expect("written");
}

fn losses(desk: &Desk, run: &str) -> Vec<Value> {
    let lines = desk.json_lines(&format!("{run}/metrics.jsonl"));
    lines.iter().filter(|l| l["kind"] == "step").map(|l| l["loss"].clone()).collect()
}

#[test]
fn a_run_pauses_goes_on_and_stops_by_a_word_in_its_folder() {
    let desk = desk();
    let mut run = Running::start(&desk, &format!("{LONG} --out paused"));
    run.until(|e| e["kind"] == "step" && e["step"] == 5);
    ask(&desk, "paused", "pause");
    let pause = run.until(|e| e["kind"] == "pause");
    assert_eq!((&pause["waiting"], &pause["asked"]), (&Value::Bool(true), &Value::Bool(true)));
    let length = |name: &str| std::fs::metadata(desk.path(name)).expect("a file").len();
    let before = length("paused/metrics.jsonl");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(length("paused/metrics.jsonl"), before, "no step is made");
    ask(&desk, "paused", "go");
    let first = run.until(|e| e["kind"] == "pause" && e["waiting"] == false);
    assert_eq!(first["asked"], true);
    let step = run.until(|e| e["kind"] == "step");
    // The pause is no time of training.
    assert!(step["elapsed_s"].as_f64().expect("seconds") > 0.0);
    ask(&desk, "paused", "stop");
    let done = run.until(|e| e["kind"] == "done");
    assert_eq!((&done["reason"], run.ends()), (&Value::from("interrupted"), Some(130)));
    assert!(!desk.path("paused/control").exists());

    // A pause changes no bit; and a run that waits can be stopped too.
    let mut run = Running::start(&desk, &format!("{LONG} --out whole"));
    run.until(|e| e["kind"] == "step" && e["step"] == 40);
    ask(&desk, "whole", "pause");
    run.until(|e| e["kind"] == "pause");
    ask(&desk, "whole", "stop");
    assert_eq!(run.ends(), Some(130));
    let (a, b) = (losses(&desk, "paused"), losses(&desk, "whole"));
    let both = a.len().min(b.len());
    assert!(both > 5 && a[..both] == b[..both]);
}

#[test]
fn a_word_for_an_earlier_run_is_forgotten() {
    let desk = desk();
    let args = LONG.replace("200000", "60").replace("100000", "30");
    let mut run = Running::start(&desk, &format!("{args} --out run"));
    run.until(|e| e["kind"] == "step");
    run.child.kill().expect("killed");
    run.ends();
    ask(&desk, "run", "stop");
    desk.run("train --resume --out run --events jsonl", 0);
    assert_eq!(losses(&desk, "run").len(), 60);
}

const SHORT: &str = "train --model model --data rows.json --batch-size 8 --lr 0.01 --max-steps 24 \
                     --lora-rank 8 --samples 3 --sample-tokens 6 --validation 20";

fn answers(desk: &Desk, run: &str) -> Vec<(u64, String)> {
    let lines = desk.json_lines(&format!("{run}/answers.jsonl"));
    let one = |l: &Value| (l["step"].as_u64().expect("a step"), l["prompt"].to_string());
    lines.iter().map(one).collect()
}

#[test]
fn a_model_is_seen_to_learn_and_that_changes_nothing() {
    let desk = desk();
    let (out, _) = desk.run(&format!("{SHORT} --out run --events jsonl"), 0);
    let events: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let told: Vec<u64> = events
        .iter()
        .filter(|e| e["kind"] == "answer")
        .map(|e| e["step"].as_u64().expect("a step"))
        .collect();
    // An eighth of 24 steps, two prompts each; the last state is asked with the samples.
    let expected: Vec<u64> = (1..8).flat_map(|i| [3 * i, 3 * i]).collect();
    assert_eq!(told, expected);
    let kept = answers(&desk, "run");
    assert_eq!(kept.iter().map(|(step, _)| *step).collect::<Vec<_>>(), expected);
    // They are prompts of the samples, which come first with the answers before training.
    let samples: Vec<&Value> = events.iter().filter(|e| e["kind"] == "sample").collect();
    assert!(samples.len() == 6 && samples[0]["tuned"].is_null() && samples[5]["tuned"].is_string());
    let known: Vec<String> = samples.iter().map(|s| s["prompt"].to_string()).collect();
    assert!(kept.iter().all(|(_, prompt)| known.contains(prompt)));
    desk.run(&format!("{SHORT} --sample-every 0 --out silent"), 0);
    assert!(!desk.path("silent/answers.jsonl").exists());
    assert_eq!(losses(&desk, "run"), losses(&desk, "silent"));
    let adapter = |run: &str| desk.bytes(&format!("{run}/adapter/adapter_model.safetensors"));
    assert_eq!(adapter("run"), adapter("silent"));
}

#[test]
fn answers_after_the_last_checkpoint_come_only_once() {
    let desk = desk();
    let args = format!("{SHORT} --sample-every 1 --save-every 5 --out run --events jsonl");
    let mut run = Running::start(&desk, &args);
    run.until(|e| e["kind"] == "answer" && e["step"] == 7);
    run.child.kill().expect("killed");
    run.ends();
    desk.run("train --resume --out run", 0);
    let steps: Vec<u64> = answers(&desk, "run").iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (1..24).flat_map(|i| [i, i]).collect::<Vec<u64>>());
}

#[test]
fn the_rows_that_a_run_held_out_are_asked_later() {
    let desk = desk();
    desk.run(&format!("{SHORT} --out run"), 0);
    let held: Value = serde_json::from_slice(&desk.bytes("run/held_out.json")).expect("JSON");
    let rows: Vec<u64> =
        held["rows"].as_array().expect("rows").iter().filter_map(Value::as_u64).collect();
    assert_eq!(rows.len(), 20);
    let eval = "eval --model model --adapter run/adapter --metric exact-match";
    desk.run(&format!("{eval} --held-out-by run --json found.json"), 0);
    let found: Value = serde_json::from_slice(&desk.bytes("found.json")).expect("JSON");
    let asked = found["templates"][0]["rows"].as_array().expect("rows");
    let asked: Vec<u64> = asked.iter().filter_map(|row| row["row"].as_u64()).collect();
    assert_eq!(asked, rows);
    // A file of their own is written down as such.
    toy::write_rows(&desk.path("apart.json"), 25);
    // In other words than those that are trained on.
    let text = String::from_utf8(desk.bytes("apart.json")).expect("text");
    std::fs::write(desk.path("apart.json"), text.replace("what is", "say what is"))
        .expect("a file");
    desk.run(
        &format!("{} --validation apart.json --out apart", SHORT.replace(" --validation 20", "")),
        0,
    );
    desk.run(&format!("{eval} --held-out-by apart --json apart-found.json"), 0);
    let found: Value = serde_json::from_slice(&desk.bytes("apart-found.json")).expect("JSON");
    assert_eq!(found["templates"][0]["rows"].as_array().map(Vec::len), Some(25));
    let (_, err) = desk.run(&format!("{eval} --held-out-by model"), 2);
    assert!(err.contains("did not write down which rows it held out"), "{err}");
}

#[test]
fn templates_of_a_set_have_weights_and_some_only_judge() {
    let desk = desk();
    let jinja = |name: &str, text: &str| {
        let template = paddock_datasets::template::Template::jinja(name, text, None);
        std::fs::write(desk.path(name), template.to_json()).expect("a file");
    };
    jinja("a.json", "{{ instruction }} a ||| {{ output }}");
    jinja("b.json", "{{ instruction }} b ||| {{ output }}");
    jinja("judge.json", "say {{ instruction }} ||| {{ output }}");
    let toml = "model = \"model\"\nmax_steps = 3\nbatch_size = 8\nlora_rank = 8\nsamples = 2\nsample_tokens = 4\n\
                validation = 20\ntemplate = \"a.json\"\n[[mixture]]\ndata = \"rows.json\"\n\
                template = [\"a.json\", \"b.json\"]\ntemplate_weight = [1, 3]\njudge_template = \"judge.json\"\n";
    std::fs::write(desk.path("RUN.toml"), toml).expect("a file");
    let (_, err) = desk.run("train RUN.toml --out run", 0);
    assert!(err.contains("2 templates"), "{err}");
    // Held-out rows are asked in words that were never trained.
    let samples = desk.json_lines("run/samples.jsonl");
    let prompts: Vec<&str> = samples.iter().filter_map(|s| s["prompt"].as_str()).collect();
    assert!(
        prompts.len() == 2 && prompts.iter().all(|p| p.trim().starts_with("say")),
        "{prompts:?}"
    );
    for (from, to, word) in [
        ("[1, 3]", "[1]", "1 template weights for 2 templates"),
        ("[1, 3]", "[0, 0]", "one above 0"),
        (
            "judge_template = \"judge.json\"",
            "judge_template = \"a.json\"",
            "both trained with and kept",
        ),
    ] {
        std::fs::write(desk.path("BAD.toml"), toml.replace(from, to)).expect("a file");
        let (_, err) = desk.run("train BAD.toml --out bad", 2);
        assert!(err.contains(word), "{err}");
    }
}

#[test]
fn doctor_names_what_runs_compute_on() {
    let (out, _) = desk().run("doctor --json", 0);
    let found: Value = serde_json::from_str(&out).expect("JSON");
    let first = &found["devices"][0];
    assert_eq!(
        (&first["kind"], &first["flags"]),
        (&Value::from("processor"), &Value::Array(Vec::new()))
    );
}
