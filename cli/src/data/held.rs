//! Clusters of tasks that are kept for judging.

use paddock_datasets::record::Record;
use paddock_datasets::template::clusters;
use serde_json::Value;

use crate::error::bad_input;

/// Refuses names that are no cluster: a misspelt one would hold nothing out. `more` are clusters that
/// the person named besides those of the program.
pub fn known_clusters(flag: &str, names: &[String], more: &[&str]) -> anyhow::Result<()> {
    let mut known: Vec<&str> = more.to_vec();
    clusters::names().for_each(|name| known.push(name));
    known.sort_unstable();
    known.dedup();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let known = known.join(", ");
            Err(bad_input(format!("{flag} {name}: the clusters are {known}")))
        }
    }
}

/// Whether a row says that it is of a cluster: in its column `cluster`, or as `data convert` wrote it.
pub fn is_of(record: &Record, cluster: &str) -> bool {
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    text("cluster") == cluster || text("template").split_once('/').is_some_and(|t| t.0 == cluster)
}
