//! Where one begins: the machine, recent runs, the example.

use std::time::{Duration, Instant};

use eframe::egui::Context;
use paddock_cli::devices::ComputeDevice;
use paddock_cli::machine::Machine;
use paddock_cli::run::overview::{Overview, State, list};

use crate::engine::Engine;
use crate::task::Work;

/// Between two looks at the folder of runs, while it is shown.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The state of the first screen.
#[derive(Debug, Default)]
pub struct Home {
    /// The machine.
    pub machine: Work<Machine>,
    /// What runs can compute on: the processor first, then graphics cards.
    pub devices: Work<Vec<ComputeDevice>>,
    /// The runs found.
    pub runs: Vec<Overview>,
    looking: Work<Vec<Overview>>,
    looked: Option<Instant>,
}

impl Home {
    /// Takes over what workers have found; looks again after a while.
    pub fn poll(&mut self, ctx: &Context, engine: &Engine) {
        if matches!(self.machine, Work::Idle) {
            self.machine.start(ctx, |_| Ok(Machine::look()));
        }
        self.machine.poll();
        self.poll_devices(ctx, engine);
        if self.looking.poll()
            && let Work::Done(runs) = std::mem::take(&mut self.looking)
        {
            self.runs = runs;
        }
        let due = self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if due && !self.looking.busy() {
            self.look(ctx, engine);
        }
        ctx.request_repaint_after(LOOK_EVERY);
    }

    /// Asks for graphics cards, once. A process of its own looks: a broken driver takes down whoever asks it.
    pub fn poll_devices(&mut self, ctx: &Context, engine: &Engine) {
        if matches!(self.devices, Work::Idle) {
            let engine = engine.clone();
            let list = ["doctor", "--json"].map(str::to_string);
            self.devices.start(ctx, move |pulse| {
                let mut found: serde_json::Value =
                    serde_json::from_str(&engine.ask(&list, pulse)?)?;
                Ok(serde_json::from_value(found["devices"].take())?)
            });
        }
        self.devices.poll();
    }

    /// Looks at the folder of runs now.
    pub fn look(&mut self, ctx: &Context, engine: &Engine) {
        self.looked = Some(Instant::now());
        let runs = engine.runs.clone();
        self.looking.start(ctx, move |_| Ok(list(&runs)));
    }

    /// A run that goes on without a window that follows it.
    pub fn running(&self) -> Option<&Overview> {
        self.runs.iter().find(|run| matches!(run.state, State::Running(_)))
    }
}

/// "3 minutes ago", for a list.
pub fn ago(elapsed: Duration) -> String {
    let s = elapsed.as_secs();
    let (n, what) = match s {
        0..=59 => return "just now".to_string(),
        60..=3_599 => (s / 60, "minute"),
        3_600..=86_399 => (s / 3_600, "hour"),
        _ => (s / 86_400, "day"),
    };
    format!("{n} {what}{} ago", if n == 1 { "" } else { "s" })
}
