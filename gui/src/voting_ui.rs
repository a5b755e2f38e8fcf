//! Two answers side by side, judged blindly.

use eframe::egui::{Label, RichText, Ui};

use crate::evaluate::Evaluate;
use crate::parts::{Tone, boxed, column, hint, notice, plain};
use crate::theme::title;

/// Two answers without names: which is better?
pub fn voting_ui(e: &mut Evaluate, ui: &mut Ui) {
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
