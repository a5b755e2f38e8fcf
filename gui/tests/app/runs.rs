//! Runs outlive the window: closed, killed, stopped, begun by core-cli.

use std::process::Command;

use crate::common::{USUAL, Visit};
use paddock_cli::run::lock::holder;
use paddock_gui::engine::Flags;
use paddock_gui::run::Stage;

/// Settings of a run of so many steps on the built-in model.
fn flags(visit: &Visit, name: &str, steps: u32) -> (std::path::PathBuf, Flags) {
    let out = visit.dir.path().join("runs").join(name);
    let list = [
        ("model", "bundled:tiny".to_string()),
        ("data", "bundled:stories".to_string()),
        ("max_steps", steps.to_string()),
        ("batch_size", "4".to_string()),
        ("eval_every", "1000".to_string()),
        ("save_every", "3".to_string()),
        ("validation", "20".to_string()),
        ("test_rows", "0".to_string()),
        ("samples", "0".to_string()),
        ("out", out.display().to_string()),
    ];
    (out, list.map(|(k, v)| (k.to_string(), v)).to_vec())
}

fn stage(visit: &Visit) -> Option<Stage> {
    visit.harness.state().run.as_ref().map(|run| run.stage)
}

fn steps(visit: &Visit) -> usize {
    visit.harness.state().run.as_ref().map_or(0, |run| run.steps.len())
}

#[test]
fn a_run_goes_on_without_the_window_and_is_found_again() {
    let mut visit = Visit::new(USUAL);
    let (out, flags) = flags(&visit, "closed", 60);
    visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    visit.wait("the lock", |_| holder(&out).is_some());
    visit.come_back(USUAL);
    visit.press("Watch it");
    visit.wait("steps", |h| h.state().run.as_ref().is_some_and(|run| run.steps.len() > 3));
    let before = steps(&visit);
    visit.come_back(USUAL);
    visit.press("Watch it");
    visit.wait("more steps", move |h| {
        h.state().run.as_ref().is_some_and(|r| r.steps.len() > before)
    });
    // The window follows, and does not lose a step or see one twice.
    visit.press("Stop and save");
    visit.wait("the stop", |h| h.state().run.as_ref().is_some_and(|run| !run.active()));
    assert_eq!(stage(&visit), Some(Stage::Stopped));
    let numbers: Vec<u64> =
        visit.harness.state().run.as_ref().expect("a run").steps.iter().map(|s| s.step).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    visit.press("Go on");
    visit.wait("the end", |h| {
        h.state().run.as_ref().is_some_and(|run| run.stage == Stage::Finished)
    });
    let numbers: Vec<u64> =
        visit.harness.state().run.as_ref().expect("a run").steps.iter().map(|s| s.step).collect();
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
}

#[cfg(unix)]
#[test]
fn a_killed_run_is_offered_again_and_ends_as_if_nothing_had_happened() {
    let mut visit = Visit::new(USUAL);
    let (out, flags) = flags(&visit, "killed", 100);
    visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    visit.wait("a checkpoint", |_| {
        out.join("checkpoints/step-6").exists() || out.join("adapter").exists()
    });
    if let Some(holder) = holder(&out) {
        let killed = Command::new("kill").args(["-9", &holder.pid.to_string()]).status();
        assert!(killed.expect("kill").success());
    }
    visit.wait("its end", |_| holder(&out).is_none());
    visit.come_back(USUAL);
    visit.wait_for("can go on");
    visit.press("Open");
    assert_eq!(stage(&visit), Some(Stage::Stopped));
    visit.press("Go on");
    visit.wait("the end", |h| {
        h.state().run.as_ref().is_some_and(|run| run.stage == Stage::Finished)
    });
    let (again, flags) = self::flags(&visit, "whole", 100);
    let started = visit.harness.state().engine.start_run(&again, &flags, false).expect("a start");
    visit.wait("the other run", |_| !started.alive.load(std::sync::atomic::Ordering::Relaxed));
    let weights = |dir: &std::path::Path| {
        std::fs::read(dir.join("adapter/adapter_model.safetensors")).expect("an adapter")
    };
    assert!(weights(&out) == weights(&again), "the same bits with and without the kill");
}

/// Steps in the run's own file.
fn written(out: &std::path::Path) -> usize {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains("\"step\"") && line.contains("\"lr\"")).count()
}

