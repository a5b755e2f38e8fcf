//! The settings of a run and what they will cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use eframe::egui::Context;
use paddock_cli::devices::ComputeDevice;
use paddock_cli::machine::Machine;
use paddock_cli::run::command::{arguments, line};
use paddock_cli::run::config::presets::Preset;
use paddock_cli::run::config::{Layers, RunConfig};
use paddock_cli::run::events::Plan;
use paddock_cli::run::folder::check_name;

use crate::engine::{Engine, Flags};
use crate::task::{Work, sentence};

/// Settings rest for so long before a forecast begins, so that typing does not start one for each letter.
const REST: Duration = Duration::from_millis(350);

/// The state of the train screen.
#[derive(Debug)]
pub struct Train {
    /// The preset.
    pub preset: Preset,
    /// Settings that were changed by hand; they win over the preset.
    pub changed: BTreeMap<String, String>,
    /// What the run computes on; none: what a run takes by itself.
    pub device: Option<ComputeDevice>,
    /// Whether all settings are shown.
    pub advanced: bool,
    /// The run's name; empty: one is made up.
    pub name: String,
    /// What the run will need.
    pub plan: Work<Plan>,
    /// How long it will take; told after the plan.
    pub timed: Work<Plan>,
    /// Whether the command is shown.
    pub shows_command: bool,
    asked: Option<Flags>,
    seen: Option<(Flags, Instant)>,
}

impl Default for Train {
    fn default() -> Train {
        Train {
            preset: Preset::Balanced,
            changed: BTreeMap::new(),
            device: None,
            advanced: false,
            name: String::new(),
            plan: Work::Idle,
            timed: Work::Idle,
            shows_command: false,
            asked: None,
            seen: None,
        }
    }
}

impl Train {
    /// The preset's settings with those changed by hand.
    pub fn flags(&self, parameters: u64) -> Flags {
        let mut flags = self.preset.flags(parameters);
        flags.retain(|(key, _)| !self.changed.contains_key(key));
        flags.extend(self.changed.iter().map(|(k, v)| (k.clone(), v.clone())));
        if let Some(device) = self.device.as_ref().filter(|_| !self.by_hand()) {
            flags.extend(device.flags.iter().cloned());
        }
        flags
    }

    /// Whether the device is set among all settings.
    pub fn by_hand(&self) -> bool {
        ["backend", "device"].iter().any(|key| self.changed.contains_key(*key))
    }

    /// Memory that is free where the run computes, in bytes, with a word for the place; none where it is not
    /// known.
    pub fn room(&self, machine: Option<&Machine>) -> Option<(u64, &'static str)> {
        if self.by_hand() {
            return None;
        }
        match &self.device {
            Some(device) if !device.flags.is_empty() => {
                device.memory_bytes.map(|bytes| (bytes, "the card's memory"))
            }
            _ => machine.map(|m| (m.memory_free_bytes, "memory, which is what is free now")),
        }
        .filter(|(bytes, _)| *bytes > 0)
    }

    /// Starts a forecast when settings have come to rest.
    pub fn poll(&mut self, ctx: &Context, engine: &Engine, flags: &Flags) {
        if self.plan.poll()
            && self.plan.done().is_some()
            && let Some(asked) = self.asked.clone()
        {
            self.measure(ctx, engine, &asked);
        }
        self.timed.poll();
        if self.asked.as_ref() == Some(flags) {
            return;
        }
        let now = Instant::now();
        match &self.seen {
            Some((seen, since)) if seen == flags && now.duration_since(*since) >= REST => {}
            Some((seen, _)) if seen == flags => {
                ctx.request_repaint_after(REST);
                return;
            }
            _ => {
                self.seen = Some((flags.clone(), now));
                ctx.request_repaint_after(REST);
                return;
            }
        }
        self.asked = Some(flags.clone());
        self.timed = Work::Idle;
        let engine = engine.clone();
        let mut list = arguments("plan", flags);
        list.extend(["--json".to_string(), "--no-probe".to_string()]);
        self.plan.start(ctx, move |pulse| Ok(serde_json::from_str(&engine.ask(&list, pulse)?)?));
    }

    /// Rows or model are others now, also where the settings are the same: nothing that was told holds.
    pub fn forget(&mut self) {
        (self.plan, self.timed) = (Work::Idle, Work::Idle);
        (self.asked, self.seen) = (None, None);
    }

    /// A forecast that failed is made again: what stood in its way may be gone.
    pub fn try_again(&mut self) {
        if matches!(self.plan, Work::Failed(_)) {
            self.asked = None;
        }
    }

    fn measure(&mut self, ctx: &Context, engine: &Engine, flags: &Flags) {
        let engine = engine.clone();
        let mut list = arguments("plan", flags);
        list.push("--json".to_string());
        self.timed.start(ctx, move |pulse| Ok(serde_json::from_str(&engine.ask(&list, pulse)?)?));
    }

    /// The plan, with the time once that is known.
    pub fn forecast(&self) -> Option<&Plan> {
        self.timed.done().or(self.plan.done())
    }

    /// What is wrong with the name that was typed, in words: it becomes a folder's.
    pub fn wrong_name(&self) -> Option<String> {
        let name = Some(self.name.trim()).filter(|name| !name.is_empty())?;
        check_name(name).err().map(|error| error.to_string())
    }

    /// What stands in the way of a start, in words.
    pub fn missing(&self, flags: &Flags) -> Option<String> {
        if let Some(wrong) = self.wrong_name() {
            return Some(wrong);
        }
        if let Err(error) = config(flags) {
            return Some(error);
        }
        match &self.plan {
            Work::Failed(why) => Some(why.clone()),
            _ => None,
        }
    }
}

/// The configuration that flags stand for, or what is wrong with them.
pub fn config(flags: &Flags) -> Result<RunConfig, String> {
    let layers = Layers::new().flags(flags).map_err(|e| e.to_string())?;
    let (config, _) = layers.build().map_err(|e| e.to_string())?;
    Ok(config)
}

/// The command that does the same in a terminal.
pub fn command(flags: &Flags) -> String {
    line("core-cli", &arguments("train", flags))
}

/// RUN.toml of the same run.
pub fn run_toml(flags: &Flags) -> String {
    match config(flags) {
        Ok(config) => config.to_text().unwrap_or_else(|e| sentence(&e.into())),
        Err(error) => error,
    }
}
