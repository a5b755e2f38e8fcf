//! How a run tells what it does: lines and a bar for people, or a stream of events for programs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::events::{Done, Event, Judged, Plan, Reason, Sample, Seconds, Share};

/// Whoever listens to a run.
pub trait Listener {
    /// Something happened.
    fn event(&mut self, event: &Event) -> anyhow::Result<()>;
    /// What was recognised: to be shown, since nothing is guessed silently.
    fn note(&mut self, what: &str);
    /// A stage without events of its own goes on (reading rows, say).
    fn busy(&mut self, what: &str);
}

/// The versioned stream on stdout.
pub struct Stream;

impl Listener for Stream {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        // A reader that has gone away, or a full disk behind it, ends no run.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{}", event.to_line()?).and_then(|()| out.flush());
        Ok(())
    }
    fn note(&mut self, _: &str) {}
    fn busy(&mut self, _: &str) {}
}

/// Words and a bar on stderr.
pub struct Terminal {
    bar: Option<ProgressBar>,
    steps: u64,
    is_terminal: bool,
    last_line: Option<Instant>,
    samples: usize,
    pace: Pace,
}

/// How far one knows how long a step takes. What came before the first one (the evaluation of the model as it
/// was) says nothing of it.
enum Pace {
    Unknown,
    From(u64, Instant),
    Known,
}

/// Steps that are timed before anything is said of the time.
const PACED: u64 = 5;

/// Samples shown at the end; samples.jsonl has all.
const SHOWN_SAMPLES: usize = 3;

/// Between two lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Default for Terminal {
    fn default() -> Terminal {
        let is_terminal = std::io::stderr().is_terminal();
        let pace = Pace::Unknown;
        Terminal { bar: None, steps: 0, is_terminal, last_line: None, samples: 0, pace }
    }
}

/// A line on stdout. A terminal that has gone away ends no run.
fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// A line on stderr.
fn aside(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Terminal {
    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) if self.is_terminal => bar.println(text),
            _ => aside(text),
        }
    }

    fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn start_bar(&mut self, steps: u64) {
        self.steps = steps;
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        style(&bar, "{bar:28} step {pos}/{len}  {msg}  {elapsed} gone");
        self.bar = Some(bar);
    }

    /// Learns how long a step takes, and says it once.
    fn pace(&mut self, step: u64) {
        let Some(bar) = &self.bar else { return };
        match self.pace {
            Pace::Unknown => {
                bar.set_position(step);
                bar.reset_eta();
                self.pace = Pace::From(step, Instant::now());
            }
            Pace::From(first, since) if step >= first + PACED => {
                style(bar, "{bar:28} step {pos}/{len}  {msg}  {elapsed} gone, {eta} to go");
                let each = since.elapsed().as_secs_f64() / (step - first) as f64;
                let left = self.steps.saturating_sub(step);
                let time = duration(Duration::from_secs_f64(each * left as f64));
                self.pace = Pace::Known;
                if left > 0 {
                    self.say(&format!(
                        "Time       about {time} for the {left} steps that are left; looks at the held-out rows come on top"
                    ));
                }
            }
            Pace::From(..) | Pace::Known => {}
        }
    }

    fn progress(&mut self, step: u64, text: String) {
        if let (Some(bar), true) = (&self.bar, self.is_terminal) {
            bar.set_position(step);
            bar.set_message(text);
            return;
        }
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
        let due = self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if due || step == self.steps {
            let eta = match (&self.bar, &self.pace) {
                (Some(bar), Pace::Known) => format!("  about {} to go", duration(bar.eta())),
                _ => String::new(),
            };
            aside(&format!("step {step}/{}  {text}{eta}", self.steps));
            self.last_line = Some(Instant::now());
        }
    }
}

impl Listener for Terminal {
    fn note(&mut self, what: &str) {
        self.say(what);
    }

