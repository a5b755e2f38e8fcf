//! What a model gained and lost: the same questions before and after, compared row by row.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::outcome::number;
use super::suite::Scored;
use super::words::columns;
use crate::report::chart::{Bar, bars};
use crate::report::html::{escape, page, table};
use crate::study::paired::{Paired, holm, paired};
use crate::study::verdict::p_value;

/// Version of the JSON file.
pub const VERSION: u32 = 1;

/// Rows shown of what was lost.
const SHOWN: usize = 20;

/// One kind of task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub kind: String,
    /// Its rows.
    pub rows: usize,
    /// Mean score before.
    pub before: f64,
    /// Mean score after.
    pub after: f64,
    /// After minus before; p is corrected for the number of kinds.
    #[serde(flatten)]
    pub paired: Paired,
    /// Rows with a better score than before.
    pub gained: usize,
    /// Rows with a worse one.
    pub lost: usize,
}

/// A row that came out worse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// Its kind.
    pub kind: String,
    /// Its number.
    pub row: u64,
    /// What was asked.
    pub prompt: String,
    /// The right answer.
    pub wanted: String,
    /// The answer before.
    pub before: String,
    /// The answer after.
    pub after: String,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Version of this layout.
    pub version: u32,
    /// The model before, as named.
    pub before: String,
    /// The model after, as named.
    pub after: String,
    /// The suites, as named.
    pub suites: Vec<String>,
    /// Scores are shares from 0 to 1 (minus the mean token loss otherwise).
    pub share: bool,
    /// Rows that only one of the two was asked, because they are too long for the other.
    #[serde(default)]
    pub left_out: usize,
    /// Each kind.
    pub kinds: Vec<Change>,
    /// All rows together.
    pub all: Change,
    /// Rows that came out worse.
    pub lost: Vec<Lost>,
}

fn change(kind: &str, rows: &[(&Scored, &Scored)]) -> Change {
    let scores =
        |get: &dyn Fn(&(&Scored, &Scored)) -> f64| rows.iter().map(get).collect::<Vec<f64>>();
    let (before, after) = (scores(&|r| r.0.score), scores(&|r| r.1.score));
    let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len().max(1) as f64;
    Change {
        kind: kind.to_string(),
        rows: rows.len(),
        before: mean(&before),
        after: mean(&after),
        paired: paired(&after, &before, 1),
        gained: rows.iter().filter(|r| r.1.score > r.0.score).count(),
        lost: rows.iter().filter(|r| r.1.score < r.0.score).count(),
    }
}

/// The rows that both were asked, in the order of the first.
fn joined<'s>(before: &'s [Scored], after: &'s [Scored]) -> Vec<(&'s Scored, &'s Scored)> {
    fn key(row: &Scored) -> (&str, &str, u64) {
        (&row.suite, &row.kind, row.row)
    }
    let others: BTreeMap<_, &Scored> = after.iter().map(|row| (key(row), row)).collect();
    before.iter().filter_map(|row| Some((row, *others.get(&key(row))?))).collect()
}

/// Compares the scores of the rows that both were asked.
pub fn changes(before: &[Scored], after: &[Scored], share: bool) -> Changes {
    let rows = joined(before, after);
    let mut names: Vec<&str> = Vec::new();
    for (row, _) in &rows {
        if !names.contains(&row.kind.as_str()) {
            names.push(&row.kind);
        }
    }
    let of = |name: &str| {
        let own: Vec<_> = rows.iter().copied().filter(|(row, _)| row.kind == name).collect();
        change(name, &own)
    };
    let mut kinds: Vec<Change> = names.into_iter().map(of).collect();
    let corrected = holm(&kinds.iter().map(|k| k.paired.p).collect::<Vec<_>>());
    kinds.iter_mut().zip(corrected).for_each(|(kind, p)| kind.paired.p = p);
    let lost = rows.iter().filter(|(b, a)| a.score < b.score).map(|(b, a)| Lost {
        kind: b.kind.clone(),
        row: b.row,
        prompt: b.prompt.clone(),
        wanted: b.wanted.trim().to_string(),
        before: b.said.trim().to_string(),
        after: a.said.trim().to_string(),
    });
    Changes {
        version: VERSION,
        before: String::new(),
        after: String::new(),
        suites: Vec::new(),
        share,
        left_out: (before.len() + after.len()).saturating_sub(2 * rows.len()),
        all: change("all", &rows),
        lost: lost.collect(),
        kinds,
    }
}

