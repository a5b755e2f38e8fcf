//! The settings of a run, and what they will cost.

use eframe::egui::{CollapsingHeader, ComboBox, RichText, ScrollArea, TextEdit, Ui, vec2};
use paddock_cli::devices::ComputeDevice;
use paddock_cli::run::config::presets::Preset;
use paddock_cli::run::config::{KEYS, Key, Kind, RunConfig};
use paddock_cli::run::events::Plan;
use paddock_cli::train::report::{bytes, count, time_range};

use crate::app::App;
use crate::engine::Flags;
use crate::parts::{
    Tone, boxed, busy, card, choice, code, fact, hint, named, notice, page, plain, split,
};
use crate::task::Work;
use crate::theme::{palette, title};
use crate::train::{command, config, run_toml};

/// The screen.
pub fn train_ui(app: &mut App, ui: &mut Ui) {
    let about = "How long and how strongly the model learns. Change nothing and it will do well.";
    page(ui, "Train", about, |ui| {
        split(ui, 0.5, app, |ui, app| settings_ui(app, ui), |ui, app| forecast_ui(app, ui));
    });
}

fn settings_ui(app: &mut App, ui: &mut Ui) {
    ui.horizontal(|ui| {
        let train = &mut app.train;
        for (value, word) in [(false, "Simple"), (true, "All settings")] {
            if ui.selectable_label(train.advanced == value, word).clicked() {
                train.advanced = value;
            }
        }
    });
    for preset in Preset::ALL {
        let chosen = app.train.preset == preset;
        if choice(ui, chosen, preset.name(), preset.about(), "") {
            app.train.preset = preset;
        }
    }
    if !app.train.changed.is_empty() {
        boxed(ui, |ui| {
            let list: Vec<String> =
                app.train.changed.iter().map(|(k, v)| format!("{k} = {v}")).collect();
            ui.label(RichText::new("Changed by hand").strong());
            ui.label(list.join(", "));
            if ui.button("Back to the preset").clicked() {
                app.train.changed.clear();
            }
        });
    }
    device_ui(app, ui);
    boxed(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label("Name of the run");
            let made_up = app.out();
            let made_up = made_up.file_name().unwrap_or_default().to_string_lossy().to_string();
            let field = TextEdit::singleline(&mut app.train.name).hint_text(made_up);
            let field = ui.add(field.desired_width(180.0));
            named(&field, "Name of the run");
        });
        hint(ui, format!("Kept in {}", app.engine.runs.display()));
    });
    if app.train.advanced {
        advanced_ui(app, ui);
    }
}

/// What the run computes on.
fn device_ui(app: &mut App, ui: &mut Ui) {
    let Some(all) = app.home.devices.done() else { return };
    boxed(ui, |ui| {
        let train = &mut app.train;
        let now = train.device.as_ref().unwrap_or(&all[0]);
        let title = |device: &ComputeDevice| match device.flags.is_empty() {
            true => "The processor".to_string(),
            false => format!("{} ({})", device.name, device.kind),
        };
        let (shown, about) = match train.by_hand() {
            true => ("as set under All settings".to_string(), String::new()),
            false => (title(now), now.about.clone()),
        };
        let mut chosen = None;
        ui.horizontal(|ui| {
            ui.label("Computed on");
            let combo = ComboBox::from_id_salt("device").selected_text(shown).truncate();
            let combo = combo.width((ui.available_width() - 8.0).min(330.0)).show_ui(ui, |ui| {
                for device in all.iter().filter(|device| device.unusable.is_none()) {
                    let label = ui.selectable_label(device == now, title(device));
                    if label.on_hover_text(&device.about).clicked() {
                        chosen = Some(device.clone());
                    }
                }
            });
            named(&combo.response, "Computed on");
        });
        hint(ui, about);
        if let Some(device) = chosen {
            train.changed.retain(|key, _| key != "backend" && key != "device");
            train.device = Some(device).filter(|device| !device.flags.is_empty());
        }
    });
}

/// Keys that other screens set, or that a run of this app does not need.
const ELSEWHERE: [&str; 6] = ["model", "data", "template", "out", "columns", "mixture"];

fn advanced_ui(app: &mut App, ui: &mut Ui) {
    let flags = app.flags();
    let now = config(&flags).unwrap_or_default();
    let shown = now.to_text().unwrap_or_default();
    card(ui, "All settings", |ui| {
        hint(ui, "What is typed here wins over the preset. Empty a field to go back.");
        for key in KEYS.iter().filter(|key| !ELSEWHERE.contains(&key.name)) {
            key_ui(app, ui, key, &value_of(&shown, key.name));
        }
    });
}

