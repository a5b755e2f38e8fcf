//! What a run prints for people who never trained a model: its plan, answers side by side, the table of before
//! and after, what to do next. Plain words first; the expert's term in brackets.

use std::path::Path;

use super::report::{bytes, count, time_range};
use crate::run::command::{line, program};
use crate::run::events::{Done, Judged, Plan, Reason, Sample, Share};

/// Where the second line of an entry of the plan begins, and that of an answer.
pub const INDENT: usize = 11;
/// The same of a sample.
pub const SAMPLE_INDENT: usize = 12;

/// What the number is that falls.
pub const LOSS: &str =
    "Loss: how surprised the model is by the right answers. It should fall while it learns.";

/// What computes, in words.
pub fn computed_on(backend: &str) -> String {
    if backend.starts_with("cpu") {
        return format!("the processor ({backend})");
    }
    if backend.starts_with("reference") {
        return format!("the processor, slowly ({backend})");
    }
    format!("a graphics card ({backend})")
}

/// What is trained, in words.
pub fn method(plan: &Plan) -> String {
    let trained = count(plan.trained_parameters);
    match plan.method.as_str() {
        "lora" => {
            format!("{trained} numbers that are added to it (LoRA); its own stay as they are")
        }
        _ => format!("all {trained} of them (full fine-tuning)"),
    }
}

/// The plan in a few lines.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = beginning(plan);
    text.push_str(&format!(
        "Rows       {} to learn from, {} held out to judge by (validation)\n",
        plan.train_rows, plan.validation_rows
    ));
    for dropped in &plan.dropped_rows {
        text.push_str(&format!("           {} rows left out: {}\n", dropped.count, dropped.name));
    }
    for set in &plan.sets {
        text.push_str(&format!(
            "           {:.0}% from {} ({} rows, {} templates)\n",
            100.0 * set.share,
            set.name,
            set.rows,
            set.templates
        ));
    }
    let share = 100.0 * plan.trained_tokens as f64 / plan.tokens.max(1) as f64;
    text.push_str(&format!(
        "Text       {} pieces of words (tokens), {share:.0}% of them in answers\n",
        count(plan.tokens)
    ));
    let times = if plan.epochs == 1.0 { "time" } else { "times" };
    text.push_str(&format!(
        "Training   {} steps, which go through the rows {} {times} (epochs)\n",
        plan.steps,
        trim(plan.epochs)
    ));
    text.push_str(&resources(plan));
    if let Some(seconds) = plan.seconds {
        text.push_str(&format!("\nTime       about {} (an estimate)", time_range(seconds)));
    }
    text
}

/// The plan of a shape without rows.
pub fn shape_text(plan: &Plan) -> String {
    beginning(plan) + &resources(plan)
}

fn beginning(plan: &Plan) -> String {
    format!(
        "Model      {}, {} numbers (parameters)\nTrains     {}\nComputes   on {}\n",
        plan.model,
        count(plan.parameters),
        method(plan),
        computed_on(&plan.backend)
    )
}

fn resources(plan: &Plan) -> String {
    let parts: Vec<String> =
        plan.memory.iter().map(|m| format!("{} {}", m.name, bytes(m.count))).collect();
    format!(
        "Memory     {}: {}\nDisk       {} a checkpoint (a saved state, to go on from)",
        bytes(plan.memory_bytes),
        parts.join("; "),
        bytes(plan.checkpoint_bytes)
    )
}

/// What stands above the samples.
pub const SAMPLES: &str = "Answers before and after, to rows that were held out:\n";

/// A sample's answers side by side, for the end of a run.
pub fn sample_text(sample: &Sample) -> String {
    let line = |text: &str| text.trim().replace('\n', "\n            ");
    let mut out = format!("  Prompt    {}\n", line(&sample.prompt));
    for (name, text) in
        [("Wanted", &sample.reference), ("Before", &sample.base), ("After", &sample.tuned)]
    {
        if let Some(text) = text {
            let text = if text.trim().is_empty() { "(nothing)" } else { text };
            out.push_str(&format!("  {name:<9} {}\n", line(text)));
        }
    }
    out
}

