//! What a run will need, before anything is reserved.

use paddock_core::model::{Method, Model};
use paddock_core::slot::Region;

use super::course::SetRows;
use super::saved::checkpoint_bytes;
use super::session::Session;
use super::setup::Setup;
use crate::run::events::{Count, Plan, PlannedSet};

/// Memory that this process uses now, in bytes; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// The most memory that this process has used so far, in bytes; 0 where the system does not say.
pub fn peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

fn status_bytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn sets(setup: &Setup) -> Vec<PlannedSet> {
    let planned = |set: &SetRows| PlannedSet {
        name: set.name.clone(),
        rows: set.rows(),
        templates: set.templates,
        share: set.share,
    };
    setup.mixed.iter().flat_map(|mixed| &mixed.sets).map(planned).collect()
}

/// What writing the result takes beside all that: after full training each tensor is read back and put into bytes,
/// the largest one too. An adapter is small.
pub fn writing(model: &Model, method: Method) -> u64 {
    let lens = model.params.items.iter().map(|param| param.slot.len);
    match method {
        Method::Full => 8 * lens.max().unwrap_or(0),
        _ => 0,
    }
}

/// The plan of a run, in numbers. Program, mapped model and rows are in memory already when it is made,
/// so they are measured; everything else is exact.
pub fn forecast(session: &Session<'_>) -> Plan {
    let (setup, plan) = (session.setup, &session.plan);
    let bytes = |region| plan.sizes.bytes(region, &*session.b);
    let trained = bytes(Region::Params) + bytes(Region::Grads) + bytes(Region::Moments);
    let activations = bytes(Region::Acts) + bytes(Region::ActGrads) + bytes(Region::Stats);
    // Full training copies the checkpoint and gives its memory back before the activations are touched.
    let files = &setup.opened.folder.files;
    let mapped: u64 = files.iter().map(|file| file.map.len() as u64).sum();
    let given_back = if setup.method == Method::Full { mapped } else { 0 };
    let mut memory = vec![
        ("model, rows and program", resident_bytes().saturating_sub(given_back)),
        ("what is trained, its gradients and optimizer", trained),
        ("intermediate results (activations)", activations),
        ("answering", bytes(Region::Kv)),
        ("working space", bytes(Region::Scratch) + writing(&session.model, setup.method)),
    ];
    memory.retain(|(_, bytes)| *bytes > 0);
    let memory: Vec<Count> =
        memory.into_iter().map(|(name, count)| Count { name: name.into(), count }).collect();
    let dropped = setup.report.left_out().into_iter();
    let dropped = dropped.map(|(name, count)| Count { name: name.into(), count }).collect();
    let (tokens, trained_tokens) = setup.epoch_tokens();
    Plan {
        model: setup.config.model.clone().unwrap_or_default(),
        method: setup.config.method.to_string(),
        backend: session.b.name().to_string(),
        parameters: session.model.config.params(),
        trained_parameters: session.model.params.count(),
        train_rows: setup.epoch_rows(),
        validation_rows: setup.validation.len() as u64,
        dropped_rows: dropped,
        sets: sets(setup),
        tokens,
        trained_tokens,
        steps: setup.total_steps(),
        epochs: setup.total_steps() as f64 / setup.steps_per_epoch().max(1) as f64,
        memory_bytes: memory.iter().map(|m| m.count).sum(),
        memory,
        checkpoint_bytes: checkpoint_bytes(&session.model),
        seconds: None,
    }
}