#[test]
fn a_paused_run_keeps_its_process_also_without_the_window() {
    // So many that a quick machine has not done them all when the button is pressed.
    const STEPS: u32 = 400;
    let mut visit = Visit::new(USUAL);
    let (out, flags) = flags(&visit, "paused", STEPS);
    visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    visit.wait("the lock", |_| holder(&out).is_some());
    visit.press("Watch it");
    visit.wait("steps", |h| h.state().run.as_ref().is_some_and(|run| run.steps.len() > 1));
    visit.press("Pause");
    visit.wait("the pause", |h| {
        h.state().run.as_ref().is_some_and(|run| run.stage == Stage::Paused)
    });
    let (steps_then, process) = (written(&out), holder(&out).map(|holder| holder.pid));
    assert!(process.is_some() && steps_then < STEPS as usize);
    visit.come_back(USUAL);
    visit.wait_for("is paused");
    visit.press("Watch it");
    visit.wait("its events", |h| h.state().run.as_ref().is_some_and(|run| !run.steps.is_empty()));
    visit.settle();
    assert_eq!(stage(&visit), Some(Stage::Paused));
    assert_eq!((written(&out), holder(&out).map(|holder| holder.pid)), (steps_then, process));
    visit.press("Continue");
    visit.wait("the end", |h| {
        h.state().run.as_ref().is_some_and(|run| run.stage == Stage::Finished)
    });
    assert_eq!(steps(&visit), STEPS as usize);
    // Another one is killed while it waits, and goes on without waiting.
    let (out, flags) = self::flags(&visit, "killed paused", STEPS);
    let ctx = visit.harness.ctx.clone();
    let started = visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    visit.harness.state_mut().run = Some(paddock_gui::run::Run::started(&ctx, &started));
    visit.harness.state_mut().screen = paddock_gui::app::Screen::Run;
    visit.wait("a saved step", |h| h.state().run.as_ref().is_some_and(|r| r.checkpoint.is_some()));
    visit.press("Pause");
    visit.wait("the pause", |h| {
        h.state().run.as_ref().is_some_and(|run| run.stage == Stage::Paused)
    });
    let process = holder(&out).expect("a process").pid;
    assert!(
        Command::new("kill").args(["-9", &process.to_string()]).status().expect("kill").success()
    );
    visit.wait_for("The run is not over");
    visit.press("Go on");
    visit.wait("the end", |h| {
        h.state().run.as_ref().is_some_and(|run| run.stage == Stage::Finished)
    });
    let adapter = |name: &str| {
        let path =
            visit.dir.path().join("runs").join(name).join("adapter/adapter_model.safetensors");
        std::fs::read(path).expect("an adapter")
    };
    assert!(adapter("paused") == adapter("killed paused"), "the same bits, paused and killed");
}

#[test]
fn a_run_that_core_cli_began_is_paused_and_stopped_from_the_window() {
    let mut visit = Visit::new(USUAL);
    let (out, flags) = flags(&visit, "by core-cli", 4_000);
    let mut child = Command::new(env!("CARGO_BIN_EXE_paddock"))
        .arg("core-cli")
        .args(paddock_cli::run::command::arguments("train", &flags))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("core-cli starts");
    visit.wait("steps", |_| written(&out) > 1);
    visit.drop_file(&out);
    visit.press("Pause");
    assert_eq!(stage(&visit), Some(Stage::Paused));
    visit.press("Continue");
    let before = written(&out);
    visit.wait("more steps", |_| written(&out) > before);
    visit.press("Stop and save");
    visit.wait("the stop", |h| {
        h.state().run.as_ref().is_some_and(|run| run.stage == Stage::Stopped)
    });
    assert_eq!(child.wait().expect("an end").code(), Some(130));
}

#[test]
fn the_command_shown_gives_the_same_run_and_opens_in_the_app() {
    let mut visit = Visit::new(USUAL);
    let (_, mut flags) = flags(&visit, "by-command", 6);
    let (out, app_flags) = self::flags(&visit, "by-app", 6);
    flags.retain(|(key, _)| key != "out");
    flags.push(("out".into(), visit.dir.path().join("runs/by command").display().to_string()));
    let line = paddock_gui::train::command(&flags);
    let rest = line.strip_prefix("core-cli ").expect("core-cli");
    let script = format!("{} core-cli {rest}", env!("CARGO_BIN_EXE_paddock"));
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    let started = visit.harness.state().engine.start_run(&out, &app_flags, false).expect("a start");
    visit.wait("the run", |_| !started.alive.load(std::sync::atomic::Ordering::Relaxed));
    let losses = |name: &str| -> Vec<f64> {
        let path = visit.dir.path().join("runs").join(name).join("metrics.jsonl");
        let text = std::fs::read_to_string(path).expect("metrics");
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
        text.lines().filter_map(value).filter_map(|v| v["loss"].as_f64()).collect()
    };
    assert_eq!(losses("by command").len(), 6);
    assert_eq!(losses("by command"), losses("by-app"));
    // RUN.toml says the same as the flags.
    let text = paddock_gui::train::run_toml(&flags);
    let (config, _) = paddock_cli::run::config::Layers::new()
        .file("RUN.toml", &text)
        .and_then(|layers| layers.build())
        .expect("a RUN.toml");
    assert_eq!(Ok(config), paddock_gui::train::config(&flags));
    let by_command = visit.dir.path().join("runs/by command");
    visit.drop_file(&by_command);
    assert_eq!(stage(&visit), Some(Stage::Finished));
    assert_eq!(steps(&visit), 6);
    visit.wait_for("Run by command");
}

#[test]
fn a_run_that_cannot_begin_says_why() {
    let mut visit = Visit::new(USUAL);
    let (out, mut flags) = flags(&visit, "wrong", 6);
    flags[1].1 = visit.dir.path().join("gone.csv").display().to_string();
    let ctx = visit.harness.ctx.clone();
    let started = visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    let app = visit.harness.state_mut();
    app.run = Some(paddock_gui::run::Run::started(&ctx, &started));
    app.screen = paddock_gui::app::Screen::Run;
    visit.wait_for("there is no such file");
    assert_eq!(stage(&visit), Some(Stage::Failed));
}
