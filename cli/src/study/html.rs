//! A study's result as a page that needs nothing but itself.

use super::course::Finished;
use super::paired::{holm, paired};
use super::spec::{Kind, Rows, Study};
use super::table::{Table, Variant};
use super::verdict::{p_value, per_cent, verdict};
use super::words::{HEAD, LEGEND, line, notes};
use crate::eval::words::confusion_rows;
use crate::report::chart::{Bar, Curve, bars, curves};
use crate::report::html::{escape, page, table as html_table};

/// More variants than this are not compared each with each on the page.
const MOST_EACH: usize = 24;

/// The page.
pub fn report(name: &str, study: &Study, finished: &Finished, table: &Table) -> String {
    let mut body = format!("<p class=\"verdict\">{}</p>\n", escape(&verdict(table)));
    body.push_str("<h2>All ways</h2>\n");
    body.push_str(&all_bars(finished, table));
    body.push_str(
        "<p>Accuracy on the test rows. The whisker is the 95% interval of a bootstrap over test rows; the \
         dashed line is what always answering the commonest label gives.</p>\n",
    );
    let rows: Vec<Vec<String>> = (0..table.variants.len()).map(|i| line(table, i)).collect();
    body.push_str(&format!("<div class=\"wide\">{}</div>\n", html_table(&HEAD, &rows)));
    body.push_str(&format!("<p>{}</p>\n", escape(LEGEND)));
    body.push_str("<h2>How many labelled examples it takes</h2>\n");
    body.push_str(&learning_curve(table));
    body.push_str(
        "<p>Mean accuracy over runs; the whisker is one standard deviation to each side. For one seed every \
         way gets the same examples.</p>\n",
    );
    for note in notes(finished, table) {
        body.push_str(&format!("<p>Note: {}.</p>\n", escape(note.trim_end_matches('.'))));
    }
    body.push_str(&each_with_each(table));
    body.push_str(&confusions(table));
    body.push_str(&facts(study, finished));
    page(&format!("Study {name}"), &body)
}

fn all_bars(finished: &Finished, table: &Table) -> String {
    let bar = |v: &Variant| Bar {
        name: v.name.clone(),
        value: v.accuracy.mean,
        whisker: (v.interval.low, v.interval.high),
        words: per_cent(v.accuracy, v.runs),
    };
    let list: Vec<Bar> = table.variants.iter().map(bar).collect();
    let mut counts = vec![0usize; finished.sides.labels.len()];
    finished.sides.test.iter().for_each(|row| counts[row.label] += 1);
    let most = counts.iter().max().map(|n| *n as f64 / finished.sides.test.len().max(1) as f64);
    bars("Accuracy of all ways on the test rows", &list, most)
}

/// Accuracy over numbers of examples, a line for each kind of way.
fn learning_curve(table: &Table) -> String {
    let mut numbers: Vec<Option<Rows>> =
        table.variants.iter().filter(|v| v.kind != Kind::Majority).map(|v| v.examples).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let places: Vec<String> =
        numbers.iter().map(|n| n.map_or("0".to_string(), |n| n.to_string())).collect();
    let kinds = [Kind::Svm, Kind::Prompt, Kind::Lora, Kind::Full];
    let mut list = Vec::new();
    for kind in kinds {
        let of = table.variants.iter().filter(|v| v.kind == kind);
        let mut points: Vec<(usize, f64, (f64, f64))> = of
            .filter_map(|v| {
                let place = numbers.iter().position(|n| *n == v.examples)?;
                let (mean, sd) = (v.accuracy.mean, v.accuracy.sd);
                Some((place, mean, (mean - sd, mean + sd)))
            })
            .collect();
        points.sort_by_key(|p| p.0);
        if !points.is_empty() {
            list.push(Curve { name: kind.words().to_string(), points });
        }
    }
    curves("Accuracy over the number of examples", "labelled examples", &places, &list)
}

fn each_with_each(table: &Table) -> String {
    let list = &table.variants;
    if list.len() < 2 || list.len() > MOST_EACH {
        return String::new();
    }
    let mut found = Vec::new();
    for (i, a) in list.iter().enumerate() {
        for b in &list[i + 1..] {
            found.push((a, b, paired(&a.right, &b.right, 1)));
        }
    }
    let corrected = holm(&found.iter().map(|f| f.2.p).collect::<Vec<_>>());
    let rows: Vec<Vec<String>> = found
        .iter()
        .zip(corrected)
        .map(|((a, b, pair), p)| {
            let d = pair.difference;
            vec![
                a.name.clone(),
                b.name.clone(),
                format!("{:+.1}", 100.0 * d.value),
                format!("{:+.1} to {:+.1}", 100.0 * d.low, 100.0 * d.high),
                p_value(p),
            ]
        })
        .collect();
    let head = ["", "against", "points", "95% interval", "Holm-corrected"];
    format!(
        "<details><summary>Each way against each</summary>{}</details>\n",
        html_table(&head, &rows)
    )
}

fn confusions(table: &Table) -> String {
    let mut out = String::new();
    for kinds in [&[Kind::Svm][..], &[Kind::Prompt], &[Kind::Lora, Kind::Full]] {
        let Some(best) = table.best_of(kinds) else { continue };
        let rows = confusion_rows(&best.confusion);
        let head: Vec<&str> = rows[0].iter().map(String::as_str).collect();
        out.push_str(&format!(
            "<h3>{}: expected (below) and answered (across), all runs</h3>\n{}",
            escape(&best.name),
            html_table(&head, &rows[1..])
        ));
    }
    out
}

fn facts(study: &Study, finished: &Finished) -> String {
    let mut rows = vec![vec!["Model".to_string(), finished.model.clone()]];
    for side in &finished.frozen.sides {
        let hash: String = side.sha256.chars().take(16).collect();
        rows.push(vec![
            format!("{} rows", side.name),
            format!("{} (split/{}.jsonl, SHA-256 {hash}…)", side.rows, side.name),
        ]);
    }
    rows.push(vec!["Labels".into(), finished.sides.labels.join(", ")]);
    rows.push(vec!["Asked".into(), study.task.instruction.clone()]);
    rows.push(vec![
        "Answers".into(),
        format!("the likeliest of the labels (log-likelihood {})", study.length_norm.words()),
    ]);
    let text = ::toml::to_string_pretty(study).unwrap_or_default();
    format!(
        "<h2>What it was made of</h2>\n{}<details><summary>The study (TOML)</summary><pre>{}</pre>\
         </details>\n",
        html_table(&[], &rows),
        escape(&text)
    )
}
