//! Pieces that all screens are made of.

use eframe::egui::{
    Align, Button, Color32, CornerRadius, Frame, Label, Layout, Margin, OpenUrl, ProgressBar,
    Response, RichText, ScrollArea, Stroke, Ui, WidgetText, vec2,
};
use paddock_cli::train::report::duration;

use crate::task::Task;
use crate::theme::{palette, title};

/// Screens wider than this do not grow wider: long lines are hard to read.
const MOST_WIDTH: f32 = 1160.0;
/// Narrower than this, what stands side by side stands one above the other.
const NARROW: f32 = 760.0;

/// A screen: its name, a sentence, and what is on it, scrolled where there is too much.
pub fn page<R>(ui: &mut Ui, name: &str, about: &str, add: impl FnOnce(&mut Ui) -> R) -> R {
    let scroll = ScrollArea::vertical().id_salt(name).auto_shrink([false, false]);
    scroll
        .show(ui, |ui| {
            ui.set_max_width(MOST_WIDTH.min(ui.available_width()));
            ui.add_space(2.0);
            ui.heading(name);
            ui.label(RichText::new(about).color(palette(ui).weak));
            ui.add_space(8.0);
            add(ui)
        })
        .inner
}

/// A card with a title.
pub fn card<R>(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui) -> R) -> R {
    boxed(ui, |ui| {
        ui.label(RichText::new(name).text_style(title()).strong());
        ui.add_space(2.0);
        add(ui)
    })
}

/// A card without one.
pub fn boxed<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> R {
    let p = palette(ui);
    let frame = Frame::new()
        .fill(p.surface)
        .stroke(Stroke::new(1.0, p.line))
        .corner_radius(CornerRadius::same(8))
        .inner_margin(Margin::symmetric(14, 12));
    let shown = frame.show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        add(ui)
    });
    ui.add_space(3.0);
    shown.inner
}

/// Two columns, or one above the other in a narrow window. `share` is the left one's part.
pub fn split<S>(
    ui: &mut Ui,
    share: f32,
    state: &mut S,
    left: impl FnOnce(&mut Ui, &mut S),
    right: impl FnOnce(&mut Ui, &mut S),
) {
    let (width, gap) = (ui.available_width(), 14.0);
    if width < NARROW {
        left(ui, state);
        right(ui, state);
        return;
    }
    let first = ((width - gap) * share).floor();
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        column(ui, first, |ui| left(ui, state));
        ui.add_space(gap);
        column(ui, width - gap - first, |ui| right(ui, state));
    });
}

/// A column of a width.
pub fn column(ui: &mut Ui, width: f32, add: impl FnOnce(&mut Ui)) {
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.x = 8.0;
        ui.set_width(width);
        add(ui);
    });
}

/// Text of less weight, over as many lines as it needs.
pub fn hint(ui: &mut Ui, text: impl Into<String>) {
    let weak = palette(ui).weak;
    ui.add(Label::new(RichText::new(text).small().color(weak)).wrap());
}

/// A fact: what it is, and its value.
pub fn fact(ui: &mut Ui, name: &str, value: impl Into<String>) {
    let weak = palette(ui).weak;
    ui.horizontal_top(|ui| {
        let width = 118.0f32.min(ui.available_width() * 0.4);
        let name = Label::new(RichText::new(name).color(weak)).truncate();
        ui.allocate_ui_with_layout(vec2(width, 18.0), Layout::left_to_right(Align::Min), |ui| {
            ui.set_min_width(width);
            ui.add(name);
        });
        ui.add(Label::new(value.into()).wrap());
    });
}

/// The button that leads on. If something is missing it cannot be pressed and says what.
pub fn primary(ui: &mut Ui, text: &str, missing: Option<&str>) -> bool {
    let p = palette(ui);
    let button = Button::new(RichText::new(text).color(p.on_accent).strong())
        .fill(p.accent)
        .stroke(Stroke::NONE)
        .min_size(vec2(0.0, 34.0));
    let response = ui.add_enabled(missing.is_none(), button);
    match missing {
        Some(missing) => {
            response.on_disabled_hover_text(missing);
            false
        }
        None => response.clicked(),
    }
}

/// A plain button. If something is missing it cannot be pressed and says what.
pub fn plain(ui: &mut Ui, text: &str, missing: Option<&str>) -> bool {
    let response = ui.add_enabled(missing.is_none(), Button::new(text));
    match missing {
        Some(missing) => {
            response.on_disabled_hover_text(missing);
            false
        }
        None => response.clicked(),
    }
}

/// How a notice looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good news.
    Good,
    /// Something to know.
    Warn,
    /// A failure.
    Bad,
    /// Neither.
    Plain,
}

