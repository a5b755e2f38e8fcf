//! What a run finds in its folder when it goes on: checkpoints that have rotted or are gone, links that lead elsewhere,
//! what a process left behind that ended in the middle of its work.

use std::collections::BTreeMap;
use std::process::ExitCode;

use paddock_cli::error::exit_code;
use paddock_cli::run::checkpoint::{find_step, latest_good};
use paddock_cli::run::events::{Event, Reason};
use paddock_cli::run::lock::holder;
use paddock_cli::run::process::orderly;
use paddock_cli::run::signals::Signals;
use paddock_cli::storage::RealStorage;
use paddock_cli::train::report::Listener;
use paddock_cli::train::{Launch, train};
use paddock_tests::desk::Desk;
use serde_json::Value;

use crate::{TRAIN, desk, files_below, write};

/// Asks for a stop after a step.
struct StopsAfter {
    step: u64,
    signals: Signals,
}

impl Listener for StopsAfter {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        if matches!(event, Event::Step(step) if step.step == self.step) {
            self.signals.request_stop();
        }
        Ok(())
    }
    fn note(&mut self, _: &str) {}
    fn busy(&mut self, _: &str) {}
}

/// What TRAIN says, and a checkpoint after every fourth of twelve steps.
const SETTINGS: [(&str, &str); 9] = [
    ("batch_size", "8"),
    ("lr", "0.01"),
    ("samples", "1"),
    ("sample_tokens", "4"),
    ("lora_rank", "4"),
    ("lora_dropout", "0.1"),
    ("max_steps", "12"),
    ("save_every", "4"),
    ("token_cache", "false"),
];

/// A run of twelve steps.
fn twelve(desk: &Desk, out: &str) -> Launch {
    let mut flags = SETTINGS.map(|(key, text)| (key.to_string(), text.to_string())).to_vec();
    for (key, name) in [("model", "model"), ("data", "rows.json"), ("out", out)] {
        flags.push((key.to_string(), desk.path(name).display().to_string()));
    }
    Launch { flags, ..Launch::default() }
}

/// The same on the command line.
const TWELVE: &str = "--lora-dropout 0.1 --max-steps 12 --save-every 4 --token-cache false";

/// A run of twelve steps that was stopped after the ninth.
fn stopped(desk: &Desk, out: &str) {
    let signals = Signals::default();
    let mut listener = StopsAfter { step: 9, signals: signals.clone() };
    let ended = train(&twelve(desk, out), &mut listener, &signals).expect("it ends well");
    assert_eq!(ended.reason, Reason::Interrupted);
}

#[test]
fn f41_a_rotten_checkpoint_is_said_loudly_and_kept_and_the_run_ends_in_the_same_bits() {
    let desk = desk();
    desk.run(&format!("{TRAIN} {TWELVE} --out whole"), 0);
    stopped(&desk, "run");
    let newest = "run/checkpoints/step-9/weights.safetensors";
    let weights = rot(&desk, newest);
    let (_, err) = desk.run("train --resume --out run", 0);
    let line = err.lines().find(|line| line.contains("is passed over")).unwrap_or_default();
    for words in ["warning", "step-9", "weights.safetensors", "the checksum differs"] {
        assert!(line.contains(words), "expected {words:?} in {line:?} of\n{err}");
    }
    // Nobody has to take its word for it: what is damaged is still there, under a name of its own.
    let aside = "run/checkpoints/damaged-step-9/weights.safetensors";
    assert!(desk.bytes(aside) == weights, "the damaged checkpoint was changed");
    assert!(desk.path("run/checkpoints/step-12").is_dir());
    assert_eq!(desk.losses("run"), desk.losses("whole"));
    assert!(adapter(&desk, "run") == adapter(&desk, "whole"), "other bits at the end");
}

fn adapter(desk: &Desk, run: &str) -> Vec<u8> {
    desk.bytes(&format!("{run}/adapter/adapter_model.safetensors"))
}

/// Another bit in the middle of a file; what it holds then.
fn rot(desk: &Desk, name: &str) -> Vec<u8> {
    let mut bytes = desk.bytes(name);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write(desk, name, &bytes);
    bytes
}

