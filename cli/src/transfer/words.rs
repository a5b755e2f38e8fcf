//! The result of a study of transfer for people.

use serde::Serialize;

use super::course::{Asked, Found};
use super::spec::{Count, Transfer};
use crate::eval::outcome::number;
use crate::eval::statistics::mean_sd;
use crate::eval::words::columns;
use crate::report::chart::{Curve, curves};
use crate::report::html::{escape, page, table as html_table};
use crate::study::paired::{Paired, holm, paired};
use crate::study::verdict::p_value;
use crate::train::report::count;

/// One number of clusters, of templates and of worked examples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Clusters tuned on.
    pub clusters: usize,
    /// Templates of each.
    pub templates: Option<Count>,
    /// Worked examples.
    pub shots: usize,
    /// Tunings.
    pub runs: usize,
    /// Accuracy: mean over templates and seeds.
    pub mean: f64,
    /// Its standard deviation over seeds.
    pub sd: f64,
    /// Mean over seeds of the standard deviation over the held-out templates.
    pub template_sd: f64,
    /// Tokens of a tuning.
    pub tokens: u64,
    /// Against the untuned model with as many worked examples; p corrected for the number of comparisons.
    pub against_base: Option<Paired>,
    #[serde(skip)]
    right: Vec<f64>,
}

