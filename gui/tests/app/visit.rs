//! A first visit from the example to an exported model, by labels alone, with real training.

use std::time::Instant;

use crate::common::{SMALL, USUAL, Visit};
use paddock_gui::run::Stage;

/// Few steps and short answers: what is tested is the way, not the teaching.
fn be_quick(visit: &mut Visit) {
    let quick = [
        ("max_steps", "12"),
        ("eval_every", "6"),
        ("batch_size", "4"),
        ("test_rows", "8"),
        ("samples", "2"),
        ("sample_tokens", "24"),
    ];
    let changed = &mut visit.harness.state_mut().train.changed;
    changed.extend(quick.map(|(k, v)| (k.to_string(), v.to_string())));
}

fn stage(visit: &Visit) -> Stage {
    visit.harness.state().run.as_ref().map(|run| run.stage).expect("a run")
}

#[test]
fn from_the_example_to_an_exported_model_in_ten_clicks() {
    let began = Instant::now();
    let mut visit = Visit::new(USUAL);
    visit.wait("the machine", |h| {
        h.state().home.machine.done().is_some() && h.state().home.devices.done().is_some()
    });
    visit.picture("1-home");
    visit.press("Try the example");
    visit.wait("all rows", |h| h.state().data.found.done().is_some());
    visit.wait_for("are learned");
    visit.picture("2-data");
    visit.press("Next: choose a model");
    visit.wait_for("2.8 million");
    visit.picture("3-model");
    visit.press("Next: settings");
    be_quick(&mut visit);
    visit.wait_for("Steps");
    visit.wait("the time", |h| h.state().train.timed.done().is_some());
    let plan = visit.harness.state().train.forecast().cloned().expect("a plan");
    assert_eq!((plan.steps, plan.train_rows, plan.validation_rows), (12, 3_200, 200));
    let time = plan.seconds.expect("a time");
    assert!(time.low > 0.0 && time.low < time.high, "{time:?}");
    visit.picture("4-train");
    visit.press("Start training");
    visit.wait("steps", |h| h.state().run.as_ref().is_some_and(|run| run.steps.len() > 2));
    visit.picture("5-run");
    visit.wait("the end", |h| h.state().run.as_ref().is_some_and(|run| !run.active()));
    assert_eq!(stage(&visit), Stage::Finished, "{:?}", visit.harness.state().run);
    visit.wait_for("After training");
    visit.wait_for("8 unseen instructions");
    let run = visit.harness.state().run.as_ref().expect("a run");
    assert_eq!(run.steps.len(), 12);
    assert!(run.verdict.as_ref().is_some_and(|words| words.contains("which it had not seen")));
    assert!(run.samples.iter().all(|s| s.base.is_some() && s.tuned.is_some()));
    // It was seen to learn: two prompts, every second step.
    assert_eq!(
        run.answers.iter().map(|a| a.step).collect::<Vec<_>>(),
        [2, 2, 4, 4, 6, 6, 8, 8, 10, 10]
    );
    visit.picture("6-verdict");
    visit.press("Chat with it");
    visit.wait_for("template: alpaca");
    visit.write("Question", "Tell me a story about a cat named Tom.");
    visit.press("Send");
    visit.wait("an answer", |h| {
        h.state().chat.talkers[0].look(|turns| {
            turns
                .first()
                .is_some_and(|turn| !turn.ended.is_empty() && !turn.answer.trim().is_empty())
        })
    });
    visit.picture("7-chat");
    visit.press("Next: export");
    visit.press("Write the model");
    visit.wait_for("is written and checked");
    visit.picture("8-export");
    assert!(visit.clicks <= 10, "{} clicks", visit.clicks);
    let took = began.elapsed().as_secs_f64();
    println!("MEASURED: a visit of {} clicks with a run of 12 steps: {took:.1} s", visit.clicks);
    let run = visit.harness.state().run.as_ref().expect("a run");
    assert!(run.out.join("merged/model.safetensors").is_file());
    assert!(run.out.join("report.html").is_file());
}

/// The whole first visit with the usual settings, measured: by hand, since it trains for minutes.
#[test]
#[ignore = "minutes of training; docs/app.md says how it is started"]
fn the_whole_first_visit_is_measured() {
    let began = Instant::now();
    let mut visit = Visit::new(USUAL);
    visit.press("Try the example");
    visit.press("Next: choose a model");
    visit.press("Next: settings");
    visit.press("Start training");
    visit.wait("the end", |h| h.state().run.as_ref().is_some_and(|run| !run.active()));
    let trained = began.elapsed().as_secs_f64();
    assert_eq!(stage(&visit), Stage::Finished, "{:?}", visit.harness.state().run);
    visit.press("Chat with it");
    visit.write("Question", "Tell me a story about a cat named Tom.");
    visit.press("Send");
    visit.wait("an answer", |h| {
        h.state().chat.talkers[0]
            .look(|turns| turns.first().is_some_and(|turn| !turn.answer.is_empty()))
    });
    let took = began.elapsed().as_secs_f64();
    println!(
        "MEASURED: from a fresh start to a tuned model's first answer: {} clicks, {took:.0} s, of which training \
         and looking at it took {trained:.0} s",
        visit.clicks
    );
    assert!(visit.clicks <= 10, "{} clicks", visit.clicks);
}

#[test]
fn a_spreadsheet_is_dropped_and_learned() {
    let mut visit = Visit::new(SMALL);
    let csv = visit.dir.path().join("reviews.csv");
    let source = paddock_cli::bundled::data("reviews").expect("built in").train;
    std::fs::copy(source, &csv).expect("a copy");
    visit.drop_file(&csv);
    visit.wait_for("What was found in the rows");
    visit.wait("a preview", |h| h.state().data.preview.done().is_some_and(|p| p.trained > 0));
    let data = &visit.harness.state().data;
    assert_eq!(data.columns["prompt"], "review");
    assert_eq!(data.columns["answer"], "label");
    visit.write("Search the rows", "kettle");
    visit.wait_for("rows contain it");
    visit.press("Next: choose a model");
    visit.press("Next: settings");
    be_quick(&mut visit);
    visit.wait("a plan", |h| h.state().train.plan.done().is_some());
    visit.press("Start training");
    visit.wait("the end", |h| h.state().run.as_ref().is_some_and(|run| !run.active()));
    assert_eq!(stage(&visit), Stage::Finished, "{:?}", visit.harness.state().run);
    visit.wait_for("Open the report");
    // Base and tuned model side by side.
    visit.press("Chat with it");
    visit.press("Compare with the model before training");
    visit.wait("both", |h| {
        let ready =
            |t: &paddock_gui::chat::Talker| matches!(t.state(), paddock_gui::chat::State::Ready(_));
        h.state().chat.shown().len() == 2 && h.state().chat.shown().iter().all(ready)
    });
    visit.harness.state_mut().chat.sampling.max_new_tokens = 12;
    visit.write("Question", "It broke on the first day.");
    visit.press("Send");
    visit.wait("two answers", |h| {
        let talkers = &h.state().chat.talkers;
        talkers.iter().all(|t| t.look(|all| all.first().is_some_and(|turn| !turn.ended.is_empty())))
    });
    visit.harness.check_accessibility();
}
