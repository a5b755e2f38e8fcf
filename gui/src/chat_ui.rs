//! Talking with the result of a run.

use eframe::egui::{CollapsingHeader, Frame, Key, Label, Margin, RichText, Slider, TextEdit, Ui};

use crate::app::App;
use crate::chat::{Chat, State, Talker, Turn};
use crate::parts::{Tone, column, empty, hint, named, notice, page, plain, primary};
use crate::theme::{palette, title};

/// The screen.
pub fn chat_ui(app: &mut App, ui: &mut Ui) {
    let about = "Each question stands alone, and is written as in training.";
    page(ui, "Chat", about, |ui| {
        let ctx = ui.ctx().clone();
        if app.chat.talkers.is_empty() {
            empty(ui, "Nobody to talk with yet", "Finish or open a run first.");
            return;
        }
        let before = app.chat.compare;
        ui.horizontal_wrapped(|ui| {
            ui.checkbox(&mut app.chat.compare, "Compare with the model before training");
            ui.checkbox(&mut app.chat.sure, "Show how sure it is");
            if plain(ui, "Clear", None) {
                app.chat.talkers.iter().for_each(Talker::clear);
            }
        });
        if app.chat.compare != before {
            app.open_chat(&ctx);
        }
        settings_ui(&mut app.chat, ui);
        ask_ui(&mut app.chat, ui);
        let width = ui.available_width();
        let shown = app.chat.shown();
        let each = (width - 14.0 * (shown.len() as f32 - 1.0)) / shown.len() as f32;
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = 0.0;
            for (i, talker) in shown.iter().enumerate() {
                if i > 0 {
                    ui.add_space(14.0);
                }
                column(ui, each, |ui| talker_ui(ui, talker, app.chat.sure));
            }
        });
    });
}

fn ask_ui(chat: &mut Chat, ui: &mut Ui) {
    let missing = chat.missing();
    let speaking = chat.shown().iter().any(Talker::speaking);
    let mut send = false;
    ui.horizontal(|ui| {
        let width = (ui.available_width() - 140.0).max(120.0);
        let field = TextEdit::singleline(&mut chat.question)
            .hint_text("Ask it something, as in your rows")
            .margin(Margin::symmetric(10, 8))
            .desired_width(width);
        let field = ui.add(field);
        named(&field, "Question");
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        send = entered && missing.is_none();
        if send {
            field.request_focus();
        }
        if speaking {
            if plain(ui, "Stop", None) {
                chat.shown().iter().for_each(Talker::stop);
            }
        } else {
            send |= primary(ui, "Send", missing.as_deref());
        }
    });
    if send {
        chat.ask();
    }
}

fn settings_ui(chat: &mut Chat, ui: &mut Ui) {
    CollapsingHeader::new("How words are chosen").show(ui, |ui| {
        let s = &mut chat.sampling;
        ui.add(Slider::new(&mut s.temperature, 0.0..=1.5).text("Temperature").max_decimals(2));
        hint(ui, "0 always takes the likeliest word; more is more varied.");
        ui.add(Slider::new(&mut s.top_p, 0.05..=1.0).text("Top p").max_decimals(2));
        hint(ui, "Choose among the likeliest words that together have this probability.");
        ui.add(
            Slider::new(&mut s.repetition_penalty, 1.0..=1.5)
                .text("Against repetition")
                .max_decimals(2),
        );
        hint(ui, "Above 1: words that stand there already become less likely.");
        ui.add(Slider::new(&mut s.max_new_tokens, 8..=1024).text("Longest answer, in tokens"));
        ui.label("Further text for the question");
        let field = ui.add(TextEdit::multiline(&mut chat.input).desired_rows(2).hint_text("none"));
        named(&field, "Further text");
    });
}

fn talker_ui(ui: &mut Ui, talker: &Talker, sure: bool) {
    ui.horizontal(|ui| {
        ui.label(RichText::new(&talker.title).text_style(title()).strong());
        match talker.state() {
            State::Loading => _ = ui.spinner(),
            State::Ready(template) => hint(ui, format!("template: {template}")),
            State::Speaking(_) => hint(ui, "answers"),
            State::Failed(_) => {}
        }
    });
    if let State::Failed(why) = talker.state() {
        notice(ui, Tone::Bad, why);
    }
    talker.look(|turns| {
        if turns.is_empty() {
            hint(ui, "Nothing said yet.");
        }
        for turn in turns.iter().rev() {
            turn_ui(ui, turn, sure);
        }
    });
}

fn turn_ui(ui: &mut Ui, turn: &Turn, sure: bool) {
    let p = palette(ui);
    let bubble =
        |fill| Frame::new().fill(fill).corner_radius(8).inner_margin(Margin::symmetric(12, 9));
    bubble(p.chosen).show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        ui.add(Label::new(RichText::new(&turn.question).strong()).wrap());
    });
    bubble(p.surface).show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        if sure {
            said_ui(ui, turn);
        }
        let answer = if turn.answer.is_empty() { "…" } else { turn.answer.trim() };
        if !sure {
            ui.add(Label::new(answer).wrap().selectable(true));
        }
        if !turn.ended.is_empty() {
            ui.horizontal(|ui| {
                hint(ui, turn.ended.clone());
                if ui.small_button("Copy").clicked() {
                    ui.ctx().copy_text(turn.answer.clone());
                }
            });
        }
    });
    ui.add_space(6.0);
}

/// The words of an answer, the doubtful ones on a ground of their own; more under the pointer.
fn said_ui(ui: &mut Ui, turn: &Turn) {
    let p = palette(ui);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        for said in turn.said.iter().filter(|said| !said.text.is_empty()) {
            let text = RichText::new(&said.text);
            let text = match said.probability {
                x if x < 0.25 => text.color(p.bad.1).background_color(p.bad.0),
                x if x < 0.6 => text.color(p.warn.1).background_color(p.warn.0),
                _ => text,
            };
            let percent = |x: f32| format!("{:.0}%", 100.0 * x);
            let mut words = format!("{} sure. Likeliest here:", percent(said.probability));
            for (token, chance) in &said.likeliest {
                words.push_str(&format!("\n{} {token}", percent(*chance)));
            }
            ui.label(text).on_hover_text(words);
        }
    });
    hint(
        ui,
        "Marked words were doubtful: below 60 or, stronger, below 25 in 100. Hold the pointer over a word for more.",
    );
}
