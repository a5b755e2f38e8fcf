//! From what the model did to the outcome of one template: measures, rows, notes.

use super::calibration::bins;
use super::confusion::Confusion;
use super::measure;
use super::outcome::{Measure, RowOutcome, TemplateOutcome};
use super::parse;
use super::rows::{Item, common_labels};
use super::run::{Done, Labelled, Metric, answer_measures};

/// Fills in everything but names.
pub(super) fn fill(
    outcome: &mut TemplateOutcome,
    items: &[Item],
    done: &Done,
    metrics: &[Metric],
    seed: u64,
) {
    let mut parts: Option<Vec<(u32, u32)>> = None;
    if metrics.contains(&Metric::Accuracy) {
        let found = labelled(items, done);
        classification(outcome, items, &found, seed);
        parts = Some(found.iter().map(|f| (u32::from(f.1 == Some(f.0)), 1)).collect());
        if let Some((_, true)) = done.ranked {
            outcome.notes.push(
                "one answer begins with another, so the end token after each counts in its likelihood"
                    .to_string(),
            );
        }
    }
    if !done.finals.is_empty() {
        outcome.measures.extend(measure::finals(&done.finals, seed));
        let right =
            |(own, wanted): &measure::Finals| (u32::from(own.is_some() && own == wanted), 1);
        parts = Some(done.finals.iter().map(right).collect());
    }
    let measures = answer_measures(metrics);
    if !done.marks.is_empty() {
        outcome.measures.extend(measure::answers(measures, &done.marks, seed));
        let of_wishes = measures.wishes.then(|| done.marks.iter().map(|m| m.wishes).collect());
        let exact = || done.marks.iter().map(|m| (u32::from(m.exact), 1)).collect();
        parts = parts.or(of_wishes).or_else(|| measures.exact.then(exact));
        let empty = done.marks.iter().filter(|m| m.empty).count();
        if empty > 0 {
            outcome.notes.push(format!("{empty} answers are empty; they count as wrong"));
        }
    }
    if !done.taught.is_empty() {
        outcome.measures.extend(measure::perplexity(&done.taught, seed));
    }
    if let Some(parts) = &parts {
        outcome.kinds = measure::kinds(items, parts, seed);
    }
    outcome.rows = rows(items, done, parts.as_deref(), measures.rouge);
}

/// For each item the expected label, the given one, and its probability.
fn labelled(items: &[Item], done: &Done) -> Vec<Labelled> {
    let label = |i: usize| {
        let item: &Item = &items[i];
        let gold = item.gold.unwrap_or(usize::MAX);
        match &done.ranked {
            Some((ranked, _)) => {
                let best = ranked[i].best;
                (gold, Some(best), Some(ranked[i].probabilities[best]))
            }
            None => (gold, parse::label(&done.answers[i].text, &item.choices), None),
        }
    };
    (0..items.len()).map(label).collect()
}

fn classification(outcome: &mut TemplateOutcome, items: &[Item], found: &[Labelled], seed: u64) {
    let labels = common_labels(items);
    let list: Vec<Measure> = measure::labels(labels.as_deref(), found, seed);
    outcome.measures.extend(list);
    let sure: Vec<(f64, bool)> =
        found.iter().filter_map(|f| Some((f.2?, f.1 == Some(f.0)))).collect();
    outcome.calibration = bins(&sure);
    let Some(labels) = labels else { return };
    let confusion = Confusion::of(&labels, found.iter().map(|f| (f.0, f.1)));
    if confusion.expected_labels() == 1 {
        let only = items[0].wanted();
        outcome.notes.push(format!(
            "all rows have the label `{only}`: accuracy only says how often the model chooses it; rows of \
             other labels are needed to see whether it can tell them apart"
        ));
    }
    if confusion.unreadable() > 0 {
        outcome.notes.push(format!(
            "{} of {} answers name none of the labels, or more than one; they count as wrong",
            confusion.unreadable(),
            confusion.total()
        ));
    }
    let never: Vec<&str> = (0..labels.len())
        .filter(|&i| confusion.counts.iter().all(|row| row[i] == 0))
        .map(|i| labels[i].as_str())
        .collect();
    if !never.is_empty() && never.len() < labels.len() {
        outcome.notes.push(format!("the model never answers {}", never.join(", ")));
    }
    outcome.confusion = Some(confusion);
}

fn rows(items: &[Item], done: &Done, parts: Option<&[(u32, u32)]>, rouge: bool) -> Vec<RowOutcome> {
    // Rows without a taught answer have no likelihood: the others stand in their order.
    let mut taught = done.taught.iter();
    let mut list = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let own = if item.wanted().is_empty() { None } else { taught.next() };
        let loss = own.map_or(0.0, |l| l.nll / l.tokens.max(1) as f64);
        let ranked = done.ranked.as_ref().map(|(ranked, _)| &ranked[i]);
        let answer = done.answers.get(i).map(|a| a.text.clone());
        let said = ranked.map(|r| item.choices[r.best].clone()).or(answer).unwrap_or_default();
        let marks = done.marks.get(i);
        let score = match (parts.map(|p| p[i]), marks) {
            (Some((got, all)), _) if all > 0 => f64::from(got) / f64::from(all),
            (_, Some(marks)) if rouge => marks.rouge[2],
            _ => -loss,
        };
        // Surely wrong is worse than wrong; far from the reference is worse than near.
        let badness = match (ranked, marks) {
            (Some(ranked), _) => ranked.probabilities[ranked.best],
            (None, Some(marks)) => -marks.rouge[2],
            (None, None) => loss,
        };
        list.push(RowOutcome {
            row: item.row,
            prompt: item.prompt.text.clone(),
            wanted: item.wanted().to_string(),
            said,
            score,
            badness,
            kind: item.kind.clone(),
            probabilities: ranked.map(|r| r.probabilities.clone()).unwrap_or_default(),
        });
    }
    list
}