/// The value of a key in the text of a RUN.toml, as one would type it behind a flag.
fn value_of(text: &str, key: &str) -> String {
    let start = format!("{key} = ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_default().trim_matches('"').to_string()
}

fn key_ui(app: &mut App, ui: &mut Ui, key: &Key, now: &str) {
    ui.add_space(2.0);
    ui.horizontal(|ui| {
        ui.allocate_ui(vec2(150.0, 22.0), |ui| {
            ui.set_min_width(150.0);
            ui.label(RichText::new(key.name.replace('_', " ")));
        });
        let changed = &mut app.train.changed;
        let mut text = changed.get(key.name).cloned().unwrap_or_default();
        let before = text.clone();
        let options: &[&str] = match key.kind {
            Kind::Choice(options) => options,
            Kind::Switch => &["true", "false"],
            _ => &[],
        };
        if options.is_empty() {
            let field =
                TextEdit::singleline(&mut text).hint_text(now.to_string()).desired_width(150.0);
            let field = ui.add(field);
            named(&field, key.name);
        } else {
            let shown = if text.is_empty() { now } else { &text };
            let combo = ComboBox::from_id_salt(key.name).selected_text(shown).width(150.0);
            let combo = combo.show_ui(ui, |ui| {
                for option in options {
                    if ui.selectable_label(*option == now, *option).clicked() {
                        text = (*option).to_string();
                    }
                }
            });
            named(&combo.response, key.name);
        }
        if text != before {
            match text.trim().is_empty() {
                true => changed.remove(key.name),
                false => changed.insert(key.name.to_string(), text),
            };
        }
    });
    hint(ui, key.help());
}

fn forecast_ui(app: &mut App, ui: &mut Ui) {
    card(ui, "What it will take", |ui| {
        match (&app.train.plan, app.train.forecast()) {
            (Work::Failed(why), _) => notice(ui, Tone::Bad, why.clone()),
            (_, Some(plan)) => plan_ui(app, ui, plan),
            _ => {}
        }
        if let Work::Busy(task) = &app.train.plan {
            busy(ui, "Reckoning", task);
        }
        if let Work::Busy(task) = &app.train.timed
            && busy(ui, "Trying some steps, to tell the time", task)
        {
            app.train.timed = Work::Idle;
        }
        if let Work::Failed(why) = &app.train.timed
            && why != "cancelled"
        {
            hint(ui, format!("The time could not be told: {why}"));
        }
    });
    let flags = app.flags();
    command_ui(app, ui, &flags);
}

fn plan_ui(app: &App, ui: &mut Ui, plan: &Plan) {
    let unknown = if app.train.timed.busy() { "being measured" } else { "not measured" };
    let time = plan.seconds.map_or(unknown.to_string(), time_range);
    let big = |ui: &mut Ui, what: &str, value: &str| {
        ui.vertical(|ui| {
            ui.label(RichText::new(what).small().color(palette(ui).weak));
            ui.label(RichText::new(value).text_style(title()).strong());
        });
        ui.add_space(12.0);
    };
    ui.horizontal_wrapped(|ui| {
        big(ui, "Time", &time);
        big(ui, "Memory", &bytes(plan.memory_bytes));
        big(ui, "Disk", &bytes(disk(plan, &app.flags())));
    });
    if let Some((free, place)) = app.train.room(app.home.machine.done())
        && plan.memory_bytes > free
    {
        notice(
            ui,
            Tone::Warn,
            format!(
                "This is more than {} of {place}. Close other programs, or choose under All settings a smaller \
             micro batch tokens, or recompute = layers.",
                bytes(free)
            ),
        );
    }
    ui.separator();
    fact(ui, "Learns from", format!("{} rows", plan.train_rows));
    fact(ui, "Judged by", format!("{} held-out rows", plan.validation_rows));
    for dropped in &plan.dropped_rows {
        fact(ui, "Left out", format!("{} rows {}", dropped.count, dropped.name));
    }
    let share = 100.0 * plan.trained_tokens as f64 / plan.tokens.max(1) as f64;
    fact(ui, "Tokens a pass", format!("{}, {share:.0}% of them learned", count(plan.tokens)));
    fact(ui, "Steps", format!("{} ({} passes over the rows)", plan.steps, round(plan.epochs)));
    let (trained, all) = (count(plan.trained_parameters), count(plan.parameters));
    fact(ui, "Trains", format!("{trained} numbers beside the model's {all}"));
    fact(ui, "On", plan.backend.clone());
    CollapsingHeader::new("Where the memory goes").show(ui, |ui| {
        for part in &plan.memory {
            fact(ui, &bytes(part.count), part.name.clone());
        }
    });
}

fn round(x: f64) -> String {
    if x.fract() == 0.0 { format!("{x:.0}") } else { format!("{x:.1}") }
}

/// Checkpoints that are kept, one being written, and the result.
fn disk(plan: &Plan, flags: &Flags) -> u64 {
    let kept = config(flags).unwrap_or_else(|_| RunConfig::default()).keep_checkpoints;
    plan.checkpoint_bytes * (kept + 2) + 4 * plan.trained_parameters
}

fn command_ui(app: &mut App, ui: &mut Ui, flags: &Flags) {
    boxed(ui, |ui| {
        let words = if app.train.shows_command { "Hide the command" } else { "Show the command" };
        if plain(ui, words, None) {
            app.train.shows_command = !app.train.shows_command;
        }
        hint(ui, "The same run from a terminal, to repeat it or to send it to somebody.");
        if app.train.shows_command {
            let mut flags = flags.clone();
            flags.push(("out".to_string(), app.out().display().to_string()));
            code(ui, "command", &command(&flags));
            CollapsingHeader::new("The same as a file, RUN.toml").show(ui, |ui| {
                let text = run_toml(&flags);
                if ui.button("Copy RUN.toml").clicked() {
                    ui.ctx().copy_text(text.clone());
                }
                ScrollArea::vertical().id_salt("toml").max_height(240.0).show(ui, |ui| {
                    ui.label(RichText::new(text).monospace().small());
                });
            });
        }
    });
}
