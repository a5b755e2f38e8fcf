//! Stops at chosen moments: in an evaluation, after patience has run out, while the result is written. A run that
//! was stopped there and goes on ends like one that was not.

use paddock_cli::run::checkpoint::latest_good;
use paddock_cli::run::control::{CONTROL, Wish, ask};
use paddock_cli::run::events::{Event, Reason};
use paddock_cli::run::signals::Signals;
use paddock_cli::storage::RealStorage;
use paddock_cli::train::report::Listener;
use paddock_cli::train::{Ended, Launch, train};
use paddock_tests::desk::Desk;
use serde_json::Value;

use crate::desk;

/// Asks for a stop once an event is one that it waits for.
struct Stopper<F> {
    signals: Signals,
    at: F,
}

impl<F: FnMut(&Event) -> bool> Listener for Stopper<F> {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        if (self.at)(event) {
            self.signals.request_stop();
        }
        Ok(())
    }
    fn note(&mut self, _: &str) {}
    fn busy(&mut self, _: &str) {}
}

/// A run of six steps with three evaluations and further settings, begun or gone on with, stopped after an event.
fn run(
    desk: &Desk,
    out: &str,
    resume: bool,
    more: &[(&str, &str)],
    at: impl FnMut(&Event) -> bool,
) -> Ended {
    let path = |name: &str| desk.path(name).display().to_string();
    let mut flags = vec![("out".to_string(), path(out))];
    if !resume {
        let all = [
            ("model", path("model")),
            ("data", path("rows.json")),
            ("max_steps", "6".into()),
            ("eval_every", "2".into()),
            ("batch_size", "8".into()),
            ("lora_rank", "4".into()),
            ("samples", "1".into()),
            ("sample_tokens", "4".into()),
            ("token_cache", "false".into()),
        ];
        flags.extend(all.map(|(key, text)| (key.to_string(), text)));
        flags.extend(more.iter().map(|(key, text)| (key.to_string(), text.to_string())));
    }
    let launch = Launch { flags, resume, ..Launch::default() };
    let signals = Signals::default();
    train(&launch, &mut Stopper { signals: signals.clone(), at }, &signals).expect("it ends well")
}

/// The lines of a run's metrics, without what the clock says.
fn metrics(desk: &Desk, out: &str) -> Vec<Value> {
    let mut lines = desk.json_lines(&format!("{out}/metrics.jsonl"));
    for line in &mut lines {
        let line = line.as_object_mut().expect("an object");
        line.remove("elapsed_s");
        line.remove("tokens_per_s");
    }
    lines
}

/// How a run ended, as its folder says.
fn ending(desk: &Desk, out: &str) -> Value {
    serde_json::from_slice(&desk.bytes(&format!("{out}/ending.json"))).expect("JSON")
}

/// Best step, adapter and metrics of a run, to be the same for two of them.
fn outcome(desk: &Desk, out: &str) -> (Value, Vec<u8>, Vec<Value>) {
    let ending = ending(desk, out);
    let adapter = desk.bytes(&format!("{out}/adapter/adapter_model.safetensors"));
    (ending["done"]["best_step"].clone(), adapter, metrics(desk, out))
}

#[test]
fn f57_an_evaluation_that_a_signal_cut_short_is_made_when_the_run_goes_on() {
    let desk = desk();
    let settings: [&[(&str, &str)]; 2] =
        [&[("lr", "0.01")], &[("lr", "0.01"), ("early_stop_on", "train"), ("patience", "3")]];
    for (number, more) in settings.iter().enumerate() {
        let whole = format!("whole-{number}");
        assert_eq!(run(&desk, &whole, false, more, |_| false).reason, Reason::Finished);
        let expected = outcome(&desk, &whole);
        assert_eq!(
            expected.0, 6,
            "the last step is the best, so that losing its evaluation would show"
        );
        for step in [2, 4, 6] {
            let out = format!("cut-{number}-{step}");
            // The step's own event comes before its evaluation.
            let at = |event: &Event| matches!(event, Event::Step(made) if made.step == step);
            assert_eq!(run(&desk, &out, false, more, at).reason, Reason::Interrupted);
            let found = latest_good(&RealStorage, &desk.path(&out).join("checkpoints"));
            assert_eq!(found.expect("a folder").found.expect("a checkpoint").step, step);
            let evaluated = |line: &Value| line["kind"] == "eval" && line["step"] == step;
            assert!(!metrics(&desk, &out).iter().any(evaluated), "it was cut short");
            assert_eq!(run(&desk, &out, true, &[], |_| false).reason, Reason::Finished);
            assert!(outcome(&desk, &out) == expected, "stopped in the evaluation of step {step}");
        }
    }
}

#[test]
fn f57_a_run_whose_patience_had_run_out_makes_no_more_steps() {
    let desk = desk();
    // With such a rate nothing gets better after the first evaluation.
    let more = [("lr", "10"), ("patience", "1"), ("max_steps", "20")];
    let ended = run(&desk, "whole", false, &more, |_| false);
    assert_eq!(ended.reason, Reason::EarlyStop);
    let expected = outcome(&desk, "whole");
    let steps =
        |out: &str| metrics(&desk, out).iter().filter(|line| line["kind"] == "step").count();
    assert!(steps("whole") < 20);
    // Gone on with after its end, and after a stop between its last checkpoint and its end.
    let mut meanwhile = Value::Null;
    let look = |event: &Event| {
        if matches!(event, Event::Sample(_)) && meanwhile.is_null() {
            meanwhile = ending(&desk, "whole");
        }
        false
    };
    assert_eq!(run(&desk, "whole", true, &[], look).reason, Reason::EarlyStop);
    assert!(outcome(&desk, "whole") == expected, "{} steps", steps("whole"));
    // Were it killed while it goes on, it would not pass for finished.
    assert_eq!(meanwhile["done"]["reason"], "interrupted");
    assert!(meanwhile["verdict"].is_null() && meanwhile["plan"].is_object(), "{meanwhile}");
    let last = steps("whole") as u64;
    let at = |event: &Event| matches!(event, Event::Checkpoint(saved) if saved.step == last);
    assert_eq!(run(&desk, "cut", false, &more, at).reason, Reason::Interrupted);
    assert_eq!(run(&desk, "cut", true, &[], |_| false).reason, Reason::EarlyStop);
    assert!(outcome(&desk, "cut") == expected, "{} steps", steps("cut"));
}

#[test]
fn f47_a_stop_that_is_asked_for_while_a_run_loads_is_heeded() {
    let desk = desk();
    let more = [("lr", "0.01")];
    assert_eq!(run(&desk, "whole", false, &more, |_| false).reason, Reason::Finished);
    let at = |event: &Event| matches!(event, Event::Checkpoint(saved) if saved.step == 2);
    assert_eq!(run(&desk, "cut", false, &more, at).reason, Reason::Interrupted);
    // The plan is told once rows and model have been read, and before the run is taken up.
    let asks = |event: &Event| {
        if matches!(event, Event::Plan(_)) {
            ask(&desk.path("cut"), Wish::Stop).expect("written");
        }
        false
    };
    assert_eq!(run(&desk, "cut", true, &[], asks).reason, Reason::Interrupted);
    let steps = metrics(&desk, "cut").into_iter().filter(|line| line["kind"] == "step").count();
    assert_eq!(steps, 2, "it made steps although it was asked to stop");
    assert!(!desk.path("cut").join(CONTROL).exists());
    assert_eq!(run(&desk, "cut", true, &[], |_| false).reason, Reason::Finished);
    assert!(outcome(&desk, "cut") == outcome(&desk, "whole"));
}