/// Every file of a run, but its lock.
fn everything(desk: &Desk) -> BTreeMap<String, Vec<u8>> {
    let names = files_below(desk, "run").into_iter().filter(|name| !name.ends_with("run.lock"));
    names.map(|name| (name.clone(), desk.bytes(&name))).collect()
}

/// A run does not begin anew: exit code 2, these words, and every file is what it was.
fn begins_not_anew(desk: &Desk, words: &[&str]) {
    let before = everything(desk);
    let (_, err) = desk.run("train --resume --out run", 2);
    let always = ["the run cannot go on", "step 0", "nothing was changed", "from a copy", "--out"];
    for word in always.iter().chain(words) {
        assert!(err.contains(word), "expected {word:?} in\n{err}");
    }
    assert!(everything(desk) == before, "something was changed: {err}");
}

#[test]
fn f41_a_run_whose_checkpoints_are_all_bad_or_gone_does_not_begin_anew() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 4 --save-every 2 --out run"), 0);
    let good = everything(&desk);
    let weights = |step: u64| format!("run/checkpoints/step-{step}/weights.safetensors");
    for step in [2, 4] {
        rot(&desk, &weights(step));
    }
    let words = ["step-4 is passed over", "step-2 is passed over", "the checksum differs"];
    begins_not_anew(&desk, &words);
    // They are all gone, and then nothing but the result says that there were any.
    let to = |from: &str, to: &str| std::fs::rename(desk.path(from), desk.path(to)).expect("moved");
    to("run/checkpoints", "aside");
    begins_not_anew(&desk, &["there is none", "ending.json says that it saved step 4"]);
    to("run/ending.json", "ending.json");
    begins_not_anew(&desk, &["there is none, although the run wrote", "adapter"]);
    // Put back, everything is as it was.
    std::fs::remove_dir(desk.path("run/checkpoints")).expect("an empty folder");
    to("aside", "run/checkpoints");
    to("ending.json", "run/ending.json");
    for step in [2, 4] {
        rot(&desk, &weights(step));
    }
    assert!(everything(&desk) == good);
    desk.run("train --resume --out run", 0);
    assert_eq!(desk.losses("run").len(), 4);
}

#[test]
fn f41_a_best_state_that_has_rotted_is_said_and_the_last_state_is_the_result() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 40 --eval-every 20 --out run"), 0);
    // With such a rate it soon gets much worse.
    desk.run("train --resume --allow-changes --lr 10 --max-steps 44 --out run", 0);
    let ending =
        || -> Value { serde_json::from_slice(&desk.bytes("run/ending.json")).expect("JSON") };
    let (best, good) = (ending()["done"]["best_step"].clone(), adapter(&desk, "run"));
    assert!(best.as_u64() < Some(44), "{best}");
    let folder = format!("run/checkpoints/step-{best}");
    let is_the_last = |err: &str, why: &str| {
        let best = format!("warning: the best state, of step {best}, cannot be taken back");
        for words in [&best, "the last state, of step 44", "Put that checkpoint back", why] {
            assert!(err.contains(words), "expected {words:?} in\n{err}");
        }
        let now = ending();
        assert_eq!((&now["done"]["best_step"], &now["done"]["step"]), (&44.into(), &44.into()));
        let verdict = now["verdict"].as_str().expect("a verdict");
        assert!(verdict.contains("could not be taken back from its checkpoint"), "{verdict}");
        let report = String::from_utf8(desk.bytes("run/report.html")).expect("text");
        assert!(report.contains("could not be taken back") && !report.contains("best: "));
        let samples = desk.json_lines("run/samples.jsonl");
        assert!(!samples.is_empty() && samples.iter().all(|sample| sample["step"] == 44));
        assert!(adapter(&desk, "run") != good, "the result is the best state still");
    };
    let weights = format!("{folder}/weights.safetensors");
    rot(&desk, &weights);
    let (_, err) = desk.run("train --resume --out run", 0);
    is_the_last(&err, "the checksum differs");
    rot(&desk, &weights);
    std::fs::rename(desk.path(&folder), desk.path("aside")).expect("moved");
    let (_, err) = desk.run("train --resume --out run", 0);
    is_the_last(&err, "it has no manifest.json");
    // With the checkpoint back, so is the best state.
    std::fs::rename(desk.path("aside"), desk.path(&folder)).expect("moved back");
    let (_, err) = desk.run("train --resume --out run", 0);
    assert!(!err.contains("cannot be taken back"), "{err}");
    assert!(ending()["done"]["best_step"] == best && adapter(&desk, "run") == good);
}

