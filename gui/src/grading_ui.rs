//! Grading answers one by one.

use eframe::egui::{CollapsingHeader, Label, RichText, Ui};

use crate::grading::Grading;
use crate::parts::{card, fact, hint, plain};

/// The card.
pub fn grading_ui(grading: &mut Grading, ui: &mut Ui) {
    if grading.answers.is_empty() {
        return;
    }
    card(ui, "Grade them one by one", |ui| {
        hint(
            ui,
            "One answer at a time, from 1 (useless) to 6 (excellent). You are not told whose it is.",
        );
        let all = grading.answers.len();
        if let Some(answer) = grading.current().cloned() {
            ui.label(format!("Answer {} of {all}", grading.grades.len() + 1));
            ui.add(Label::new(RichText::new(answer.prompt.trim()).strong()).wrap());
            let said =
                if answer.answer.trim().is_empty() { "(nothing)" } else { answer.answer.trim() };
            ui.add(Label::new(said).wrap());
            let mut given = None;
            ui.horizontal_wrapped(|ui| {
                for grade in &grading.scale {
                    let response = ui.button(&grade.name).on_hover_text(&grade.means);
                    crate::parts::named(&response, &format!("Grade {}", grade.name));
                    if response.clicked() {
                        given = Some(Some(grade.value));
                    }
                }
                if plain(ui, "Pass it over", None) {
                    given = Some(None);
                }
            });
            if let Some(grade) = given {
                grading.grade(grade);
            }
        } else {
            ui.label("All answers are graded.");
        }
        CollapsingHeader::new("What the grades mean").show(ui, |ui| {
            for grade in &grading.scale {
                fact(ui, &grade.name, grade.means.clone());
            }
        });
        let none = grading.grades.is_empty().then_some("Grade an answer first.");
        if !grading.open() && plain(ui, "Show the means so far", none) {
            grading.shows = true;
        }
        if grading.open() {
            for (who, words) in grading.means() {
                fact(ui, who, words);
            }
            hint(ui, "Mean grades. In brackets: where the true mean lies, 95 times in 100.");
        }
    });
}
