//! What a run finds in its folder when it goes on: a checkpoint that has rotted, links that lead elsewhere.

use paddock_cli::run::events::{Event, Reason};
use paddock_cli::run::signals::Signals;
use paddock_cli::train::report::Listener;
use paddock_cli::train::{Launch, train};
use paddock_tests::desk::Desk;

use crate::{TRAIN, desk};

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

/// A run of twelve steps that was stopped after the ninth.
fn stopped(desk: &Desk, out: &str) {
    let mut flags = SETTINGS.map(|(key, text)| (key.to_string(), text.to_string())).to_vec();
    for (key, name) in [("model", "model"), ("data", "rows.json"), ("out", out)] {
        flags.push((key.to_string(), desk.path(name).display().to_string()));
    }
    let signals = Signals::default();
    let mut listener = StopsAfter { step: 9, signals: signals.clone() };
    let launch = Launch { flags, ..Launch::default() };
    let ended = train(&launch, &mut listener, &signals).expect("it ends well");
    assert_eq!(ended.reason, Reason::Interrupted);
}

#[test]
fn f41_a_rotten_checkpoint_is_said_loudly_and_kept_and_the_run_ends_in_the_same_bits() {
    let desk = desk();
    let more = "--lora-dropout 0.1 --max-steps 12 --save-every 4 --token-cache false";
    desk.run(&format!("{TRAIN} {more} --out whole"), 0);
    stopped(&desk, "run");
    let newest = "run/checkpoints/step-9/weights.safetensors";
    let mut weights = desk.bytes(newest);
    let middle = weights.len() / 2;
    weights[middle] ^= 1;
    crate::write(&desk, newest, &weights);
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
    let adapter = |run: &str| desk.bytes(&format!("{run}/adapter/adapter_model.safetensors"));
    assert!(adapter("run") == adapter("whole"), "other bits at the end");
}

#[test]
#[cfg(unix)]
fn f42_a_run_folder_with_links_in_it_is_refused_and_nothing_is_written_through_them() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 4 --save-every 2 --out run"), 0);
    std::fs::create_dir(desk.path("elsewhere")).expect("a folder");
    let precious = "elsewhere/precious";
    crate::write(&desk, precious, "not a run's");
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
