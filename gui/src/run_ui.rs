//! The run: how far it is, its curves, how it went.

use eframe::egui::{CollapsingHeader, Label, ProgressBar, RichText, ScrollArea, Ui};
use paddock_cli::run::events::{Judged, Sample, Share};
use paddock_cli::train::report::{bytes, duration};

use crate::app::App;
use crate::dialog::{Ask, Dialog};
use crate::parts::{
    Tone, boxed, card, chip, column, empty, fact, hint, named, notice, open_path, page, plain,
};
use crate::plot_ui::{loss_ui, small_ui};
use crate::run::{Run, Stage};
use crate::theme::{palette, title};

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
            let Some(run) = &app.run else { return };
            ending_ui(run, ui);
            curves_ui(app, ui);
            let Some(run) = &app.run else { return };
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
        Stage::Stopping => ("saving", p.warn),
        Stage::Stopped => ("stopped, can go on", p.warn),
        Stage::Finished => ("finished", p.good),
        Stage::Failed => ("failed", p.bad),
    }
}

fn head_ui(app: &mut App, ui: &mut Ui) {
    let p = palette(ui);
    let ctx = ui.ctx().clone();
    let (mut stop, mut resume, mut report) = (false, false, false);
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
                Stage::Starting | Stage::Training => {
                    let missing = run.pid.is_none().then_some("The process is still starting.");
                    stop = plain(ui, "Stop and save", missing);
                }
                Stage::Stopped => resume = plain(ui, "Go on", None),
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
            Stage::Training => hint(
                ui,
                "You may close this window: the run goes on, and is here again when you come back.",
            ),
            _ => {}
        }
    });
    let path = run.out.join("report.html");
    if let Some(run) = app.run.as_mut().filter(|_| stop) {
        run.stop();
    }
    if resume {
        app.resume_run(&ctx);
    }
    if report {
        open_path(ui, &path.display().to_string());
    }
}

/// How it went, or why it did not.
fn ending_ui(run: &Run, ui: &mut Ui) {
    if let Some(waits) = &run.waits {
        notice(ui, Tone::Warn, waits.clone());
    }
    match run.stage {
        Stage::Failed => {
            let why = run.failure.as_ref().map_or("It ended without a word.", |f| &f.message);
            notice(ui, Tone::Bad, format!("The run could not go on. {why}"));
            hint(ui, "Go back to Train to change the settings, or to Data to mend the rows.");
        }
        Stage::Stopped => {
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
        notice(ui, Tone::Good, verdict.clone());
    }
    if let Some(judged) = &run.judged {
        judged_ui(ui, judged);
    }
    ui.add_space(4.0);
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
            if let (Some(plan), true) = (&run.plan, run.memory > 0) {
                let (used, planned) = (bytes(run.memory), bytes(plan.memory_bytes));
                fact(ui, "Memory", format!("{used} of {planned} forecast"));
            }
            hint(ui, "How far each step moves: it rises at first and then falls.");
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

/// What all prompts begin with says nothing about any of them: it is left out.
pub fn shared_beginning(samples: &[Sample]) -> usize {
    let Some(first) = samples.first().filter(|_| samples.len() > 1) else { return 0 };
    let common = samples.iter().skip(1).fold(first.prompt.len(), |most, sample| {
        let same = first.prompt.bytes().zip(sample.prompt.bytes()).take(most);
        same.take_while(|(a, b)| a == b).count()
    });
    // Whole lines only.
    first.prompt.get(..common).and_then(|text| text.rfind('\n')).map_or(0, |end| end + 1)
}

fn samples_ui(run: &Run, ui: &mut Ui) {
    if run.samples.is_empty() {
        return;
    }
    ui.add_space(4.0);
    ui.label(RichText::new("Answers to held-out prompts").text_style(title()).strong());
    let skip = shared_beginning(&run.samples);
    for (i, sample) in run.samples.iter().enumerate() {
        boxed(ui, |ui| {
            let prompt = sample.prompt.get(skip..).unwrap_or(&sample.prompt).trim();
            ui.add(Label::new(RichText::new(prompt).strong()).wrap());
            let width = (ui.available_width() - 16.0) / 2.0;
            ui.horizontal_top(|ui| {
                ui.spacing_mut().item_spacing.x = 0.0;
                column(ui, width, |ui| answer_ui(ui, "Before training", sample.base.as_deref()));
                ui.add_space(16.0);
                column(ui, width, |ui| answer_ui(ui, "After training", sample.tuned.as_deref()));
            });
            if let Some(reference) = &sample.reference {
                CollapsingHeader::new("The answer in the data").id_salt(i).show(ui, |ui| {
                    ui.add(Label::new(reference.trim()).wrap());
                });
            }
        });
    }
}

fn answer_ui(ui: &mut Ui, who: &str, text: Option<&str>) {
    let p = palette(ui);
    ui.label(RichText::new(who).small().color(p.weak));
    let text = match text.map(str::trim) {
        None => "(not answered yet)",
        Some("") => "(nothing)",
        Some(text) => text,
    };
    ui.add(Label::new(text).wrap());
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
