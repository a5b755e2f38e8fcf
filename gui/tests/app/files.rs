//! What the app writes for others: curves, the report.

use std::path::Path;

use crate::common::{USUAL, Visit};
use crate::screens;
use eframe::egui::OutputCommand;
use paddock_gui::app::Screen;
use paddock_gui::run::Stage;

/// A window that shows a finished run of 420 steps.
fn finished() -> Visit {
    let mut visit = Visit::new(USUAL);
    let app = visit.harness.state_mut();
    app.run = Some(screens::run(Stage::Finished));
    app.screen = Screen::Run;
    visit.settle();
    visit
}

fn save(visit: &mut Visit, path: &Path) {
    let ctx = visit.harness.ctx.clone();
    visit.harness.state_mut().save_curves(&ctx, path);
    let path = path.to_path_buf();
    visit.wait("the file, or a message", move |h| {
        path.metadata().is_ok_and(|meta| meta.len() > 0) || h.state().trouble.is_some()
    });
}

#[test]
fn curves_are_saved_as_picture_drawing_and_table() {
    let mut visit = finished();
    let place = visit.dir.path().to_path_buf();
    save(&mut visit, &place.join("loss.csv"));
    let table = std::fs::read_to_string(place.join("loss.csv")).expect("a table");
    assert!(table.lines().count() > 420 && table.starts_with("step,"), "{}", &table[..80]);
    save(&mut visit, &place.join("loss.svg"));
    let drawing = std::fs::read_to_string(place.join("loss.svg")).expect("a drawing");
    assert!(drawing.starts_with("<svg") && drawing.contains("<polyline"), "{}", &drawing[..80]);
    // An ending that is none of the three is refused in words.
    save(&mut visit, &place.join("loss.doc"));
    visit.wait_for("name a file that ends in .png, .svg or .csv");
    visit.press("Put the message away");
    if !visit.draws {
        return;
    }
    save(&mut visit, &place.join("loss.png"));
    visit.wait("the whole picture", {
        let place = place.clone();
        move |_| image::open(place.join("loss.png")).is_ok()
    });
    let picture = image::open(place.join("loss.png")).expect("a picture").to_rgb8();
    assert!(picture.width() > 400 && picture.height() > 150, "{:?}", picture.dimensions());
    // The line of the training rows is on it.
    let p = paddock_gui::theme::LIGHT.accent;
    let near = |pixel: &&image::Rgb<u8>| {
        pixel.0.iter().zip([p.r(), p.g(), p.b()]).all(|(a, b)| a.abs_diff(b) < 40)
    };
    assert!(picture.pixels().filter(near).count() > 100);
}

#[test]
fn the_report_of_a_run_opens_from_the_app() {
    let mut visit = Visit::new(USUAL);
    let (out, mut flags) = visit.flags("reported");
    for (key, value) in
        [("model", "bundled:tiny"), ("data", "bundled:stories"), ("validation", "20")]
    {
        flags.push((key.to_string(), value.to_string()));
    }
    let started = visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    visit.wait("the run", |_| !started.alive.load(std::sync::atomic::Ordering::Relaxed));
    visit.drop_file(&out);
    visit.wait_for("Open the report");
    let address = visit.opens("Open the report");
    let path = address.strip_prefix("file://").expect("a file").replace("%20", " ");
    let page = std::fs::read_to_string(&path).expect("a page");
    assert!(page.contains("Paddock run reported") && page.contains("<polyline"), "{path}");
    // What the process used stands beside what was forecast, also afterwards.
    visit.wait_for("forecast");
    assert!(visit.harness.state().run.as_ref().is_some_and(|run| run.memory > 0));
}

impl Visit {
    /// Presses a button that opens something outside: its address.
    fn opens(&mut self, label: &str) -> String {
        use egui_kittest::kittest::Queryable;
        self.harness.get_by_label(label).click();
        for _ in 0..4 {
            self.harness.step();
            let commands = &self.harness.output().platform_output.commands;
            let opened = commands.iter().find_map(|command| match command {
                OutputCommand::OpenUrl(url) => Some(url.url.clone()),
                _ => None,
            });
            if let Some(url) = opened {
                return url;
            }
        }
        panic!("{label} opens nothing");
    }
}
