//! Training as arithmetic and decisions: one optimizer step, schedules, and the run's state.

pub mod run;
pub mod scale;
pub mod schedule;
pub mod step;
pub mod trace;

pub use run::{Decision, Run, StopOn};
pub use scale::LossScale;
pub use schedule::{Schedule, ScheduleKind};
pub use step::{
    Adam, Evaluation, Outcome, Phase, StepReport, StepSettings, Watch, evaluate, evaluate_while,
    scaled_step, step,
};
