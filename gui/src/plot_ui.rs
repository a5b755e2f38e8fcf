//! Curves of a run, on the screen and as files.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context as _;
use eframe::egui::{ColorImage, Context, Rect, Ui};
use egui_plot::{Corner, HoverPosition, Legend, Line, LineStyle, MarkerShape, Plot, Points};
use paddock_cli::report::curves;
use paddock_cli::run::metrics::{Eval, Step};

use crate::parts::named;
use crate::run::Run;
use crate::task::Work;
use crate::theme::palette;

/// Points of a line that are drawn: more cannot be told apart.
const MOST_POINTS: usize = 800;
/// How long the window may take to give its picture.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every so manieth point, so that a long run is drawn as quickly as a short one.
fn thinned(points: impl ExactSizeIterator<Item = [f64; 2]>) -> Vec<[f64; 2]> {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    points.step_by(every).filter(|[_, y]| y.is_finite()).collect()
}

fn steps(run: &Run, value: impl Fn(&Step) -> f64) -> Vec<[f64; 2]> {
    thinned(run.steps.iter().map(|step| [step.step as f64, value(step)]))
}

fn plain<'a>(id: &str, height: f32) -> Plot<'a> {
    Plot::new(id)
        .height(height)
        .allow_scroll(false)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .show_background(false)
        .y_axis_min_width(44.0)
}

/// Loss on training rows and on those held out, with the best point marked.
pub fn loss_ui(ui: &mut Ui, run: &Run, height: f32) -> Rect {
    let p = palette(ui);
    let train = steps(run, |step| step.loss);
    let held: Vec<[f64; 2]> = run
        .evals
        .iter()
        .map(|e| [e.step as f64, e.eval_loss])
        .filter(|e| e[1].is_finite())
        .collect();
    let best = run.best().map(|e| [e.step as f64, e.eval_loss]);
    let last = run.plan.as_ref().map_or(1, |plan| plan.steps) as f64;
    let words = |at: &HoverPosition<'_>| match at {
        HoverPosition::NearDataPoint { plot_name, position, .. } => {
            Some(format!("{plot_name}\nstep {:.0}: {:.3}", position.x, position.y))
        }
        HoverPosition::Elsewhere { .. } => None,
    };
    let plot = plain("loss", height)
        .legend(Legend::default().position(Corner::RightTop).background_alpha(0.6))
        .include_x(0.0)
        .include_x(last)
        .label_formatter(words);
    let shown = plot.show(ui, move |plot| {
        let line = Line::new("training rows", train).color(p.accent).width(1.6);
        plot.line(line.style(LineStyle::Solid));
        plot.line(Line::new("held-out rows", held.clone()).color(p.second).width(2.2));
        let marks = Points::new("held-out rows", held).color(p.second).radius(3.0);
        plot.points(marks);
        if let Some(best) = best {
            let mark = Points::new("best state", vec![best]).color(p.second).radius(7.0);
            plot.points(mark.shape(MarkerShape::Diamond));
        }
    });
    named(&shown.response, &said(run));
    shown.response.rect
}

/// The curves in a sentence, for those who cannot see them.
fn said(run: &Run) -> String {
    let first = run.evals.first().map(|e: &Eval| e.eval_loss);
    match (first, run.best()) {
        (Some(first), Some(best)) => format!(
            "Plot of the loss: on held-out rows it went from {first:.3} to {:.3} at step {}",
            best.eval_loss, best.step
        ),
        _ => "Plot of the loss over the steps".to_string(),
    }
}

/// A small curve: learning rate, or tokens a second.
pub fn small_ui(ui: &mut Ui, run: &Run, what: &str, value: impl Fn(&Step) -> f64) {
    let p = palette(ui);
    let points = steps(run, value);
    let plot = plain(what, 92.0).include_y(0.0);
    let shown = plot.show(ui, move |plot| {
        plot.line(Line::new(what, points).color(p.accent).width(1.5));
    });
    named(&shown.response, &format!("Plot: {what}"));
}

/// The curve as it stands on the screen, as a PNG file.
pub fn save_png(ctx: &Context, plot: Rect, path: &Path) -> Work<()> {
    let (send, receive) = channel::<Arc<ColorImage>>();
    let scale = ctx.pixels_per_point();
    ctx.request_screenshot(move |image| {
        // Nobody waits any more if the window was closed.
        let _ = send.send(image);
    });
    let path = path.to_path_buf();
    let mut work = Work::Idle;
    work.start(ctx, move |_| {
        let image = receive.recv_timeout(PATIENCE).context("the window gave no picture")?;
        let part = image.region(&plot.expand(4.0), Some(scale));
        let bytes: Vec<u8> = part.pixels.iter().flat_map(|pixel| pixel.to_array()).collect();
        let (width, height) = (part.width() as u32, part.height() as u32);
        image::save_buffer(&path, &bytes, width, height, image::ColorType::Rgba8)
            .with_context(|| format!("{} cannot be written", path.display()))
    });
    work
}

/// The curves as a file: the ending of its name says what it is.
///
/// # Errors
/// An ending that is none of the three, and what the system says.
pub fn save(run: &Run, path: &Path) -> anyhow::Result<()> {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let text = match ending.as_deref() {
        Some("csv") => curves::csv(&run.steps, &run.evals),
        Some("svg") => curves::svg(&run.steps, &run.evals),
        _ => anyhow::bail!("{}: name a file that ends in .png, .svg or .csv", path.display()),
    };
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}
