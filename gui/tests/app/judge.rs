//! Templates tried on rows, and answers judged.

use crate::common::{USUAL, Visit};
use paddock_gui::app::Screen;
use paddock_gui::task::Work;

#[test]
fn a_template_is_chosen_changed_and_used() {
    let mut visit = Visit::new(USUAL);
    visit.press("Second example: product reviews");
    visit.wait("a preview", |h| h.state().data.preview.done().is_some());
    visit.press("Template");
    visit.wait("the shelf", |h| h.state().studio.shelf.done().is_some());
    visit.write("Search the templates", "sentiment/terse");
    visit.press("terse");
    // It reads a column that these rows do not have: the place is shown, and what there is.
    visit.wait_for("there is no column \"text\"");
    let faults = match &visit.harness.state().studio.tried {
        Work::Done(tried) => tried.faults.join("\n"),
        other => panic!("{other:?}"),
    };
    assert!(faults.contains("line 1") && faults.contains('^'), "{faults}");
    visit.press("Write a new one");
    visit.wait("a trial", |h| h.state().studio.tried.done().is_some_and(|t| t.faults.is_empty()));
    visit.harness.state_mut().studio.jinja =
        "{{ review }}\n\nIs this positive or negative? ||| {{ label }}".to_string();
    visit.harness.state_mut().studio.name = "asked".to_string();
    visit.wait("the new text", |h| {
        let text = |t: &paddock_gui::studio::Tried| -> String {
            t.pieces.iter().map(|piece| piece.text.as_str()).collect()
        };
        h.state().studio.tried.done().is_some_and(|t| text(t).contains("positive or negative?"))
    });
    visit.picture("9-template");
    visit.press("Use this template");
    assert_eq!(visit.harness.state().screen, Screen::Data);
    let template = visit.harness.state().data.template.clone().expect("a template");
    assert!(template.ends_with("asked.json"), "{template}");
    visit.wait("a preview", |h| {
        h.state().data.preview.done().is_some_and(|p| {
            p.pieces
                .iter()
                .map(|piece| piece.text.as_str())
                .collect::<String>()
                .contains("Is this positive")
        })
    });
    assert!(visit.harness.state().blocked(Screen::Train).is_none());
    // Its flags are settings of a run.
    assert!(paddock_gui::train::config(&visit.harness.state().flags()).is_ok());
}

#[test]
fn before_and_after_are_compared_and_voted_on() {
    let mut visit = Visit::new(USUAL);
    let out = visit.dir.path().join("runs/judged");
    let flags = [
        ("model", "bundled:tiny"),
        ("data", "bundled:stories"),
        ("max_steps", "6"),
        ("lr", "2e-3"),
        ("batch_size", "4"),
        ("validation", "20"),
        ("test_rows", "0"),
        ("samples", "0"),
    ];
    let mut flags: Vec<(String, String)> =
        flags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    flags.push(("out".into(), out.display().to_string()));
    let started = visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    visit.wait("the run", |_| !started.alive.load(std::sync::atomic::Ordering::Relaxed));
    visit.drop_file(&out);
    visit.press("Evaluate");
    visit.harness.state_mut().evaluate.limit = 6;
    assert_eq!(visit.harness.state().evaluate.data, "bundled:stories");
    visit.press("Ask both");
    visit.wait("an end", |h| !h.state().evaluate.work.busy());
    let all = visit.harness.state().evaluate.work.done().cloned();
    let all = all.unwrap_or_else(|| panic!("{:?}", visit.harness.state().evaluate.work));
    assert_eq!(
        all.iter().map(|asked| asked.who).collect::<Vec<_>>(),
        ["before training", "after training"]
    );
    assert!(all.iter().all(|asked| asked.found().is_some_and(|found| found.rows.len() == 6)));
    visit.wait_for("The worst answers after training");
    visit.picture("10-evaluate");
    let pairs = visit.harness.state().evaluate.pairs.len();
    assert!(pairs > 0, "some answers differ");
    visit.press("The left one is better");
    visit.wait_for("the tuned model is preferred in");
    assert_eq!(visit.harness.state().evaluate.votes.len(), 1);
    visit.harness.check_accessibility();
}
