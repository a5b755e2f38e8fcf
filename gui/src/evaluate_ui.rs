//! How good the answers are.

use eframe::egui::{CollapsingHeader, ComboBox, DragValue, Grid, Label, RichText, TextEdit, Ui};
use paddock_cli::eval::confusion::Confusion;
use paddock_cli::eval::outcome::{TemplateOutcome, with_interval};

use crate::app::App;
use crate::evaluate::{Asked, Evaluate, Measure};
use crate::forgetting_ui::forgetting_ui;
use crate::grading_ui::grading_ui;
use crate::parts::{Tone, busy, card, hint, named, notice, page, primary};
use crate::task::Work;
use crate::theme::palette;
use crate::voting_ui::voting_ui;

/// Rows that are shown as the worst.
const WORST: usize = 5;

/// The screen.
pub fn evaluate_ui(app: &mut App, ui: &mut Ui) {
    let about = "The model before and after, asked the same rows.";
    page(ui, "Evaluate", about, |ui| {
        let tuned = match app.result() {
            Ok(tuned) => tuned,
            Err(why) => return notice(ui, Tone::Plain, why),
        };
        let ctx = ui.ctx().clone();
        request_ui(&mut app.evaluate, ui);
        let missing = app.evaluate.missing();
        if primary(ui, "Ask both", missing.as_deref()) {
            let run = app.run.as_ref();
            let base = run.and_then(|run| run.base.clone()).unwrap_or_default();
            let machine = run.map(|run| run.machine_flags()).unwrap_or_default();
            app.evaluate.start(&ctx, &app.engine, &tuned, &base, &machine);
        }
        ui.add_space(6.0);
        match &app.evaluate.work {
            Work::Idle => {}
            Work::Busy(task) => _ = busy(ui, "Asking", task),
            Work::Failed(why) => {
                notice(ui, Tone::Bad, format!("They could not be compared. {why}"))
            }
            Work::Done(all) => outcome_ui(ui, all),
        }
        voting_ui(&mut app.evaluate, ui);
        grading_ui(&mut app.evaluate.grading, ui);
        forgetting_ui(app, ui);
    });
}

fn request_ui(e: &mut Evaluate, ui: &mut Ui) {
    card(ui, "What is asked", |ui| {
        if e.knows_held_out {
            ui.radio_value(&mut e.held_out, true, "The rows that this run held out");
            ui.radio_value(&mut e.held_out, false, "Rows of a file");
        }
        ui.horizontal(|ui| {
            ui.label("Rows to judge by");
            let field = TextEdit::singleline(&mut e.data).desired_width(320.0);
            let field = field.hint_text("a file, or bundled:stories");
            let field = ui.add_enabled(!e.held_out, field);
            named(&field, "Rows to judge by");
            ui.label("at most");
            let field = ui.add(DragValue::new(&mut e.limit).range(1..=100_000));
            named(&field, "Most rows");
        });
        let words = if e.held_out {
            "The model never learned from these, but its best state was chosen by them."
        } else {
            "Rows that the model was trained on flatter it: name rows that it has not seen. Of built-in data \
             that have test rows, these are taken."
        };
        hint(ui, words);
        if !e.judge_templates.is_empty() {
            hint(
                ui,
                "They are asked in the words that the model was trained with, and in those kept to judge by.",
            );
        }
        ui.horizontal(|ui| {
            ui.label("Only rows where");
            let field = TextEdit::singleline(&mut e.only).desired_width(170.0);
            let field = ui.add(field.hint_text("split=test"));
            named(&field, "Only rows where");
            ui.label("Measure");
            let now = Measure::ALL.iter().find(|(m, _)| *m == e.measure).map_or("", |(_, w)| w);
            let combo = ComboBox::from_id_salt("measure").selected_text(now).width(210.0);
            let combo = combo.show_ui(ui, |ui| {
                for (measure, words) in Measure::ALL {
                    ui.selectable_value(&mut e.measure, measure, words);
                }
            });
            named(&combo.response, "Measure");
        });
        ui.horizontal(|ui| {
            ui.label("Also before training, with worked examples in the prompt");
            let field = ui.add(DragValue::new(&mut e.shots).range(0..=32));
            named(&field, "Worked examples");
        });
        hint(
            ui,
            "0: not asked that way. Examples in the prompt cost no training, and show what training is worth.",
        );
    });
}

