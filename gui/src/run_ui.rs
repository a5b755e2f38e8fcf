//! The run: how far it is, its curves, how it went.

use eframe::egui::{CollapsingHeader, Label, ProgressBar, RichText, ScrollArea, Ui};
use paddock_cli::run::control::Wish;
use paddock_cli::run::events::{Judged, Share};
use paddock_cli::train::report::{bytes, duration};

use crate::app::{App, Screen};
use crate::dialog::{Ask, Dialog};
use crate::parts::{
    Tone, boxed, card, chip, column, empty, fact, hint, named, notice, open_path, page, plain,
};
use crate::plot_ui::{loss_ui, small_ui};
use crate::run::{Run, Stage};
use crate::samples_ui::samples_ui;
use crate::theme::palette;

/// The screen.
pub fn run_ui(app: &mut App, ui: &mut Ui) {
    let title = app.run.as_ref().map_or("Run".to_string(), |run| {
        format!("Run {}", run.out.file_name().unwrap_or_default().to_string_lossy())
    });
    page(
        ui,
        &title,
        "The model learns row by row. The loss says how surprised it still is.",
        |ui| {
            if app.run.is_none() {
                empty(
                    ui,
                    "No run yet",
                    "Start one under Train, or open one from the first screen.",
                );
                return;
            }
            head_ui(app, ui);
            ending_ui(app, ui);
            curves_ui(app, ui);
            let Some(run) = &mut app.run else { return };
            samples_ui(run, ui);
            log_ui(run, ui);
        },
    );
}

fn stage_words(
    run: &Run,
    p: &crate::theme::Palette,
) -> (&'static str, (eframe::egui::Color32, eframe::egui::Color32)) {
    match run.stage {
        Stage::Starting => ("starting", p.warn),
        Stage::Training if run.waits.is_some() => ("waiting", p.warn),
        Stage::Training if run.share() >= 1.0 => ("answering", p.good),
        Stage::Training => ("training", p.good),
        Stage::Pausing => ("pausing after this step", p.warn),
        Stage::Paused => ("paused", p.warn),
        Stage::Stopping => ("saving", p.warn),
        Stage::Stopped => ("stopped, can go on", p.warn),
        Stage::Finished => ("finished", p.good),
        Stage::Failed => ("failed", p.bad),
    }
}

fn head_ui(app: &mut App, ui: &mut Ui) {
    let p = palette(ui);
    let ctx = ui.ctx().clone();
    let (mut wish, mut resume, mut report) = (None, false, false);
    let Some(run) = &app.run else { return };
    boxed(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            let (words, colours) = stage_words(run, p);
            chip(ui, words, colours);
            let done = run.steps.last().map_or(0, |step| step.step);
            let all = run.plan.as_ref().map_or(0, |plan| plan.steps);
            if all > 0 {
                ui.label(format!("Step {done} of {all}"));
            }
            if let Some(left) = run.left().filter(|_| run.stage == Stage::Training) {
                ui.label(RichText::new(format!("about {} to go", duration(left))).color(p.weak));
            }
            match run.stage {
                Stage::Starting | Stage::Training | Stage::Pausing | Stage::Paused => {
                    wish = wishes_ui(run, ui);
                }
                Stage::Stopped => resume = plain(ui, "Go on", None),
                Stage::Failed if run.may_go_on() => resume = plain(ui, "Go on", None),
                Stage::Finished => report = plain(ui, "Open the report", None),
                _ => {}
            }
        });
        let bar = ui.add(ProgressBar::new(run.share()).desired_height(9.0).fill(p.accent));
        named(&bar, "Progress of the run");
        match run.stage {
            Stage::Starting => hint(
                ui,
                "Reading model and rows, then the model answers some prompts as it is now.",
            ),
            Stage::Training if run.share() >= 1.0 => {
                hint(
                    ui,
                    "All steps are done. The model answers the same prompts again, to compare.",
                );
            }
            Stage::Pausing | Stage::Paused => hint(
                ui,
                "Paused, it keeps its place and its memory but computes nothing. It goes on from there, also after this window was closed. To free the memory, stop and save it.",
            ),
            Stage::Training => hint(
                ui,
                "You may close this window: the run goes on, and is here again when you come back.",
            ),
            _ => {}
        }
    });
    let path = run.out.join("report.html");
    if let (Some(run), Some(wish)) = (&mut app.run, wish) {
        run.wish(wish);
    }
    if resume {
        app.resume_run(&ctx);
    }
    if report {
        open_path(ui, &path.display().to_string());
    }
}

/// What a run that goes on can be asked for.
fn wishes_ui(run: &Run, ui: &mut Ui) -> Option<Wish> {
    let missing = run.pid.is_none().then_some("The process is still starting.");
    let mut wish = None;
    if matches!(run.stage, Stage::Pausing | Stage::Paused) {
        if plain(ui, "Continue", None) {
            wish = Some(Wish::Go);
        }
    } else if plain(ui, "Pause", missing) {
        wish = Some(Wish::Pause);
    }
    if plain(ui, "Stop and save", missing) {
        wish = Some(Wish::Stop);
    }
    wish
}

