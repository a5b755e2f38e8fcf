//! Starts that are refused, ends that nobody asked for, work that ends with the window, forecasts made anew.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::common::{USUAL, Visit};
use eframe::egui::Context;
use paddock_cli::run::command::arguments;
use paddock_cli::run::control::{Wish, ask};
use paddock_cli::run::events::Event;
use paddock_cli::run::lock::{Lock, holder};
use paddock_cli::run::metrics::Step;
use paddock_gui::app::Screen;
use paddock_gui::engine::{Started, Trail};
use paddock_gui::run::{Run, Stage};
use paddock_gui::task::{Task, Work};
use paddock_gui::train::run_toml;

#[test]
fn a_run_in_use_keeps_its_events_and_is_watched() {
    let mut visit = Visit::new(USUAL);
    let (out, mut flags) = visit.flags("used");
    flags.push(("model".into(), "bundled:tiny".into()));
    flags.push(("data".into(), "bundled:stories".into()));
    std::fs::create_dir_all(&out).expect("a folder");
    let trail = Trail::of(&out);
    std::fs::create_dir_all(trail.events.parent().expect("a folder")).expect("a folder");
    std::fs::write(&trail.events, "what happened\n").expect("written");
    let engine = visit.harness.state().engine.clone();
    let refused = |resume| match engine.start_run(&out, &flags, resume) {
        Ok(_) => panic!("it was started"),
        Err(error) => error.to_string(),
    };
    // No process has it yet, but it was begun.
    assert!(refused(false).contains("choose another name"), "{}", refused(false));
    let settings = format!("{}\n[record]\n", run_toml(&flags));
    std::fs::write(out.join("run.toml"), settings).expect("written");
    let lock = Lock::take(&out).expect("the lock");
    let by = format!("in use by process {}; open it from Home", std::process::id());
    for resume in [false, true] {
        assert!(refused(resume).contains(&by), "{}", refused(resume));
    }
    // Going on with it in a second window shows it.
    let ctx = visit.harness.ctx.clone();
    let mut run = Run::default();
    run.out.clone_from(&out);
    run.stage = Stage::Stopped;
    let app = visit.harness.state_mut();
    app.run = Some(run);
    app.resume_run(&ctx);
    assert_eq!(app.trouble, None);
    let run = app.run.as_ref().expect("a run");
    assert_eq!((run.stage, run.pid), (Stage::Training, Some(std::process::id())));
    assert_eq!(std::fs::read_to_string(&trail.events).expect("events"), "what happened\n");
    drop(lock);
}

#[test]
fn events_are_not_taken_for_those_of_a_process_of_unknown_age() {
    let dir = tempfile::tempdir().expect("a folder");
    let trail = Trail::of(&dir.path().join("run"));
    std::fs::create_dir_all(trail.events.parent().expect("a folder")).expect("a folder");
    std::fs::write(&trail.events, "").expect("written");
    assert!(trail.is_of(1));
    assert!(!trail.is_of(0));
}

