//! The rows: table, columns, one row as the model sees it, problems, lengths.

use eframe::egui::{
    Color32, ComboBox, FontId, Label, RichText, ScrollArea, Sense, Stroke, TextEdit, TextStyle, Ui,
    text::LayoutJob, text::TextFormat, vec2,
};
use paddock_cli::data::show::{Piece, visible};
use paddock_datasets::report::Counted;

use crate::app::App;
use crate::data::{Data, MOST_ROWS};
use crate::dialog::{Ask, Dialog};
use crate::mix::Chosen;
use crate::parts::{Tone, busy, card, empty, hint, named, notice, page, plain, primary, split};
use crate::split_ui::split_ui;
use crate::table_ui::table_ui;
use crate::task::Work;
use crate::theme::{Palette, palette};

/// The screen.
pub fn data_ui(app: &mut App, ui: &mut Ui) {
    let about = "Each row is one lesson: what goes in, and what the model should answer.";
    page(ui, "Data", about, |ui| {
        let ctx = ui.ctx().clone();
        match &app.data.opened {
            Work::Idle => {
                empty(
                    ui,
                    "No rows yet",
                    "Open a file, drop one on this window, or take the example.",
                );
                ui.horizontal(|ui| {
                    if primary(ui, "Open a file with rows", None) {
                        app.dialog = Some(Dialog::open(&ctx, Ask::Rows));
                    }
                    if plain(ui, "Try the example", None) {
                        app.open_rows(&ctx, "bundled:stories");
                    }
                });
            }
            Work::Busy(task) => _ = busy(ui, &format!("Reading {}", app.data.asked), task),
            Work::Failed(why) => {
                notice(ui, Tone::Bad, format!("These rows cannot be opened. {why}"));
                if plain(ui, "Open another file", None) {
                    app.dialog = Some(Dialog::open(&ctx, Ask::Rows));
                }
            }
            Work::Done(_) => {
                split(ui, 0.55, app, |ui, app| rows_ui(app, ui), |ui, app| lesson_ui(app, ui));
            }
        }
    });
}

fn rows_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    let Some(opened) = app.data.opened.done() else { return };
    let table = opened.table.clone();
    let title = opened.name.clone();
    let title = title.rsplit(['/', '\\']).next().unwrap_or(&title).to_string();
    card(ui, &title, |ui| {
        let (count, more) = (table.rows.len(), if table.more { " (the first ones)" } else { "" });
        let d = &table.detected;
        hint(ui, format!("{count} rows{more}, {}: {}.", d.format, d.why));
        for note in &table.notes {
            hint(ui, note.clone());
        }
        ui.horizontal(|ui| {
            let field = TextEdit::singleline(&mut app.data.search)
                .hint_text("Search the rows")
                .desired_width(ui.available_width() - 110.0);
            let field = ui.add(field);
            named(&field, "Search the rows");
            if ui.button("Other file").on_hover_text("Open another file with rows").clicked() {
                app.dialog = Some(Dialog::open(&ctx, Ask::Rows));
            }
        });
        let mut which = None;
        match &app.data.hits {
            Work::Done(hits) => {
                hint(ui, format!("{} rows contain it", hits.len()));
                which = Some(hits.as_slice());
            }
            Work::Busy(_) => hint(ui, "Searching"),
            _ => {}
        }
        let height = (ui.ctx().content_rect().height() - 330.0).clamp(180.0, 900.0);
        let pressed = table_ui(ui, &table, which, app.data.row, height);
        if let Some(row) = pressed {
            app.data.row = row;
        }
        if table.more {
            hint(
                ui,
                format!("The table shows the first {MOST_ROWS} rows; a run uses all of them."),
            );
        }
    });
}

fn lesson_ui(app: &mut App, ui: &mut Ui) {
    mapping_ui(&mut app.data, ui);
    preview_ui(app, ui);
    problems_ui(app, ui);
    split_ui(app, ui);
}

/// What each part of a lesson is called, and what it is.
const FIELDS: [(&str, &str, &str); 3] = [
    ("prompt", "What goes in", "The question or task, as you would type it."),
    ("input", "Further text", "Something the question is about. Most data have none."),
    ("answer", "What should come out", "The answer that the model learns to give."),
];