impl Changes {
    /// Gained, lost or neither, in a sentence.
    pub fn verdict(&self) -> String {
        let named = |sign: f64| {
            let these = self
                .kinds
                .iter()
                .filter(|k| k.paired.clear() && k.paired.difference.value * sign > 0.0);
            let name = |k: &Change| format!("{} ({})", k.kind, self.difference(k));
            these.map(name).collect::<Vec<_>>()
        };
        let (gained, lost) = (named(1.0), named(-1.0));
        let rest = self.kinds.len() - gained.len() - lost.len();
        let mut parts = Vec::new();
        if !lost.is_empty() {
            parts.push(format!("Lost: {}", lost.join(", ")));
        }
        if !gained.is_empty() {
            parts.push(format!("Gained: {}", gained.join(", ")));
        }
        if rest > 0 {
            parts.push(format!("No clear change in {rest} of {} kinds", self.kinds.len()));
        }
        let all = format!("all {} rows together: {}", self.all.rows, self.difference(&self.all));
        format!("{}; {all}.", parts.join(". "))
    }

    fn score(&self, value: f64) -> String {
        // Minus the loss is kept so that more is better; people are shown the loss.
        if self.share { number(value, true) } else { format!("{:.3}", -value) }
    }

    fn difference(&self, change: &Change) -> String {
        let value = change.paired.difference.value;
        match self.share {
            true => format!("{:+.1} points", 100.0 * value),
            false => format!("loss {:+.3}", -value),
        }
    }

    fn line(&self, change: &Change) -> Vec<String> {
        let d = change.paired.difference;
        let interval = match self.share {
            true => format!("{:+.1} to {:+.1}", 100.0 * d.low, 100.0 * d.high),
            false => format!("{:+.3} to {:+.3}", -d.high, -d.low),
        };
        let word = match (change.paired.clear(), d.value > 0.0) {
            (true, true) => "gained",
            (true, false) => "lost",
            (false, _) => "",
        };
        vec![
            change.kind.clone(),
            change.rows.to_string(),
            self.score(change.before),
            self.score(change.after),
            self.difference(change),
            interval,
            p_value(change.paired.p),
            format!("{} / {}", change.gained, change.lost),
            word.to_string(),
        ]
    }

    /// The table as it is shown: a line for each kind, then all together.
    pub fn lines(&self) -> Vec<Vec<String>> {
        self.kinds.iter().chain([&self.all]).map(|k| self.line(k)).collect()
    }

    fn note(&self) -> Option<String> {
        let left_out = self.left_out;
        (left_out > 0).then(|| {
            format!("Note: {left_out} rows fell out: one of the two could not be asked them, they are too long")
        })
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let mut out = format!(
            "Before     {}\nAfter      {}\nAsked      {}\n\n",
            self.before,
            self.after,
            self.suites.join(", ")
        );
        let mut rows = vec![HEAD.map(str::to_string).to_vec()];
        rows.extend(self.lines());
        out.push_str(&columns(&rows));
        if let Some(note) = self.note() {
            out.push_str(&format!("\n{note}\n"));
        }
        out.push_str(&format!("\n{LEGEND}\n\n{}\n", self.verdict()));
        out
    }

