//! How good the answers are.

use eframe::egui::{CollapsingHeader, ComboBox, DragValue, Grid, Label, RichText, TextEdit, Ui};
use paddock_cli::eval::confusion::Confusion;
use paddock_cli::eval::outcome::{TemplateOutcome, with_interval};

use crate::app::App;
use crate::evaluate::{Asked, Evaluate, Measure};
use crate::parts::{Tone, boxed, busy, card, column, hint, named, notice, page, plain, primary};
use crate::task::Work;
use crate::theme::{palette, title};

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
            let base = app.run.as_ref().and_then(|run| run.base.clone()).unwrap_or_default();
            app.evaluate.start(&ctx, &app.engine, &tuned, &base);
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
    });
}

fn request_ui(e: &mut Evaluate, ui: &mut Ui) {
    card(ui, "What is asked", |ui| {
        ui.horizontal(|ui| {
            ui.label("Rows to judge by");
            let field = TextEdit::singleline(&mut e.data).desired_width(320.0);
            let field = ui.add(field.hint_text("a file, or bundled:stories"));
            named(&field, "Rows to judge by");
            ui.label("at most");
            let field = ui.add(DragValue::new(&mut e.limit).range(1..=100_000));
            named(&field, "Most rows");
        });
        hint(
            ui,
            "Rows that the model was trained on flatter it: name rows that it has not seen. Of built-in data \
                  that have test rows, these are taken.",
        );
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
    let found: Vec<(&str, &TemplateOutcome)> =
        all.iter().filter_map(|asked| Some((asked.who, asked.found()?))).collect();
    let Some((_, first)) = found.first() else { return };
    card(ui, "Measures", |ui| {
        Grid::new("measures").striped(true).spacing([26.0, 6.0]).show(ui, |ui| {
            ui.label("");
            for (who, _) in &found {
                ui.label(RichText::new(*who).strong());
            }
            ui.end_row();
            for (i, measure) in first.measures.iter().enumerate() {
                ui.label(measure.name.as_str());
                for (_, outcome) in &found {
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

/// Two answers without names: which is better?
fn voting_ui(e: &mut Evaluate, ui: &mut Ui) {
    if e.pairs.is_empty() {
        return;
    }
    ui.label(RichText::new("Judge them yourself").text_style(title()).strong());
    hint(
        ui,
        "Two answers to one prompt, one from before and one from after training. You are not told which is which.",
    );
    if let Some(tally) = e.tally() {
        notice(ui, Tone::Plain, tally);
    }
    let Some(pair) = e.pair().cloned() else {
        hint(ui, "All pairs are judged.");
        return;
    };
    let (left, right) =
        if pair.swapped { (&pair.second, &pair.first) } else { (&pair.first, &pair.second) };
    let mut vote = None;
    boxed(ui, |ui| {
        ui.add(Label::new(RichText::new(pair.prompt.trim()).strong()).wrap());
        let width = (ui.available_width() - 16.0) / 2.0;
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = 0.0;
            column(ui, width, |ui| _ = ui.add(Label::new(shown(left)).wrap()));
            ui.add_space(16.0);
            column(ui, width, |ui| _ = ui.add(Label::new(shown(right)).wrap()));
        });
        ui.horizontal(|ui| {
            for (words, value) in [
                ("The left one is better", Some(true)),
                ("Neither", None),
                ("The right one is better", Some(false)),
            ] {
                if plain(ui, words, None) {
                    vote = Some(value);
                }
            }
        });
    });
    if let Some(value) = vote {
        e.vote(value);
    }
}

fn shown(text: &str) -> &str {
    if text.trim().is_empty() { "(nothing)" } else { text.trim() }
}
