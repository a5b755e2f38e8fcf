//! A sweep's result for people.

use std::time::Duration;

use serde_json::{Value as Json, json};
use toml::Value;

use super::course::{Swept, Tried, total};
use super::spec::{Measure, SWEEP_VERSION, Sweep};
use crate::eval::outcome::number;
use crate::eval::words::columns;
use crate::report::html::{escape, page, table};
use crate::report::plot::{Line, Plot};
use crate::train::report::{bytes, count, duration};

fn value(by: Measure, tried: &Tried) -> String {
    let shown = |x: f64| if by == Measure::Loss { format!("{x:.4}") } else { number(x, true) };
    match tried.found.len() {
        1 => shown(tried.mean),
        _ => format!("{} ± {}", shown(tried.mean), shown(tried.sd)),
    }
}

/// Lines of the table, best first, with a head.
fn lines(sweep: &Sweep, swept: &Swept) -> Vec<Vec<String>> {
    let by = sweep.choose_by;
    let mut order: Vec<&Tried> = swept.tried.iter().collect();
    let sign = if by == Measure::Loss { 1.0 } else { -1.0 };
    order.sort_by(|a, b| (sign * a.mean).total_cmp(&(sign * b.mean)));
    let mut rows =
        vec![["", by.words(), "training", "tokens", "memory"].map(str::to_string).to_vec()];
    for tried in order {
        let n = tried.found.len() as f64;
        let seconds = tried.found.iter().map(|f| f.seconds).sum::<f64>() / n;
        let tokens = tried.found.iter().map(|f| f.tokens).max().unwrap_or(0);
        let memory = tried.found.iter().map(|f| f.memory_bytes).max().unwrap_or(0);
        rows.push(vec![
            tried.setting.words(),
            value(by, tried),
            duration(Duration::from_secs_f64(seconds.max(0.0))),
            count(tokens),
            bytes(memory),
        ]);
    }
    rows
}

/// Numbers at the end of what was tried, where better ones may lie beyond.
fn edges(swept: &Swept) -> Vec<String> {
    let best = &swept.tried[swept.best].setting;
    let mut found = Vec::new();
    for (key, chosen) in &best.keys {
        let numeric = |v: &Value| v.as_float().or_else(|| v.as_integer().map(|n| n as f64));
        let Some(own) = numeric(chosen) else { continue };
        let all = swept.tried.iter().flat_map(|t| &t.setting.keys).filter(|(k, _)| k == key);
        let values: Vec<f64> = all.filter_map(|(_, v)| numeric(v)).collect();
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        if low < high && (own == low || own == high) {
            let end = if own == low { "least" } else { "largest" };
            found.push(format!("{key} = {chosen} is the {end} that was tried; look beyond it"));
        }
    }
    found
}

/// What came out, in a sentence or two.
pub fn verdict(sweep: &Sweep, swept: &Swept) -> String {
    let best = &swept.tried[swept.best];
    let mut text = format!(
        "Of {} settings, {} is best by the {}: {}.",
        swept.tried.len(),
        best.setting.words(),
        sweep.choose_by.words(),
        value(sweep.choose_by, best)
    );
    match &swept.tested {
        Some(tested) => {
            let one = |m: &super::test::Measured| {
                let spread = format!("{} ± {}", number(m.mean, m.share), number(m.sd, m.share));
                format!("{} {spread}", m.name)
            };
            let list: Vec<String> = tested.measures.iter().map(one).collect();
            text.push_str(&format!(" On {} test rows: {}.", tested.rows, list.join(", ")));
            if tested.looks > 1 {
                text.push_str(&format!(
                    " The test rows have been looked at {} times, because the sweep grew or \
                     changed: take their numbers with a grain of salt.",
                    tested.looks
                ));
            }
        }
        None => text.push_str(
            " There are no test rows (test = \"FILE\"), so how good it is on rows \
                               that chose nothing is not known.",
        ),
    }
    text
}

/// For the terminal.
pub fn text(sweep: &Sweep, swept: &Swept) -> String {
    let mut out = columns(&lines(sweep, swept));
    out.push_str(&format!("\nAll runs took {}\n", duration(total(&swept.tried))));
    for edge in edges(swept) {
        out.push_str(&format!("Note: {edge}\n"));
    }
    let folder = swept.tried[swept.best].folders.first();
    let folder = folder.map_or(String::new(), |f| f.display().to_string());
    out.push_str(&format!("\n{}\nIts first run is in {folder}\n", verdict(sweep, swept)));
    out
}

/// Everything, for programs.
pub fn json(sweep: &Sweep, swept: &Swept) -> Json {
    let tried = |t: &Tried| {
        json!({"setting": t.setting.words(), "mean": t.mean, "sd": t.sd, "runs": t.found,
               "folders": t.folders})
    };
    json!({
        "version": SWEEP_VERSION,
        "sweep": sweep,
        "rows": swept.files,
        "settings": swept.tried.iter().map(tried).collect::<Vec<_>>(),
        "best": swept.best,
        "test": swept.tested,
        "verdict": verdict(sweep, swept),
    })
}

/// As a page.
pub fn html(name: &str, sweep: &Sweep, swept: &Swept) -> String {
    let mut body = format!("<p class=\"verdict\">{}</p>\n", escape(&verdict(sweep, swept)));
    for edge in edges(swept) {
        body.push_str(&format!("<p>Note: {}.</p>\n", escape(&edge)));
    }
    let rows = lines(sweep, swept);
    let head: Vec<&str> = rows[0].iter().map(String::as_str).collect();
    body.push_str(&table(&head, &rows[1..]));
    for key in sweep.vary.keys() {
        let plot = plot(sweep, swept, key);
        if plot.lines.iter().any(|line| line.points.len() > 1) {
            body.push_str(&format!("<h2>{}</h2>\n{}", escape(key), plot.svg()));
        }
    }
    page(&format!("Sweep {name}"), &body)
}

/// The best result for each value of a key, over all the others.
fn plot(sweep: &Sweep, swept: &Swept, key: &str) -> Plot {
    let by = sweep.choose_by;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for tried in &swept.tried {
        let found = tried.setting.keys.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        let x = match (found, key, tried.setting.rows) {
            (Some(v), _, _) => v.as_float().or_else(|| v.as_integer().map(|n| n as f64)),
            (None, "rows", crate::study::spec::Rows::Some(n)) => Some(n as f64),
            (None, "rows", crate::study::spec::Rows::All) => Some(swept.files.rows as f64),
            _ => None,
        };
        let Some(x) = x else { continue };
        match points.iter_mut().find(|p| p.0 == x) {
            Some(point) if by.better(tried.mean, point.1) => point.1 = tried.mean,
            Some(_) => {}
            None => points.push((x, tried.mean)),
        }
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Values over several powers of ten stand by their logarithms.
    let wide = points.first().zip(points.last()).is_some_and(|(a, b)| a.0 > 0.0 && b.0 / a.0 > 9.0);
    if wide {
        points.iter_mut().for_each(|p| p.0 = p.0.log10());
    }
    let x_label = if wide { format!("{key} (power of ten)") } else { key.to_string() };
    let line = Line { name: format!("{}, best of all others", by.words()), class: "b", points };
    Plot { title: format!("{} over {key}", by.words()), x_label, lines: vec![line], mark: None }
}