/// The table of before and after.
pub fn judged_text(judged: &Judged) -> String {
    let share = |s: &Share| {
        format!("{:.0}% ({:.0} to {:.0})", 100.0 * s.value, 100.0 * s.low, 100.0 * s.high)
    };
    let line = |name: &str, base: &str, tuned: &str| format!("  {name:<24}{base:>18}{tuned:>18}\n");
    let title = format!("{} unseen instructions", judged.rows);
    let loss = |x: f64| format!("{x:.3}");
    line(&title, "before (base)", "after (tuned)")
        + &line(&judged.measure, &share(&judged.base), &share(&judged.tuned))
        + &line("loss on these", &loss(judged.base_loss), &loss(judged.tuned_loss))
        + "  In brackets: where the share lies if other such instructions were asked, 95 times in 100.\n"
}

/// How one talks with what came out of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuned {
    /// The model that it began with.
    model: String,
}

impl Tuned {
    /// Of a run that makes an adapter; a whole model may be one that only goes on with a text.
    pub fn of(plan: &Plan) -> Option<Tuned> {
        (plan.method == "lora").then(|| Tuned { model: plan.model.clone() })
    }

    fn chat(&self, run: &Path) -> String {
        let adapter = near(&run.join("adapter"));
        let words = ["chat", "--model", &self.model, "--adapter", &adapter];
        line(&program(), &words.map(str::to_string))
    }
}

/// A path as short as it can be from here.
fn near(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| Some(path.strip_prefix(here).ok()?.to_path_buf()));
    below.unwrap_or_else(|| path.to_path_buf()).display().to_string()
}

/// Where the run is and what to do next.
pub fn done_text(done: &Done, tuned: Option<&Tuned>) -> String {
    let run = Path::new(&done.out);
    if done.reason == Reason::Interrupted {
        let words = ["train", "--resume", "--out", &near(run)].map(str::to_string);
        return format!(
            "Stopped at step {} and saved. Go on with:\n  {}",
            done.step,
            line(&program(), &words)
        );
    }
    let mut text = format!("The run is in {}\n", done.out);
    text.push_str(&format!(
        "Curves and answers: open {} in a browser",
        near(&run.join("report.html"))
    ));
    if let Some(tuned) = tuned {
        text.push_str(&format!("\nTalk with it:\n  {}", tuned.chat(run)));
    }
    text
}

/// "3", "2.5"
fn trim(x: f64) -> String {
    format!("{x:.2}").trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::events::Seconds;

    #[test]
    fn a_plan_says_what_is_trained_how_often_and_how_long_in_plain_words() {
        let mut plan = Plan {
            model: "bundled:tiny".into(),
            method: "lora".into(),
            backend: "cpu avx2".into(),
            parameters: 2_800_000,
            steps: 500,
            epochs: 2.5,
            seconds: Some(Seconds { low: 70.0, high: 130.0 }),
            ..Plan::default()
        };
        let text = plan_text(&plan);
        for words in ["added to it (LoRA)", "on the processor (cpu avx2)", "the rows 2.5 times"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(text.ends_with("about 1 min 10 s to 2 min 10 s (an estimate)"), "{text}");
        plan.seconds = None;
        assert!(!plan_text(&plan).contains("Time"), "{text}");
    }

    #[test]
    fn the_end_says_what_to_do_next() {
        let done = Done { out: "/somewhere else/run".into(), ..Done::default() };
        let tuned = Tuned { model: "m".into() };
        let text = done_text(&done, Some(&tuned));
        assert!(text.contains("open /somewhere else/run/report.html in a browser"), "{text}");
        assert!(text.contains("chat --model m --adapter '/somewhere else/run/adapter'"), "{text}");
        let cut = Done { reason: Reason::Interrupted, ..done };
        let text = done_text(&cut, None);
        assert!(text.contains("train --resume --out '/somewhere else/run'"), "{text}");
    }
}
