//! Answers of a run to a few held-out prompts: before training, on the way, after it.

use eframe::egui::{CollapsingHeader, Label, RichText, Ui};
use paddock_cli::run::events::Sample;

use crate::parts::{boxed, column, hint, named};
use crate::run::Run;
use crate::theme::{palette, title};

/// What all prompts begin with says nothing about any of them: it is left out.
pub fn shared_beginning(samples: &[Sample]) -> usize {
    let Some(first) = samples.first().filter(|_| samples.len() > 1) else { return 0 };
    let common = samples.iter().skip(1).fold(first.prompt.len(), |most, sample| {
        let same = first.prompt.bytes().zip(sample.prompt.bytes()).take(most);
        same.take_while(|(a, b)| a == b).count()
    });
    // Whole lines only.
    first.prompt.get(..common).and_then(|text| text.rfind('\n')).map_or(0, |end| end + 1)
}

/// The answers, side by side.
pub fn samples_ui(run: &mut Run, ui: &mut Ui) {
    if run.samples.is_empty() {
        return;
    }
    ui.add_space(4.0);
    ui.label(RichText::new("Answers to held-out prompts").text_style(title()).strong());
    let chosen = steps_ui(run, ui);
    let skip = shared_beginning(&run.samples);
    for (i, sample) in run.samples.iter().enumerate() {
        let (who, text) = now(run, sample, chosen);
        boxed(ui, |ui| {
            let prompt = sample.prompt.get(skip..).unwrap_or(&sample.prompt).trim();
            ui.add(Label::new(RichText::new(prompt).strong()).wrap());
            let width = (ui.available_width() - 16.0) / 2.0;
            ui.horizontal_top(|ui| {
                ui.spacing_mut().item_spacing.x = 0.0;
                column(ui, width, |ui| answer_ui(ui, "Before training", sample.base.as_deref()));
                ui.add_space(16.0);
                column(ui, width, |ui| answer_ui(ui, &who, text));
            });
            if let Some(reference) = &sample.reference {
                CollapsingHeader::new("The answer in the data").id_salt(i).show(ui, |ui| {
                    ui.add(Label::new(reference.trim()).wrap());
                });
            }
        });
    }
}

/// Which state of the model is looked at: a step, or the last one known (none).
fn steps_ui(run: &mut Run, ui: &mut Ui) -> Option<u64> {
    let mut steps: Vec<u64> = run.answers.iter().map(|answer| answer.step).collect();
    steps.dedup();
    if steps.is_empty() {
        return None;
    }
    let over = run.samples.iter().any(|sample| sample.tuned.is_some());
    ui.horizontal_wrapped(|ui| {
        ui.label("See it learn: after step");
        for step in &steps {
            let chosen = run.looked_at == Some(*step);
            let label = ui.selectable_label(chosen, step.to_string());
            named(&label, &format!("Answers after step {step}"));
            if label.clicked() {
                run.looked_at = (!chosen).then_some(*step);
            }
        }
        let words = if over { "the end" } else { "the latest" };
        if ui.selectable_label(run.looked_at.is_none(), words).clicked() {
            run.looked_at = None;
        }
    });
    hint(ui, "The first two prompts are answered now and then while the model trains.");
    let latest = if over { None } else { steps.last().copied() };
    run.looked_at.or(latest)
}

/// What stands on the right: whose answer, and the answer.
fn now<'a>(run: &'a Run, sample: &'a Sample, step: Option<u64>) -> (String, Option<&'a str>) {
    let on_the_way = step
        .and_then(|step| run.answers.iter().find(|a| a.step == step && a.prompt == sample.prompt));
    match (on_the_way, step) {
        (Some(answer), _) => (format!("After step {}", answer.step), Some(answer.answer.as_str())),
        (None, Some(step)) if sample.tuned.is_none() => (format!("After step {step}"), None),
        _ => ("After training".to_string(), sample.tuned.as_deref()),
    }
}

fn answer_ui(ui: &mut Ui, who: &str, text: Option<&str>) {
    let p = palette(ui);
    ui.label(RichText::new(who).small().color(p.weak));
    let text = match text.map(str::trim) {
        None => "(not answered yet)",
        Some("") => "(nothing)",
        Some(text) => text,
    };
    ui.add(Label::new(text).wrap());
}
