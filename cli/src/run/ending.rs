//! `ending.json`: how a run ended, beside its report, for programs that list or open runs.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::events::{Done, Judged, Plan, Reason};
use super::signals::EXIT_INTERRUPTED;
use crate::storage::Storage;
use crate::storage::whole::{read_file, replace_file};

/// The file's name in a run folder.
pub const ENDING: &str = "ending.json";

/// Version of the file that this program writes.
pub const ENDING_VERSION: u64 = 1;

/// How a run ended. It is written anew each time the run ends or is stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// [`ENDING_VERSION`].
    pub version: u64,
    /// The last event.
    pub done: Done,
    /// The plan of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// How it went, in words; missing if it was stopped before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The test rows before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// The most memory that the run's process used, in bytes; 0 where the system does not say.
    #[serde(default)]
    pub peak_memory_bytes: u64,
}

impl Ending {
    /// Writes the file.
    pub fn write(&self, storage: &dyn Storage, path: &Path) -> anyhow::Result<()> {
        Ok(replace_file(storage, path, &serde_json::to_vec_pretty(self)?)?)
    }

    /// A run that goes on is not over: what was said of its end holds no more, until it ends again. Were it killed,
    /// it would else pass for finished.
    pub fn reopen(storage: &dyn Storage, folder: &Path, plan: Option<&Plan>) -> anyhow::Result<()> {
        let Some(was) = Ending::read(storage, folder) else { return Ok(()) };
        let done = Done { reason: Reason::Interrupted, exit_code: EXIT_INTERRUPTED, ..was.done };
        let plan = plan.cloned().or(was.plan);
        let now = Ending { done, plan, verdict: None, judged: None, ..was };
        now.write(storage, &folder.join(ENDING))
    }

    /// Reads the file of a run folder; `None` where there is none that this program understands.
    pub fn read(storage: &dyn Storage, folder: &Path) -> Option<Ending> {
        let bytes = read_file(storage, &folder.join(ENDING), 1 << 20).ok()?;
        let ending: Ending = serde_json::from_slice(&bytes).ok()?;
        (ending.version == ENDING_VERSION).then_some(ending)
    }
}
