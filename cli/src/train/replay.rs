//! Replay: rows of other data mixed into the training rows, so that the model does not forget what it was
//! not asked about.

use std::collections::BTreeMap;
use std::path::PathBuf;

use paddock_core::philox::{Philox, Stream};
use paddock_datasets::encode::Example;
use paddock_datasets::prepare::{Progress, ReadFile};

use super::setup::{Reader, named_template};
use crate::bundled;
use crate::error::bad_input;
use crate::run::config::RunConfig;

/// The rows that are mixed in, and the files that they come from.
#[derive(Default)]
pub struct Replay {
    /// So many that they are `replay_share` of all rows; chosen by seed, each as often as the others or once
    /// more.
    pub examples: Vec<Example>,
    /// Their files.
    pub files: Vec<ReadFile>,
}

/// Reads and draws replay rows for `task_rows` rows of the task.
pub fn replay(
    reader: &Reader<'_>,
    task_rows: usize,
    progress: &mut dyn Progress,
) -> anyhow::Result<Replay> {
    let config = reader.config;
    if config.replay.is_empty() {
        return Ok(Replay::default());
    }
    let paths: Vec<PathBuf> =
        config.replay.iter().map(|name| bundled::data_path(name)).collect::<anyhow::Result<_>>()?;
    let template = config.replay_template.as_deref().map(named_template).transpose()?;
    // The columns that the settings map are those of the task's rows.
    let own = RunConfig { columns: BTreeMap::new(), ..config.clone() };
    let reader = Reader { config: &own, ..*reader };
    let (_, prepared) = reader.read(&paths, template, progress)?;
    let there = prepared.examples.len();
    if there == 0 {
        return Err(bad_input(format!(
            "replay: no row of {} is left to be used",
            config.replay.join(", ")
        )));
    }
    let share = config.replay_share;
    let wanted = (task_rows as f64 * share / (1.0 - share)).round() as usize;
    let random = Philox::new(config.seed, Stream::MIX);
    let mut drawn = Vec::with_capacity(wanted);
    for round in 0.. {
        if drawn.len() >= wanted {
            break;
        }
        let mut order: Vec<usize> = (0..there).collect();
        random.shuffle(round, &mut order);
        order.truncate(wanted - drawn.len());
        drawn.extend(order.into_iter().map(|i| prepared.examples[i].clone()));
    }
    Ok(Replay { examples: drawn, files: prepared.files })
}