fn mapping_ui(data: &mut Data, ui: &mut Ui) {
    let Some(table) = data.table().cloned() else { return };
    card(ui, "What goes in, what should come out", |ui| {
        for (field, words, about) in FIELDS {
            let none = if field == "input" { "none" } else { "choose a column" };
            let now = data.columns.get(field).cloned();
            ui.horizontal(|ui| {
                ui.allocate_ui(vec2(150.0, 22.0), |ui| {
                    ui.set_min_width(150.0);
                    ui.label(words);
                });
                let shown = now.clone().unwrap_or_else(|| none.to_string());
                let combo =
                    ComboBox::from_id_salt(field).selected_text(shown).width(170.0).truncate();
                let combo = combo.show_ui(ui, |ui| {
                    if field == "input" && ui.selectable_label(now.is_none(), none).clicked() {
                        data.columns.remove(field);
                    }
                    for column in &table.detected.columns {
                        let chosen = now.as_ref() == Some(column);
                        if ui.selectable_label(chosen, column).clicked() {
                            data.columns.insert(field.to_string(), column.clone());
                        }
                    }
                });
                named(&combo.response, words);
                combo.response.on_hover_text(about);
            });
        }
        template_ui(data, ui);
    });
}

/// Ways to write a lesson, with what they are.
const TEMPLATES: [(Option<&str>, &str, &str); 3] = [
    (None, "as the columns suggest", "Paddock chooses by the columns' names."),
    (Some("prompt"), "plain", "The question as it is, then the answer."),
    (
        Some("alpaca"),
        "with an introduction",
        "Alpaca's words around the question: \"Below is an instruction …\"",
    ),
];

fn template_ui(data: &mut Data, ui: &mut Ui) {
    let now = TEMPLATES.iter().find(|(name, ..)| *name == data.template());
    let shown = match (now, &data.chosen[..]) {
        (_, [_, _, ..]) => format!("{} templates", data.chosen.len()),
        (Some((_, words, _)), _) => (*words).to_string(),
        (None, list) => list.first().map_or(String::new(), |chosen| chosen.short().to_string()),
    };
    ui.horizontal(|ui| {
        ui.allocate_ui(vec2(150.0, 22.0), |ui| {
            ui.set_min_width(150.0);
            ui.label("How it is written");
        });
        let combo = ComboBox::from_id_salt("template").selected_text(shown).width(170.0).truncate();
        let combo = combo.show_ui(ui, |ui| {
            for (value, words, about) in TEMPLATES {
                let chosen = data.template() == value;
                if ui.selectable_label(chosen, words).on_hover_text(about).clicked() {
                    data.chosen = value.map(Chosen::new).into_iter().collect();
                }
            }
        });
        named(&combo.response, "How it is written");
    });
    hint(
        ui,
        "The template: the words around question and answer. Chat and export use the same one. More of them, and several at once, under Template.",
    );
}

fn preview_ui(app: &mut App, ui: &mut Ui) {
    let p = palette(ui);
    let count = app.data.table().map_or(1, |table| table.rows.len());
    card(ui, "One row as the model sees it", |ui| {
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
        match &app.data.preview {
            Work::Failed(why) => notice(ui, Tone::Bad, why.clone()),
            Work::Done(preview) => {
                let size = TextStyle::Body.resolve(ui.style());
                let job = painted(&preview.pieces, p, &size, false);
                let text = ScrollArea::vertical().id_salt("preview").max_height(210.0);
                text.min_scrolled_height(210.0).show(ui, |ui| {
                    ui.set_min_width(ui.available_width());
                    ui.add(Label::new(job).wrap().selectable(true));
                });
                legend_ui(ui, p);
                if preview.tokens > 0 {
                    hint(
                        ui,
                        format!(
                            "{} tokens, of which {} are learned. A token is a piece of a word.",
                            preview.tokens, preview.trained
                        ),
                    );
                }
            }
            _ => hint(ui, "Choose what goes in and what should come out."),
        }
    });
}

