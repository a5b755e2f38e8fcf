//! The templates in use, with their weights.

use eframe::egui::{DragValue, Label, RichText, Ui};

use crate::app::App;
use crate::mix::trained;
use crate::parts::{card, hint, named};
use crate::theme::palette;

/// The card.
pub fn mix_ui(app: &mut App, ui: &mut Ui) {
    let p = palette(ui);
    card(ui, "In use", |ui| {
        let list = &mut app.data.chosen;
        if list.is_empty() {
            hint(
                ui,
                "None chosen: the columns decide. Use one, or several: each row then comes in the words of one of them.",
            );
            return;
        }
        let sum: f64 = trained(list).map(|chosen| chosen.weight).sum();
        let several = list.len() > 1;
        let mut gone = None;
        for (i, chosen) in list.iter_mut().enumerate() {
            let name = chosen.short().to_string();
            ui.horizontal(|ui| {
                let remove = ui.button("Remove");
                named(&remove, &format!("Remove {name}"));
                if remove.clicked() {
                    gone = Some(i);
                }
                ui.add(Label::new(RichText::new(&name).strong()).truncate());
            });
            ui.horizontal(|ui| {
                let judges = ui.checkbox(&mut chosen.judges, "only to judge by");
                named(&judges, &format!("{name} only to judge by"));
                if several && !chosen.judges {
                    let weight = DragValue::new(&mut chosen.weight).range(0.0..=100.0).speed(0.1);
                    named(&ui.add(weight), &format!("Weight of {name}"));
                    let share = 100.0 * chosen.weight / sum.max(1e-9);
                    ui.label(
                        RichText::new(format!("{share:.0}% of the rows")).small().color(p.weak),
                    );
                }
            });
        }
        if let Some(i) = gone {
            list.remove(i);
        }
        hint(
            ui,
            "A template kept to judge by is never trained with: held-out rows are asked in its words, to see whether \
             the model understands new ones.",
        );
    });
}
