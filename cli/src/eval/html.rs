//! An outcome as a page that needs nothing but itself.

use super::outcome::{Outcome, TemplateOutcome, number, with_interval};
use super::words::confusion_rows;
use crate::report::html::{escape, page, table};
use crate::report::plot::{Line, Plot};

/// The page, with the `worst` rows of each template.
pub fn report(outcome: &Outcome, worst: usize) -> String {
    let mut body = format!("<p class=\"verdict\">{}</p>\n", escape(&headline(outcome)));
    body.push_str(&table(&[], &facts(outcome)));
    if outcome.templates.len() > 1 {
        body.push_str(&over_templates(outcome));
    }
    for template in &outcome.templates {
        body.push_str(&one(template, worst));
    }
    page(&format!("Evaluation of {}", outcome.model), &body)
}

fn headline(outcome: &Outcome) -> String {
    let best = outcome.best_template.as_ref();
    let template = outcome.templates.iter().find(|t| best.is_none_or(|best| *best == t.template));
    let measure = template.and_then(|t| Some((t, t.measures.first()?)));
    let Some((template, m)) = measure else { return "Nothing was measured.".to_string() };
    let with = best.map_or(String::new(), |b| format!(" with its best template, {b}"));
    format!(
        "{}: {} on {} rows{with}.",
        m.name,
        with_interval(&m.interval, m.share),
        template.rows.len()
    )
}

fn facts(outcome: &Outcome) -> Vec<Vec<String>> {
    let mut facts = vec![vec!["Model".to_string(), outcome.model.clone()]];
    if let Some(adapter) = &outcome.adapter {
        facts.push(vec!["Adapter".into(), adapter.clone()]);
    }
    facts.push(vec!["Data".into(), outcome.data.join(", ")]);
    facts.push(vec!["Answers".into(), outcome.how.clone()]);
    facts.push(vec!["Took".into(), format!("{:.1} s", outcome.seconds)]);
    facts
}

fn over_templates(outcome: &Outcome) -> String {
    let mut out = String::from("<h2>Over the templates</h2>\n");
    let rows: Vec<Vec<String>> = outcome
        .spread
        .iter()
        .map(|s| vec![s.name.clone(), number(s.mean, s.share), number(s.sd, s.share)])
        .collect();
    out.push_str(&table(&["Measure", "Mean", "Standard deviation"], &rows));
    let rows: Vec<Vec<String>> = outcome
        .templates
        .iter()
        .filter_map(|t| Some((t, t.measures.first()?)))
        .map(|(t, m)| vec![t.template.clone(), with_interval(&m.interval, m.share)])
        .collect();
    let main = outcome.spread.first().map_or("", |s| s.name.as_str());
    out.push_str(&table(&["Template", main], &rows));
    out
}

fn one(template: &TemplateOutcome, worst: usize) -> String {
    let mut out = format!("<h2>{}</h2>\n", escape(&template.template));
    let rows: Vec<Vec<String>> = template
        .measures
        .iter()
        .map(|m| vec![m.name.clone(), with_interval(&m.interval, m.share)])
        .collect();
    out.push_str(&table(&["Measure", "Value (95% interval, bootstrap over rows)"], &rows));
    for note in &template.notes {
        out.push_str(&format!("<p>Note: {}.</p>\n", escape(note)));
    }
    if !template.kinds.is_empty() {
        let rows: Vec<Vec<String>> = template
            .kinds
            .iter()
            .map(|k| vec![k.kind.clone(), k.rows.to_string(), with_interval(&k.interval, true)])
            .collect();
        out.push_str(&table(&["Kind", "Rows", "Value (95% interval)"], &rows));
    }
    if let Some(confusion) = &template.confusion {
        out.push_str("<h3>Expected (below) and answered (across)</h3>\n");
        let rows = confusion_rows(confusion);
        let head: Vec<&str> = rows[0].iter().map(String::as_str).collect();
        out.push_str(&table(&head, &rows[1..]));
    }
    if template.calibration.len() > 1 {
        out.push_str("<h3>Calibration</h3>\n");
        out.push_str(&calibration(template).svg());
    }
    out.push_str(&worst_rows(template, worst));
    out
}

fn calibration(template: &TemplateOutcome) -> Plot {
    let points = template.calibration.iter().map(|b| (b.confidence, b.accuracy)).collect();
    let ends = template.calibration.first().zip(template.calibration.last());
    let ideal = ends.map_or(Vec::new(), |(a, b)| {
        vec![(a.confidence, a.confidence), (b.confidence, b.confidence)]
    });
    let line = |name: &str, class, points| Line { name: name.into(), class, points };
    Plot {
        title: "share of right answers against the model's probability".into(),
        x_label: "probability that the model gives its answer".into(),
        lines: vec![line("as it should be", "a", ideal), line("share that is right", "b", points)],
        mark: None,
    }
}

fn worst_rows(template: &TemplateOutcome, worst: usize) -> String {
    let rows = template.worst(worst);
    if rows.is_empty() {
        return String::new();
    }
    let mut out = String::from("<h3>The worst rows</h3>\n");
    for row in rows {
        let said = if row.said.trim().is_empty() { "(nothing)" } else { row.said.trim() };
        out.push_str(&format!(
            "<details><summary>Row {}: wanted “{}”, answered “{}”</summary><pre>{}</pre></details>\n",
            row.row,
            escape(&short(&row.wanted)),
            escape(&short(said)),
            escape(&format!("{}\n\nwanted: {}\nanswered: {said}", row.prompt, row.wanted))
        ));
    }
    out
}

fn short(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}