/// How it went, or why it did not.
fn ending_ui(app: &mut App, ui: &mut Ui) {
    let Some(run) = &app.run else { return };
    let mut next = None;
    if let Some(waits) = &run.waits {
        notice(ui, Tone::Warn, waits.clone());
    }
    match run.stage {
        Stage::Failed => {
            let why = run.failure.as_ref().map_or("It ended without a word.", |f| &f.message);
            notice(ui, Tone::Bad, format!("The run could not go on. {why}"));
            ui.horizontal_wrapped(|ui| {
                for (words, screen) in
                    [("Change the settings", Screen::Train), ("Look at the rows", Screen::Data)]
                {
                    if plain(ui, words, app.blocked(screen).as_deref()) {
                        next = Some((screen, false));
                    }
                }
                // It went out of hand: smaller steps are what helps most often.
                let blocked = app.blocked(Screen::Train);
                if why.contains("--lr") && plain(ui, "Try smaller steps", blocked.as_deref()) {
                    next = Some((Screen::Train, true));
                }
            });
        }
        Stage::Stopped => {
            if let Some(failure) = &run.failure {
                let why = &failure.message;
                notice(ui, Tone::Bad, format!("The run ended without being asked to. {why}"));
            }
            let saved = run.checkpoint.as_ref().map_or(String::new(), |c| {
                format!(" Its last saved state is that of step {}.", c.step)
            });
            notice(
                ui,
                Tone::Warn,
                format!("The run is not over.{saved} Go on: it ends as if it had never stopped."),
            );
        }
        _ => {}
    }
    if let Some(verdict) = &run.verdict {
        let tone = if run.learned() { Tone::Good } else { Tone::Warn };
        notice(ui, tone, verdict.clone());
    }
    if let Some(judged) = &run.judged {
        judged_ui(ui, judged);
    }
    ui.add_space(4.0);
    let ctx = ui.ctx().clone();
    if let Some((screen, smaller)) = next {
        if smaller {
            app.smaller_steps();
        }
        app.show(&ctx, screen);
    }
}

fn judged_ui(ui: &mut Ui, judged: &Judged) {
    let share = |s: &Share| {
        format!("{:.0}% ({:.0} to {:.0})", 100.0 * s.value, 100.0 * s.low, 100.0 * s.high)
    };
    card(ui, &format!("{} unseen instructions", judged.rows), |ui| {
        eframe::egui::Grid::new("judged").num_columns(3).spacing([28.0, 6.0]).show(ui, |ui| {
            for text in ["", "before", "after"] {
                ui.label(RichText::new(text).strong());
            }
            ui.end_row();
            ui.label(judged.measure.as_str());
            ui.label(share(&judged.base));
            ui.label(RichText::new(share(&judged.tuned)).strong());
            ui.end_row();
            ui.label("loss");
            ui.label(format!("{:.3}", judged.base_loss));
            ui.label(RichText::new(format!("{:.3}", judged.tuned_loss)).strong());
            ui.end_row();
        });
        hint(ui, "In brackets: where the true share lies, 95 times in 100.");
    });
}

/// What the process uses at most, beside what was forecast.
fn memory_ui(run: &Run, ui: &mut Ui) {
    let Some(plan) = &run.plan else { return };
    if run.memory == 0 || !plan.backend.starts_with("cpu") {
        // Memory of a card is not the process's own.
        return fact(ui, "Memory", format!("{} forecast", bytes(plan.memory_bytes)));
    }
    let (used, planned) = (bytes(run.memory), bytes(plan.memory_bytes));
    fact(ui, "Memory", format!("at most {used}; {planned} forecast"));
    let p = palette(ui);
    let share = run.memory as f32 / plan.memory_bytes.max(1) as f32;
    let colour = if share > 1.1 { p.second } else { p.accent };
    let bar = ui.add(ProgressBar::new(share.min(1.0)).desired_height(7.0).fill(colour));
    named(&bar, "Memory used, of what was forecast");
}

fn curves_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    let width = ui.available_width();
    let Some(run) = &app.run else { return };
    let mut save = false;
    let wide = width >= 760.0;
    let big = if wide { (width - 14.0) * 0.66 } else { width };
    let mut plot = run.plot;
    let mut left = |ui: &mut Ui| {
        card(ui, "Loss", |ui| {
            if run.steps.is_empty() {
                hint(ui, "The curve begins with the first step.");
            }
            plot = Some(loss_ui(ui, run, 232.0));
            hint(
                ui,
                "Lower is better. If the held-out line turns up, the model begins to learn its rows by heart; \
                      the best state, marked by the diamond, is the one that is kept.",
            );
        });
    };
    let right = |ui: &mut Ui| {
        card(ui, "Speed and pace", |ui| {
            let speed = run.steps.last().map_or(0.0, |step| step.tokens_per_s);
            fact(ui, "Tokens a second", format!("{speed:.0}"));
            small_ui(ui, run, "tokens a second", |step| step.tokens_per_s);
            let lr = run.steps.last().map_or(0.0, |step| step.lr);
            fact(ui, "Learning rate", format!("{lr:.2e}"));
            small_ui(ui, run, "learning rate", |step| step.lr);
            hint(ui, "How far each step moves: it rises at first and then falls.");
            memory_ui(run, ui);
        });
    };
    if wide {
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = 0.0;
            column(ui, big, left);
            ui.add_space(14.0);
            column(ui, width - 14.0 - big, right);
        });
    } else {
        left(ui);
        right(ui);
    }
    ui.horizontal(|ui| {
        let missing = run.steps.is_empty().then_some("There is no curve yet.");
        save = plain(ui, "Save the curves", missing);
        hint(ui, "as PNG, SVG or CSV");
    });
    if let Some(run) = &mut app.run {
        run.plot = plot;
    }
    if save {
        app.dialog = Some(Dialog::open(&ctx, Ask::Picture));
    }
}

fn log_ui(run: &Run, ui: &mut Ui) {
    if run.log.is_empty() {
        return;
    }
    CollapsingHeader::new("What happened, line by line").show(ui, |ui| {
        ScrollArea::vertical().id_salt("log").max_height(200.0).stick_to_bottom(true).show(
            ui,
            |ui| {
                for line in &run.log {
                    ui.add(Label::new(RichText::new(line).small()).wrap());
                }
            },
        );
    });
}
