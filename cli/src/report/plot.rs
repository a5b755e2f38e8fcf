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
/// Lines of the grid, or a few less.
const TICKS: f64 = 5.0;

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
        // What is never negative has no room below zero.
        let low = if y.0 >= 0.0 { (y.0 - ry).max(0.0) } else { y.0 - ry };
        Some(Frame { x: (x.0 - rx, x.1 + rx), y: (low, y.1 + ry) })
    }

    fn grid(&self, frame: &Frame, out: &mut String) {
        for (y, word) in ticks(frame.y, 0.0) {
            let (_, py) = frame.at((frame.x.0, y));
            out.push_str(&format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{py:.1}\" y2=\"{py:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{word}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                py + 4.0
            ));
        }
        for (x, word) in ticks(frame.x, 1.0) {
            let (px, _) = frame.at((x, frame.y.0));
            out.push_str(&format!(
                "<text x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{word}</text>\n",
                HEIGHT - BOTTOM + 18.0
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

/// Round numbers within the ends of an axis, evenly spaced by at least `least`, with their words.
fn ticks((low, high): (f64, f64), least: f64) -> Vec<(f64, String)> {
    let wanted = (high - low) / TICKS;
    let unit = 10f64.powf(wanted.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| times * unit >= wanted).unwrap_or(10.0);
    let step = (times * unit).max(least);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    if !step.is_finite() || step <= 0.0 || last.saturating_sub(first) > 100 {
        return Vec::new();
    }
    let word = |x: f64| match decimals {
        _ if x == 0.0 => "0".to_string(),
        0..=4 => format!("{x:.decimals$}"),
        _ => {
            let x: f64 = format!("{x:.decimals$}").parse().unwrap_or(x);
            format!("{x:e}")
        }
    };
    (first..=last).map(|i| step * i as f64).map(|x| (x, word(x))).collect()
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
    #[test]
    fn an_axis_has_round_numbers_each_once_and_none_below_zero_for_nothing() {
        let words = |ends, least| ticks(ends, least).into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(words((0.0, 0.00212), 0.0), ["0", "0.0005", "0.0010", "0.0015", "0.0020"]);
        assert_eq!(words((1.0, 4.0), 1.0), ["1", "2", "3", "4"]);
        assert_eq!(words((1.0, 500.0), 1.0), ["100", "200", "300", "400", "500"]);
        assert_eq!(words((-1.0, 1.5), 0.0), ["-1.0", "-0.5", "0", "0.5", "1.0", "1.5"]);
        assert_eq!(words((0.0, 2.1e-5), 0.0), ["0", "5e-6", "1e-5", "1.5e-5", "2e-5"]);
        for ends in [(0.6, 2.14), (3.0, 3.01), (99.0, 12_345.0), (0.0, 1e-9), (2.5, 3.5)] {
            let mut found = words(ends, 0.0);
            let all = found.len();
            found.dedup();
            assert!((2..=7).contains(&all) && found.len() == all, "{ends:?} {found:?}");
        }
        let rates = Line { points: vec![(0.0, 0.0), (9.0, 0.002)], ..Line::default() };
        let svg = Plot { lines: vec![rates], ..Plot::default() }.svg();
        assert!(!svg.contains(">-"), "{svg}");
        let below = Line { points: vec![(0.0, -1.0), (9.0, 1.0)], ..Line::default() };
        assert!(Plot { lines: vec![below], ..Plot::default() }.svg().contains(">-1.0<"));
    }
}
