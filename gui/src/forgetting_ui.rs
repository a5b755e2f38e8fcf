//! What training may have cost.

use eframe::egui::{CollapsingHeader, Grid, Label, RichText, ScrollArea, Ui};
use paddock_cli::eval::change::{Changes, HEAD};

use crate::app::App;
use crate::parts::{Tone, busy, card, hint, notice, plain};
use crate::task::Work;

/// Rows that are shown of what came out worse.
const LOST: usize = 8;

/// The card.
pub fn forgetting_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    let mut start = false;
    card(ui, "What it may have forgotten", |ui| {
        hint(
            ui,
            "440 short questions of eleven kinds, from sums to grammar, that come with Paddock: asked before and \
             after training, they show what training has cost.",
        );
        let work = &app.evaluate.forgetting.work;
        let missing = work.busy().then_some("The models are being asked.");
        start = plain(ui, "Ask both the general questions", missing);
        match work {
            Work::Idle => {}
            Work::Busy(task) => _ = busy(ui, "Asking", task),
            Work::Failed(why) => notice(ui, Tone::Bad, format!("They could not be asked. {why}")),
            Work::Done(found) => found_ui(ui, found),
        }
    });
    let Some(run) = app.run.as_ref().filter(|_| start) else { return };
    let base = run.base.clone().unwrap_or_default();
    let machine = run.machine_flags();
    app.evaluate.forgetting.start(&ctx, &app.engine, &base, &run.out, &machine);
}

fn found_ui(ui: &mut Ui, found: &Changes) {
    let clearly_lost =
        found.kinds.iter().any(|k| k.paired.clear() && k.paired.difference.value < 0.0);
    notice(ui, if clearly_lost { Tone::Warn } else { Tone::Good }, found.verdict());
    ScrollArea::horizontal().id_salt("kinds").show(ui, |ui| {
        Grid::new("kinds").striped(true).spacing([18.0, 5.0]).show(ui, |ui| {
            for head in HEAD {
                ui.label(RichText::new(head).strong());
            }
            ui.end_row();
            for line in found.lines() {
                for cell in line {
                    ui.label(cell.replace('_', " "));
                }
                ui.end_row();
            }
        });
    });
    if found.lost.is_empty() {
        return;
    }
    CollapsingHeader::new(format!("{} questions that came out worse", found.lost.len())).show(
        ui,
        |ui| {
            for lost in found.lost.iter().take(LOST) {
                ui.add(Label::new(RichText::new(lost.prompt.trim()).strong()).wrap());
                let words = format!(
                    "right: {}; before: {}; after: {}",
                    lost.wanted, lost.before, lost.after
                );
                ui.add(Label::new(words).wrap());
            }
        },
    );
}