/// A run that made a step and whose process is gone; it said this.
fn gone(said: &str) -> Run {
    let dir = tempfile::tempdir().expect("a folder");
    let trail = Trail::of(&dir.path().join("run"));
    std::fs::create_dir_all(trail.events.parent().expect("a folder")).expect("a folder");
    let step = Event::Step(Step { step: 1, ..Step::default() });
    let mut step = serde_json::to_value(step).expect("JSON");
    step["v"] = 1.into();
    std::fs::write(&trail.events, format!("{step}\n")).expect("written");
    std::fs::write(&trail.log, said).expect("written");
    let alive = Arc::new(AtomicBool::new(false));
    let mut run = Run::started(&Context::default(), &Started { trail, alive });
    for _ in 0..1_000 {
        run.poll();
        if !run.active() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    run
}

#[test]
fn an_end_that_nobody_asked_for_is_told() {
    for (said, words) in [
        ("", "perhaps for lack of memory"),
        ("memory allocation of 9 bytes failed\n", "memory allocation of 9 bytes failed"),
        ("error: the card has gone\n", "the card has gone"),
    ] {
        let run = gone(said);
        assert_eq!((run.stage, run.steps.len()), (Stage::Stopped, 1), "{run:?}");
        let why = run.failure.expect("a reason").message;
        assert!(why.contains(words), "{why}");
        assert_eq!(said.lines().last(), run.log.last().map(String::as_str));
    }
}

/// What came of a task, once it is over.
fn ended(task: Task<String>) -> Work<String> {
    let mut work = Work::Busy(task);
    while !work.poll() {
        std::thread::sleep(Duration::from_millis(5));
    }
    work
}

#[test]
fn short_work_ends_with_the_window_and_a_run_goes_on() {
    let mut visit = Visit::new(USUAL);
    let long = |visit: &Visit, name: &str| {
        let (out, mut flags) = visit.flags(name);
        flags.retain(|(key, _)| key != "max_steps");
        for (key, value) in
            [("model", "bundled:tiny"), ("data", "bundled:stories"), ("max_steps", "4000")]
        {
            flags.push((key.to_string(), value.to_string()));
        }
        (out, flags)
    };
    let (run, flags) = long(&visit, "run");
    let engine = visit.harness.state().engine.clone();
    engine.start_run(&run, &flags, false).expect("a start");
    // Any long work of core-cli will do; this one says by its lock whether it lives.
    let (short, flags) = long(&visit, "short");
    let list = arguments("train", &flags);
    let ctx = visit.harness.ctx.clone();
    let task = Task::spawn(&ctx, {
        let engine = engine.clone();
        move |pulse| engine.ask(&list, pulse)
    });
    visit.wait("both", |_| holder(&run).is_some() && holder(&short).is_some());
    visit.come_back(USUAL);
    visit.wait("the end of the short work", |_| holder(&short).is_none());
    assert!(matches!(ended(task), Work::Failed(_)));
    assert!(holder(&run).is_some(), "the run goes on");
    let after = Task::spawn(&ctx, move |pulse| engine.ask(&["doctor".to_string()], pulse));
    let after = ended(after);
    assert!(matches!(&after, Work::Failed(why) if why == "cancelled"), "{after:?}");
    ask(&run, Wish::Stop).expect("asked");
    visit.wait("the stop", |_| holder(&run).is_none());
}

#[test]
fn a_forecast_is_made_anew_with_other_rows_and_kept_with_the_same_settings() {
    let mut visit = Visit::new(USUAL);
    visit.press("Try the example");
    visit.press("Next: choose a model");
    visit.press("Next: settings");
    visit.wait("a forecast", |h| h.state().train.plan.done().is_some());
    // Changed and changed back before it is reckoned: the time is still told.
    let changed = &mut visit.harness.state_mut().train.changed;
    changed.insert("lr".into(), "1e-3".into());
    visit.harness.step();
    visit.harness.state_mut().train.changed.clear();
    visit.wait("the time", |h| h.state().train.timed.done().is_some());
    // The same rows opened again may be others.
    let ctx = visit.harness.ctx.clone();
    let app = visit.harness.state_mut();
    app.open_rows(&ctx, "bundled:stories");
    assert!(matches!((&app.train.plan, &app.train.timed), (Work::Idle, Work::Idle)));
    // A forecast that failed is tried again when the screen is entered.
    visit.wait("rows", |h| h.state().data.missing().is_none());
    visit.harness.state_mut().show(&ctx, Screen::Train);
    visit.wait("a forecast", |h| h.state().train.plan.done().is_some());
    visit.harness.state_mut().train.plan = Work::Failed("a full disk".into());
    visit.harness.state_mut().show(&ctx, Screen::Train);
    visit.wait("a forecast", |h| h.state().train.plan.done().is_some());
    // Another model forgets it too.
    let app = visit.harness.state_mut();
    app.choose_model(&ctx, "bundled:tiny");
    assert!(app.train.forecast().is_none());
}

#[test]
fn f77_a_name_that_leads_elsewhere_starts_no_run() {
    let mut visit = Visit::new(USUAL);
    let ctx = visit.harness.ctx.clone();
    let before = std::fs::read_dir(visit.dir.path()).expect("a folder").count();
    let app = visit.harness.state_mut();
    for name in ["../elsewhere", "a/b", "a\\b", "nul", " .hidden "] {
        app.train.name = name.to_string();
        app.start_run(&ctx);
        let said = app.trouble.take().expect("it is said");
        assert!(said.contains("is no name for a run: use letters"), "{name}: {said}");
        assert!(app.run.is_none() && app.train.name == name, "{name}");
        // The button says it, too.
        assert_eq!(app.train.missing(&app.flags()), Some(said));
    }
    app.train.name = " one of mine ".to_string();
    assert_eq!(app.train.wrong_name(), None);
    // Nothing was made, here or there.
    assert_eq!(std::fs::read_dir(visit.dir.path()).expect("a folder").count(), before);
}
