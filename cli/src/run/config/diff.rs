//! What a resumed run may change: the recorded settings against those asked for now.

use std::fmt;

use toml::{Table, Value};

use super::{ConfigError, KEYS, Key, LossSpike, OnResume, Problem, RunConfig};

/// One key with another value than before.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The key.
    pub key: &'static str,
    /// The recorded value, as TOML; `not set` where there was none.
    pub was: String,
    /// The value now.
    pub now: String,
    /// What that means.
    pub on_resume: OnResume,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} was {}, is now {}", self.key, self.was, self.now)
    }
}

/// Every key whose value differs, in the order of [`KEYS`]. Defaults that were filled in when the
/// run was recorded (see [`RunConfig::resolved`]) should be filled in on both sides.
pub fn compare(recorded: &RunConfig, now: &RunConfig) -> Result<Vec<Change>, ConfigError> {
    let table = |config: &RunConfig| {
        Table::try_from(config).map_err(|error| ConfigError::one("", error.to_string()))
    };
    let (before, after) = (table(recorded)?, table(now)?);
    let words = |value: Option<&Value>| value.map_or("not set".to_string(), Value::to_string);
    let differs = |key: &&Key| before.get(key.name) != after.get(key.name);
    let change = |key: &Key| Change {
        key: key.name,
        was: words(before.get(key.name)),
        now: words(after.get(key.name)),
        on_resume: match (key.name, now.loss_spike) {
            // Then the checkpoint that was due last decides which rows are left out after a spike.
            ("save_every", LossSpike::Rewind) => OnResume::ChangesResult,
            _ => key.on_resume,
        },
    };
    Ok(KEYS.iter().filter(differs).map(change).collect())
}

/// Decides whether a run may go on with these changes. `allowed` is the person's explicit word
/// (`--allow-changes`) that the result may be another one.
///
/// # Errors
/// Names every key that stands in the way, with both values and what to do.
pub fn permit(changes: &[Change], allowed: bool) -> Result<(), ConfigError> {
    let problem = |change: &Change| {
        let advice = match change.on_resume {
            OnResume::MayChange => return None,
            OnResume::ChangesResult if allowed => return None,
            OnResume::ChangesResult => {
                "the run would end in another result than it was on the way to; give \
                 --allow-changes to do so nevertheless (it will be recorded), or take the old value"
            }
            OnResume::MustMatch if change.key == "seed" => {
                "it decides which rows are held out, and rows that were trained on would judge the model; take the \
                 old value, or start a new run"
            }
            OnResume::MustMatch => {
                "the checkpoint cannot go on with it; take the old value, or start a new run (with \
                 init_adapter to go on from the adapter)"
            }
        };
        Some(Problem { place: String::new(), what: format!("{change}: {advice}") })
    };
    ConfigError::from_all(changes.iter().filter_map(problem).collect())
}

/// Every key with its rule, for the documentation.
pub fn rules() -> impl Iterator<Item = (&'static str, OnResume)> {
    KEYS.iter().map(|key| (key.name, key.on_resume))
}
