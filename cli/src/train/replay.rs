//! Replay: rows of other data mixed into the training rows, so that the model does not forget what it was
//! not asked about.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use paddock_core::philox::{Philox, Stream};
use paddock_datasets::prepare::{Progress, ReadFile};

use super::reader::{Reader, Wanted};
use super::rows::Rows;
use crate::bundled;
use crate::error::bad_input;

/// Reads replay rows and adds so many to `train` that they are `replay_share` of all rows; chosen by seed,
/// each as often as the others or once more. Gives their files.
pub fn replay(
    reader: &Reader<'_>,
    train: &mut Rows,
    progress: &mut dyn Progress,
) -> anyhow::Result<Vec<ReadFile>> {
    let config = reader.config;
    if config.replay.is_empty() {
        return Ok(Vec::new());
    }
    if !config.mixture.is_empty() {
        return Err(bad_input(
            "replay does not go with [[mixture]]: give the replay data a [[mixture]] entry of its own, \
             with a weight",
        ));
    }
    let paths: Vec<PathBuf> =
        config.replay.iter().map(|name| bundled::data_path(name)).collect::<anyhow::Result<_>>()?;
    let template = config.replay_template.as_deref().map(|t| reader.template(t)).transpose()?;
    // The columns that the settings map are those of the task's rows.
    let columns = BTreeMap::new();
    let wanted = Wanted { paths: &paths, template, columns: &columns, labels: None, most: None };
    let (_, tokens) = reader.tokens(&wanted, progress)?;
    let there = tokens.store.len();
    if there == 0 {
        return Err(bad_input(format!(
            "replay: no row of {} is left to be used",
            config.replay.join(", ")
        )));
    }
    let share = config.replay_share;
    let rows = (train.len() as f64 * share / (1.0 - share)).round() as usize;
    let random = Philox::new(config.seed, Stream::MIX);
    let mut drawn = Vec::with_capacity(rows);
    for round in 0.. {
        if drawn.len() >= rows {
            break;
        }
        let mut order: Vec<usize> = (0..there).collect();
        random.shuffle(round, &mut order);
        order.truncate(rows - drawn.len());
        drawn.extend(order);
    }
    train.add(Arc::clone(&tokens.store), drawn);
    Ok(tokens.files)
}