/// A sentence or two on a ground of their own.
pub fn notice(ui: &mut Ui, tone: Tone, text: impl Into<String>) {
    let p = palette(ui);
    let (back, front) = match tone {
        Tone::Good => p.good,
        Tone::Warn => p.warn,
        Tone::Bad => p.bad,
        Tone::Plain => (p.sunken, p.text),
    };
    let frame = Frame::new()
        .fill(back)
        .corner_radius(CornerRadius::same(6))
        .inner_margin(Margin::symmetric(12, 9));
    frame.show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        ui.add(Label::new(RichText::new(text).color(front)).wrap());
    });
}

/// Work that goes on: a bar, what is being done, how long it will take, and Cancel.
pub fn busy<T>(ui: &mut Ui, what: &str, task: &Task<T>) -> bool {
    let mut cancelled = false;
    ui.horizontal(|ui| {
        let left = task.left().map(|d| format!("about {} to go", duration(d)));
        match task.share() {
            Some(share) => {
                let accent = palette(ui).accent;
                let bar =
                    ProgressBar::new(share).desired_width(180.0).desired_height(10.0).fill(accent);
                let bar = ui.add(bar);
                named(&bar, what);
            }
            None => _ = ui.spinner(),
        }
        ui.label(what);
        if let Some(left) = left {
            ui.label(RichText::new(left).color(palette(ui).weak));
        }
        if ui.button("Cancel").clicked() {
            task.cancel();
            cancelled = true;
        }
    });
    let note = task.note();
    if !note.is_empty() {
        let weak = palette(ui).weak;
        ui.add(Label::new(RichText::new(note).small().color(weak)).truncate());
    }
    cancelled
}

/// What a screen reader calls something.
pub fn named(response: &Response, label: &str) {
    // The name is kept by the widget's id: a copy of the response serves as well.
    let _ = response.clone().accessible_name(label);
}

/// A card that can be chosen: title and a sentence. A screen reader hears the title.
pub fn choice(ui: &mut Ui, chosen: bool, heading: &str, about: &str, note: &str) -> bool {
    let p = palette(ui);
    let stroke = if chosen { Stroke::new(2.0, p.accent) } else { Stroke::new(1.0, p.edge) };
    let frame = Frame::new()
        .fill(if chosen { p.chosen } else { p.surface })
        .stroke(stroke)
        .corner_radius(CornerRadius::same(8))
        .inner_margin(Margin::symmetric(12, 10));
    let mut pressed = false;
    frame.show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        ui.spacing_mut().item_spacing.y = 3.0;
        pressed = ui.radio(chosen, RichText::new(heading).strong()).clicked();
        ui.add(Label::new(about).wrap());
        if !note.is_empty() {
            hint(ui, note);
        }
    });
    pressed
}

/// Text that can be marked and copied, in the typewriter's letters.
pub fn code(ui: &mut Ui, label: &str, text: &str) {
    let p = palette(ui);
    let frame = Frame::new()
        .fill(p.sunken)
        .corner_radius(CornerRadius::same(6))
        .inner_margin(Margin::symmetric(10, 8));
    frame.show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        let shown = ui.add(Label::new(RichText::new(text).monospace()).wrap().selectable(true));
        named(&shown, &format!("{label}: {text}"));
    });
    if ui.button(format!("Copy {label}")).clicked() {
        ui.ctx().copy_text(text.to_string());
    }
}

/// A word in a coloured box, such as a state.
pub fn chip(ui: &mut Ui, text: &str, (back, front): (Color32, Color32)) {
    let frame = Frame::new()
        .fill(back)
        .corner_radius(CornerRadius::same(5))
        .inner_margin(Margin::symmetric(8, 2));
    frame.show(ui, |ui| ui.label(RichText::new(text).small().color(front)));
}

/// Nothing here yet: why, and what to do.
pub fn empty(ui: &mut Ui, what: &str, then: impl Into<WidgetText>) {
    boxed(ui, |ui| {
        ui.vertical_centered(|ui| {
            ui.add_space(26.0);
            ui.label(RichText::new(what).text_style(title()));
            ui.add(Label::new(then).wrap());
            ui.add_space(26.0);
        });
    });
}

/// Opens a file or folder with the program that the system has for it.
pub fn open_path(ui: &Ui, path: &str) {
    let mut escaped = path.to_string();
    for (sign, code) in [('%', "%25"), (' ', "%20"), ('#', "%23"), ('?', "%3F")] {
        escaped = escaped.replace(sign, code);
    }
    ui.ctx().open_url(OpenUrl::new_tab(format!("file://{escaped}")));
}
