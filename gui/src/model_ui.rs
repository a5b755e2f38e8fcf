//! Which model is trained.

use eframe::egui::{Label, Ui};
use paddock_cli::bundled;
use paddock_cli::train::report::{bytes, count};

use crate::app::App;
use crate::dialog::{Ask, Dialog};
use crate::model::BUILT_IN;
use crate::parts::{Tone, busy, card, choice, fact, hint, notice, page, plain, split};
use crate::task::Work;

/// The screen.
pub fn model_ui(app: &mut App, ui: &mut Ui) {
    let about =
        "The model to start from. It stays as it is: training adds to it, in files of its own.";
    page(ui, "Model", about, |ui| {
        split(ui, 0.52, app, |ui, app| choices_ui(app, ui), |ui, app| facts_ui(app, ui));
    });
}

fn choices_ui(app: &mut App, ui: &mut Ui) {
    let ctx = ui.ctx().clone();
    let chosen = app.model.name == BUILT_IN;
    let about = bundled::MODELS[0].1;
    let note = "Made for a first try: it is small enough to train on any machine.";
    if choice(ui, chosen, "Built-in: tiny", &format!("{}.", capital(about)), note) && !chosen {
        app.choose_model(&ctx, BUILT_IN);
    }
    ui.add_space(4.0);
    let folder = app.model.folder.clone();
    let shown = folder.as_ref().map(|f| f.display().to_string());
    let about = shown.clone().unwrap_or_else(|| "A LLaMA in Hugging Face's layout.".to_string());
    let note = "A folder with config.json, *.safetensors and tokenizer.json or tokenizer.model.";
    if choice(ui, !chosen, "A folder on this machine", &about, note) && chosen {
        match &shown {
            Some(path) => app.choose_model(&ctx, path),
            None => app.dialog = Some(Dialog::open(&ctx, Ask::Model)),
        }
    }
    ui.horizontal(|ui| {
        if plain(ui, "Choose a folder", None) {
            app.dialog = Some(Dialog::open(&ctx, Ask::Model));
        }
        if plain(ui, "Choose a file in it", None) {
            app.dialog = Some(Dialog::open(&ctx, Ask::Weights));
        }
        hint(ui, "or drop either on this window");
    });
    ui.add_space(6.0);
    hint(
        ui,
        "Models other than LLaMA are refused by name. Nothing inside a model file is ever executed.",
    );
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

fn facts_ui(app: &mut App, ui: &mut Ui) {
    card(ui, "This model", |ui| match &app.model.facts {
        Work::Busy(task) => _ = busy(ui, "Looking at it", task),
        Work::Failed(why) => notice(ui, Tone::Bad, format!("It cannot be used. {why}")),
        Work::Idle => _ = ui.spinner(),
        Work::Done(facts) => {
            fact(ui, "Name", facts.name.clone());
            fact(ui, "Parameters", count(facts.parameters));
            hint(
                ui,
                "The numbers that it consists of. More can know more, and cost more to train.",
            );
            fact(ui, "Size on disk", bytes(facts.bytes));
            fact(ui, "Reads up to", format!("{} tokens", facts.max_seq_len));
            hint(ui, "Question and answer together. A token is a piece of a word.");
            fact(ui, "Built of", format!("{} layers of width {}", facts.layers, facts.dim));
            if app.data.opened.done().is_none() {
                ui.add(
                    Label::new("Open some rows next: then the settings can be reckoned.").wrap(),
                );
            }
        }
    });
}
