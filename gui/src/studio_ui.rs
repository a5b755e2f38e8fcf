//! Templates: list, editor, preview.

use eframe::egui::{
    CollapsingHeader, ComboBox, Label, RichText, ScrollArea, TextEdit, TextStyle, Ui,
};
use paddock_cli::data::shelf;

use crate::app::{App, Screen};
use crate::data_ui::{legend_ui, painted};
use crate::dialog::{Ask, Dialog};
use crate::mix::Chosen;
use crate::mix_ui::mix_ui;
use crate::parts::{Tone, card, empty, hint, named, notice, page, plain, primary, split};
use crate::studio::Studio;
use crate::task::{Work, sentence};
use crate::theme::palette;

/// The screen.
pub fn studio_ui(app: &mut App, ui: &mut Ui) {
    let about =
        "The words around question and answer. What the model learns, it learns in these words.";
    page(ui, "Template", about, |ui| {
        let left = |ui: &mut Ui, app: &mut App| {
            mix_ui(app, ui);
            list_ui(app, ui);
        };
        split(ui, 0.36, app, left, |ui, app| editor_ui(app, ui));
    });
}

fn list_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    card(ui, "Templates", |ui| {
        ui.horizontal_wrapped(|ui| {
            let missing = app.data.table().is_none().then_some("Open some rows first.");
            if plain(ui, "Write a new one", missing)
                && let Some(table) = app.data.table().cloned()
            {
                let columns = &app.data.columns;
                app.studio.begin(&table, columns.get("prompt"), columns.get("answer"));
            }
            let columns = &app.data.columns;
            let both = columns.get("prompt").zip(columns.get("answer"));
            let missing =
                both.is_none().then_some("Choose under Data what goes in and what comes out.");
            if plain(ui, "Write an inverted one", missing)
                && let Some((prompt, answer)) = both
            {
                app.studio.begin_inverted(prompt, answer);
            }
            if plain(ui, "Import a file", None) {
                app.dialog = Some(Dialog::open(&ctx, Ask::Template));
            }
        });
        hint(
            ui,
            "Inverted: the model learns to ask, given the answer. Files: template.json, or promptsource's YAML.",
        );
        let field = TextEdit::singleline(&mut app.studio.search).desired_width(f32::INFINITY);
        let field = ui.add(field.hint_text("Search the templates"));
        named(&field, "Search the templates");
        let chosen = shelf_ui(app, ui);
        if let Some(name) = chosen
            && let Err(error) = app.studio.choose(&name)
        {
            app.trouble = Some(sentence(&error));
        }
    });
}

/// All templates by group; the one that was pressed.
fn shelf_ui(app: &App, ui: &mut Ui) -> Option<String> {
    let mut chosen = None;
    match &app.studio.shelf {
        Work::Done(groups) => {
            let wanted = app.studio.search.to_lowercase();
            let height = (ui.ctx().content_rect().height() - 330.0).clamp(160.0, 900.0);
            let list = ScrollArea::vertical().id_salt("shelf").max_height(height);
            list.min_scrolled_height(height.min(260.0)).show(ui, |ui| {
                ui.set_min_width(ui.available_width());
                for group in groups {
                    let fits = |name: &&String| name.to_lowercase().contains(&wanted);
                    let names: Vec<&String> = group.names.iter().filter(fits).collect();
                    if names.is_empty() {
                        continue;
                    }
                    let open = (!wanted.is_empty()).then_some(true);
                    let head = format!("{} ({})", group.name, names.len());
                    CollapsingHeader::new(head).open(open).show(ui, |ui| {
                        hint(ui, group.about.clone());
                        for name in names {
                            let short = name.rsplit(['/', '#']).next().unwrap_or(name);
                            let round = group.inverted.contains(name);
                            let short =
                                format!("{short}{}", if round { " (inverted)" } else { "" });
                            let is = *name == app.studio.chosen;
                            let label = ui.selectable_label(is, short);
                            let about = shelf::about(name).unwrap_or(name);
                            if label.on_hover_text(about).clicked() {
                                chosen = Some(name.clone());
                            }
                        }
                    });
                }
            });
        }
        Work::Failed(why) => notice(ui, Tone::Bad, why.clone()),
        _ => _ = ui.spinner(),
    }
    chosen
}

fn editor_ui(app: &mut App, ui: &mut Ui) {
    if app.studio.chosen.is_empty() && app.studio.jinja.is_empty() {
        empty(
            ui,
            "No template chosen",
            "Choose one on the left, or write a new one. Without one, the columns decide.",
        );
        return;
    }
    card(ui, "Text", |ui| text_ui(&mut app.studio, ui));
    fields_ui(app, ui);
    card(ui, "On your rows", |ui| tried_ui(app, ui));
    let faulty = match &app.studio.tried {
        Work::Done(tried) => !tried.faults.is_empty(),
        Work::Failed(_) => true,
        _ => false,
    };
    let missing = if app.data.table().is_none() {
        Some("Open some rows first: a template is used on rows.")
    } else {
        faulty.then_some("Mend what is said above first.")
    };
    use_ui(app, ui, missing);
}

