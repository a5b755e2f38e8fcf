//! A run's curves by themselves: a picture, and the numbers.

use super::plot::{Line, Plot};
use crate::run::metrics::{Eval, Step};

/// The style of the picture, which stands alone: dark lines on white.
const STYLE: &str = "<style>text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}polyline{fill:none;\
    stroke-width:2}.a{stroke:#17653f}.b{stroke:#b2500a}.mark{fill:none;stroke:#b2500a;stroke-width:2}</style>\
    <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>";

/// Training and validation loss as an SVG file.
pub fn svg(steps: &[Step], evals: &[Eval]) -> String {
    let line = |name: &str, class, points| Line { name: name.into(), class, points };
    let best = evals.iter().rev().find(|eval| eval.best);
    let plot = Plot {
        title: "Loss over the steps of the run".into(),
        x_label: "step".into(),
        lines: vec![
            line("training rows", "a", steps.iter().map(|s| (s.step as f64, s.loss)).collect()),
            line(
                "held-out rows",
                "b",
                evals.iter().map(|e| (e.step as f64, e.eval_loss)).collect(),
            ),
        ],
        mark: best.map(|e| (e.step as f64, e.eval_loss, format!("best: {:.3}", e.eval_loss))),
    };
    let page = plot.svg();
    let Some((drawing, _)) = page.split_once("</svg>") else {
        return "<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>\n".to_string();
    };
    let (head, rest) = drawing.split_once('>').unwrap_or((drawing, ""));
    let head = head.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1);
    format!("{head}>{STYLE}{rest}</svg>\n")
}

/// Steps and evaluations as a table: a column is empty where a line has no such number.
pub fn csv(steps: &[Step], evals: &[Eval]) -> String {
    let mut text =
        "step,train_loss,validation_loss,learning_rate,tokens_per_s,elapsed_s\n".to_string();
    let number = |x: f64| if x.is_finite() { x.to_string() } else { String::new() };
    let mut lines: Vec<(u64, u8, String)> = Vec::with_capacity(steps.len() + evals.len());
    for s in steps {
        let (loss, lr) = (number(s.loss), number(s.lr));
        let (speed, elapsed) = (number(s.tokens_per_s), number(s.elapsed_s));
        lines.push((s.step, 0, format!("{},{loss},,{lr},{speed},{elapsed}\n", s.step)));
    }
    for e in evals {
        let (loss, elapsed) = (number(e.eval_loss), number(e.elapsed_s));
        lines.push((e.step, 1, format!("{},,{loss},,,{elapsed}\n", e.step)));
    }
    lines.sort();
    lines.into_iter().for_each(|(_, _, line)| text.push_str(&line));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_files_of_their_own() {
        let step = |step, loss| Step { step, loss, lr: 0.1, ..Step::default() };
        let steps = [step(1, 3.0), step(2, f64::NAN)];
        let evals = [Eval { step: 2, eval_loss: 2.5, best: true, ..Eval::default() }];
        let csv = csv(&steps, &evals);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[1], "1,3,,0.1,0,0");
        assert_eq!(lines[2], "2,,,0.1,0,0");
        assert_eq!(lines[3], "2,,2.5,,,0");
        let svg = svg(&steps, &evals);
        assert!(svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("best: 2.500") && !svg.contains("NaN"), "{svg}");
    }
}
