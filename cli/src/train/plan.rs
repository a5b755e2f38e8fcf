//! What a run would need, without starting it: memory, time, disk, cost, and what would make it fit.

use paddock_core::config::Config;
use paddock_core::model::{Method, Model};
use paddock_core::plan::Capacity;
use paddock_core::slot::Region;
use paddock_core::weights::Weights;
use serde::Serialize;

use super::fits::{Alternative, Room, Shape};
use super::forecast::{forecast, resident_bytes, writing};
use super::probe::{THOROUGH, limits, probe};
use super::report::{bytes, duration};
use super::saved::checkpoint_bytes;
use super::session::{Session, recompute};
use super::setup::{Setup, method_of};
use super::words::{plan_text, shape_text};
use crate::open::{Machine, backend};
use crate::run::config::RunConfig;
use crate::run::events::{Count, Plan};
use crate::run::signals::Signals;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// The plan as a run shows it.
    #[serde(flatten)]
    pub plan: Plan,
    /// Seconds of an optimizer step, where some were made.
    pub step_s: Option<f64>,
    /// Seconds of the whole run: steps and evaluations.
    pub total_s: Option<f64>,
    /// Bytes of the checkpoints that are kept.
    pub disk_bytes: u64,
    /// What the hours cost.
    pub cost: Option<f64>,
    /// Free memory of this machine.
    pub free_bytes: u64,
    /// Other settings that need less memory.
    pub alternatives: Vec<Alternative>,
}

impl Planned {
    /// With the price of an hour.
    pub fn priced(mut self, price_per_hour: Option<f64>) -> Planned {
        self.cost =
            price_per_hour.zip(self.total_s).map(|(price, seconds)| price * seconds / 3600.0);
        self
    }
}

/// Of a run that is ready to start. With `probes` some steps are made, if they fit into memory.
pub fn of_run(setup: &Setup, probes: bool) -> anyhow::Result<Planned> {
    let mut session = Session::plan(setup)?;
    let mut plan = forecast(&session);
    let alternatives = Shape::of(&session, &plan).alternatives(&*session.b)?;
    let free_bytes = Room::look().free;
    let found = if probes && (free_bytes == 0 || plan.memory_bytes <= free_bytes) {
        probe(&mut session, &THOROUGH, &Signals::default())?
    } else {
        None
    };
    let total_s = found.map(|probe| probe.total_s(plan.steps, setup.evaluations()));
    plan.seconds = total_s.map(limits);
    Ok(Planned {
        step_s: found.map(|p| p.step_s),
        total_s,
        disk_bytes: plan.checkpoint_bytes * kept(&setup.config),
        cost: None,
        free_bytes,
        alternatives,
        plan,
    })
}

/// Checkpoints that are on the disk at the same time: the newest ones, or what is asked for.
fn kept(config: &RunConfig) -> u64 {
    config.keep_checkpoints.max(2)
}

/// Of a shape alone: nothing is read but the shape. Rows are taken to be as long as `max_seq_len`, or fill the
/// micro-batch.
pub fn of_shape(name: &str, config: Config, settings: &RunConfig) -> anyhow::Result<Planned> {
    let method = method_of(settings, &config)?;
    let tokens = settings.micro_batch_tokens;
    let longest = settings.max_seq_len.unwrap_or(tokens).min(tokens);
    let longest = longest.min(u64::from(config.max_seq_len));
    let capacity = Capacity {
        tokens,
        kept: tokens,
        entries: 2 * tokens,
        positions: longest,
        ..Capacity::default()
    };
    let b = backend(&Machine::of(settings), Weights::default())?;
    // Checkpoints mostly store two bytes a number; full training copies them and gives them back.
    let weights = 2 * config.params();
    let frozen = if method == Method::Full { 0 } else { weights };
    let model = Model::new(config.clone(), method)?;
    let besides = resident_bytes() + frozen + writing(&model, method);
    let recompute = recompute(settings.recompute);
    let shape = Shape { config, method, capacity, recompute, besides, weights, longest };
    let sizes = shape.sizes(&*b)?;
    let region = |region| sizes.bytes(region, &*b);
    let mut memory = vec![
        ("program", resident_bytes()),
        ("the model's own numbers (frozen weights) at two bytes each", frozen),
        (
            "what is trained, its gradients and optimizer",
            region(Region::Params) + region(Region::Grads) + region(Region::Moments),
        ),
        (
            "intermediate results (activations)",
            region(Region::Acts) + region(Region::ActGrads) + region(Region::Stats),
        ),
        ("working space", region(Region::Scratch) + writing(&model, method)),
    ];
    memory.retain(|(_, bytes)| *bytes > 0);
    let memory: Vec<Count> =
        memory.into_iter().map(|(name, count)| Count { name: name.into(), count }).collect();
    let checkpoint = checkpoint_bytes(&model);
    let plan = Plan {
        model: name.to_string(),
        method: settings.method.to_string(),
        backend: b.name().to_string(),
        parameters: model.config.params(),
        trained_parameters: model.params.count(),
        memory_bytes: memory.iter().map(|m| m.count).sum(),
        memory,
        checkpoint_bytes: checkpoint,
        ..Plan::default()
    };
    Ok(Planned {
        alternatives: shape.alternatives(&*b)?,
        plan,
        step_s: None,
        total_s: None,
        disk_bytes: checkpoint * kept(settings),
        cost: None,
        free_bytes: Room::look().free,
    })
}

/// The plan in lines. `price` is that of an hour.
pub fn text(planned: &Planned, price: Option<f64>) -> String {
    // The time comes below: what was timed says more than a range.
    let plan = &Plan { seconds: None, ..planned.plan.clone() };
    let mut text = if plan.steps > 0 { plan_text(plan) } else { shape_text(plan) };
    text.push_str(&format!(", {} for the {} that are kept\n", bytes(planned.disk_bytes), {
        planned.disk_bytes / plan.checkpoint_bytes.max(1)
    }));
    if let (Some(step), Some(total)) = (planned.step_s, planned.total_s) {
        let total = duration(std::time::Duration::from_secs_f64(total));
        text.push_str(&format!(
            "Time       about {total} in all, to judge by a few steps that were timed: {} steps of {step:.2} s, \
             looks at the held-out rows, answers before and after\n",
            plan.steps
        ));
    } else if plan.steps > 0 {
        text.push_str("Time       not measured\n");
    }
    match (price, planned.cost) {
        (Some(price), Some(cost)) => {
            text.push_str(&format!("Cost       about {cost:.2} at {price} an hour\n"));
        }
        (Some(_), None) => text.push_str("Cost       not known without the time\n"),
        _ => {}
    }
    text.push_str(&super::fits::words(
        plan.memory_bytes,
        planned.free_bytes,
        &planned.alternatives,
    ));
    text
}
