//! Rows told apart and kept so; what a run computes on.

use std::path::PathBuf;

use crate::common::{USUAL, Visit};
use crate::screens;
use paddock_gui::app::Screen;
use paddock_gui::evaluate::Measure;
use paddock_gui::train::{command, config};

/// The reviews as a spreadsheet of one's own.
fn reviews(visit: &Visit) -> PathBuf {
    let csv = visit.dir.path().join("my reviews.csv");
    let source = paddock_cli::bundled::data("reviews").expect("built in").train;
    std::fs::copy(source, &csv).expect("a copy");
    csv
}

#[test]
fn a_split_is_frozen_and_used_by_runs_and_their_evaluation() {
    let mut visit = Visit::new(USUAL);
    let csv = reviews(&visit);
    visit.drop_file(&csv);
    visit.wait("a preview", |h| h.state().data.preview.done().is_some());
    visit.wait("the search for a split", |h| h.state().data.split.found.done().is_some());
    assert!(visit.harness.state().data.split.used.is_none());
    visit.press("Make the split and freeze it");
    visit.wait_for("Split and frozen");
    let kept = visit.harness.state().data.split.used.clone().expect("a split").kept;
    let [learn, watch, judge] = kept.rows;
    assert_eq!(learn + watch + judge, 956);
    assert!((90..=100).contains(&watch) && (90..=100).contains(&judge), "{:?}", kept.rows);
    assert_eq!(kept.leaks, Some(0), "near twins are kept together");
    visit.wait("all rows", |h| h.state().data.found.done().is_some());
    visit.scroll_to("Do not use this split");
    visit.picture("12-split");
    let of = |visit: &Visit| config(&visit.harness.state().flags()).expect("valid settings");
    let before = of(&visit);
    assert!(before.data[0].ends_with("train.jsonl"), "{before:?}");
    assert!(before.test.as_ref().is_some_and(|test| test.ends_with("test.jsonl")));

    // Another day the same rows are on the same sides, without a word.
    visit.come_back(USUAL);
    visit.drop_file(&csv);
    visit.wait_for("Split and frozen");
    visit.wait("a preview", |h| h.state().data.preview.done().is_some());
    assert_eq!(of(&visit), before);
    visit.press("Do not use this split");
    assert_eq!(of(&visit).data, [csv.display().to_string()]);
    // A file that has changed is another one.
    let mut text = std::fs::read_to_string(&csv).expect("text");
    text.push_str("\"It is fine.\",positive\n");
    std::fs::write(&csv, text).expect("written");
    visit.drop_file(&csv);
    visit.wait("the search for a split", |h| h.state().data.split.found.done().is_some());
    assert!(visit.harness.state().data.split.used.is_none());

    // A run with the split, and its evaluation.
    let (out, mut flags) = visit.flags("with split");
    flags.push(("model".into(), "bundled:tiny".into()));
    flags.extend(kept.flags());
    flags.extend(before.columns.iter().map(|(f, c)| ("columns".to_string(), format!("{f}={c}"))));
    let started = visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    visit.wait("the run", |_| !started.alive.load(std::sync::atomic::Ordering::Relaxed));
    visit.drop_file(&out);
    visit.press("Evaluate");
    let evaluate = &visit.harness.state().evaluate;
    assert!(evaluate.data.ends_with("test.jsonl") && !evaluate.held_out, "{evaluate:?}");
    // The rows that it watched are known too.
    assert!(evaluate.knows_held_out);
    let evaluate = &mut visit.harness.state_mut().evaluate;
    (evaluate.limit, evaluate.measure) = (8, Measure::Labels);
    visit.press("The rows that this run held out");
    visit.press("Ask both");
    visit.wait("an end", |h| !h.state().evaluate.work.busy());
    let all = visit.harness.state().evaluate.work.done().cloned();
    let all = all.unwrap_or_else(|| panic!("{:?}", visit.harness.state().evaluate.work));
    assert!(all.iter().all(|asked| asked.found().is_some_and(|found| found.rows.len() == 8)));
    visit.wait_for("right answer");
}

#[test]
fn a_run_computes_on_what_was_chosen_and_the_command_says_so() {
    let mut visit = Visit::new(USUAL);
    visit.wait("the devices", |h| h.state().home.devices.done().is_some());
    visit.wait_for("Always there");
    assert_eq!(visit.harness.state().home.devices.done().expect("devices")[0].kind, "processor");
    screens::tidy(visit.harness.state_mut());
    visit.wait_for("A graphics card");
    visit.press("Try the example");
    visit.wait("a preview", |h| h.state().data.preview.done().is_some());
    visit.press("Next: choose a model");
    visit.wait("the model", |h| h.state().model.missing().is_none());
    visit.press("Next: settings");
    let line = |visit: &Visit| command(&visit.harness.state().flags());
    assert!(!line(&visit).contains("--backend"), "{}", line(&visit));
    visit.choose("Computed on", "A graphics card (NVIDIA card)");
    assert!(line(&visit).ends_with("--backend cuda --device 0"), "{}", line(&visit));
    // There is no such card here: said in words, and nothing can be started.
    visit.wait("a forecast, or why there is none", |h| !h.state().train.plan.busy());
    visit.choose("Computed on", "The processor");
    assert!(!line(&visit).contains("--backend"), "{}", line(&visit));
    // What is typed among all settings wins, and the choice above says so.
    let changed = &mut visit.harness.state_mut().train.changed;
    changed.insert("backend".into(), "reference".into());
    assert!(line(&visit).contains("--backend reference"), "{}", line(&visit));
    visit.harness.state_mut().screen = Screen::Train;
    visit.settle();
    assert!(visit.harness.state().train.by_hand());
    visit.harness.check_accessibility();
}
