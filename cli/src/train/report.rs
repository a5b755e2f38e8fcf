//! How a run tells what it does: lines and a bar for people, or a stream of events for programs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::words::{self, Tuned};
use crate::run::events::{Event, Plan, Sample, Seconds};
use crate::wrap::{folded, of_stderr, of_stdout};

/// Whoever listens to a run.
pub trait Listener {
    /// Something happened.
    fn event(&mut self, event: &Event) -> anyhow::Result<()>;
    /// What was recognised: to be shown, since nothing is guessed silently.
    fn note(&mut self, what: &str);
    /// A stage without events of its own goes on (reading rows, say).
    fn busy(&mut self, what: &str);
    /// Whether the plan is to say how long the run will take, for which some steps may be tried.
    fn wants_time(&self) -> bool {
        false
    }
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
    tuned: Option<Tuned>,
}

/// How far one knows how long a step takes. What came before the first one (the evaluation of the model as it
/// was) says nothing of it.
enum Pace {
    Unknown,
    /// The plan told the time of the whole run.
    Told,
    /// Since this step, with whether the time was told.
    From(u64, Instant, bool),
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
        let (pace, tuned) = (Pace::Unknown, None);
        Terminal { bar: None, steps: 0, is_terminal, last_line: None, samples: 0, pace, tuned }
    }
}

/// Between two pictures of the bar while nothing happens.
const TICK: Duration = Duration::from_millis(500);

/// Characters of a line beside the bar, and the bar's own.
const BESIDE_BAR: usize = 66;
const BAR: (usize, usize) = (4, 28);

/// A paragraph on stdout. A terminal that has gone away ends no run.
fn line(text: &str, indent: usize) {
    let _ = writeln!(std::io::stdout(), "{}", folded(text, of_stdout(), indent));
}

fn style(bar: &ProgressBar, words: &str) {
    let (least, most) = BAR;
    let wide = of_stderr().map_or(most, |width| width.saturating_sub(BESIDE_BAR));
    let template = format!("{{bar:{}}} step {{pos}}/{{len}}  {words}", wide.clamp(least, most));
    if let Ok(style) = ProgressStyle::with_template(&template) {
        let gone = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&clock(state.elapsed()));
        };
        let to_go = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&clock(state.eta()));
        };
        let style = style.with_key("gone", gone).with_key("to_go", to_go);
        bar.set_style(style.progress_chars("=> "));
    }
}

/// A line on stderr.
fn aside(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Terminal {
    fn say(&self, text: &str) {
        self.tell(text, 0);
    }

    /// What goes on in the next line is indented.
    fn tell(&self, text: &str, indent: usize) {
        let text = folded(text, of_stderr(), indent);
        match &self.bar {
            Some(bar) if self.is_terminal => bar.println(text),
            _ => aside(&text),
        }
    }

    /// The plan, then the bar. Before the first step the model answers as it is.
    fn begin(&mut self, plan: &Plan) {
        let mut text = words::plan_text(plan);
        if plan.seconds.is_none() {
            text.push_str("\nTime       told after the first steps");
        } else {
            self.pace = Pace::Told;
        }
        self.tell(&text, words::INDENT);
        self.say(words::LOSS);
        self.tuned = Tuned::of(plan);
        self.steps = plan.steps;
        let bar = ProgressBar::with_draw_target(Some(plan.steps), ProgressDrawTarget::stderr());
        style(&bar, "{msg}  {gone} gone");
        bar.set_message("first, the model as it is");
        if self.is_terminal {
            bar.enable_steady_tick(TICK);
        }
        self.bar = Some(bar);
    }

    fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Learns how long a step takes, and says it once where the plan did not.
    fn pace(&mut self, step: u64) {
        let Some(bar) = &self.bar else { return };
        match self.pace {
            Pace::Unknown | Pace::Told => {
                bar.set_position(step);
                bar.reset_eta();
                let told = matches!(self.pace, Pace::Told);
                self.pace = Pace::From(step, Instant::now(), told);
            }
            Pace::From(first, since, told) if step >= first + PACED => {
                style(bar, "{msg}  {gone} gone, {to_go} to go");
                let each = since.elapsed().as_secs_f64() / (step - first) as f64;
                let left = self.steps.saturating_sub(step);
                let time = duration(Duration::from_secs_f64(each * left as f64));
                self.pace = Pace::Known;
                if left > 0 && !told {
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
    fn wants_time(&self) -> bool {
        true
    }

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
            Event::Plan(plan) => self.begin(plan),
            Event::Step(step) => {
                let text = format!("loss {:.4}  {:.0} tokens/s", step.loss, step.tokens_per_s);
                self.pace(step.step);
                self.progress(step.step, text);
                if let (Some(bar), true) = (&self.bar, step.step == self.steps) {
                    bar.set_message("last, the answers and the files");
                }
            }
            Event::Eval(eval) => {
                let exact = eval.exact_match.map_or(String::new(), |x| {
                    format!(", {:.1}% of answers exactly right", 100.0 * x)
                });
                let best = if eval.best { " (best so far)" } else { "" };
                self.say(&format!(
                    "step {}: loss {:.3} on the held-out rows, {:.1}% of their tokens right{exact}{best}",
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
                if self.samples == 0 {
                    line(words::SAMPLES, 0);
                }
                if self.samples < SHOWN_SAMPLES {
                    line(&words::sample_text(sample), words::SAMPLE_INDENT);
                }
                self.samples += 1;
            }
            Event::Judged(judged) => {
                self.end_bar();
                line(&words::judged_text(judged), 2);
            }
            Event::Verdict(verdict) => {
                self.end_bar();
                line(&verdict.message, 0);
            }
            Event::Error(_) => self.end_bar(),
            Event::Done(done) => {
                self.end_bar();
                // Not folded: what is to be typed must stay in one piece.
                println!("\n{}", words::done_text(done, self.tuned.as_ref()));
            }
        }
        Ok(())
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
        60..=3599 if s.is_multiple_of(60) => format!("{} min", s / 60),
        60..=3599 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// "1:35", as on a clock.
fn clock(d: Duration) -> String {
    let s = d.as_secs();
    let (hours, minutes, seconds) = (s / 3600, s / 60 % 60, s % 60);
    if hours > 0 {
        return format!("{hours}:{minutes:02}:{seconds:02}");
    }
    format!("{minutes}:{seconds:02}")
}

/// "2 min 10 s to 3 min 40 s"
pub fn time_range(seconds: Seconds) -> String {
    let word = |s: f64| {
        let step = if s >= 100.0 { 10.0 } else { 1.0 };
        duration(Duration::from_secs((s.clamp(1.0, 1e9) / step).round() as u64 * step as u64))
    };
    format!("{} to {}", word(seconds.low), word(seconds.high))
}