    fn busy(&mut self, what: &str) {
        let due = self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if due {
            self.say(what);
            self.last_line = Some(Instant::now());
        }
    }

    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Start(start) => {
                if let Some(step) = start.resumed_from {
                    self.say(&format!("Going on from step {step} in {}", start.out));
                }
            }
            Event::Plan(plan) => {
                self.say(&plan_text(plan));
                self.start_bar(plan.steps);
            }
            Event::Step(step) => {
                let text = format!("loss {:.4}  {:.0} tokens/s", step.loss, step.tokens_per_s);
                self.pace(step.step);
                self.progress(step.step, text);
            }
            Event::Eval(eval) => {
                let exact = eval.exact_match.map_or(String::new(), |x| {
                    format!(", {:.1}% of answers exactly right", 100.0 * x)
                });
                let best = if eval.best { "  (best so far)" } else { "" };
                self.say(&format!(
                    "step {}: validation loss {:.4}, {:.1}% of tokens right{exact}{best}",
                    eval.step,
                    eval.eval_loss,
                    100.0 * eval.token_accuracy
                ));
            }
            Event::Warning(warning) => self.say(&format!("warning: {}", warning.message)),
            Event::Rewind(rewind) => self.say(&format!("warning: {rewind}")),
            Event::Pause(pause) => self.say(&pause.message),
            Event::Checkpoint(_) | Event::Answer(_) => {}
            // Before training; shown beside the answers after it.
            Event::Sample(Sample { tuned: None, .. }) => {}
            Event::Sample(sample) => {
                self.end_bar();
                if self.samples < SHOWN_SAMPLES {
                    line(&sample_text(sample));
                }
                self.samples += 1;
            }
            Event::Judged(judged) => {
                self.end_bar();
                line(&judged_text(judged));
            }
            Event::Verdict(verdict) => {
                self.end_bar();
                line(&verdict.message);
            }
            Event::Error(_) => self.end_bar(),
            Event::Done(done) => {
                self.end_bar();
                line(&done_text(done));
            }
        }
        Ok(())
    }
}

/// The plan in a few lines.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = format!(
        "Model      {} ({} parameters), {} on {}\n",
        plan.model,
        count(plan.parameters),
        plan.method,
        plan.backend
    );
    text.push_str(&format!(
        "Rows       {} to learn from, {} held out to judge by\n",
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
        "Tokens     {} a pass, {share:.0}% of them in answers\n",
        count(plan.tokens)
    ));
    text.push_str(&format!(
        "Training   {} parameters, {} steps ({} passes)\n",
        count(plan.trained_parameters),
        plan.steps,
        trim(plan.epochs)
    ));
    let parts: Vec<String> =
        plan.memory.iter().map(|m| format!("{} {}", m.name, bytes(m.count))).collect();
    text.push_str(&format!("Memory     {} ({})\n", bytes(plan.memory_bytes), parts.join(", ")));
    text.push_str(&format!("Disk       {} a checkpoint", bytes(plan.checkpoint_bytes)));
    if let Some(seconds) = plan.seconds {
        text.push_str(&format!("\nTime       {}", time_range(seconds)));
    }
    text
}

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
fn judged_text(judged: &Judged) -> String {
    let share = |s: &Share| {
        format!("{:.0}% ({:.0} to {:.0})", 100.0 * s.value, 100.0 * s.low, 100.0 * s.high)
    };
    let line = |name: &str, base: &str, tuned: &str| format!("  {name:<22}{base:>18}{tuned:>18}\n");
    let title = format!("{} unseen instructions", judged.rows);
    let loss = |x: f64| format!("{x:.3}");
    line(&title, "base", "tuned")
        + &line(&judged.measure, &share(&judged.base), &share(&judged.tuned))
        + &line("loss", &loss(judged.base_loss), &loss(judged.tuned_loss))
}

/// Where the run is and what to do next.
fn done_text(done: &Done) -> String {
    match done.reason {
        Reason::Interrupted => format!(
            "Stopped at step {} and saved. Go on with: core-cli train --resume --out {}",
            done.step, done.out
        ),
        _ => format!("The run is in {}", done.out),
    }
}

/// "1.2 million"
pub fn count(n: u64) -> String {
    match n {
        0..=9_999 => n.to_string(),
        10_000..=999_999 => format!("{:.0} thousand", n as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.1} million", n as f64 / 1e6),
        _ => format!("{:.2} billion", n as f64 / 1e9),
    }
}

/// "1.2 GB", powers of 1000.
pub fn bytes(n: u64) -> String {
    match n {
        0..=999 => format!("{n} bytes"),
        1_000..=999_999 => format!("{:.0} kB", n as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// "3 min 20 s"
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..=59 => format!("{s} s"),
        60..=3599 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// "2 min 10 s to 3 min 40 s"
pub fn time_range(seconds: Seconds) -> String {
    let word = |s: f64| {
        let step = if s >= 100.0 { 10.0 } else { 1.0 };
        duration(Duration::from_secs((s.clamp(1.0, 1e9) / step).round() as u64 * step as u64))
    };
    format!("{} to {}", word(seconds.low), word(seconds.high))
}

fn trim(x: f64) -> String {
    if x.fract() == 0.0 { format!("{x:.0}") } else { format!("{x:.2}") }
}