fn outcome_ui(ui: &mut Ui, all: &[Asked]) {
    let in_words = |i: usize| -> Vec<(&str, &TemplateOutcome)> {
        all.iter().filter_map(|asked| Some((asked.who, asked.outcome.templates.get(i)?))).collect()
    };
    let found = in_words(0);
    measures_ui(ui, "Measures", &found);
    let count = all.first().map_or(0, |asked| asked.outcome.templates.len());
    for i in 1..count {
        let other = in_words(i);
        let name = other.first().map_or("", |(_, outcome)| outcome.template.as_str());
        measures_ui(ui, &format!("Measures in words never trained with: {name}"), &other);
    }
    for (who, outcome) in &found {
        if let Some(confusion) = &outcome.confusion {
            card(ui, &format!("Which label was answered, {who}"), |ui| {
                confusion_ui(ui, who, confusion)
            });
        }
    }
    if let Some((who, last)) = found.last() {
        worst_ui(ui, who, last);
    }
}

fn measures_ui(ui: &mut Ui, name: &str, found: &[(&str, &TemplateOutcome)]) {
    let Some((_, first)) = found.first() else { return };
    card(ui, name, |ui| {
        Grid::new(name).striped(true).spacing([26.0, 6.0]).show(ui, |ui| {
            ui.label("");
            for (who, _) in found {
                ui.label(RichText::new(*who).strong());
            }
            ui.end_row();
            for (i, measure) in first.measures.iter().enumerate() {
                ui.label(measure.name.as_str());
                for (_, outcome) in found {
                    let value = outcome.measures.get(i);
                    ui.label(value.map_or(String::new(), |m| with_interval(&m.interval, m.share)));
                }
                ui.end_row();
            }
        });
        hint(ui, "In brackets: where the true value lies, 95 times in 100.");
        for note in found.iter().flat_map(|(_, outcome)| &outcome.notes) {
            hint(ui, note.clone());
        }
    });
}

fn confusion_ui(ui: &mut Ui, who: &str, confusion: &Confusion) {
    let p = palette(ui);
    Grid::new(("confusion", who)).striped(true).spacing([22.0, 6.0]).show(ui, |ui| {
        ui.label(RichText::new("right answer").color(p.weak));
        for label in confusion.labels.iter().map(String::as_str).chain(["none of them"]) {
            ui.label(RichText::new(label).strong());
        }
        ui.end_row();
        for (i, (label, counts)) in confusion.labels.iter().zip(&confusion.counts).enumerate() {
            ui.label(RichText::new(label).strong());
            for (j, count) in counts.iter().enumerate() {
                let text = RichText::new(count.to_string());
                let text = if i == j {
                    text.color(p.good.1).background_color(p.good.0).strong()
                } else {
                    text
                };
                ui.label(text);
            }
            ui.end_row();
        }
    });
}

fn worst_ui(ui: &mut Ui, who: &str, outcome: &TemplateOutcome) {
    let worst = outcome.worst(WORST);
    card(ui, &format!("The worst answers {who}"), |ui| {
        if worst.is_empty() {
            ui.label("None: all answers are right.");
        }
        for row in worst {
            let head = format!("Row {}", row.row + 1);
            CollapsingHeader::new(head).default_open(true).show(ui, |ui| {
                hint(ui, row.prompt.trim().to_string());
                for (what, text) in [("wanted", &row.wanted), ("said", &row.said)] {
                    ui.add(Label::new(format!("{what}: {}", text.trim())).wrap());
                }
            });
        }
    });
}