/// What can be done with the template.
fn use_ui(app: &mut App, ui: &mut Ui, missing: Option<&str>) {
    let some = !app.data.chosen.is_empty();
    let (mut only, mut also, mut judges) = (false, false, false);
    ui.horizontal_wrapped(|ui| {
        only = primary(ui, "Use this template", missing);
        if some {
            also = plain(ui, "Use it beside the others", missing);
        }
        judges = plain(ui, "Keep it to judge by", missing);
        if some && plain(ui, "Go back to what the columns suggest", None) {
            app.data.chosen.clear();
        }
    });
    if !(only || also || judges) {
        return;
    }
    let folder = app.engine.runs.join(".app").join("templates");
    match app.studio.take(&folder) {
        Ok(name) => {
            let list = &mut app.data.chosen;
            if only {
                list.clear();
            }
            list.retain(|known| known.name != name);
            list.push(Chosen { judges, ..Chosen::new(&name) });
            if only {
                app.screen = Screen::Data;
            }
        }
        Err(error) => app.trouble = Some(sentence(&error)),
    }
}

/// A column for each name that the template reads and the rows do not have.
fn fields_ui(app: &mut App, ui: &mut Ui) {
    let Some(table) = app.data.table().cloned() else { return };
    let names = match &app.studio.tried {
        Work::Done(tried) if !tried.unfilled.is_empty() && app.studio.editable => {
            tried.unfilled.clone()
        }
        _ => return,
    };
    card(ui, "What fills its places", |ui| {
        hint(
            ui,
            "The template reads names that your rows do not have. Say which column each stands for.",
        );
        for name in names {
            let now = app.studio.fields.get(&name).cloned();
            ui.horizontal(|ui| {
                ui.label(RichText::new(&name).monospace());
                let shown = now.clone().unwrap_or_else(|| "choose a column".to_string());
                let combo = ComboBox::from_id_salt(&name).selected_text(shown).width(170.0);
                let combo = combo.show_ui(ui, |ui| {
                    for column in &table.detected.columns {
                        if ui.selectable_label(now.as_ref() == Some(column), column).clicked() {
                            app.studio.fields.insert(name.clone(), column.clone());
                        }
                    }
                });
                named(&combo.response, &format!("Column for {name}"));
            });
        }
    });
}

fn text_ui(studio: &mut Studio, ui: &mut Ui) {
    if !studio.editable {
        let about = shelf::about(&studio.chosen).unwrap_or_default();
        let words =
            "It is a part of the program, or of the model: it can be used, but not changed.";
        ui.add(Label::new(format!("{about} {words}")).wrap());
        return;
    }
    ui.horizontal(|ui| {
        ui.label("Name");
        let field = ui.add(TextEdit::singleline(&mut studio.name).desired_width(200.0));
        named(&field, "Name of the template");
    });
    let field = TextEdit::multiline(&mut studio.jinja)
        .font(TextStyle::Monospace)
        .desired_rows(7)
        .desired_width(f32::INFINITY);
    named(&ui.add(field), "Text of the template");
    hint(ui, "{{ column }} puts a column in. What stands after ||| is the answer that is learned.");
    let field = TextEdit::singleline(&mut studio.choices).desired_width(f32::INFINITY);
    let field = ui.add(field.hint_text("answers to choose from, such as: negative ||| positive"));
    named(&field, "Answers to choose from");
}

fn tried_ui(app: &mut App, ui: &mut Ui) {
    let p = palette(ui);
    if app.data.table().is_none() {
        hint(ui, "Open some rows, and this shows what the template makes of them.");
    }
    match &app.studio.tried {
        Work::Done(tried) => {
            for fault in &tried.faults {
                let text =
                    RichText::new(fault).monospace().color(p.bad.1).background_color(p.bad.0);
                ui.add(Label::new(text).wrap());
            }
            if !tried.pieces.is_empty() {
                let size = TextStyle::Body.resolve(ui.style());
                let job = painted(&tried.pieces, p, &size, app.studio.single);
                let text = ScrollArea::vertical().id_salt("tried").max_height(220.0);
                text.min_scrolled_height(220.0).show(ui, |ui| {
                    ui.set_min_width(ui.available_width());
                    ui.add(Label::new(job).wrap().selectable(true));
                });
                legend_ui(ui, p);
                let single = ui.checkbox(&mut app.studio.single, "Tell single tokens apart");
                single.on_hover_text("Every other token is underlined.");
            }
        }
        Work::Failed(why) => notice(ui, Tone::Bad, why.clone()),
        _ => _ = ui.spinner(),
    }
    let count = app.data.table().map_or(0, |table| table.rows.len());
    if count > 0 {
        ui.horizontal(|ui| {
            if plain(ui, "Previous", (app.data.row == 0).then_some("This is the first row.")) {
                app.data.row -= 1;
            }
            let last = app.data.row + 1 >= count;
            if plain(ui, "Next", last.then_some("This is the last row.")) {
                app.data.row += 1;
            }
            ui.label(format!("Row {} of {count}", app.data.row + 1));
        });
    }
}