/// All points, the untuned model's first.
pub fn points(study: &Transfer, found: &[Found]) -> Vec<Point> {
    let mut list: Vec<Point> = Vec::new();
    for &shots in &study.shots {
        let mut groups: Vec<(usize, Option<Count>)> = Vec::new();
        for cell in found {
            let group = (cell.clusters.len(), cell.templates);
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        for (clusters, templates) in groups {
            let cells: Vec<&Found> = found
                .iter()
                .filter(|f| f.clusters.len() == clusters && f.templates == templates)
                .collect();
            list.push(point(&cells, shots));
        }
    }
    let base = |shots: usize, list: &[Point]| {
        list.iter().find(|p| p.clusters == 0 && p.shots == shots).map(|p| p.right.clone())
    };
    let bases: Vec<Option<Vec<f64>>> = list.iter().map(|p| base(p.shots, &list)).collect();
    for (point, base) in list.iter_mut().zip(bases).filter(|(p, _)| p.clusters > 0) {
        point.against_base = base.map(|base| paired(&point.right, &base, 1));
    }
    let raw: Vec<f64> = list.iter().filter_map(|p| p.against_base.map(|a| a.p)).collect();
    let compared = list.iter_mut().filter_map(|p| p.against_base.as_mut());
    compared.zip(holm(&raw)).for_each(|(against, p)| against.p = p);
    list
}

fn point(cells: &[&Found], shots: usize) -> Point {
    let asked: Vec<&Asked> =
        cells.iter().filter_map(|c| c.asked.iter().find(|a| a.shots == shots)).collect();
    let over = |a: &&Asked| mean_sd(&a.by_template.iter().map(|t| t.1).collect::<Vec<_>>());
    let (mean, sd) = mean_sd(&asked.iter().map(|a| over(a).0).collect::<Vec<_>>());
    let (template_sd, _) = mean_sd(&asked.iter().map(|a| over(a).1).collect::<Vec<_>>());
    let rows = asked.iter().map(|a| a.right.len()).min().unwrap_or(0);
    let n = asked.len().max(1) as f64;
    let right = (0..rows).map(|i| asked.iter().map(|a| a.right[i]).sum::<f64>() / n).collect();
    Point {
        clusters: cells.first().map_or(0, |c| c.clusters.len()),
        templates: cells.first().and_then(|c| c.templates),
        shots,
        runs: asked.len(),
        mean,
        sd,
        template_sd,
        tokens: cells.iter().map(|c| c.tokens).max().unwrap_or(0),
        against_base: None,
        right,
    }
}

const HEAD: [&str; 7] =
    ["tuned on", "examples", "runs", "accuracy", "sd over templates", "against untuned", "tokens"];

fn line(point: &Point) -> Vec<String> {
    let on = match (point.clusters, point.templates) {
        (0, _) => "nothing (the model as it is)".to_string(),
        (1, Some(t)) => format!("1 cluster, {t} templates"),
        (n, Some(t)) => format!("{n} clusters, {t} templates each"),
        (n, None) => format!("{n} clusters"),
    };
    let against = point.against_base.map_or(String::new(), |a| {
        format!("{:+.1} ({})", 100.0 * a.difference.value, p_value(a.p))
    });
    vec![
        on,
        point.shots.to_string(),
        point.runs.to_string(),
        format!("{:.1} ± {:.1}%", 100.0 * point.mean, 100.0 * point.sd),
        number(point.template_sd, true),
        against,
        if point.tokens == 0 { "-".to_string() } else { count(point.tokens) },
    ]
}

/// What came out, in a sentence.
pub fn verdict(study: &Transfer, points: &[Point]) -> String {
    let shots = study.shots[0];
    let own = || points.iter().filter(move |p| p.shots == shots);
    let base = own().find(|p| p.clusters == 0).map_or(f64::NAN, |p| p.mean);
    let most = own().max_by_key(|p| (p.clusters, p.templates));
    let Some((most, against)) = most.and_then(|p| Some((p, p.against_base?))) else {
        return format!(
            "The untuned model is right in {} of {}.",
            number(base, true),
            study.held_out
        );
    };
    let word = match (against.clear(), against.difference.value > 0.0) {
        (true, true) => "carries over to",
        (true, false) => "harms",
        (false, _) => "neither clearly helps nor harms",
    };
    format!(
        "Tuning on {} other clusters {word} {}, which was never taught: {} against {} untuned ({:+.1} points, \
         {}).",
        most.clusters,
        study.held_out,
        number(most.mean, true),
        number(base, true),
        100.0 * against.difference.value,
        p_value(against.p)
    )
}

/// For the terminal.
pub fn text(study: &Transfer, points: &[Point]) -> String {
    let mut rows = vec![HEAD.map(str::to_string).to_vec()];
    rows.extend(points.iter().map(line));
    format!(
        "Held out   {}\nModel      {}\n\n{}\n{LEGEND}\n\n{}\n",
        study.held_out,
        study.model,
        columns(&rows),
        verdict(study, points)
    )
}

const LEGEND: &str = "Accuracy is the mean over the held-out cluster's templates; ± is the standard deviation over \
seeds, which choose the clusters, their templates and the order. Against the untuned model: points, and the chance of so large \
a difference (randomisation test over rows, Holm-corrected).";

/// As a page.
pub fn html(name: &str, study: &Transfer, points: &[Point]) -> String {
    let mut numbers: Vec<usize> = points.iter().map(|p| p.clusters).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let places: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let mut list = Vec::new();
    for &shots in &study.shots {
        for &templates in &study.templates {
            let of = points.iter().filter(|p| {
                p.shots == shots && (p.clusters == 0 || p.templates == Some(templates))
            });
            let point = |p: &Point| {
                let place = numbers.iter().position(|n| *n == p.clusters).unwrap_or(0);
                (place, p.mean, (p.mean - p.sd, p.mean + p.sd))
            };
            let mut points: Vec<_> = of.map(point).collect();
            points.sort_by_key(|p| p.0);
            let name = format!("{templates} templates, {shots} worked examples");
            list.push(Curve { name, points });
        }
    }
    let rows: Vec<Vec<String>> = points.iter().map(line).collect();
    let body = format!(
        "<p class=\"verdict\">{}</p>\n{}<div class=\"wide\">{}</div>\n<p>{}</p>\n<details><summary>The study \
         (TOML)</summary><pre>{}</pre></details>\n",
        escape(&verdict(study, points)),
        curves("Accuracy on the held-out cluster", "clusters tuned on", &places, &list),
        html_table(&HEAD, &rows),
        escape(LEGEND),
        escape(&toml::to_string_pretty(study).unwrap_or_default())
    );
    page(&format!("Transfer to {} ({name})", study.held_out), &body)
}