/// The pieces of a row in their colours; every other one underlined where single tokens are to be told apart.
pub fn painted(pieces: &[Piece], p: &Palette, size: &FontId, single: bool) -> LayoutJob {
    let mut job = LayoutJob::default();
    for (i, piece) in pieces.iter().filter(|piece| !piece.text.is_empty()).enumerate() {
        let (background, color) = match (piece.special, piece.trained) {
            (true, _) => p.special,
            (false, true) => p.trained,
            (false, false) => (Color32::TRANSPARENT, p.weak),
        };
        let underline = match single && i % 2 == 0 {
            true => Stroke::new(1.5, p.edge),
            false => Stroke::NONE,
        };
        let font_id = size.clone();
        let format = TextFormat { font_id, color, background, underline, ..TextFormat::default() };
        job.append(&visible(&piece.text), 0.0, format.clone());
        if !piece.mark.is_empty() {
            let small = FontId::new(0.7 * size.size, size.family.clone());
            job.append(&format!(" {} ", piece.mark), 0.0, TextFormat { font_id: small, ..format });
        }
    }
    job
}

/// What the colours of a row mean.
pub fn legend_ui(ui: &mut Ui, p: &Palette) {
    ui.horizontal_wrapped(|ui| {
        for (words, (back, front)) in
            [("learned", p.trained), ("given", (p.sunken, p.weak)), ("control sign", p.special)]
        {
            ui.label(
                RichText::new(format!(" {words} ")).small().color(front).background_color(back),
            );
        }
    });
    hint(
        ui,
        "Control signs: BOS stands where a text begins, EOS where the answer ends. EOS is learned too: so the \
         model knows when to stop.",
    );
}

/// "3 rows …: 1, 5, 9".
fn counted(counted: &Counted, what: &str) -> String {
    let first: Vec<String> =
        counted.first.iter().take(8).map(|row| (row + 1).to_string()).collect();
    let more = if counted.total > first.len() as u64 { " …" } else { "" };
    let rows = if counted.total == 1 { "row" } else { "rows" };
    format!("{} {rows} {what}: {}{more}", counted.total, first.join(", "))
}

fn problems_ui(app: &mut App, ui: &mut Ui) {
    let p = palette(ui);
    let most = app.model.facts.done().map_or(0, |facts| u64::from(facts.max_seq_len));
    let Some(table) = app.data.table().cloned() else { return };
    card(ui, "What was found in the rows", |ui| {
        let mut problems = Vec::new();
        if table.bad.total > 0 {
            problems.push(format!("{}\nThey are left out.", table.bad));
        }
        match &app.data.found {
            Work::Busy(task) => _ = busy(ui, "Looking through all rows", task),
            Work::Failed(why) => problems.push(why.clone()),
            Work::Done(found) => {
                for (rows, what) in [
                    (&found.duplicates, "equal to an earlier one"),
                    (&found.empty_answers, "without an answer, left out"),
                    (&found.unrendered, "that the template cannot write"),
                ] {
                    if rows.total > 0 {
                        problems.push(counted(rows, what));
                    }
                }
                lengths_ui(ui, p, &found.lengths, most);
                let long: u64 = found.lengths.range(most.max(1) + 1..).map(|(_, n)| n).sum();
                if long > 0 && found.longest > most {
                    problems.push(format!(
                        "Some rows are longer than the {most} tokens that the model reads (the longest has {}); \
                         those are left out.",
                        found.longest
                    ));
                }
            }
            Work::Idle => hint(ui, "Choose what goes in and what should come out."),
        }
        for problem in &problems {
            notice(ui, Tone::Warn, problem.clone());
        }
        if problems.is_empty() && app.data.found.done().is_some() {
            notice(ui, Tone::Good, "Nothing speaks against these rows.");
        }
    });
}

fn lengths_ui(ui: &mut Ui, p: &Palette, lengths: &std::collections::BTreeMap<u64, u64>, most: u64) {
    let largest = lengths.values().copied().max().unwrap_or(1).max(1);
    hint(ui, format!("Lengths in tokens; the model reads up to {most}."));
    for (bound, rows) in lengths {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.y = 2.0;
            ui.allocate_ui(vec2(80.0, 16.0), |ui| {
                ui.set_min_width(80.0);
                ui.label(RichText::new(format!("up to {bound}")).small());
            });
            let width = (ui.available_width() - 70.0) * *rows as f32 / largest as f32;
            let (rect, _) = ui.allocate_exact_size(vec2(width.max(2.0), 11.0), Sense::hover());
            let colour = if *bound / 2 >= most && most > 0 { p.second } else { p.accent };
            ui.painter().rect_filled(rect, 3.0, colour);
            ui.label(RichText::new(rows.to_string()).small().color(p.weak));
        });
    }
}
