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
    visit.press("Use this template");
    assert_eq!(visit.harness.state().screen, Screen::Data);
    let template = visit.harness.state().data.template().expect("a template").to_string();
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
    let (out, mut flags) = visit.flags("judged");
    for (key, value) in
        [("model", "bundled:tiny"), ("data", "bundled:stories"), ("validation", "20")]
    {
        flags.push((key.to_string(), value.to_string()));
    }
    let started = visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    visit.wait("the run", |_| !started.alive.load(std::sync::atomic::Ordering::Relaxed));
    visit.drop_file(&out);
    visit.press("Evaluate");
    let evaluate = &mut visit.harness.state_mut().evaluate;
    (evaluate.limit, evaluate.shots) = (6, 1);
    assert_eq!(visit.harness.state().evaluate.data, "bundled:stories");
    visit.press("Ask both");
    visit.wait("an end", |h| !h.state().evaluate.work.busy());
    let all = visit.harness.state().evaluate.work.done().cloned();
    let all = all.unwrap_or_else(|| panic!("{:?}", visit.harness.state().evaluate.work));
    assert_eq!(
        all.iter().map(|asked| asked.who).collect::<Vec<_>>(),
        ["before training", "before, with worked examples", "after training"]
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
    // Graded one by one; whose answer it is shows only at the end, or on request.
    let answers = visit.harness.state().evaluate.grading.answers.len();
    assert_eq!(answers, 18);
    visit.press("Grade 2");
    visit.press("Pass it over");
    let grading = |visit: &Visit| visit.harness.state().evaluate.grading.grades.clone();
    assert_eq!(grading(&visit), [Some(2.0), None]);
    assert!(!visit.labels().iter().any(|label| label.contains("Mean grades")));
    visit.press("Show the means so far");
    visit.wait_for("Mean grades");
    for _ in 2..answers {
        visit.press("Grade 5");
    }
    visit.wait_for("All answers are graded");
    // What it may have forgotten.
    visit.press("Ask both the general questions");
    visit.wait("the probes", |h| !h.state().evaluate.forgetting.work.busy());
    let found = visit.harness.state().evaluate.forgetting.work.done().cloned();
    let found = found.unwrap_or_else(|| panic!("{:?}", visit.harness.state().evaluate.forgetting));
    assert_eq!((found.all.rows, found.kinds.len()), (440, 11));
    visit.wait_for("questions that came out worse");
    let last = visit.labels().into_iter().find(|l| l.ends_with("questions that came out worse"));
    visit.scroll_to(&last.expect("some came out worse"));
    visit.picture("11-forgotten");
    visit.harness.check_accessibility();
}

#[test]
fn several_templates_are_mixed_and_one_is_kept_for_judging() {
    let mut visit = Visit::new(USUAL);
    visit.press("Second example: product reviews");
    visit.wait("a preview", |h| h.state().data.preview.done().is_some());
    visit.press("Template");
    visit.wait("the shelf", |h| h.state().studio.shelf.done().is_some());
    for (name, button) in [
        ("terse", "Use this template"),
        ("question_after", "Use it beside the others"),
        ("weigh_up", "Keep it to judge by"),
    ] {
        visit.press("Template");
        visit.harness.state_mut().studio.search = format!("sentiment/{name}");
        visit.press(name);
        // It reads a column of another name: which one is said once.
        visit.wait_for("What fills its places");
        visit.choose("Column for text", "review");
        visit.wait("no fault", |h| {
            h.state().studio.tried.done().is_some_and(|tried| tried.faults.is_empty())
        });
        visit.press(button);
    }
    visit.press("Template");
    let chosen = &mut visit.harness.state_mut().data.chosen;
    assert_eq!(chosen.iter().map(|c| c.judges).collect::<Vec<_>>(), [false, false, true]);
    chosen[1].weight = 3.0;
    visit.wait_for("75% of the rows");
    visit.scroll_to("terse only to judge by");
    visit.picture("9-template");
    // An inverted one is begun from the columns.
    visit.press("Write an inverted one");
    assert!(visit.harness.state().studio.jinja.ends_with("||| {{ review }}"));
    visit.wait("a trial", |h| h.state().studio.tried.done().is_some_and(|t| t.faults.is_empty()));
    // The model's own chat format is ready where the model has one.
    let error = visit.harness.state_mut().studio.choose("chat").expect_err("tiny has none");
    assert!(error.to_string().contains("no chat template of its own"), "{error}");

    let (out, mut flags) = visit.flags("mixed");
    let app = visit.harness.state();
    let own = app.flags().into_iter().filter(|(key, _)| {
        ["model", "template", "mixture", "mixture_cap", "columns", "validation", "test"]
            .contains(&key.as_str())
    });
    flags.extend(own);
    let started = app.engine.start_run(&out, &flags, false).expect("a start");
    visit.wait("the run", |_| !started.alive.load(std::sync::atomic::Ordering::Relaxed));
    visit.drop_file(&out);
    visit.wait_for("finished");
    visit.press("Evaluate");
    visit.harness.state_mut().evaluate.limit = 12;
    visit.wait_for("in those kept to judge by");
    visit.press("Ask both");
    visit.wait("an end", |h| !h.state().evaluate.work.busy());
    let all = visit.harness.state().evaluate.work.done().cloned();
    let all = all.unwrap_or_else(|| panic!("{:?}", visit.harness.state().evaluate.work));
    assert!(all.iter().all(|asked| asked.outcome.templates.len() == 2));
    visit.wait_for("Measures in words never trained with");
    visit.wait_for("right answer");
    visit.harness.check_accessibility();
}
