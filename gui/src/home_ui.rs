//! The first screen.

use std::time::SystemTime;

use eframe::egui::{Align, Label, Layout, RichText, Ui};
use paddock_cli::run::overview::{Overview, State};
use paddock_cli::train::report::bytes;

use crate::app::App;
use crate::dialog::{Ask, Dialog};
use crate::home::ago;
use crate::parts::{boxed, card, chip, empty, fact, hint, page, primary, split};
use crate::task::Work;
use crate::theme::{Palette, palette, title};

/// Runs that are listed.
const SHOWN: usize = 12;

/// The screen.
pub fn home_ui(app: &mut App, ui: &mut Ui) {
    let about =
        "Teach a language model to follow your instructions. Everything happens on this machine.";
    page(ui, "Welcome to Paddock", about, |ui| {
        if let Some(run) = app.home.running().cloned() {
            running_ui(app, ui, &run);
        }
        split(ui, 0.56, app, |ui, app| begin_ui(app, ui), |ui, app| machine_ui(app, ui));
        ui.add_space(6.0);
        runs_ui(app, ui);
    });
}

/// A run that goes on although no window follows it.
fn running_ui(app: &mut App, ui: &mut Ui, run: &Overview) {
    let followed = app.run.as_ref().is_some_and(|open| open.out == run.path);
    boxed(ui, |ui| {
        ui.horizontal(|ui| {
            let (word, colours) = state_words(run, palette(ui));
            chip(ui, word, colours);
            let words = match (run.paused, followed) {
                (true, _) => "is paused: it keeps its memory and waits.",
                (false, true) => "goes on.",
                (false, false) => "was started earlier and goes on.",
            };
            ui.label(format!("The run {} {words}", run.name()));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if primary(ui, "Watch it", None) {
                    let ctx = ui.ctx().clone();
                    app.open_run(&ctx, &run.path);
                }
            });
        });
    });
}

fn begin_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    card(ui, "Begin", |ui| {
        ui.add(
            Label::new(
                "A small built-in model learns to tell the little stories that it is asked for. It takes \
                 about two minutes and needs nothing else.",
            )
            .wrap(),
        );
        ui.add_space(4.0);
        if primary(ui, "Try the example", None) {
            app.open_rows(&ctx, "bundled:stories");
        }
        ui.add_space(6.0);
        ui.separator();
        ui.label("Or use rows of your own: one question and one answer in each.");
        ui.horizontal_wrapped(|ui| {
            if ui.button("Open a file with rows").clicked() {
                app.dialog = Some(Dialog::open(&ctx, Ask::Rows));
            }
            if ui.button("Second example: product reviews").clicked() {
                app.open_rows(&ctx, "bundled:reviews");
            }
        });
        hint(
            ui,
            "A spreadsheet saved as CSV, or JSON, JSONL, TSV or Parquet. You can also drop it on this window.",
        );
    });
}

fn machine_ui(app: &App, ui: &mut Ui) {
    card(ui, "This machine", |ui| match &app.home.machine {
        Work::Done(machine) => {
            fact(ui, "Processor", &machine.processor);
            let memory = format!(
                "{}, {} free",
                bytes(machine.memory_bytes),
                bytes(machine.memory_free_bytes)
            );
            fact(ui, "Memory", memory);
        }
        Work::Failed(why) => _ = ui.label(why),
        _ => _ = ui.spinner(),
    });
    card(ui, "Trains on", |ui| devices_ui(app, ui));
}

/// What runs can compute on. The processor's name stands above already.
fn devices_ui(app: &App, ui: &mut Ui) {
    let p = palette(ui);
    match &app.home.devices {
        Work::Done(all) => {
            for (i, device) in all.iter().enumerate() {
                ui.horizontal(|ui| {
                    let good = device.unusable.is_none();
                    chip(ui, &device.kind, if good { p.good } else { p.bad });
                    if i > 0 {
                        ui.add(Label::new(RichText::new(&device.name).strong()).truncate());
                    }
                });
                match &device.unusable {
                    None => hint(ui, device.about.clone()),
                    Some(why) => hint(ui, format!("It cannot be used: {why}")),
                }
            }
            if all.len() == 1 {
                hint(ui, "No graphics card with a driver that can be used was found.");
            }
            hint(ui, "Which of them a run takes is chosen under Train.");
        }
        Work::Failed(why) => hint(ui, format!("Graphics cards could not be looked for: {why}")),
        _ => {
            ui.horizontal(|ui| {
                ui.spinner();
                ui.label("Looking for graphics cards");
            });
        }
    }
}

fn runs_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    ui.horizontal(|ui| {
        ui.label(RichText::new("Runs").text_style(title()).strong());
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if ui.button("Keep runs elsewhere").clicked() {
                app.dialog = Some(Dialog::open(&ctx, Ask::Runs));
            }
            if ui.button("Open a run").clicked() {
                app.dialog = Some(Dialog::open(&ctx, Ask::Run));
            }
        });
    });
    if app.home.runs.is_empty() {
        let place = app.engine.runs.display();
        empty(ui, "No runs yet", format!("They will be kept in {place}."));
        return;
    }
    let runs: Vec<Overview> = app.home.runs.iter().take(SHOWN).cloned().collect();
    for run in runs {
        run_row_ui(app, ui, &run);
    }
    hint(ui, format!("Kept in {}", app.engine.runs.display()));
}

/// The word and colours of a state.
fn state_words(
    run: &Overview,
    p: &Palette,
) -> (&'static str, (eframe::egui::Color32, eframe::egui::Color32)) {
    match run.state {
        State::Running(_) if run.paused => ("paused", p.warn),
        State::Running(_) => ("running", p.good),
        State::Finished => ("finished", (p.chosen, p.accent)),
        State::Stopped => ("can go on", p.warn),
    }
}

fn run_row_ui(app: &mut App, ui: &mut Ui, run: &Overview) {
    let ctx = ui.ctx().clone();
    let p = palette(ui);
    boxed(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label(RichText::new(run.name()).strong());
            let (word, colours) = state_words(run, p);
            chip(ui, word, colours);
            let model = run.config.model.clone().unwrap_or_default();
            let about = format!("{model} on {}", run.config.data.join(", "));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let open = ui.button("Open");
                if open.on_hover_text(format!("Open the run {}", run.name())).clicked() {
                    app.open_run(&ctx, &run.path);
                }
                let elapsed = SystemTime::now().duration_since(run.changed).unwrap_or_default();
                ui.label(RichText::new(ago(elapsed)).small().color(p.weak));
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(RichText::new(about).small().color(p.weak)).truncate());
                });
            });
        });
        if let Some(verdict) = run.ending.as_ref().and_then(|ending| ending.verdict.as_ref()) {
            ui.add(Label::new(RichText::new(verdict).small()).truncate());
        }
    });
}
