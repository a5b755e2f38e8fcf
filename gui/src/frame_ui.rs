//! What stands around every screen: the rail, messages, and the way on.

use eframe::egui::{
    Align, Align2, Area, Button, CentralPanel, Frame, Id, Label, Layout, Margin, Order, Panel,
    RichText, Stroke, ThemePreference, Ui, vec2,
};

use crate::app::{App, Screen};
use crate::parts::{Tone, named, notice, plain, primary};
use crate::theme::{palette, title};
use crate::{
    chat_ui, data_ui, evaluate_ui, export_ui, home_ui, model_ui, run_ui, studio_ui, train_ui,
};

/// The whole window.
pub fn frame_ui(app: &mut App, ui: &mut Ui) {
    let p = palette(ui);
    let rail = Frame::new().fill(p.rail).inner_margin(Margin::symmetric(12, 14));
    Panel::left("rail").resizable(false).exact_size(158.0).frame(rail).show(ui, |ui| {
        rail_ui(app, ui);
    });
    if app.screen != Screen::Home {
        let bar = Frame::new().fill(p.ground).inner_margin(Margin::symmetric(20, 10));
        Panel::bottom("way").frame(bar).show(ui, |ui| way_ui(app, ui));
    }
    let middle = Frame::new().fill(p.ground).inner_margin(Margin {
        left: 20,
        right: 12,
        top: 14,
        bottom: 6,
    });
    CentralPanel::no_frame().frame(middle).show(ui, |ui| {
        if let Some(trouble) = app.trouble.clone() {
            notice(ui, Tone::Bad, trouble);
            if ui.button("Put the message away").clicked() {
                app.trouble = None;
            }
            ui.add_space(6.0);
        }
        match app.screen {
            Screen::Home => home_ui::home_ui(app, ui),
            Screen::Data => data_ui::data_ui(app, ui),
            Screen::Template => studio_ui::studio_ui(app, ui),
            Screen::Model => model_ui::model_ui(app, ui),
            Screen::Train => train_ui::train_ui(app, ui),
            Screen::Run => run_ui::run_ui(app, ui),
            Screen::Evaluate => evaluate_ui::evaluate_ui(app, ui),
            Screen::Chat => chat_ui::chat_ui(app, ui),
            Screen::Export => export_ui::export_ui(app, ui),
        }
    });
    drop_ui(ui);
}

fn rail_ui(app: &mut App, ui: &mut Ui) {
    let p = palette(ui);
    ui.spacing_mut().item_spacing.y = 4.0;
    ui.label(RichText::new("Paddock").size(20.0).strong().color(p.accent));
    ui.add_space(10.0);
    let ctx = ui.ctx().clone();
    for screen in Screen::ALL {
        let blocked = app.blocked(screen);
        let chosen = app.screen == screen;
        let text = RichText::new(screen.name());
        let text = if chosen { text.strong().color(p.accent) } else { text };
        let button = Button::new(text)
            .fill(if chosen { p.chosen } else { p.rail })
            .stroke(Stroke::NONE)
            .min_size(vec2(ui.available_width(), 32.0))
            .selected(chosen)
            .right_text("");
        let response = ui.add_enabled(blocked.is_none(), button);
        named(&response, screen.name());
        match blocked {
            Some(why) => _ = response.on_disabled_hover_text(why),
            None if response.clicked() => app.show(&ctx, screen),
            None => {}
        }
    }
    ui.with_layout(Layout::bottom_up(Align::Min), |ui| {
        let mut theme = ctx.options(|options| options.theme_preference);
        let before = theme;
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 3.0;
            ui.spacing_mut().button_padding = vec2(6.0, 3.0);
            for (value, word) in [
                (ThemePreference::Light, "Light"),
                (ThemePreference::Dark, "Dark"),
                (ThemePreference::System, "Auto"),
            ] {
                let text = RichText::new(word).small();
                let button = Button::new(text).selected(theme == value);
                if ui.add(button).on_hover_text(format!("{word} colours")).clicked() {
                    theme = value;
                }
            }
        });
        if theme != before {
            ctx.set_theme(theme);
        }
        ui.add(Label::new(RichText::new("Colours").small().color(p.weak)));
    });
}

/// The bar below: the way back, what is missing, the way on.
fn way_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    let (back, next, words) = match app.screen {
        Screen::Data => (Screen::Home, Screen::Model, "Next: choose a model"),
        Screen::Template => (Screen::Data, Screen::Model, "Next: choose a model"),
        Screen::Evaluate => (Screen::Run, Screen::Chat, "Chat with it"),
        Screen::Model => (Screen::Data, Screen::Train, "Next: settings"),
        Screen::Train => (Screen::Model, Screen::Run, "Start training"),
        Screen::Run => (Screen::Home, Screen::Chat, "Chat with it"),
        Screen::Chat => (Screen::Run, Screen::Export, "Next: export"),
        Screen::Home | Screen::Export => (Screen::Run, Screen::Home, "Back to the start"),
    };
    let missing = match app.screen {
        Screen::Data => app.data.missing(),
        Screen::Model => app.blocked(Screen::Train),
        Screen::Train => app.blocked(Screen::Train).or_else(|| app.train.missing(&app.flags())),
        _ => app.blocked(next),
    };
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        if primary(ui, words, missing.as_deref()) {
            match app.screen {
                Screen::Train => app.start_run(&ctx),
                _ => app.show(&ctx, next),
            }
        }
        if app.screen == Screen::Run
            && plain(ui, "Evaluate", app.blocked(Screen::Evaluate).as_deref())
        {
            app.show(&ctx, Screen::Evaluate);
        }
        if app.screen == Screen::Run && plain(ui, "Export", app.blocked(Screen::Export).as_deref())
        {
            app.show(&ctx, Screen::Export);
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            if plain(ui, "Back", app.blocked(back).as_deref()) {
                app.show(&ctx, back);
            }
            if let Some(missing) = &missing {
                let first = missing.lines().next().unwrap_or_default();
                let weak = palette(ui).weak;
                ui.add(Label::new(RichText::new(first).color(weak)).truncate());
            }
        });
    });
}

/// While a file hangs over the window.
fn drop_ui(ui: &Ui) {
    let hangs = ui.ctx().input(|input| !input.raw.hovered_files.is_empty());
    if !hangs {
        return;
    }
    let p = palette(ui);
    let area = Area::new(Id::unique("drop")).order(Order::Foreground);
    area.anchor(Align2::CENTER_CENTER, vec2(0.0, 0.0)).show(ui.ctx(), |ui| {
        let frame = Frame::new()
            .fill(p.chosen)
            .stroke(Stroke::new(2.0, p.accent))
            .corner_radius(10)
            .inner_margin(Margin::symmetric(40, 30));
        frame.show(ui, |ui| {
            let text = RichText::new("Let go to open it").text_style(title()).color(p.accent);
            ui.label(text);
        });
    });
}
