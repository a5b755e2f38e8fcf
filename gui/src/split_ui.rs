//! Which rows judge the model.

use eframe::egui::{ComboBox, DragValue, Ui};

use crate::app::App;
use crate::parts::{Tone, busy, card, fact, hint, named, notice, open_path, plain};
use crate::split::{By, Split, Used};
use crate::task::Work;

/// The sides, with what they are for.
const SIDES: [&str; 3] = ["Learns from", "Watched by", "Judged by"];

/// The card.
pub fn split_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    let Some(opened) = app.data.opened.done() else { return };
    let columns = opened.table.detected.columns.clone();
    let own = !opened.own.is_empty();
    let split = &mut app.data.split;
    let (mut make, mut forget) = (false, false);
    card(ui, "Which rows judge the model", |ui| match &split.used {
        Some(used) => forget = used_ui(ui, used),
        None if own => hint(
            ui,
            "These rows bring others along that the model never learns from: some to watch on the way, some to \
             judge by at the end. They are the same in every run.",
        ),
        None => {
            hint(
                ui,
                "Each run holds out a tenth of the rows by itself, the same ones each time, and writes down which. \
                 Make a split to have rows that no run ever sees before the end.",
            );
            make = shares_ui(split, &columns, ui);
            match &split.making {
                Work::Busy(task) => _ = busy(ui, "Telling the rows apart", task),
                Work::Failed(why) => notice(ui, Tone::Bad, format!("There is no split. {why}")),
                _ => {}
            }
        }
    });
    if forget {
        split.used = None;
    }
    if make && let Some(opened) = app.data.opened.done() {
        let (engine, split) = (app.engine.clone(), &mut app.data.split);
        split.make(&ctx, &engine, opened);
    }
}

/// The split in use; whether it shall not be used any more.
fn used_ui(ui: &mut Ui, used: &Used) -> bool {
    let kept = &used.kept;
    let leaks = kept.leaks.unwrap_or(0);
    notice(
        ui,
        Tone::Good,
        "Split and frozen: every run and every evaluation of these rows uses the same rows on the same side.",
    );
    for (side, rows) in SIDES.iter().zip(kept.rows) {
        fact(ui, side, format!("{rows} rows"));
    }
    if leaks > 0 {
        notice(
            ui,
            Tone::Warn,
            format!(
                "{leaks} rows have a near twin on another side, which flatters the model a little."
            ),
        );
    }
    let mut forget = false;
    ui.horizontal_wrapped(|ui| {
        if plain(ui, "Open the split's folder", None) {
            open_path(ui, &kept.folder.display().to_string());
        }
        forget = plain(ui, "Do not use this split", None);
    });
    forget
}

fn shares_ui(split: &mut Split, columns: &[String], ui: &mut Ui) -> bool {
    for (words, value) in
        [("Watched on the way", &mut split.validation), ("Judged by at the end", &mut split.test)]
    {
        ui.horizontal(|ui| {
            let field = ui.add(DragValue::new(value).range(0..=50).suffix(" %"));
            named(&field, words);
            ui.label(words);
        });
    }
    ui.horizontal_wrapped(|ui| {
        ui.label("Told apart");
        let now = By::ALL.iter().find(|(by, _)| *by == split.by).map_or("", |(_, words)| words);
        let combo = ComboBox::from_id_salt("by").selected_text(now).width(150.0).truncate();
        let combo = combo.show_ui(ui, |ui| {
            for (by, words) in By::ALL {
                ui.selectable_value(&mut split.by, by, words);
            }
        });
        named(&combo.response, "Told apart");
        if split.by != By::Random {
            let shown = if split.column.is_empty() { "choose a column" } else { &split.column };
            let combo = ComboBox::from_id_salt("split column").selected_text(shown).width(120.0);
            let combo = combo.show_ui(ui, |ui| {
                for column in columns {
                    ui.selectable_value(&mut split.column, column.clone(), column);
                }
            });
            named(&combo.response, "Column to split by");
        }
    });
    let missing = split.missing();
    plain(ui, "Make the split and freeze it", missing.as_deref())
}
