//! How each screen looks, by day and by night, compared with pictures in `snapshots`. What differs from machine
//! to machine (processor, folders, times) is put in by hand. `UPDATE_SNAPSHOTS=1` draws them anew.

use std::path::PathBuf;

use crate::common::{SMALL, Visit};
use eframe::egui::Theme;
use paddock_cli::devices::ComputeDevice;
use paddock_cli::machine::Machine;
use paddock_cli::run::events::{
    Answer, Count, Event, Judged, Plan, Sample, Seconds, Share, Verdict,
};
use paddock_cli::run::metrics::{Eval, Step};
use paddock_gui::app::{App, Screen};
use paddock_gui::run::{Run, Stage};
use paddock_gui::task::Work;

pub fn plan() -> Plan {
    let count = |name: &str, count| Count { name: name.into(), count };
    Plan {
        model: "bundled:tiny".into(),
        method: "lora".into(),
        backend: "cpu".into(),
        parameters: 2_770_000,
        trained_parameters: 430_000,
        train_rows: 3_200,
        validation_rows: 200,
        dropped_rows: Vec::new(),
        tokens: 541_000,
        trained_tokens: 260_000,
        steps: 600,
        epochs: 3.0,
        memory: vec![
            count("model, rows and program", 48_000_000),
            count("activations", 92_000_000),
        ],
        memory_bytes: 140_000_000,
        checkpoint_bytes: 5_200_000,
        seconds: Some(Seconds { low: 92.0, high: 168.0 }),
        sets: Vec::new(),
    }
}

/// A run with curves as they usually are.
pub fn run(stage: Stage) -> Run {
    let mut run = Run::default();
    run.out = PathBuf::from("runs/tiny-stories");
    run.apply(Event::Plan(plan()));
    for step in 1..=420u64 {
        let x = step as f64;
        let noise = ((step * 7_919) % 97) as f64 / 97.0 - 0.5;
        run.apply(Event::Step(Step {
            step,
            loss: 0.62 + 1.3 * (-x / 90.0).exp() + 0.12 * noise,
            lr: 2e-3 * (1.0 - x / 600.0).min(x / 18.0),
            tokens_per_s: 4_600.0 + 260.0 * noise,
            elapsed_s: 0.21 * x,
            ..Step::default()
        }));
        if step % 70 == 0 {
            let eval_loss = 0.66 + 1.25 * (-x / 95.0).exp();
            run.apply(Event::Eval(Eval { step, eval_loss, best: true, ..Eval::default() }));
        }
    }
    let prompt = "Tell me a story about a cat named Tom. It happens at the market.";
    let base = Sample {
        prompt: prompt.into(),
        reference: Some("One day, a cat named Tom went to the market.".into()),
        base: Some("and the sun was warm. The bear went on and on.".into()),
        ..Sample::default()
    };
    run.apply(Event::Sample(base.clone()));
    for (step, answer) in
        [(75, "The bear went to the market."), (150, "One day a cat named Tom was warm.")]
    {
        run.apply(Event::Answer(Answer { step, prompt: prompt.into(), answer: answer.into() }));
    }
    run.memory = 128_000_000;
    let share = |value: f64| Share { value, low: value - 0.04, high: value + 0.05 };
    if stage == Stage::Finished {
        run.apply(Event::Sample(Sample {
            step: 420,
            tuned: Some(
                "One morning, a cat named Tom went to the market and found a shell.".into(),
            ),
            ..base
        }));
        run.apply(Event::Judged(Judged {
            rows: 200,
            measure: "wishes fulfilled".into(),
            base_loss: 1.956,
            tuned_loss: 0.603,
            base: share(0.05),
            tuned: share(0.71),
        }));
        let message = "The model learned: its loss on rows it had not seen fell from 1.956 to 0.603 (69% less).";
        run.apply(Event::Verdict(Verdict { message: message.into(), details: Default::default() }));
    }
    run.stage = stage;
    run
}

/// Puts in what differs between machines.
pub fn tidy(app: &mut App) {
    app.engine.runs = PathBuf::from("Paddock/runs");
    app.home.machine = Work::Done(Machine {
        processor: "A processor, 8 cores, SIMD avx2".into(),
        memory_bytes: 16_000_000_000,
        memory_free_bytes: 9_000_000_000,
    });
    let card = ComputeDevice {
        name: "A graphics card".into(),
        kind: "NVIDIA card".into(),
        about: "The fastest. With its 24.0 GB of memory it trains adapters for models of up to about 6.00 billion numbers.".into(),
        flags: vec![("backend".into(), "cuda".into()), ("device".into(), "0".into())],
        memory_bytes: Some(24_000_000_000),
        unusable: None,
    };
    let processor = ComputeDevice {
        name: "A processor".into(),
        kind: "processor".into(),
        about:
            "Always there. Small models train in minutes, models of billions of numbers in days."
                .into(),
        ..ComputeDevice::default()
    };
    app.home.devices = Work::Done(vec![processor, card]);
}

fn screens(theme: Theme, word: &str) {
    let mut visit = Visit::in_theme(SMALL, theme);
    visit.wait("the machine", |h| {
        h.state().home.machine.done().is_some() && h.state().home.devices.done().is_some()
    });
    tidy(visit.harness.state_mut());
    visit.look(&format!("{word}-home"));
    visit.press("Try the example");
    visit.wait("all rows", |h| h.state().data.found.done().is_some());
    visit.wait("a preview", |h| h.state().data.preview.done().is_some());
    visit.look(&format!("{word}-data"));
    visit.press("Next: choose a model");
    visit.look(&format!("{word}-model"));
    visit.press("Next: settings");
    // The real forecast is awaited, so that the one put in stays.
    visit.wait("the forecast", |h| h.state().train.timed.done().is_some());
    let train = &mut visit.harness.state_mut().train;
    (train.plan, train.timed) = (Work::Done(plan()), Work::Done(plan()));
    train.shows_command = true;
    visit.look(&format!("{word}-train"));
    for (stage, name) in [(Stage::Training, "run"), (Stage::Finished, "verdict")] {
        let app = visit.harness.state_mut();
        app.run = Some(run(stage));
        app.screen = Screen::Run;
        visit.look(&format!("{word}-{name}"));
    }
}

#[test]
fn by_day() {
    screens(Theme::Light, "day");
}

#[test]
fn by_night() {
    screens(Theme::Dark, "night");
}
