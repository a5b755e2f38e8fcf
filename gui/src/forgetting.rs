//! What training may have cost: short questions of many kinds, asked before and after.

use std::path::Path;

use eframe::egui::Context;
use paddock_cli::eval::change::Changes;
use paddock_cli::eval::suite::PROBES;

use crate::engine::{Engine, Flags};
use crate::evaluate::{ask_json, machine_arguments};
use crate::task::Work;

/// The state of the part of the evaluation.
#[derive(Debug, Default)]
pub struct Forgetting {
    /// What was found.
    pub work: Work<Changes>,
}

impl Forgetting {
    /// Asks the model before and after the built-in questions.
    pub fn start(
        &mut self,
        ctx: &Context,
        engine: &Engine,
        base: &str,
        run: &Path,
        machine: &Flags,
    ) {
        let run = run.display().to_string();
        let list = ["eval", "--before", base, "--after", &run, "--suite", PROBES];
        let mut list = list.map(str::to_string).to_vec();
        list.extend(machine_arguments(machine));
        let engine = engine.clone();
        self.work
            .start(ctx, move |pulse| Ok(serde_json::from_str(&ask_json(&engine, list, pulse)?)?));
    }
}
