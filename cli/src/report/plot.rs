//! Line plots as SVG, for reports that must open anywhere without a network.

use super::html::escape;

/// Pixels of a plot.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// Pixels around the drawing: left for numbers, below for the axis.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Most points of a line; more are thinned out evenly.
const MOST_POINTS: usize = 1_000;
/// Lines of the grid.
const TICKS: usize = 5;

/// A line of a plot.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Its class in the style sheet: `a`, `b` or `c`.
    pub class: &'static str,
    /// (x, y), in the order of x.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug, Default)]
pub struct Plot {
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// Under the axis.
    pub x_label: String,
    /// The lines.
    pub lines: Vec<Line>,
    /// A point with a word beside it.
    pub mark: Option<(f64, f64, String)>,
}

/// Ends of both axes.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let part = |v: f64, (low, high): (f64, f64)| (v - low) / (high - low);
        let (w, h) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        (LEFT + w * part(x, self.x), TOP + h * (1.0 - part(y, self.y)))
    }
}

impl Plot {
    /// The plot as an `<svg>` element; a sentence where there is nothing to draw.
    pub fn svg(&self) -> String {
        let Some(frame) = self.frame() else {
            return "<p>There is nothing to draw yet.</p>\n".to_string();
        };
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escape(&self.title)
        );
        self.grid(&frame, &mut out);
        for line in &self.lines {
            out.push_str(&polyline(line, &frame));
        }
        if let Some((x, y, word)) = &self.mark {
            let (cx, cy) = frame.at((*x, *y));
            // The word stands on the side where there is room.
            let (dx, anchor) = if cx > WIDTH / 2.0 { (-9.0, "end") } else { (9.0, "start") };
            out.push_str(&format!(
                "<circle class=\"mark\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"5\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
                cx + dx,
                cy - 8.0,
                escape(word)
            ));
        }
        out.push_str("</svg>\n");
        out.push_str(&self.legend());
        out
    }

    /// The least frame around all finite points, with some room above and below.
    fn frame(&self) -> Option<Frame> {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let (mut x, mut y) = ((f64::MAX, f64::MIN), (f64::MAX, f64::MIN));
        for (px, py) in points.filter(|(px, py)| px.is_finite() && py.is_finite()) {
            x = (x.0.min(*px), x.1.max(*px));
            y = (y.0.min(*py), y.1.max(*py));
        }
        if x.0 > x.1 {
            return None;
        }
        let room = |(low, high): (f64, f64)| {
            if high > low { (high - low) * 0.06 } else { low.abs().max(1.0) * 0.1 }
        };
        let (rx, ry) = (if x.1 > x.0 { 0.0 } else { 0.5 }, room(y));
        Some(Frame { x: (x.0 - rx, x.1 + rx), y: (y.0 - ry, y.1 + ry) })
    }

    fn grid(&self, frame: &Frame, out: &mut String) {
        for i in 0..=TICKS {
            let part = i as f64 / TICKS as f64;
            let y = frame.y.0 + part * (frame.y.1 - frame.y.0);
            let x = frame.x.0 + part * (frame.x.1 - frame.x.0);
            let (_, py) = frame.at((frame.x.0, y));
            let (px, _) = frame.at((x, frame.y.0));
            out.push_str(&format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{py:.1}\" y2=\"{py:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
                 <text x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                py + 4.0,
                number(y),
                HEIGHT - BOTTOM + 18.0,
                number(x)
            ));
        }
        out.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6.0,
            escape(&self.x_label)
        ));
    }

    fn legend(&self) -> String {
        let entry = |line: &Line| {
            format!("<span class=\"key {}\"></span> {}", line.class, escape(&line.name))
        };
        let entries: Vec<String> = self.lines.iter().map(entry).collect();
        format!("<p class=\"legend\">{}</p>\n", entries.join(" &nbsp; "))
    }
}

fn polyline(line: &Line, frame: &Frame) -> String {
    let every = line.points.len().div_ceil(MOST_POINTS).max(1);
    let finite = line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
    let points: Vec<String> = finite
        .step_by(every)
        .map(|&point| {
            let (x, y) = frame.at(point);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    format!("<polyline class=\"{}\" points=\"{}\"/>\n", line.class, points.join(" "))
}

/// A number of an axis: about three digits.
fn number(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_string(),
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 0.01 => format!("{x:.2}"),
        _ => format!("{x:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_holds_its_points_within_its_frame() {
        let line = |points: Vec<(f64, f64)>| Line { name: "loss".into(), class: "a", points };
        let points: Vec<(f64, f64)> =
            (0..5_000).map(|i| (f64::from(i), 1.0 / f64::from(i + 1))).collect();
        let svg = Plot { lines: vec![line(points)], ..Plot::default() }.svg();
        let drawn =
            svg.split("points=\"").nth(1).and_then(|s| s.split('"').next()).expect("points");
        let drawn: Vec<(f64, f64)> = drawn
            .split(' ')
            .map(|p| p.split_once(',').expect("x,y"))
            .map(|(x, y)| (x.parse().expect("x"), y.parse().expect("y")))
            .collect();
        assert_eq!(drawn.len(), 1_000);
        assert!(
            drawn.iter().all(|(x, y)| (LEFT..=WIDTH).contains(x) && (TOP..=HEIGHT).contains(y))
        );
        assert!(drawn[0].1 < drawn[999].1, "a falling loss falls on the page");

        let one = Plot { lines: vec![line(vec![(3.0, 2.0)])], ..Plot::default() }.svg();
        assert!(!one.contains("NaN") && !one.contains("inf"), "{one}");
        let none = Plot { lines: vec![line(vec![(0.0, f64::NAN)])], ..Plot::default() }.svg();
        assert!(none.contains("nothing to draw"), "{none}");
    }
}
