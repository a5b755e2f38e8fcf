//! `report.html` of a run: what happened, for people who would rather look than read.
//!
//! | file | what it holds |
//! |---|---|
//! | `chart.rs` | bars, and curves over named places |
//! | `curves.rs` | the curves by themselves: SVG, CSV |
//! | `html.rs` | the page, tables, escaping |
//! | `plot.rs` | line plots |

pub mod chart;
pub mod curves;
pub mod html;
pub mod plot;

use crate::run::events::{Judged, Plan, Sample, Share};
use crate::run::metrics::Line as Metric;
use crate::train::report::{bytes, count};
use crate::train::words::computed_on;
use html::{escape, page, table};
use plot::{Line, Plot};

/// What is known of a run.
#[derive(Debug)]
pub struct RunReport<'a> {
    /// The run's folder.
    pub name: String,
    /// Its plan.
    pub plan: &'a Plan,
    /// Its configuration, as TOML.
    pub settings: &'a str,
    /// Its metrics.
    pub metrics: &'a [Metric],
    /// Answers before and after.
    pub samples: &'a [Sample],
    /// The test rows before and after.
    pub judged: Option<&'a Judged>,
    /// How it went; `None` while it is not over.
    pub verdict: Option<&'a str>,
    /// Most memory used, in bytes.
    pub peak_bytes: u64,
}

impl RunReport<'_> {
    /// The page.
    pub fn html(&self) -> String {
        let verdict = self.verdict.unwrap_or(
            "The run is not over: it was stopped and saved. It goes on with core-cli train --resume.",
        );
        let mut body = format!("<p class=\"verdict\">{}</p>\n", escape(verdict));
        if let Some(judged) = self.judged {
            body.push_str(&format!("<h2>Before and after</h2>\n{}", judged_table(judged)));
        }
        body.push_str(&format!("<h2>Loss</h2>\n{}", self.loss().svg()));
        body.push_str(LOSS_WORDS);
        body.push_str(&format!("<h2>Learning rate</h2>\n{}", self.learning_rate().svg()));
        self.answers(&mut body);
        body.push_str(&format!("<h2>What it was made of</h2>\n{}", self.facts()));
        body.push_str(&format!(
            "<details><summary>All settings (run.toml)</summary><pre>{}</pre></details>\n",
            escape(self.settings)
        ));
        page(&format!("Paddock run {}", self.name), &body)
    }

    fn loss(&self) -> Plot {
        let (mut train, mut evals, mut best) = (Vec::new(), Vec::new(), None);
        for line in self.metrics {
            match line {
                Metric::Step(step) => train.push((step.step as f64, step.loss)),
                Metric::Eval(eval) => {
                    let point = (eval.step as f64, eval.eval_loss);
                    evals.push(point);
                    if eval.best {
                        best = Some((point.0, point.1, format!("best: {:.3}", point.1)));
                    }
                }
                Metric::Rewind(_) => {}
            }
        }
        let line = |name: &str, class, points| Line { name: name.into(), class, points };
        Plot {
            title: "Loss over the steps of the run".into(),
            x_label: "step".into(),
            lines: vec![line("each training step", "a", train), line("held-out rows", "b", evals)],
            mark: best,
        }
    }

    fn learning_rate(&self) -> Plot {
        let points = self.metrics.iter().filter_map(|line| match line {
            Metric::Step(step) => Some((step.step as f64, step.lr)),
            Metric::Eval(_) | Metric::Rewind(_) => None,
        });
        let lr = Line { name: "learning rate".into(), class: "b", points: points.collect() };
        Plot {
            title: "Learning rate over the steps of the run".into(),
            x_label: "step".into(),
            lines: vec![lr],
            mark: None,
        }
    }

    fn answers(&self, body: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        body.push_str("<h2>Answers to held-out prompts</h2>\n");
        for sample in self.samples {
            let parts = [
                ("Prompt", Some(&sample.prompt)),
                ("In the data", sample.reference.as_ref()),
                ("Before training", sample.base.as_ref()),
                ("After training", sample.tuned.as_ref()),
            ];
            for (name, text) in parts {
                if let Some(text) = text {
                    body.push_str(&format!("<b>{name}</b><pre>{}</pre>\n", escape(text.trim())));
                }
            }
            body.push_str("<hr>\n");
        }
    }

    fn facts(&self) -> String {
        let p = self.plan;
        let row = |name: &str, value: String| vec![name.to_string(), value];
        let mut rows = vec![
            row("Model", format!("{} ({} parameters)", p.model, count(p.parameters))),
            row(
                "Method",
                format!("{}, {} parameters trained", p.method, count(p.trained_parameters)),
            ),
            row("Computed on", computed_on(&p.backend)),
            row("Rows to learn from", p.train_rows.to_string()),
            row("Rows held out", p.validation_rows.to_string()),
        ];
        for dropped in &p.dropped_rows {
            rows.push(row("Rows left out", format!("{} {}", dropped.count, dropped.name)));
        }
        rows.extend([
            row(
                "Tokens of a pass",
                format!("{} ({} in answers)", count(p.tokens), count(p.trained_tokens)),
            ),
            row("Steps planned", p.steps.to_string()),
            row("Memory planned", bytes(p.memory_bytes)),
            row("Memory used at most", bytes(self.peak_bytes)),
        ]);
        let elapsed = self.metrics.iter().rev().find_map(|line| match line {
            Metric::Step(step) => Some(step.elapsed_s),
            Metric::Eval(_) | Metric::Rewind(_) => None,
        });
        if let Some(seconds) = elapsed.filter(|s| s.is_finite() && *s >= 0.0) {
            let time = std::time::Duration::from_secs_f64(seconds);
            rows.push(row("Time", crate::train::report::duration(time)));
        }
        table(&[], &rows)
    }
}

/// What the curves mean, for those who see them for the first time.
const LOSS_WORDS: &str = "<p>The loss says how surprised the model is by the right answers: lower is better. If the \
line of the held-out rows turns upwards while the training goes on falling, the model begins to learn its rows by \
heart; the best point is the one that is kept.</p>\n";

fn judged_table(judged: &Judged) -> String {
    let share = |s: &Share| {
        format!("{:.0}% ({:.0} to {:.0})", 100.0 * s.value, 100.0 * s.low, 100.0 * s.high)
    };
    let title = format!("{} unseen instructions", judged.rows);
    let rows = [
        vec![judged.measure.clone(), share(&judged.base), share(&judged.tuned)],
        vec![
            "loss on these".to_string(),
            format!("{:.3}", judged.base_loss),
            format!("{:.3}", judged.tuned_loss),
        ],
    ];
    table(&[&title, "before (base)", "after (tuned)"], &rows)
}
