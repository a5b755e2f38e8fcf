//! A study's result as lines for the terminal.

use std::time::Duration;

use super::course::Finished;
use super::table::{Table, Variant};
use super::verdict::{p_value, per_cent, verdict};
use crate::eval::words::columns;
use crate::train::report::{bytes, count, duration};

/// Headings of the table.
pub const HEAD: [&str; 10] = [
    "",
    "runs",
    "test accuracy",
    "against best",
    "F1",
    "validation",
    "learning",
    "answering",
    "tokens",
    "memory",
];

/// The cells of a variant's line.
pub fn line(table: &Table, number: usize) -> Vec<String> {
    let v: &Variant = &table.variants[number];
    let time = |seconds: f64| match seconds {
        s if s < 0.0005 => "-".to_string(),
        s if s < 60.0 => format!("{s:.1} s"),
        s => duration(Duration::from_secs_f64(s)),
    };
    let against = &table.against_best[number];
    let against = match number == table.best {
        true => "best".to_string(),
        false => format!("{:+.1} ({})", 100.0 * against.difference.value, p_value(against.p)),
    };
    let or_none = |n: u64, text: String| if n == 0 { "-".to_string() } else { text };
    let tokens = v.learn_tokens + v.answer_tokens;
    vec![
        v.name.clone(),
        v.runs.to_string(),
        per_cent(v.accuracy, v.runs),
        against,
        format!("{:.3}", v.f1.mean),
        v.validation.map_or("-".to_string(), |s| per_cent(s, v.runs)),
        time(v.learn_s),
        time(v.answer_s),
        or_none(tokens, count(tokens)),
        or_none(v.memory_bytes, bytes(v.memory_bytes)),
    ]
}

/// What the columns mean.
pub const LEGEND: &str = "± is the standard deviation over runs (seeds choose the examples and the course of \
training). “Against best” compares row by row with the way that is best on the validation rows: the difference in points, \
and how likely so large a one would be by chance (McNemar's exact test for single runs, a randomisation test otherwise, \
Holm-corrected). Times, tokens and memory are of one run.";

/// Notes of rows and variants.
pub fn notes(finished: &Finished, table: &Table) -> Vec<String> {
    let mut notes = finished.sides.notes.clone();
    if finished.sides.validation.is_empty() {
        notes.push(
            "there are no validation rows, so the best variants are chosen by the test rows: that \
             flatters them"
                .to_string(),
        );
    }
    for variant in &table.variants {
        notes.extend(variant.notes.iter().map(|note| format!("{}: {note}", variant.name)));
    }
    notes
}

/// Everything.
pub fn text(name: &str, finished: &Finished, table: &Table) -> String {
    let sides = &finished.sides;
    let mut out = format!("Study      {name}\nModel      {}\n", finished.model);
    out.push_str(&format!(
        "Rows       {} to learn from, {} to choose by, {} to judge by; split {}\n",
        sides.train.len(),
        sides.validation.len(),
        sides.test.len(),
        finished.frozen.hash().chars().take(12).collect::<String>()
    ));
    out.push_str(&format!("Labels     {}\n\n", sides.labels.join(", ")));
    let mut rows = vec![HEAD.map(str::to_string).to_vec()];
    rows.extend((0..table.variants.len()).map(|i| line(table, i)));
    out.push_str(&columns(&rows));
    out.push_str(&format!("\n{LEGEND}\n"));
    for note in notes(finished, table) {
        out.push_str(&format!("Note: {note}\n"));
    }
    out.push_str(&format!("\n{}\n", verdict(table)));
    out
}
