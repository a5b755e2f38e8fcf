//! What a study says, in a sentence: is tuning better than asking, or than a plain classifier?

use super::paired::paired;
use super::spec::Kind;
use super::table::{Spread, Table, Variant};

/// "70.0%" or "70.0 ± 1.2%".
pub fn per_cent(spread: Spread, runs: usize) -> String {
    match runs {
        0 | 1 => format!("{:.1}%", 100.0 * spread.mean),
        _ => format!("{:.1} ± {:.1}%", 100.0 * spread.mean, 100.0 * spread.sd),
    }
}

/// "p = 0.012", "p < 0.001".
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_string() } else { format!("p = {p:.3}") }
}

fn named(variant: &Variant) -> String {
    format!("{} ({})", variant.name, per_cent(variant.accuracy, variant.runs))
}

/// How the first does against the second: 1 better, -1 worse, 0 not clearly either; and in words.
fn against(a: &Variant, b: &Variant) -> (i32, String) {
    let found = paired(&a.right, &b.right, 1);
    let d = found.difference;
    let points = format!(
        "{:+.1} points, 95% interval {:+.1} to {:+.1}, {}",
        100.0 * d.value,
        100.0 * d.low,
        100.0 * d.high,
        p_value(found.p)
    );
    let (sign, word) = match (found.clear(), d.value > 0.0) {
        (true, true) => (1, "better than"),
        (true, false) => (-1, "worse than"),
        (false, _) => (0, "not clearly different from"),
    };
    (sign, format!("{word} {} ({points})", named(b)))
}

/// The sentence. Of each kind of way the variant that did best on the validation rows speaks.
pub fn verdict(table: &Table) -> String {
    let tuned = table.best_of(&[Kind::Lora, Kind::Full]);
    let asked = table.best_of(&[Kind::Prompt]);
    let plain = table.best_of(&[Kind::Svm]).or_else(|| table.best_of(&[Kind::Majority]));
    let Some(tuned) = tuned else {
        let best = &table.variants[table.best];
        let others = [asked, plain].into_iter().flatten().filter(|v| v.name != best.name);
        let rest: Vec<String> = others.map(|v| against(best, v).1).collect();
        return match rest.is_empty() {
            true => format!("The best way here is {}.", named(best)),
            false => format!("The best way here is {}: {}.", named(best), rest.join(", and ")),
        };
    };
    let found: Vec<(i32, String)> =
        [asked, plain].into_iter().flatten().map(|v| against(tuned, v)).collect();
    let than_asked = asked.map(|v| against(tuned, v).0);
    let than_plain = plain.map(|v| against(tuned, v).0);
    let headline = match (than_asked, than_plain) {
        (Some(1) | None, Some(1)) | (Some(1), None) => "Fine-tuning pays here",
        (_, Some(-1)) => "A plain classifier does better than fine-tuning here",
        (Some(-1), _) => "Prompting does better than fine-tuning here",
        (Some(1), _) => "Fine-tuning helps the model, but not beyond a plain classifier",
        _ => "Fine-tuning shows no clear gain here",
    };
    let rest: Vec<String> = found.into_iter().map(|(_, words)| words).collect();
    match rest.is_empty() {
        true => format!("{headline}: {}.", named(tuned)),
        false => format!("{headline}: {} is {}.", named(tuned), rest.join(", and ")),
    }
}