#[test]
fn f62_steps_that_are_not_finite_push_no_good_checkpoint_out() {
    let desk = desk();
    let on = "train --resume --allow-changes --max-steps 8";
    for run in ["whole", "run"] {
        desk.run(&format!("{TRAIN} --max-steps 4 --save-every 1 --validation none --out {run}"), 0);
    }
    desk.run(&format!("{on} --out whole"), 0);
    // So strong an adapter makes numbers that are too large for their type.
    let (_, err) = desk.run(&format!("{on} --lora-alpha 1e38 --out run"), 1);
    for words in ["step 5: the loss is not a finite number", "step 7", "3 such steps in a row"] {
        assert!(err.contains(words), "expected {words:?} in\n{err}");
    }
    let dir = desk.path("run/checkpoints");
    for step in [3, 4] {
        find_step(&RealStorage, &dir, step).expect("a good checkpoint");
    }
    let search = latest_good(&RealStorage, &dir).expect("a folder");
    assert_eq!(search.found.map(|found| found.step), Some(4), "a step that was passed over");
    desk.run(&format!("{on} --lora-alpha 8 --out run"), 0);
    assert_eq!(desk.losses("run"), desk.losses("whole"));
    assert!(adapter(&desk, "run") == adapter(&desk, "whole"), "other bits at the end");
}

/// Asks for a stop at a warning with such words.
struct StopsAtWarning {
    words: &'static str,
    signals: Signals,
}

impl Listener for StopsAtWarning {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        if matches!(event, Event::Warning(warning) if warning.message.contains(self.words)) {
            self.signals.request_stop();
        }
        Ok(())
    }
    fn note(&mut self, _: &str) {}
    fn busy(&mut self, _: &str) {}
}

#[test]
fn f62_an_interruption_between_steps_that_are_not_finite_grants_no_more_of_them() {
    let desk = desk();
    let mut launch = twelve(&desk, "run");
    let signals = Signals::default();
    let mut listener = StopsAfter { step: 4, signals: signals.clone() };
    let ended = train(&launch, &mut listener, &signals).expect("a stop");
    assert_eq!(ended.reason, Reason::Interrupted);
    launch.flags.push(("lora_alpha".to_string(), "1e38".to_string()));
    (launch.resume, launch.allow_changes) = (true, true);
    let signals = Signals::default();
    let words = "step 6: the loss is not a finite number";
    let mut listener = StopsAtWarning { words, signals: signals.clone() };
    let ended = train(&launch, &mut listener, &signals).expect("a stop");
    assert_eq!(ended.reason, Reason::Interrupted);
    let (_, err) = desk.run("train --resume --out run", 1);
    assert!(err.contains("step 7: the loss") && err.contains("3 such steps in a row"), "{err}");
    assert!(!err.contains("step 8"), "the steps before the interruption count: {err}");
}

/// Ends the work in its own way after a step.
struct EndsAfter {
    step: u64,
    how: fn() -> anyhow::Result<()>,
}

impl Listener for EndsAfter {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        let now = matches!(event, Event::Step(step) if step.step == self.step);
        if now { (self.how)() } else { Ok(()) }
    }
    fn note(&mut self, _: &str) {}
    fn busy(&mut self, _: &str) {}
}

/// A run of twelve steps that ends so after one of them, in a process that catches panics as every one does: its exit
/// code and words.
fn ended(desk: &Desk, out: &str, step: u64, how: fn() -> anyhow::Result<()>) -> (ExitCode, String) {
    let launch = twelve(desk, out);
    let mut words = String::new();
    let code =
        orderly(|| match train(&launch, &mut EndsAfter { step, how }, &Signals::default()) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                words = format!("{error:#}");
                ExitCode::from(exit_code(&error))
            }
        });
    (code, words)
}

