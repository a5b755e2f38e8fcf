//! Bars with whiskers, and curves over a few named places, as SVG.

use super::html::escape;

const WIDTH: f64 = 720.0;
/// Height of a bar with its gap.
const BAR: f64 = 26.0;
/// Pixels for names left of the bars, and for values right of them.
const NAMES: f64 = 250.0;
const VALUES: f64 = 110.0;
/// A curve's frame.
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;
/// Lines of the grid.
const TICKS: u32 = 5;
/// Colours that can be told apart with most kinds of colour blindness, on light and dark ground.
const COLOURS: [&str; 6] = ["#0b72b5", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#7a7a7a"];

/// A share from 0 to 1 with its spread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bar {
    /// What it is.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// Ends of its whisker.
    pub whisker: (f64, f64),
    /// What stands behind it.
    pub words: String,
}

/// Bars, longest possible one 1, with a dashed line where guessing would be.
pub fn bars(title: &str, list: &[Bar], mark: Option<f64>) -> String {
    let height = BAR * list.len() as f64 + 8.0;
    let scale = WIDTH - NAMES - VALUES;
    let x = |v: f64| NAMES + scale * v.clamp(0.0, 1.0);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title)
    );
    for (bar, i) in list.iter().zip(0u32..) {
        let y = BAR * f64::from(i) + 4.0;
        let (middle, colour) = (y + BAR / 2.0, COLOURS[0]);
        out.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" \
             fill-opacity=\"0.55\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" \
             stroke=\"currentColor\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            NAMES - 8.0,
            middle + 4.0,
            escape(&bar.name),
            y + 3.0,
            (x(bar.value) - NAMES).max(0.0),
            BAR - 6.0,
            x(bar.whisker.0),
            x(bar.whisker.1),
            x(bar.whisker.1.max(bar.value)) + 8.0,
            middle + 4.0,
            escape(&bar.words)
        ));
    }
    if let Some(mark) = mark {
        let at = x(mark);
        out.push_str(&format!(
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"currentColor\" \
             stroke-dasharray=\"4 4\"/>\n"
        ));
    }
    out.push_str("</svg>\n");
    out
}

/// A curve: (place, value, lower and upper end of its whisker).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// What it shows.
    pub name: String,
    /// Its points, by place on the x axis.
    pub points: Vec<(usize, f64, (f64, f64))>,
}

/// Curves over named places at equal distances; values are shares.
pub fn curves(title: &str, x_label: &str, places: &[String], list: &[Curve]) -> String {
    let points = || list.iter().flat_map(|curve| &curve.points);
    let low = points().map(|p| p.1.min(p.2.0)).fold(f64::INFINITY, f64::min);
    let high = points().map(|p| p.1.max(p.2.1)).fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() || places.is_empty() {
        return "<p>There is nothing to draw.</p>\n".to_string();
    }
    let room = ((high - low) * 0.08).max(0.01);
    let (low, high) = ((low - room).max(0.0), (high + room).min(1.0).max(low + 0.01));
    let wide = (WIDTH - LEFT - RIGHT) / (places.len().max(2) - 1) as f64;
    let x = |place: usize| LEFT + wide * place as f64;
    let y = |v: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (v - low) / (high - low));
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title)
    );
    for tick in 0..=TICKS {
        let v = low + (high - low) * f64::from(tick) / f64::from(TICKS);
        out.push_str(&format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}%</text>\n",
            WIDTH - RIGHT,
            y(v),
            y(v),
            LEFT - 8.0,
            y(v) + 4.0,
            100.0 * v
        ));
    }
    for (i, place) in places.iter().enumerate() {
        out.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            x(i),
            HEIGHT - BOTTOM + 18.0,
            escape(place)
        ));
    }
    out.push_str(&format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 6.0,
        escape(x_label)
    ));
    for (curve, i) in list.iter().zip(0..) {
        out.push_str(&one_curve(curve, i, list.len(), &x, &y));
    }
    out.push_str("</svg>\n");
    out.push_str(&legend(list));
    out
}

fn one_curve(
    curve: &Curve,
    number: usize,
    of: usize,
    x: &dyn Fn(usize) -> f64,
    y: &dyn Fn(f64) -> f64,
) -> String {
    let colour = COLOURS[number % COLOURS.len()];
    // Whiskers stand beside each other, not on one another.
    let beside = 4.0 * (number as f64 - (of as f64 - 1.0) / 2.0);
    let line: Vec<String> = curve
        .points
        .iter()
        .map(|&(place, v, _)| format!("{:.1},{:.1}", x(place) + beside, y(v)))
        .collect();
    let mut out = format!("<polyline points=\"{}\" style=\"stroke: {colour}\"/>\n", line.join(" "));
    for &(place, v, (low, high)) in &curve.points {
        let at = x(place) + beside;
        out.push_str(&format!(
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>\
             <circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>\n",
            y(low),
            y(high),
            y(v)
        ));
    }
    out
}

fn legend(list: &[Curve]) -> String {
    let entry = |(curve, i): (&Curve, usize)| {
        let colour = COLOURS[i % COLOURS.len()];
        format!(
            "<span class=\"key\" style=\"background: {colour}\"></span> {}",
            escape(&curve.name)
        )
    };
    let entries: Vec<String> = list.iter().zip(0..).map(entry).collect();
    format!("<p class=\"legend\">{}</p>\n", entries.join(" &nbsp; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_curves_stay_within_their_frames() {
        let bar = |name: &str, value| Bar {
            name: name.into(),
            value,
            whisker: (value - 0.1, value + 0.1),
            words: format!("{value}"),
        };
        let svg = bars("t", &[bar("a <b>", 0.5), bar("all", 1.0)], Some(0.5));
        assert!(svg.contains("a &lt;b&gt;") && svg.matches("<rect").count() == 2);
        let ends: Vec<f64> = svg
            .split(" x2=\"")
            .skip(1)
            .map(|s| s.split('"').next().expect("a number").parse().expect("a number"))
            .collect();
        assert!(ends.iter().all(|x| (NAMES..=WIDTH).contains(x)), "{ends:?}");

        let places = ["4".to_string(), "all".to_string()];
        let curve =
            Curve { name: "svm".into(), points: vec![(0, 0.5, (0.4, 0.6)), (1, 0.9, (0.9, 0.9))] };
        let svg = curves("t", "rows", &places, &[curve]);
        let points = svg.split("points=\"").nth(1).and_then(|s| s.split('"').next());
        let points: Vec<&str> = points.expect("a line").split(' ').collect();
        let height = |p: &str| p.split_once(',').expect("x,y").1.parse::<f64>().expect("y");
        assert!(height(points[0]) > height(points[1]), "more is higher on the page");
        let none = curves("t", "rows", &places, &[]);
        assert!(none.contains("nothing to draw") && !none.contains("NaN"));
    }
}