    /// As a page.
    pub fn html(&self) -> String {
        let mut body = format!("<p class=\"verdict\">{}</p>\n", escape(&self.verdict()));
        if self.share {
            let bar = |name: String, value: f64| Bar {
                name,
                value,
                whisker: (value, value),
                words: number(value, true),
            };
            let pair = |k: &Change| {
                [bar(format!("{}, before", k.kind), k.before), bar("after".into(), k.after)]
            };
            let list: Vec<Bar> = self.kinds.iter().flat_map(pair).collect();
            body.push_str(&bars("Scores before and after", &list, None));
        }
        body.push_str(&format!(
            "<div class=\"wide\">{}</div>\n<p>{}</p>\n",
            table(&HEAD, &self.lines()),
            escape(LEGEND)
        ));
        if let Some(note) = self.note() {
            body.push_str(&format!("<p>{}.</p>\n", escape(&note)));
        }
        if !self.lost.is_empty() {
            body.push_str("<h2>Rows that came out worse</h2>\n");
        }
        for lost in self.lost.iter().take(SHOWN) {
            body.push_str(&format!(
                "<details><summary>{}, row {}: “{}” before, “{}” after</summary><pre>{}\n\nright: \
                 {}</pre></details>\n",
                escape(&lost.kind),
                lost.row,
                escape(&lost.before),
                escape(&lost.after),
                escape(&lost.prompt),
                escape(&lost.wanted)
            ));
        }
        body.push_str(&table(
            &[],
            &[
                vec!["Before".into(), self.before.clone()],
                vec!["After".into(), self.after.clone()],
                vec!["Asked".into(), self.suites.join(", ")],
            ],
        ));
        page("Gained and lost", &body)
    }
}

/// What the columns of [`Changes::lines`] are.
pub const HEAD: [&str; 9] =
    ["", "rows", "before", "after", "change", "95% interval", "chance", "rows up / down", ""];

const LEGEND: &str = "The same rows are asked before and after, so the interval (bootstrap) and the chance of so \
large a change (McNemar's exact test, Holm-corrected over the kinds) are those of the differences.";

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(kind: &str, row: u64, right: bool) -> Scored {
        Scored {
            suite: "s".into(),
            kind: kind.into(),
            row,
            prompt: "q".into(),
            wanted: " a".into(),
            said: if right { " a".into() } else { " <b>".into() },
            score: f64::from(u8::from(right)),
        }
    }

    #[test]
    fn what_is_lost_is_named_and_what_is_chance_is_not() {
        let rows = |of: &dyn Fn(u64) -> bool| -> Vec<Scored> {
            let copying = (0..40).map(|i| scored("copying", i, of(i)));
            copying.chain((40..80).map(|i| scored("grammar", i, i != 41))).collect()
        };
        let found = changes(&rows(&|_| true), &rows(&|i| i >= 30), true);
        assert_eq!((found.kinds[0].lost, found.kinds[0].gained, found.lost.len()), (30, 0, 30));
        assert_eq!((found.all.rows, found.kinds.len()), (80, 2));
        let verdict = found.verdict();
        assert!(verdict.contains("Lost: copying (-75.0 points)"), "{verdict}");
        assert!(verdict.contains("No clear change in 1 of 2 kinds"), "{verdict}");
        assert!(found.html().contains("&lt;b&gt;") && found.text().contains("lost"));

        let same = changes(&rows(&|_| true), &rows(&|i| i != 3), true);
        assert!(!same.verdict().contains("Lost"), "{}", same.verdict());
    }

    #[test]
    fn a_loss_is_shown_as_a_loss() {
        let with = |loss: f64| -> Vec<Scored> {
            let one = |i: u32| scored("text", u64::from(i), true);
            let row = |i| Scored { score: -loss - f64::from(i) * 0.01, ..one(i) };
            (0..30).map(row).collect()
        };
        let found = changes(&with(2.0), &with(2.5), false);
        assert!(found.verdict().contains("Lost: text (loss +0.500)"), "{}", found.verdict());
        assert!(found.text().contains("+0.500 to +0.500"), "{}", found.text());
    }

    #[test]
    fn rows_that_only_one_was_asked_fall_out() {
        let all: Vec<Scored> = (0..10).map(|i| scored("a", i, i % 2 == 0)).collect();
        let fewer: Vec<Scored> = all.iter().filter(|r| r.row != 3).cloned().collect();
        let found = changes(&all, &fewer, true);
        assert_eq!(
            (found.all.rows, found.left_out, found.all.lost, found.all.gained),
            (9, 1, 0, 0)
        );
        assert!(found.text().contains("1 rows fell out") && found.html().contains("fell out"));
        assert_eq!(changes(&all, &all, true).left_out, 0);
    }
}
