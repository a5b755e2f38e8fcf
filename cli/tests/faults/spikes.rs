//! A loss that jumps, and a run that goes back to a checkpoint for it.

use paddock_cli::run::checkpoint::latest_good;
use paddock_cli::run::config::RunFile;
use paddock_cli::run::events::{Event, Reason};
use paddock_cli::run::signals::Signals;
use paddock_cli::storage::RealStorage;
use paddock_cli::train::report::Listener;
use paddock_cli::train::{Ended, Launch, train};
use paddock_tests::desk::Desk;
use paddock_tests::toy;
use serde_json::{Value, json};

use crate::{desk, write};

/// Good rows of 90 steps, then `odd` rows unlike all others, then good ones up to 128 steps.
fn rows(desk: &Desk, odd: usize) {
    toy::write_rows(&desk.path("good.json"), 1024);
    let mut rows: Vec<Value> = serde_json::from_slice(&desk.bytes("good.json")).expect("rows");
    let words = ["task", "Below", "###", "an", "request"];
    for i in 0..odd {
        let answer: Vec<&str> = (0..6).map(|j| words[(i + j) % 5]).collect();
        rows[720 + i] = json!({"instruction": "what", "input": "", "output": answer.join(" ")});
    }
    write(desk, "rows.json", serde_json::to_string(&rows).expect("rows"));
}

const ARGS: [(&str, &str); 12] = [
    ("model", "model"),
    ("data", "rows.json"),
    ("batch_size", "8"),
    ("lr", "0.01"),
    ("lr_schedule", "constant"),
    ("epochs", "1"),
    ("lora_rank", "8"),
    ("lora_dropout", "0.1"),
    ("shuffle", "false"),
    ("validation", "none"),
    ("token_cache", "false"),
    ("loss_spike", "rewind"),
];

/// Where a process ends before its time: at this step, or (none) as it goes back; by a signal, or without one word,
/// as if it were killed.
type End = (Option<u64>, bool);

struct Ear {
    end: Option<End>,
    signals: Signals,
}

impl Listener for Ear {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        let Some((at, killed)) = self.end else { return Ok(()) };
        let now = match event {
            Event::Step(step) => at == Some(step.step),
            Event::Rewind(_) => at.is_none(),
            _ => false,
        };
        anyhow::ensure!(!(now && killed), "killed");
        if now {
            self.signals.request_stop();
        }
        Ok(())
    }
    fn note(&mut self, _: &str) {}
    fn busy(&mut self, _: &str) {}
}

fn run(desk: &Desk, out: &str, resume: bool, end: Option<End>) -> anyhow::Result<Ended> {
    let path = |name: &str| desk.path(name).display().to_string();
    let mut flags = vec![("out".to_string(), path(out))];
    if !resume {
        flags.push(("save_every".into(), "20".into()));
        flags.extend(ARGS.map(|(key, text)| match key {
            "model" | "data" => (key.into(), path(text)),
            _ => (key.into(), text.into()),
        }));
    }
    let signals = Signals::default();
    let mut ear = Ear { end, signals: signals.clone() };
    train(&Launch { flags, resume, ..Launch::default() }, &mut ear, &signals)
}

/// Lines of the metrics of one kind, without times.
fn lines(desk: &Desk, out: &str, kind: &str) -> Vec<Value> {
    let mut lines = desk.json_lines(&format!("{out}/metrics.jsonl"));
    lines.retain(|line| line["kind"] == kind);
    for line in &mut lines {
        let object = line.as_object_mut().expect("an object");
        object.retain(|key, _| !["elapsed_s", "tokens_per_s"].contains(&key.as_str()));
    }
    lines
}

/// What the run's record says of going back.
fn record(desk: &Desk, out: &str) -> Vec<String> {
    let text = String::from_utf8(desk.bytes(&format!("{out}/run.toml"))).expect("text");
    RunFile::parse("run.toml", &text).expect("a record").record.rewinds
}

fn adapter(desk: &Desk, out: &str) -> Vec<u8> {
    desk.bytes(&format!("{out}/adapter/adapter_model.safetensors"))
}

#[test]
fn f63_a_run_goes_back_and_passes_the_bad_rows_wherever_it_is_interrupted() {
    let desk = desk();
    rows(&desk, 8);
    assert_eq!(run(&desk, "whole", false, None).expect("a run").reason, Reason::Finished);
    let rewinds = lines(&desk, "whole", "rewind");
    let [rewind] = &rewinds[..] else { panic!("{rewinds:?}") };
    // The rows of steps 81 to 91 are left out; those of step 91 are to blame.
    assert_eq!((&rewind["step"], &rewind["from"]), (&json!(80), &json!(91)));
    assert_eq!((&rewind["number"], &rewind["rows"]), (&json!(1), &json!(88)));
    assert_eq!(rewind["first_rows"][0], 720);
    let steps = lines(&desk, "whole", "step");
    assert!(steps.iter().map(|s| s["step"].as_u64()).eq((1..=128).map(Some)), "each step once");
    let record = record(&desk, "whole");
    assert!(record.len() == 1 && record[0].contains("went back to step 80"), "{record:?}");
    // Stopped on the way there, killed as it goes back, stopped as it does so again, killed and stopped later.
    let ends: [End; 5] =
        [(Some(85), false), (None, true), (None, false), (Some(83), true), (Some(85), false)];
    for (number, &end) in ends.iter().enumerate() {
        let ended = run(&desk, "cut", number > 0, Some(end));
        match ended {
            Ok(ended) => assert_eq!((ended.reason, end.1), (Reason::Interrupted, false), "{end:?}"),
            Err(error) => assert!(end.1 && error.to_string() == "killed", "{end:?}: {error:#}"),
        }
    }
    assert_eq!(run(&desk, "cut", true, None).expect("a run").reason, Reason::Finished);
    assert!(adapter(&desk, "whole") == adapter(&desk, "cut"), "other bits");
    assert_eq!(lines(&desk, "cut", "rewind"), rewinds);
    assert_eq!(lines(&desk, "cut", "step"), steps);
    assert_eq!(self::record(&desk, "cut"), record);
}

#[test]
fn f63_a_run_goes_back_eight_times_and_then_ends_in_words() {
    let desk = desk();
    rows(&desk, 300);
    let args: String =
        ARGS.iter().map(|(k, v)| format!(" --{} {v}", k.replace('_', "-"))).collect();
    let (_, err) = desk.run(&format!("train{args} --save-every 20 --out run"), 1);
    for word in ["step 81: the loss jumped", "gone back 8 times", "checkpoints are kept", "skip"] {
        assert!(err.contains(word), "expected {word:?} in\n{err}");
    }
    assert_eq!(lines(&desk, "run", "rewind").len(), 8);
    let dir = desk.path("run/checkpoints");
    let found = latest_good(&RealStorage, &dir).expect("a folder").found.expect("a checkpoint");
    assert_eq!(found.step, 80);
    // With another policy it goes on from there.
    desk.run("train --resume --allow-changes --loss-spike warn --max-steps 85 --out run", 0);
    // Without a checkpoint to go back to, the step is passed over.
    rows(&desk, 8);
    let (out, err) = desk.run(&format!("train{args} --save-every 100 --out early"), 0);
    assert!(err.contains("nothing was changed by it"), "{err}");
    assert!(out.contains("1 steps were passed over"), "{out}");
    assert!(lines(&desk, "early", "rewind").is_empty());
}