fn panics() -> anyhow::Result<()> {
    panic!("in a listener, for a test")
}

fn lost() -> anyhow::Result<()> {
    Err(paddock_core::Error::DeviceLost("the card is gone".to_string()).into())
}

#[test]
fn f51_f56_after_a_panic_or_with_a_lost_device_the_last_checkpoint_is_good_and_the_lock_is_free() {
    let desk = desk();
    desk.run(&format!("{TRAIN} {TWELVE} --out whole"), 0);
    type Way = fn() -> anyhow::Result<()>;
    let panics: Way = panics;
    for (out, how, expected, said) in
        [("panic", panics, 1, ""), ("lost", lost as Way, 3, "the card is gone")]
    {
        let (code, words) = ended(&desk, out, 5, how);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(expected)), "{out}");
        assert_eq!(words, said, "{out}");
        let folder = desk.path(out);
        assert_eq!(holder(&folder), None, "{out}: the lock is held");
        let search = latest_good(&RealStorage, &folder.join("checkpoints")).expect("a folder");
        assert!(search.bad.is_empty(), "{out}: {:?}", search.bad);
        assert_eq!(search.found.map(|found| found.step), Some(4), "{out}");
        let (_, err) = desk.run(&format!("train --resume --out {out}"), 0);
        assert!(err.contains("Going on from step 4"), "{out}: {err}");
        assert_eq!(desk.losses(out), desk.losses("whole"), "{out}");
        assert!(adapter(&desk, out) == adapter(&desk, "whole"), "{out}: other bits at the end");
    }
}

#[test]
fn f38_a_run_that_ended_before_its_first_checkpoint_begins_anew() {
    let desk = desk();
    desk.run(&format!("{TRAIN} {TWELVE} --out whole"), 0);
    let (_, words) = ended(&desk, "run", 3, || anyhow::bail!("as if it were killed"));
    assert_eq!((words.as_str(), desk.losses("run").len()), ("as if it were killed", 3));
    let (_, err) = desk.run("train --resume --out run", 0);
    assert!(err.contains("Going on from step 0"), "{err}");
    assert_eq!(desk.losses("run"), desk.losses("whole"));
    assert!(adapter(&desk, "run") == adapter(&desk, "whole"), "other bits at the end");
}

#[test]
#[cfg(unix)]
fn f42_a_run_folder_with_links_in_it_is_refused_and_nothing_is_written_through_them() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 4 --save-every 2 --out run"), 0);
    std::fs::create_dir(desk.path("elsewhere")).expect("a folder");
    let precious = "elsewhere/precious";
    write(&desk, precious, "not a run's");
    let aside = desk.path("aside");
    let names = [
        ("metrics.jsonl", precious),
        ("answers.jsonl", precious),
        ("samples.jsonl", precious),
        ("run.toml", precious),
        ("run.lock", precious),
        ("ending.json", "elsewhere/nothing"),
        ("checkpoints", "elsewhere"),
    ];
    for (name, target) in names {
        let place = desk.path("run").join(name);
        let was_there = place.exists();
        if was_there {
            std::fs::rename(&place, &aside).expect("moved");
        }
        std::os::unix::fs::symlink(desk.path(target), &place).expect("a link");
        let (_, err) = desk.run("train --resume --out run", 2);
        for words in [name, "it is a link", "its own folder", "put what it leads to in its place"] {
            assert!(err.contains(words), "{name}: expected {words:?} in\n{err}");
        }
        assert_eq!(desk.bytes(precious), b"not a run's", "{name}");
        let there = std::fs::read_dir(desk.path("elsewhere")).expect("a folder").count();
        assert_eq!(there, 1, "{name}: something was put where the link leads");
        std::fs::remove_file(&place).expect("removed");
        if was_there {
            std::fs::rename(&aside, &place).expect("moved back");
        }
    }
    desk.run("train --resume --out run", 0);
}
