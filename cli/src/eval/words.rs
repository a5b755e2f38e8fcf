//! An outcome as lines for the terminal.

use super::confusion::Confusion;
use super::outcome::{Outcome, RowOutcome, TemplateOutcome, number, with_interval};

/// Characters of a prompt that are shown.
const PROMPT: usize = 160;

/// Columns of text, each as wide as its longest cell; all but the first to the right.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|c| width(c).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (c, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[c] - cell.chars().count());
            let text = if c == 0 { format!("{cell}{gap}") } else { format!("  {gap}{cell}") };
            line.push_str(&text);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The outcome; `worst` rows of each template (of the best one where there are several).
pub fn text(outcome: &Outcome, worst: usize) -> String {
    let mut out = format!("Model      {}\n", outcome.model);
    if let Some(adapter) = &outcome.adapter {
        out.push_str(&format!("Adapter    {adapter}\n"));
    }
    let rows = outcome.templates.first().map_or(0, |t| t.rows.len());
    out.push_str(&format!("Rows       {rows} of {}\n", outcome.data.join(", ")));
    out.push_str(&format!("Answers    {}\n", outcome.how));
    for template in &outcome.templates {
        out.push_str(&one(template));
    }
    if let Some(best) = &outcome.best_template {
        out.push_str(&format!(
            "\nOver {} templates (mean ± standard deviation)\n",
            outcome.templates.len()
        ));
        let rows: Vec<Vec<String>> = outcome
            .spread
            .iter()
            .map(|s| {
                let spread = format!("{} ± {}", number(s.mean, s.share), number(s.sd, s.share));
                vec![s.name.clone(), spread]
            })
            .collect();
        out.push_str(&columns(&rows));
        out.push_str(&format!("  The best template is {best}\n"));
    }
    let shown = |t: &&TemplateOutcome| {
        outcome.best_template.as_ref().is_none_or(|best| *best == t.template)
    };
    if let Some(template) = outcome.templates.iter().find(shown) {
        let rows = template.worst(worst);
        if !rows.is_empty() {
            out.push_str(&format!("\nThe worst {} rows\n", rows.len()));
        }
        rows.iter().for_each(|row| out.push_str(&row_text(row)));
    }
    out
}

fn one(template: &TemplateOutcome) -> String {
    let mut out = format!("\n{} (value, 95% interval)\n", template.template);
    let rows: Vec<Vec<String>> = template
        .measures
        .iter()
        .map(|m| vec![m.name.clone(), with_interval(&m.interval, m.share)])
        .collect();
    out.push_str(&columns(&rows));
    if !template.kinds.is_empty() {
        let rows: Vec<Vec<String>> = template
            .kinds
            .iter()
            .map(|k| {
                vec![k.kind.clone(), format!("{} rows", k.rows), with_interval(&k.interval, true)]
            })
            .collect();
        out.push_str("  by kind\n");
        out.push_str(&columns(&rows));
    }
    if let Some(confusion) = &template.confusion {
        out.push_str("  expected below, answered across\n");
        out.push_str(&columns(&confusion_rows(confusion)));
    }
    template.notes.iter().for_each(|note| out.push_str(&format!("  Note: {note}\n")));
    out
}

/// The matrix with its labels; the column for answers without a label only if there are any.
pub fn confusion_rows(confusion: &Confusion) -> Vec<Vec<String>> {
    let none = confusion.unreadable() > 0;
    let mut head = vec![String::new()];
    head.extend(confusion.labels.iter().cloned());
    head.extend(none.then(|| "(none)".to_string()));
    let mut rows = vec![head];
    for (label, counts) in confusion.labels.iter().zip(&confusion.counts) {
        let shown = if none { &counts[..] } else { &counts[..counts.len() - 1] };
        let cells = shown.iter().map(ToString::to_string);
        rows.push(std::iter::once(label.clone()).chain(cells).collect());
    }
    rows
}

fn row_text(row: &RowOutcome) -> String {
    let chars = row.prompt.chars().count();
    let end: String = row.prompt.chars().skip(chars.saturating_sub(PROMPT)).collect();
    let dots = if chars > PROMPT { "…" } else { "" };
    let line = |text: &str| text.trim().replace('\n', "\n            ");
    let said = match row.said.trim() {
        "" => "(nothing)".to_string(),
        said => line(said),
    };
    let sure = row.probabilities.iter().copied().fold(f64::NAN, f64::max);
    let sure = if sure.is_nan() { String::new() } else { format!(" ({:.0}% sure)", 100.0 * sure) };
    format!(
        "  row {:<5} {dots}{}\n  wanted    {}\n  answered  {said}{sure}\n",
        row.row,
        line(&end),
        line(&row.wanted)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_letters() {
        let rows = [vec!["é".to_string(), "1".into()], vec!["long".into(), "100".into()]];
        assert_eq!(columns(&rows), "  é       1\n  long  100\n");
    }
}
