//! A few held-out prompts, answered again and again while the model learns, so that one sees it learn.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::go::Loop;
use super::samples::{self, Prompt};
use super::session::Session;
use crate::run::events::{Answer, Event, Warning};
use crate::run::folder::RunFolder;
use crate::storage::RealStorage;
use crate::storage::whole::{read_file, replace_file};

/// The file's name in a run folder: one answer a line.
pub const ANSWERS: &str = "answers.jsonl";

/// Prompts that are answered.
pub const PROMPTS: usize = 2;
/// Where nothing is said: so many times in a run.
pub const TIMES: u64 = 8;

/// What is answered on the way, and when.
#[derive(Debug, Default)]
pub struct Watched {
    prompts: Vec<Prompt>,
    /// Steps between two answers; 0: never.
    every: u64,
    path: PathBuf,
}

/// Steps between two answers of a run; 0: never.
pub fn every(session: &Session<'_>) -> u64 {
    let wanted = session.setup.config.sample_every;
    wanted.unwrap_or_else(|| session.setup.total_steps().div_ceil(TIMES))
}

/// The answers of a run on its way, in the order of their steps.
pub fn read(folder: &Path) -> Vec<Answer> {
    let bytes = read_file(&RealStorage, &folder.join(ANSWERS), 64 << 20).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).to_string();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

impl Watched {
    /// The first of the run's prompts. What was answered after the step that a run goes on from is forgotten:
    /// it will be answered again.
    pub fn new(
        session: &Session<'_>,
        prompts: &[Prompt],
        folder: &RunFolder,
    ) -> anyhow::Result<Watched> {
        let path = folder.path().join(ANSWERS);
        let prompts = prompts.iter().take(PROMPTS).cloned().collect();
        let watched = Watched { prompts, every: every(session), path };
        watched.forget_after(session.run.step)?;
        Ok(watched)
    }

    /// Forgets what was answered after a step.
    pub(super) fn forget_after(&self, step: u64) -> anyhow::Result<()> {
        let known = self.path.parent().map(read).unwrap_or_default();
        if known.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for answer in known.iter().filter(|answer| answer.step <= step) {
            text.push_str(&serde_json::to_string(answer)?);
            text.push('\n');
        }
        Ok(replace_file(&RealStorage, &self.path, text.as_bytes())?)
    }

    /// Whether answers are due after a step. The last state of a run is asked in any case, at its end.
    fn due(&self, step: u64, finished: bool) -> bool {
        !self.prompts.is_empty() && self.every > 0 && !finished && step.is_multiple_of(self.every)
    }

    fn keep(&self, answer: &Answer) -> anyhow::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        Ok(file.write_all(format!("{}\n", serde_json::to_string(answer)?).as_bytes())?)
    }
}

impl Loop<'_, '_, '_> {
    /// Answers the prompts if it is time to.
    pub(super) fn answer_on_the_way(&mut self) -> anyhow::Result<()> {
        let step = self.session.run.step;
        if !self.watched.due(step, self.session.finished()) {
            return Ok(());
        }
        let signals = self.out.signals;
        let prompts = self.watched.prompts.clone();
        let said = samples::answers(self.session, &prompts, false, &|| !signals.stop_requested())?;
        for (prompt, answer) in prompts.iter().zip(said) {
            let answer = Answer { step, prompt: prompt.text().to_string(), answer };
            if let Err(error) = self.watched.keep(&answer) {
                // They are only looked at: a full disk is no reason to end the run.
                self.watched.every = 0;
                let message = format!("answers on the way are not kept any more: {error}");
                self.out.listener.event(&Event::Warning(Warning { message }))?;
            }
            self.out.listener.event(&Event::Answer(answer))?;
        }
        Ok(())
    }
}
