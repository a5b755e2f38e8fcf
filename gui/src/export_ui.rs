//! A tuned model handed on.

use eframe::egui::{ComboBox, Label, TextEdit, Ui};

use crate::app::App;
use crate::dialog::{Ask, Dialog};
use crate::export::DTYPES;
use crate::parts::{Tone, busy, card, code, hint, named, notice, open_path, page, plain, primary};
use crate::task::Work;

/// The screen.
pub fn export_ui(app: &mut App, ui: &mut Ui) {
    let about = "Hand the tuned model to the tools that you use.";
    page(ui, "Export", about, |ui| {
        let tuned = match app.result() {
            Ok(tuned) => tuned,
            Err(why) => {
                notice(ui, Tone::Plain, why);
                return;
            }
        };
        let ctx = ui.ctx().clone();
        card(ui, "What the run has written already", |ui| {
            let (what, path) = match &tuned.adapter {
                Some(adapter) => (
                    "The adapter: only what was learned, in the PEFT layout. It is small, and is used together with \
                     the model that it was trained on.",
                    adapter.display().to_string(),
                ),
                None => ("The whole model, in the Hugging Face layout.", tuned.model.clone()),
            };
            ui.add(Label::new(what).wrap());
            code(ui, "path", &path);
            if plain(ui, "Open the folder", None) {
                open_path(ui, &path);
            }
        });
        card(ui, "One whole model", |ui| {
            ui.add(
                Label::new(
                    "What was learned is merged into the model, and written as a folder that other programs open. \
                     Before it says done, it is read back and asked: it has to answer the same.",
                )
                .wrap(),
            );
            place_ui(app, ui);
            let missing = app.export.missing();
            if primary(ui, "Write the model", missing.as_deref()) {
                app.export.start(&ctx, &app.engine, &tuned);
            }
            if let Some(missing) = missing.filter(|_| !app.export.work.busy()) {
                hint(ui, missing);
            }
            outcome_ui(app, ui);
            let command = app.export.command(&tuned);
            hint(ui, "The same from a terminal:");
            code(ui, "command", &command);
        });
    });
}

fn place_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    ui.horizontal(|ui| {
        ui.label("New folder");
        let width = (ui.available_width() - 110.0).max(120.0);
        let field = ui.add(TextEdit::singleline(&mut app.export.path).desired_width(width));
        named(&field, "New folder");
        if plain(ui, "Choose", None) {
            app.dialog = Some(Dialog::open(&ctx, Ask::Export));
        }
    });
    ui.horizontal(|ui| {
        ui.label("Numbers are kept");
        let now = DTYPES.iter().find(|(value, _)| *value == app.export.dtype);
        let combo =
            ComboBox::from_id_salt("dtype").selected_text(now.map_or("", |(_, words)| words));
        let combo = combo.width(220.0).show_ui(ui, |ui| {
            for (value, words) in DTYPES {
                ui.selectable_value(&mut app.export.dtype, value, words);
            }
        });
        named(&combo.response, "Numbers are kept");
    });
}

fn outcome_ui(app: &App, ui: &mut Ui) {
    match &app.export.work {
        Work::Idle => {}
        Work::Busy(task) => _ = busy(ui, "Writing and checking", task),
        Work::Failed(why) => notice(ui, Tone::Bad, format!("Nothing was exported. {why}")),
        Work::Done(exported) => {
            notice(ui, Tone::Good, exported.words.clone());
            if plain(ui, "Open the new folder", None) {
                open_path(ui, &exported.path.display().to_string());
            }
        }
    }
}
